"""What the training of small models shares: tokenizer, stream of tokens, optimisers, schedule, loop."""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerFast

CONTEXT = 256
"""Tokens that the models are trained on, after the BOS token."""
SHOWN_EVERY = 50
"""Steps between two printed losses."""


def train_tokenizer(texts: Sequence[str], vocab_size: int = 2048) -> PreTrainedTokenizerFast:
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


def token_stream(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> NDArray[np.int32]:
    """Return the tokens of all texts, each closed by the EOS token."""
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return np.concatenate([np.array([*ids, tokenizer.eos_token_id], dtype=np.int32) for ids in encoded])


def build_optimizers(model: PreTrainedModel, lr: float) -> list[torch.optim.Optimizer]:
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


def train(model: PreTrainedModel, batch: Callable[[], torch.Tensor], steps: int, lr: float) -> None:
    """Run the optimiser on batches of token ids and print the mean loss of every 50 steps (nats per token)."""
    optimizers = build_optimizers(model, lr)
    losses: list[torch.Tensor] = []
    started = time.time()
    for step in (bar := tqdm(range(steps), unit="step", disable=None)):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, steps, lr)
        losses.append(train_step(model, optimizers, batch().to(model.device, non_blocking=True)))
        if step % SHOWN_EVERY == SHOWN_EVERY - 1:
            nats = torch.stack(losses[-SHOWN_EVERY:]).mean().item()
            bar.set_postfix(nats=f"{nats:.3f}")
            print(f"step {step + 1} nats {nats:.4f} seconds {time.time() - started:.0f}", flush=True)


def train_step(model: PreTrainedModel, optimizers: Sequence[torch.optim.Optimizer], ids: torch.Tensor) -> torch.Tensor:
    """Take one step in bfloat16 autocast and return its loss, still on the device."""
    with torch.autocast(model.device.type, dtype=torch.bfloat16):
        logits = model(input_ids=ids[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.detach()
