#!/usr/bin/env bash
# Tokenize PG19 for Llama-3-8B: validation for the search, test for the evaluation. See settings.sh for what can be set.
source "$(dirname "$0")/settings.sh"
longrope tokenize --model "$MODEL" --dataset emozilla/pg19 --split validation --save-tokenized "$DATA"
longrope tokenize --model "$MODEL" --dataset emozilla/pg19 --split test --save-tokenized "$EVAL_DATA"
