#!/usr/bin/env bash
# How far the quick start's found factors depend on luck: its search with five seeds (each draws its own documents,
# too), all compared with the baselines on the same documents. Writes benchmarks/reports/quick_start.{md,json}.
# Usage: bash benchmarks/quick_start.sh   (continues where it was stopped; about 25 minutes on 2 cores)
set -euo pipefail
cd "$(dirname "$0")/.."
bash examples/tiny/search.sh
source examples/setup.sh

model=examples/tiny/model run=runs/quick-start
factors=(seed-0=runs/tiny)
for seed in 1 2 3 4; do
    longrope search --model $model --tokenized runs/python-packages-search --target-length 2048 --seed $seed \
        --hyper-params hyperparams/tiny.yaml --output-dir $run/seed-$seed --resume
    factors+=("seed-$seed=$run/seed-$seed")
done
longrope evaluate --model $model --tokenized runs/python-packages-eval --factors "${factors[@]}" \
    --methods none linear ntk yarn llama3 yarn:attention_factor=su ntk-by-parts:alpha=0.354,beta=4,attention_factor=su \
    --lengths 256 512 1024 2048 --samples 16 --passkey-style comment --passkey-haystack documents \
    --passkey-depths 30 --batch-size 8 --output-dir $run
python benchmarks/quick_start.py $run "${factors[@]}"
