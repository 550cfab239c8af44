#!/usr/bin/env bash
# Everything that must hold: lint, format, types, documentation, tests. Makes its own environment from the lock.
# Usage: bash tests/run.sh [--full] [--only-tests] [pytest options]
# --full: the long form of the tests of faults and hostile input (200 damaged journals, 10^5 inputs), hours instead of
# minutes.
# --only-tests: without lint, format, types and documentation.
set -euo pipefail
if [ "${1:-}" = --full ]; then
    shift
    export LONGROPE_FULL=1
fi
cd "$(dirname "$0")/.."
source examples/setup.sh
if [ "${1:-}" = --only-tests ]; then
    shift
else
    ruff check .
    ruff format --check .
    python docs/packages.py # the packages under the name they are imported by, for the type checker
    pyright
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet --site-dir "$site"
fi
python -m pytest "$@"
