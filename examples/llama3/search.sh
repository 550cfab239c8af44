#!/usr/bin/env bash
# Search rescale factors for Llama-3-8B, 8k to 128k; a second call resumes. HYPER_PARAMS=longrope is the paper's search.
# Further options go to `longrope search`. See settings.sh for what can be set.
source "$(dirname "$0")/settings.sh"
longrope search --model "$MODEL" --tokenized "$(tokens_of "$DATA")" --target-length "$TARGET_LENGTH" \
    --samples "$SAMPLES" --hyper-params "$HYPER_PARAMS" --output-dir "$OUTPUT" --resume "$@"
