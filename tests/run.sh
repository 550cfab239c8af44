#!/usr/bin/env bash
# Everything that must hold: lint, format, types, tests. Makes its own environment from the lock.
# Usage: bash tests/run.sh [pytest options]
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/setup.sh
ruff check .
ruff format --check .
mkdir -p build/types/longrope # the rooms under the name they are imported by, for the type checker
for room in rope evolution evaluation cli hyperparams; do ln -sfn "$PWD/$room" build/types/longrope/$room; done
pyright
python -m pytest "$@"
