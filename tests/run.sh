#!/usr/bin/env bash
# Everything that must hold: lint, format, types, tests. Makes its own environment from the lock.
# Usage: bash tests/run.sh [pytest options]
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/setup.sh
ruff check .
ruff format --check .
mkdir -p build/types/longrope # the packages under the name they are imported by, for the type checker
for package in rope evolution evaluation training cli hyperparams; do ln -sfn "$PWD/$package" build/types/longrope/$package; done
pyright
python -m pytest "$@"
