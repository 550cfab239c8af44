#!/usr/bin/env bash
# Tokenize PG19 for Llama-3-8B: the 50 books of its validation split, five to search on and others to evaluate on.
# See settings.sh for what can be set.
source "$(dirname "$0")/settings.sh"
longrope tokenize --model "$MODEL" --dataset emozilla/pg19 --split validation --save-tokenized "$DATA"
