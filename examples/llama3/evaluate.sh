#!/usr/bin/env bash
# Compare the found factors with all baselines on perplexity and pass key at five lengths up to the target.
# Further options go to `longrope evaluate`. See settings.sh for what can be set.
source "$(dirname "$0")/settings.sh"
longrope evaluate --model "$MODEL" --tokenized "$(tokens_of "$EVAL_DATA")" --factors "$OUTPUT" --search-run "$OUTPUT" \
    --lengths $((TARGET_LENGTH / 16)) $((TARGET_LENGTH / 8)) $((TARGET_LENGTH / 4)) $((TARGET_LENGTH / 2)) "$TARGET_LENGTH" \
    --output-dir "$OUTPUT" "$@"
