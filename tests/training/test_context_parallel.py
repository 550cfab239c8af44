"""Two gloo processes that share a sequence against one process.

PyTorch's ring attention knows the kernels of CUDA only, so its ring is run here with the CPU's kernel in their place:
what is tested is the ring, the sharding of `context_parallel`, and our positions, factors and targets on a shard.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file

from longrope.hyperparams import finetune_recipe
from longrope.training import Window
from longrope.training.trainer import check_context_parallel

WORKERS = """
import os, sys
import torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.experimental import context_parallel
from torch.distributed.tensor.experimental._context_parallel._attention import (
    _templated_ring_attention, _templated_ring_attention_backward)
from transformers import AutoModelForCausalLM, AttentionInterface
from longrope.rope import RescaleFactors, install
from longrope.training import packed_loss

folder = sys.argv[1]
torch.set_num_threads(1)
aten = torch.ops.aten

class Ring(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v):
        def kernel(query, key, value, is_causal, **_):
            return aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, is_causal)
        out, lse, *_ = _templated_ring_attention(dist.group.WORLD, 2, kernel, query=q, key=k, value=v, is_causal=True)
        ctx.save_for_backward(q, k, v, out, lse)
        return out

    @staticmethod
    def backward(ctx, grad):
        def kernel(grad_out, query, key, value, out, logsumexp, is_causal, **_):
            return aten._scaled_dot_product_flash_attention_for_cpu_backward(
                grad_out, query, key, value, out, logsumexp, 0.0, is_causal)
        q, k, v, out, lse = ctx.saved_tensors
        return _templated_ring_attention_backward(
            dist.group.WORLD, 2, kernel, grad_out=grad.contiguous(), grad_out_name="grad_out",
            query=q, key=k, value=v, out=out, logsumexp=lse, is_causal=True)[:3]

def ring(module, query, key, value, attention_mask, **_):
    groups = query.shape[1] // key.shape[1]
    key, value = (one.repeat_interleave(groups, dim=1) for one in (key, value))
    return Ring.apply(query, key, value).transpose(1, 2).contiguous(), None

AttentionInterface.register("ring", ring)
def run(rank, size):
    model = AutoModelForCausalLM.from_pretrained(f"{folder}/model", attn_implementation="ring" if size > 1 else "sdpa")
    ids = torch.load(f"{folder}/ids.pt")
    targets = torch.cat((ids[:, 1:], torch.full((1, 1), -100)), dim=1)
    positions = torch.arange(ids.shape[1])[None]
    lambdas = torch.linspace(1, 4, 8).double().numpy()
    with install(model, canary=False) as installation:
        factors = RescaleFactors(lambdas, 32, 128, 10000.0, 16, 1.2, start_tokens=5)
        with packed_loss(installation, factors):
            def loss():
                batch = {"input_ids": ids, "position_ids": positions, "shift_labels": targets}
                return model(**batch, original=torch.tensor(False), num_items_in_batch=127)["loss"]
            if size == 1:
                total = loss()
                total.backward()
            else:
                dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
                mesh = init_device_mesh("cpu", (size,))
                with context_parallel(mesh, buffers=[ids, positions, targets], buffer_seq_dims=[1, 1, 1]):
                    assert ids.shape[1] == 64, ids.shape
                    total = loss()
                    total.backward()
                for parameter in model.parameters():
                    dist.all_reduce(parameter.grad)
                total = total.detach()
                dist.all_reduce(total)
    if rank == 0:
        torch.save({"loss": total.detach(), **{n: p.grad for n, p in model.named_parameters()}}, f"{folder}/{size}.pt")

children = []
for place in ((0, 1), (0, 2), (1, 2)):
    if (child := os.fork()) == 0:
        run(*place)
        os._exit(0)
    children.append(child)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""
"""One start of Python forks the process that is alone and the two that share."""


@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 10), reason="what the test calls moved with torch 2.10"
)
def test_two_processes_that_share_a_sequence_give_loss_and_gradients_of_one(make_llama, tmp_path: Path) -> None:
    make_llama().save_pretrained(tmp_path / "model")
    torch.save(torch.randint(0, 64, (1, 128), generator=torch.Generator().manual_seed(0)), tmp_path / "ids.pt")
    command = [sys.executable, "-c", WORKERS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / f"{size}.pt") for size in (1, 2))
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-5, rtol=1e-5), name


def test_document_masks_are_refused_where_devices_share_a_sequence() -> None:
    check_context_parallel((Window(32, mask_documents=True),), devices=1)
    check_context_parallel((Window(32),), devices=2)
    with pytest.raises(ValueError, match="mask_documents must be false where 2 devices share a sequence"):
        check_context_parallel((Window(32), Window(16, mask_documents=True)), devices=2)


@pytest.mark.parametrize("name", ["fsdp", "context-parallel", "deepspeed-zero3"])
def test_accelerate_reads_the_shipped_configs(name: str) -> None:
    path = finetune_recipe("yarn").parent / "accelerate" / f"{name}.yaml"
    config: Any = load_config_from_file(str(path))
    assert config.num_processes == 8
    assert json.dumps(config.to_dict(), default=str)
