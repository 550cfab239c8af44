#!/usr/bin/env bash
# Search, fine-tune, search again, readjust, evaluate, export; a second call goes on. --plan tells the cost. See settings.sh and ../steps.sh.
exec bash "$(dirname "$0")/../steps.sh" "$0" "$@"
