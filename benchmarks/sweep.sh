#!/usr/bin/env bash
# Every baseline at 50 random settings of its own parameters, on three tasks of the embedded model: which one to take at
# each length, chosen on two documents and tested on ten others. Writes benchmarks/reports/sweep.{md,json} and pictures.
# Several processes may run it at once, also on machines that share the disk: they share the measurements.
# Usage: bash benchmarks/sweep.sh   (continues where it was stopped)
#        TARGET_LENGTH=2048 LENGTHS="256 1024" SAMPLES=4 DEPTHS=5 bash benchmarks/sweep.sh   for a larger one
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/setup.sh

model=examples/tiny/model target=${TARGET_LENGTH:-512}
run=${RUN:-runs/sweep-$target}
longrope tokenize --model $model --dataset python-packages --split eval --min-chars 12000 \
    --save-tokenized runs/python-packages-eval
# shellcheck disable=SC2086  # LENGTHS holds several words
longrope sweep --model $model --tokenized runs/python-packages-eval --tasks perplexity longppl passkey \
    --num-samples 50 --target-length "$target" --lengths ${LENGTHS:-256} --samples "${SAMPLES:-2}" --held-out 5 \
    --passkey-style comment --passkey-haystack documents --passkey-depths "${DEPTHS:-2}" --batch-size 8 \
    --output-dir "$run"
python benchmarks/sweep.py "$run"
