#!/usr/bin/env bash
# What a CUDA card makes of a search, in under 8 minutes: scoring throughput and peak memory by length (bfloat16, SDPA
# and flash_attention_2 where it is installed) and a short search on the embedded model. Downloads no model or data.
# Writes benchmarks/reports/gpu-<card>.json and .md. Usage: bash benchmarks/gpu.sh
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/setup.sh
python -c 'import sys, torch; torch.cuda.is_available() or sys.exit("benchmarks/gpu.sh needs a CUDA device, and torch finds none here; without one run python -m benchmarks.scoring")'

run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
longrope tokenize --model examples/tiny/model --dataset python-packages --split search --min-chars 12000 --num-documents 40 \
    --save-tokenized "$run/tokens"
timeout 120 longrope search --model examples/tiny/model --tokenized "$run/tokens" --target-length 2048 --samples 4 \
    --hyper-params hyperparams/tiny-reduced.yaml --attention-factor yarn --device cuda --output-dir "$run/search"
timeout 300 python -m benchmarks.scoring --device cuda --minutes 4 --search-run "$run/search"
