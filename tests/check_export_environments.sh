#!/usr/bin/env bash
# Shows that an export needs no longrope: exports a model, makes two fresh environments with the two major versions of
# Transformers, loads the folder in each, and compares its logits at 2048 tokens with those of apply_factors.
# Usage: bash tests/check_export_environments.sh [MODEL [FACTORS]]     (default: the tiny model, factors made for it)
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
model=$(realpath "${1:-$checkout/examples/tiny/model}")
factors=${2:+$(realpath "$2")}
tokens=2048 tolerance=1e-4 text="def answer(): return 42  # the pass key"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$checkout"
source examples/setup.sh
cd "$work" # nothing of the checkout is importable from here

python - "$model" "$tokens" "$text" "$factors" <<'PYTHON'
import sys

import numpy as np
import torch
from longrope.rope import RescaleFactors, apply_factors, load_factors, rope_geometry
from longrope.rope.export import export_hf
from transformers import AutoModelForCausalLM, AutoTokenizer

source, tokens, text, path = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
geometry = rope_geometry(model)
if path:
    factors = load_factors(path).without_start_tokens()
else:  # an attention factor that is not su's, as that is the harder case
    lambdas = np.round(np.geomspace(1, 1.2 * tokens / geometry.original_length, geometry.pairs), 2)
    factors = RescaleFactors(lambdas, geometry.original_length, tokens, geometry.theta, geometry.rotary_dim, 1.15)
export_hf(source, factors, "exported")
ids = torch.randint(0, model.config.vocab_size, (1, tokens), generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    base = model(input_ids=ids).logits
    with apply_factors(model, factors):
        logits = model(input_ids=ids).logits
assert (logits - base).abs().max() > 0.1, "the factors must change the logits"
np.save("ids.npy", ids.numpy())
np.save("logits.npy", logits.numpy())
np.save("words.npy", AutoTokenizer.from_pretrained(source)(text)["input_ids"])
PYTHON

for version in 5.23.0 4.57.6; do
    python3 -m venv "environment-$version"
    "environment-$version/bin/pip" install --quiet torch==2.13.0 transformers==$version numpy==2.4.6 safetensors==0.8.0
    "environment-$version/bin/python" - "$version" "$tolerance" "$text" <<'PYTHON'
import importlib.util
import sys

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

version, tolerance = sys.argv[1], float(sys.argv[2])
assert transformers.__version__ == version, transformers.__version__
assert importlib.util.find_spec("longrope") is None, "longrope must not be importable here"
model = AutoModelForCausalLM.from_pretrained("exported", dtype=torch.float32).eval()
words = AutoTokenizer.from_pretrained("exported")(sys.argv[3])["input_ids"]
assert words == np.load("words.npy").tolist(), "the tokenizer must be that of the model"
with torch.no_grad():
    logits = model(input_ids=torch.from_numpy(np.load("ids.npy"))).logits.numpy()
difference = float(np.abs(logits - np.load("logits.npy")).max())
print(f"Transformers {version}: max difference of logits at {logits.shape[1]} tokens {difference:.3g}", flush=True)
sys.exit(difference > tolerance)
PYTHON
done
