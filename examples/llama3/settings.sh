# Shared by tokenize.sh, search.sh and evaluate.sh; every value can be set in the environment, e.g.
#   MODEL=examples/tiny/model DATA=my/texts bash examples/llama3/search.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source examples/setup.sh
MODEL=${MODEL:-meta-llama/Meta-Llama-3-8B}
# Search documents: a folder written by `longrope tokenize`, or of texts.
DATA=${DATA:-data/pg19-validation-llama3}
# Evaluation documents; of the same folder, those that the search did not see.
EVAL_DATA=${EVAL_DATA:-$DATA}
# Settings of the search: hybrid (1/20 of the paper's scores), longrope (the paper), longrope2, or a file.
HYPER_PARAMS=${HYPER_PARAMS:-hybrid}
SAMPLES=${SAMPLES:-5} # search documents; more cost nothing and make the result hold elsewhere, but leave ten to evaluate on
length_of='import sys, transformers; print(transformers.AutoConfig.from_pretrained(sys.argv[1]).max_position_embeddings)'
TARGET_LENGTH=${TARGET_LENGTH:-$((16 * $(python -c "$length_of" "$MODEL")))} # Llama-3-8B: 8k to 128k
OUTPUT=${OUTPUT:-runs/$(basename "$MODEL")-$TARGET_LENGTH}

# Print the folder of tokens for some documents; texts are tokenized first.
tokens_of() {
    if [ -e "$1" ] && [ ! -e "$1/tokens.json" ]; then
        longrope tokenize --model "$MODEL" --dataset "$1" --save-tokenized "$OUTPUT-tokens-$(basename "$1")" >&2
        echo "$OUTPUT-tokens-$(basename "$1")"
    else
        echo "$1"
    fi
}
