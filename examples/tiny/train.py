"""Train the embedded model: a 3.7 M-parameter Llama on the train split of `python-packages`.

A third of the sequences hides something and asks for it (`retrieval.py`), so that retrieval can be measured; the others
are plain source code. The result is written as bfloat16 safetensors.
"""

import argparse
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from retrieval import RetrievalSequences
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from longrope.evaluation.data.corpus import read_documents
from longrope.evaluation.data.packages import PACKAGES

CONTEXT = 256
RETRIEVAL_SHARE = 0.33
"""Share of the sequences that hide something and ask for it."""


def train_tokenizer(texts: list[str], vocab_size: int = 2048) -> PreTrainedTokenizerFast:
    """Byte-level BPE in which every digit is a token of its own; `<s>` opens each text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


class Batches:
    """Random windows of the train split; a share of them hides something and asks for it."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, texts: list[str], seed: int) -> None:
        self.tokenizer, self.rng = tokenizer, random.Random(seed)
        encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
        self.stream = np.concatenate([np.array([*ids, tokenizer.eos_token_id], dtype=np.int32) for ids in encoded])
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


def build_optimizers(model: LlamaForCausalLM, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, AdamW for embeddings and norms."""
    hidden = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    chosen = {id(p) for p in hidden}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(hidden, lr=lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.95), weight_decay=0.05),
    ]


def learning_rate(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Linear warm-up, then a cosine down to 2 % of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(model: LlamaForCausalLM, batches: Batches, args: argparse.Namespace) -> None:
    """Run the optimiser and print the mean loss of every 50 steps (nats per token)."""
    optimizers = build_optimizers(model, args.lr)
    device = next(model.parameters()).device
    losses: list[float] = []
    started = time.time()
    for step in (bar := tqdm(range(args.steps), unit="step", disable=None)):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, args.steps, args.lr)
        ids = batches.batch(args.batch_size).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            hidden = model.model(input_ids=ids[:, :-1]).last_hidden_state
            logits = model.lm_head(hidden)
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step % 50 == 49:
            bar.set_postfix(nats=f"{np.mean(losses[-50:]):.3f}")
            print(f"step {step + 1} nats {np.mean(losses[-50:]):.4f} seconds {time.time() - started:.0f}", flush=True)


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
    train(model, batches, args)
    model.bfloat16().save_pretrained(args.output_dir)
    tokenizer.save_pretrained(args.output_dir)


if __name__ == "__main__":
    main()
