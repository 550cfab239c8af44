# Shared by tokenize.sh, search.sh and evaluate.sh; every value can be set in the environment, e.g.
#   MODEL=examples/tiny/model DATA=runs/pystdlib-search EVAL_DATA=runs/pystdlib-eval TARGET_LENGTH=2048 bash examples/llama3/search.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source examples/setup.sh
MODEL=${MODEL:-meta-llama/Meta-Llama-3-8B}
TARGET_LENGTH=${TARGET_LENGTH:-131072}
DATA=${DATA:-data/pg19-validation-llama3}
EVAL_DATA=${EVAL_DATA:-data/pg19-test-llama3}
OUTPUT=${OUTPUT:-runs/llama3-8b-$TARGET_LENGTH}
