#!/usr/bin/env bash
# LongRoPE in full on the embedded model, 256 to 4096 tokens: search, fine-tune, search again, readjust for short
# contexts, evaluate every step of the way, export; then one report. Call it again to go on where it stopped.
# Usage: bash examples/tiny/extend.sh [OPTION ...]   options go to `longrope extend`, e.g. --plan
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/setup.sh

model=examples/tiny/model
for split in train search eval; do
    if [ ! -e runs/python-packages-$split/tokens.json ]; then
        longrope tokenize --model $model --dataset python-packages --split $split --min-chars 12000 \
            --save-tokenized runs/python-packages-$split
    fi
done
if [ ! -e runs/exercises/4096/tokens.json ]; then
    python examples/tiny/exercises.py --model $model --tokenized runs/python-packages-train \
        --lengths 256 1024 2048 4096 --count 1000 400 400 400 --output-dir runs/exercises
fi
longrope extend hyperparams/extend/tiny.yaml "$@"
