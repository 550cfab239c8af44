"""Train a second small model for the benchmarks: a Qwen3 of 4 M parameters on texts of your own, such as novels.

    python -m benchmarks.second_model --data FOLDER --output-dir runs/second

FOLDER holds plain `.txt` files. They are split by file, in the order of their names: the last ones are `eval`, those
before them `search`, the rest trains the tokenizer (byte-level BPE) and the model (256 tokens long). Files that share
the part of their name before the first `_`, such as an author, stay on one side. Search and eval texts are cut into
documents, taken in turn from all files. The output folder holds `model`, a Hugging Face folder, and the tokenized
folders `search` and `eval`. The same seed gives the same tokens, and on one machine the same weights.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from examples.tiny.pretraining import CONTEXT, token_stream, train, train_tokenizer
from longrope.evaluation.data.corpus import Document, read_documents
from longrope.evaluation.data.tokenized import save_tokenized


class Texts(NamedTuple):
    """Whole files by split."""

    train: list[Document]
    search: list[Document]
    eval: list[Document]


def split_texts(texts: Sequence[Document], search_files: int, eval_files: int) -> Texts:
    """Split files by name; a split grows at its front until no author is in two.

    Raises:
        ValueError: nothing is left to train on.
    """
    ordered = sorted(texts, key=lambda text: text.name)
    eval_start = _before_author(ordered, len(ordered) - eval_files)
    search_start = _before_author(ordered, eval_start - search_files)
    if search_start < 1:
        raise ValueError(
            f"data must hold more files than go to search ({search_files}) and eval ({eval_files}), whole authors "
            f"each, got {len(ordered)}; add texts or lower --search-files and --eval-files"
        )
    return Texts(ordered[:search_start], ordered[search_start:eval_start], ordered[eval_start:])


def _before_author(ordered: Sequence[Document], start: int) -> int:
    """Return the nearest place at or before `start` where an author begins."""
    while 0 < start < len(ordered) and _author(ordered[start - 1]) == _author(ordered[start]):
        start -= 1
    return start


def _author(text: Document) -> str:
    return text.name.partition("_")[0]


def cut(texts: Sequence[Document], characters: int, most: int) -> Iterator[Document]:
    """Yield documents of `characters` characters, one of each text in turn, `most` of them at most."""
    pieces = (
        [Document(f"{one.name}-{at}", one.text[at : at + characters]) for at in _starts(one, characters)]
        for one in texts
    )
    in_turn = (piece for row in zip_longest(*pieces) for piece in row if piece is not None)
    yield from (piece for _, piece in zip(range(most), in_turn, strict=False))


def _starts(text: Document, characters: int) -> range:
    return range(0, len(text.text) - characters + 1, characters)


def build_model(vocab_size: int) -> Qwen3ForCausalLM:
    """4 layers, hidden 256, 4 heads of 64 with 2 key-value heads, norms of queries and keys, RoPE theta 10000."""
    config = Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.02,
    )
    return Qwen3ForCausalLM(config)


def random_windows(stream: NDArray[np.int32], size: int, seed: int) -> Callable[[], torch.Tensor]:
    """Return what draws batches of windows with the BOS token in front, shape (size, 257).

    Raises:
        ValueError: the stream is shorter than a window.
    """
    if len(stream) <= CONTEXT:
        raise ValueError(f"train texts must have more than {CONTEXT} tokens, got {len(stream)}; add texts")
    rng, offsets = np.random.default_rng(seed), np.arange(CONTEXT)

    def batch() -> torch.Tensor:
        starts = rng.integers(0, len(stream) - CONTEXT, size=(size, 1))
        return torch.from_numpy(np.pad(stream[starts + offsets], ((0, 0), (1, 0))).astype(np.int64))

    return batch


def save_split(
    name: str, texts: Sequence[Document], tokenizer: PreTrainedTokenizerFast, args: argparse.Namespace
) -> None:
    """Tokenize a split as `longrope tokenize` does, into a folder of its name.

    Raises:
        ValueError: no text is as long as a document.
    """
    source = {"dataset": "texts", "split": name, "files": [one.name for one in texts], "characters": args.characters}
    documents = cut(texts, args.characters, args.documents)
    info = save_tokenized(args.output_dir / name, documents, tokenizer, source)
    print(f"{name}: {len(texts)} files, {info.documents} documents, {info.tokens} tokens, {info.fingerprint[:16]}")


def parse() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of .txt files")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/second"))
    parser.add_argument("--eval-files", type=int, default=6)
    parser.add_argument("--search-files", type=int, default=10)
    parser.add_argument("--characters", type=int, default=40_000, help="of a search or eval document")
    parser.add_argument("--documents", type=int, default=64, help="of the search and the eval split at most")
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=3000, help="optimiser steps")
    parser.add_argument("--batch-size", type=int, default=64, help="sequences of 256 tokens per step")
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def main() -> None:
    """Train tokenizer and model, and write everything."""
    args = parse()
    torch.manual_seed(args.seed)
    texts = split_texts(list(read_documents(args.data)), args.search_files, args.eval_files)
    tokenizer = train_tokenizer([one.text for one in texts.train], args.vocab_size)
    save_split("search", texts.search, tokenizer, args)
    save_split("eval", texts.eval, tokenizer, args)
    stream = token_stream(tokenizer, [one.text for one in texts.train])
    model = build_model(len(tokenizer)).to(args.device)  # type: ignore[arg-type]
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"train: {len(texts.train)} files, {len(stream) / 1e6:.2f} M tokens; {parameters:.2f} M parameters")
    train(model, random_windows(stream, args.batch_size, args.seed), args.steps, args.lr)
    model.bfloat16().save_pretrained(args.output_dir / "model")
    tokenizer.save_pretrained(args.output_dir / "model")


if __name__ == "__main__":
    main()
