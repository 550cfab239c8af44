#!/usr/bin/env bash
# Pass keys and needles at 8 times the trained length: YaRN, what a perplexity search finds, and what a needle search
# finds from there, on the embedded model and documents of the eval split. Writes benchmarks/reports/needle_search.*
# Usage: bash benchmarks/needle_search.sh   (after examples/tiny/search.sh, which tokenizes)
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/setup.sh

model=examples/tiny/model run=runs/needle-search report=benchmarks/reports/needle_search
search="longrope search --model $model --tokenized runs/python-packages-search --target-length 2048 --dtype bfloat16"
search="$search --batch-size 2 --resume"
[ -e $run/perplexity-0/factors.json ] || $search --samples 64 --max-scored-tokens 688128 --output-dir $run/perplexity-0
$search --objective needle --needle-style comment --needle-questions 12 --hyper-params hyperparams/needle.yaml \
    --init-factors $run/perplexity-0 --output-dir $run/needle-0
longrope evaluate --model $model --tokenized runs/python-packages-eval --methods yarn \
    --factors perplexity_search=$run/perplexity-0 needle_search=$run/needle-0 --lengths 2048 \
    --tasks passkey niah perplexity --samples 16 --passkey-style comment --passkey-haystack documents \
    --passkey-depths 30 --passkey-trials 2 --needle-depths 20 --batch-size 4 --dtype bfloat16 --output-dir runs/needles
cp runs/needles/results.json $report.json
cp runs/needles/table.md $report.md
