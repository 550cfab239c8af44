#!/usr/bin/env bash
# Store the documents of search and evaluation as tokens. See settings.sh and ../steps.sh.
exec bash "$(dirname "$0")/../steps.sh" "$0" "$@"
