#!/usr/bin/env bash
# The tests of the packages with the lowest versions that pyproject.toml allows, in an environment of their own.
# Usage: bash tests/lowest.sh [pytest options]; pip's own settings choose the build of torch (PIP_INDEX_URL and the like).
set -euo pipefail
cd "$(dirname "$0")/.."
environment=build/lowest
[ -e $environment/bin/python ] || python3 -m venv $environment
python3 - >$environment/lowest.txt <<'END'
import re
import tomllib
from pathlib import Path

for needed in tomllib.loads(Path("pyproject.toml").read_text())["project"]["dependencies"]:
    name, lowest = re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", needed).groups()
    print(f"{name}=={lowest}")
END
$environment/bin/python -m pip install --quiet --disable-pip-version-check --constraint $environment/lowest.txt \
    --editable . pytest hypothesis
[ $# -gt 0 ] || set -- tests/rope tests/evolution tests/evaluation/scoring tests/evaluation/objectives
$environment/bin/python -m pytest "$@"
