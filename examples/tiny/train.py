"""Train the embedded model: a 3.7 M-parameter Llama on the train split of `python-packages`.

A third of the sequences hides something and asks for it (`retrieval.py`), so that retrieval can be measured; the others
are plain source code. The result is written as bfloat16 safetensors.
"""

import argparse
import random
from pathlib import Path

import torch
from pretraining import CONTEXT, token_stream, train, train_tokenizer
from retrieval import RetrievalSequences
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from longrope.evaluation.data.corpus import read_documents
from longrope.evaluation.data.packages import PACKAGES

RETRIEVAL_SHARE = 0.33
"""Share of the sequences that hide something and ask for it."""


class Batches:
    """Random windows of the train split; a share of them hides something and asks for it."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, texts: list[str], seed: int) -> None:
        self.tokenizer, self.rng = tokenizer, random.Random(seed)
        self.stream = token_stream(tokenizer, texts)
        newline_ids = {i for token, i in tokenizer.get_vocab().items() if token.startswith("Ċ")}

        def encode(text: str) -> list[int]:
            return tokenizer.encode(text, add_special_tokens=False)

        self.retrieval = RetrievalSequences(encode, self.window, newline_ids, CONTEXT, self.rng)

    def window(self, length: int) -> list[int]:
        start = self.rng.randrange(len(self.stream) - length)
        return self.stream[start : start + length].tolist()

    def batch(self, size: int) -> torch.Tensor:
        rows = [
            self.retrieval.sequence() if self.rng.random() < RETRIEVAL_SHARE else self.window(CONTEXT)
            for _ in range(size)
        ]
        return torch.tensor([[0, *row] for row in rows])


def build_model(vocab_size: int) -> LlamaForCausalLM:
    """4 layers, hidden 256, 4 heads of 64 with 2 key-value heads, tied embeddings, RoPE theta 10000."""
    config = LlamaConfig(
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
    return LlamaForCausalLM(config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output-dir", type=Path, default=Path(__file__).parent / "model")
    parser.add_argument("--steps", type=int, default=3000, help="optimiser steps")
    parser.add_argument("--batch-size", type=int, default=32, help="sequences of 256 tokens per step")
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    texts = [document.text for document in read_documents(PACKAGES, "train")]
    print(f"train split: {len(texts)} documents, {sum(map(len, texts)) / 1e6:.1f} M characters")
    tokenizer = train_tokenizer(texts)
    batches = Batches(tokenizer, texts, args.seed)
    print(f"{len(batches.stream) / 1e6:.2f} M tokens")
    model = build_model(len(tokenizer)).to(args.device)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")
    train(model, lambda: batches.batch(args.batch_size), args.steps, args.lr)
    model.bfloat16().save_pretrained(args.output_dir)
    tokenizer.save_pretrained(args.output_dir)


if __name__ == "__main__":
    main()
