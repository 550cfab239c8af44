#!/usr/bin/env bash
# Search rescale factors for Llama-3-8B, 8k to 128k, with the paper's settings; a second call resumes.
# Further options go to `longrope search`, e.g. --hyper-params hyperparams/tiny.yaml. See settings.sh for what can be set.
source "$(dirname "$0")/settings.sh"
longrope search --model "$MODEL" --tokenized "$DATA" --target-length "$TARGET_LENGTH" --samples 5 \
    --output-dir "$OUTPUT" --resume "$@"
