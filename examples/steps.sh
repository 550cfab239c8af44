#!/usr/bin/env bash
# What the scripts of all model families share. Each calls it with its own path, which says the family and the step:
# tokenize.sh, search.sh (a second call resumes), evaluate.sh, finetune.sh or extend.sh (search, fine-tuning and all else
# in one). Further options go to the step's longrope command.
# What can be set in the environment:
#   MODEL           local folder or hub id (default: that of the family's settings.sh)
#   TARGET_LENGTH   tokens to extend to (default: as settings.sh says; for another MODEL twice its own length, since how
#                   far a model goes is not known before a search)
#   DATA            search documents: a folder of texts, or one written by `longrope tokenize` (default: PG19, train)
#   EVAL_DATA       evaluation documents (default: PG19, test; with a DATA of your own those the search does not see)
#   MORE_EVAL_DATA  a second corpus for perplexity (default: Proof-pile, as in the paper; none with your own DATA)
#   SAMPLES         search documents (default: as the hyper-parameters say; 5 where the evaluation has the same folder)
#   HYPER_PARAMS    settings of the search: hybrid (1/20 of the paper's scores), longrope (the paper), or a file
#   TRAIN_DATA      training documents of finetune.sh and extend.sh: as DATA; there is no default
#   RECIPE          recipe of finetune.sh (default: that of settings.sh)
#   EXTENSION       recipe of extend.sh (default: that of settings.sh)
#   OUTPUT          run folder
set -euo pipefail
shopt -s inherit_errexit # a failure inside $(...) ends the script
step=$(basename "$1" .sh) family=$(basename "$(dirname "$(realpath "$1")")")
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source examples/setup.sh
source "examples/$family/settings.sh"
MODEL=${MODEL:-$FAMILY_MODEL}
if [ "$MODEL" = "$FAMILY_MODEL" ]; then
    TARGET_LENGTH=${TARGET_LENGTH:-$FAMILY_TARGET_LENGTH}
fi
TARGET_LENGTH=${TARGET_LENGTH:-$(python examples/twice_the_length.py "$MODEL")}
name=$(basename "$MODEL")-$TARGET_LENGTH
if [ -n "${DATA:-}" ]; then
    EVAL_DATA=${EVAL_DATA:-$DATA} MORE_EVAL_DATA=${MORE_EVAL_DATA:-}
else
    DATA=data/pg19-train-$name
    EVAL_DATA=${EVAL_DATA:-data/pg19-test-$name} MORE_EVAL_DATA=${MORE_EVAL_DATA:-data/proof-pile-test-$name}
fi
if [ "$EVAL_DATA" = "$DATA" ]; then
    SAMPLES=${SAMPLES:-5}
fi
HYPER_PARAMS=${HYPER_PARAMS:-hybrid}
OUTPUT=${OUTPUT:-runs/$name}

# Print the folder of tokens for some documents; texts are tokenized first.
tokens_of() {
    if [ -e "$1" ] && [ ! -e "$1/tokens.json" ]; then
        tokens="$OUTPUT-tokens-$(basename "$1")-$(realpath "$1" | cksum | cut -d ' ' -f 1)"
        longrope tokenize --model "$MODEL" --dataset "$1" --save-tokenized "$tokens" >&2
        echo "$tokens"
    else
        echo "$1"
    fi
}

# Store so many documents of a corpus' split that are long enough, unless they are there: fetch SPLIT NUMBER FOLDER
fetch() {
    case $3 in
        data/pg19-*) corpus=pg19 ;;
        data/proof-pile-*) corpus=proof-pile ;;
        *)
            if [ ! -e "$3" ]; then
                echo "DATA, EVAL_DATA and MORE_EVAL_DATA must be folders that exist, got $3" >&2
                exit 2
            fi
            tokens_of "$3"
            return
            ;;
    esac
    if [ -e "$3/tokens.json" ]; then
        echo "$3 is there"
    else
        longrope tokenize --model "$MODEL" --dataset $corpus --split "$1" --min-tokens "$TARGET_LENGTH" \
            --num-documents "$2" --save-tokenized "$3"
    fi
}

case $step in
    tokenize)
        fetch train "${SAMPLES:-64}" "$DATA"
        if [ "$EVAL_DATA" != "$DATA" ]; then
            fetch test 10 "$EVAL_DATA"
        fi
        if [ -n "$MORE_EVAL_DATA" ]; then
            fetch test 10 "$MORE_EVAL_DATA"
        fi
        ;;
    search)
        search_data=$(tokens_of "$DATA")
        eval_data=$search_data
        if [ "$EVAL_DATA" != "$DATA" ]; then
            eval_data=$(tokens_of "$EVAL_DATA")
        fi
        longrope search --model "$MODEL" --tokenized "$search_data" --evaluation-tokenized "$eval_data" \
            --target-length "$TARGET_LENGTH" ${SAMPLES:+--samples "$SAMPLES"} --hyper-params "$HYPER_PARAMS" \
            --output-dir "$OUTPUT" --resume "$@"
        ;;
    finetune | extend)
        if [ ! -e "${TRAIN_DATA:-}" ]; then
            echo "TRAIN_DATA must be a folder of long texts that neither DATA nor EVAL_DATA holds, got '${TRAIN_DATA:-}'" >&2
            exit 2
        fi
        train_data=$(tokens_of "$TRAIN_DATA")
        if [ "$step" = finetune ]; then
            longrope finetune --model "$MODEL" --factors "$OUTPUT" --tokenized "$train_data" \
                --recipe "${RECIPE:-$FAMILY_RECIPE}" --output-dir "$OUTPUT-tuned" "$@"
        else
            longrope extend "${EXTENSION:-$FAMILY_EXTENSION}" --model "$MODEL" --train "$train_data" \
                --search "$(tokens_of "$DATA")" --eval "$(tokens_of "$EVAL_DATA")" --output-dir "$OUTPUT-extended" "$@"
        fi
        ;;
    evaluate)
        lengths=()
        for share in 16 8 4 2 1; do
            lengths+=($((TARGET_LENGTH / share)))
        done
        eval_data=$(tokens_of "$EVAL_DATA")
        longrope evaluate --model "$MODEL" --tokenized "$eval_data" --factors "$OUTPUT" --search-run "$OUTPUT" \
            --lengths "${lengths[@]}" --output-dir "$OUTPUT" "$@"
        if [ -n "$MORE_EVAL_DATA" ]; then
            more=$(tokens_of "$MORE_EVAL_DATA")
            longrope evaluate --model "$MODEL" --tokenized "$more" --factors "$OUTPUT" --lengths "${lengths[@]}" \
                "$@" --tasks perplexity --output-dir "$OUTPUT/$(basename "$MORE_EVAL_DATA")"
        fi
        ;;
esac
