#!/usr/bin/env bash
# Train the embedded model again from the train split of `python-packages`.
# Usage: bash examples/tiny/train.sh [--output-dir DIR] [--steps N] ...; see --help
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/setup.sh
python examples/tiny/train.py "$@"
