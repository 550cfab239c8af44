"""Write training documents that hide something and ask for it, as long as the windows that fine-tuning reads."""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from retrieval import RetrievalSequences
from tqdm import tqdm
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from longrope.evaluation.data.tokenized import TokenDocument, save_tokenized
from longrope.training import StoredDocuments


class Haystacks:
    """Windows of documents, joined by the EOS token."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, tokenized: str, rng: random.Random) -> None:
        documents = StoredDocuments(tokenized)
        texts = [documents.tokens(i, 1, int(length)) for i, length in enumerate(documents.lengths)]
        end = np.array([tokenizer.eos_token_id], dtype=np.int64)
        self.stream = np.concatenate([part for text in texts for part in (text, end)])
        self.rng = rng

    def window(self, length: int) -> list[int]:
        """Return so many tokens from anywhere."""
        start = self.rng.randrange(len(self.stream) - length)
        return self.stream[start : start + length].tolist()


def exercises(
    tokenizer: PreTrainedTokenizerBase, tokenized: str, length: int, count: int, seed: int
) -> Iterator[TokenDocument]:
    """Yield documents of exactly `length` tokens, BOS and the EOS that packing adds included."""
    rng = random.Random(seed)
    haystacks = Haystacks(tokenizer, tokenized, rng)
    newline_ids = {i for token, i in tokenizer.get_vocab().items() if token.startswith("Ċ")}

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    sequences = RetrievalSequences(encode, haystacks.window, newline_ids, length - 2, rng)
    for index in tqdm(range(count), f"exercises of {length} tokens", disable=None):
        ids = np.array([tokenizer.bos_token_id, *sequences.sequence()], dtype=np.int64)
        yield TokenDocument(f"exercise-{length}-{index}", ids)


def main() -> None:
    """Write one folder per length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder with the tokenizer")
    parser.add_argument("--tokenized", required=True, help="documents that the statements are hidden in")
    parser.add_argument("--lengths", type=int, nargs="+", required=True, help="tokens of a document")
    parser.add_argument("--count", type=int, nargs="+", required=True, help="documents of each length")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    for length, count in zip(args.lengths, args.count, strict=True):
        documents = exercises(tokenizer, args.tokenized, length, count, args.seed + length)
        source = {"exercises": length, "count": count, "seed": args.seed}
        save_tokenized(args.output_dir / str(length), documents, tokenizer, source)


if __name__ == "__main__":
    main()
