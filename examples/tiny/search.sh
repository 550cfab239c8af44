#!/usr/bin/env bash
# The whole way on the embedded model, without any download but the packages: tokenize real long documents, search
# rescale factors for 8 times the trained length, compare them with every baseline on other documents, export.
# Usage: bash examples/tiny/search.sh [--reduced]   (--reduced: a real but short search, for continuous integration)
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/setup.sh

if [ $# -gt 0 ] && [ "$*" != --reduced ]; then
    echo "usage: bash examples/tiny/search.sh [--reduced], got $*" >&2
    exit 2
fi
model=examples/tiny/model
if [ "${1:-}" = --reduced ]; then
    run=runs/tiny-reduced hyper_params=hyperparams/tiny-reduced.yaml documents=4 depths=4 readjust_tokens=20000
else
    run=runs/tiny hyper_params=hyperparams/tiny.yaml documents=16 depths=30 readjust_tokens=80000
fi

for split in search eval; do
    longrope tokenize --model $model --dataset python-packages --split $split --min-chars 12000 \
        --save-tokenized runs/python-packages-$split
done
longrope search --model $model --tokenized runs/python-packages-search --target-length 2048 \
    --hyper-params $hyper_params --output-dir $run --resume
longrope search --model $model --tokenized runs/python-packages-search --target-length 256 --readjust $run/factors.json \
    --hyper-params $hyper_params --max-scored-tokens $readjust_tokens --output-dir $run/readjusted-256 --resume
longrope evaluate --model $model --tokenized runs/python-packages-eval --search-run $run \
    --factors $run/factors.json readjusted=$run/readjusted-256/factor_sets.json \
    --methods none linear ntk yarn llama3 yarn:attention_factor=su ntk-by-parts:alpha=0.354,beta=4,attention_factor=su \
    --lengths 256 512 1024 2048 --samples $documents --passkey-style comment --passkey-haystack documents \
    --passkey-depths $depths --batch-size 8 --output-dir $run
longrope export --model $model --factors $run/factors.json --results $run/results.json \
    --tokenized runs/python-packages-eval --output-dir $run/model
longrope report $run --output-dir $run/report
