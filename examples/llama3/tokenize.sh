#!/usr/bin/env bash
# Tokenize PG19 for Llama-3-8B: the 50 books of its validation split, five to search on and others to evaluate on.
# With DATA=FOLDER of texts, tokenize those, for search.sh with the same settings. See settings.sh for what can be set.
source "$(dirname "$0")/settings.sh"
if [ -e "$DATA" ]; then
    tokens_of "$DATA"
else
    longrope tokenize --model "$MODEL" --dataset emozilla/pg19 --split validation --save-tokenized "$DATA"
fi
