#!/usr/bin/env bash
# The tests with the lowest versions of the dependencies that pyproject.toml allows: uv resolves them, in an environment
# of their own, build/lowest. Torch comes from the package index as any user's does, several gigabytes with CUDA.
# Usage: bash tests/lowest.sh [pytest options]
set -euo pipefail
cd "$(dirname "$0")/.."
environment=build/lowest
if [ ! -e $environment/installed ] || [ pyproject.toml -nt $environment/installed ]; then
    python3 -m venv $environment
    pip=("$environment/bin/pip" --disable-pip-version-check --quiet install)
    "${pip[@]}" uv
    $environment/bin/uv pip compile --quiet --resolution lowest-direct --python $environment/bin/python \
        --extra lora --extra gguf --extra longbench --no-header --output-file $environment/lowest.txt pyproject.toml
    "${pip[@]}" --requirement $environment/lowest.txt
    # what only the tests need is as in the lock
    grep -E '^(hypothesis|pytest|setuptools|simpy)==' requirements.lock >$environment/tools.txt
    "${pip[@]}" --requirement $environment/tools.txt
    "${pip[@]}" --no-deps --no-build-isolation --editable .
    touch $environment/installed
fi
# what is left out tests the lock: its packages, the documents that come of them, pictures as its matplotlib draws them
PATH="$PWD/$environment/bin:$PATH" VIRTUAL_ENV="$PWD/$environment" python -m pytest \
    --ignore tests/evaluation/data/test_packages.py --ignore tests/docs/test_figures.py --ignore tests/docs/test_tutorial.py \
    --deselect tests/test_packaging.py::test_every_pinned_package_runs_on_the_oldest_python "$@"
