#!/usr/bin/env bash
# Fine-tune with the factors that search.sh found; a second call goes on. See settings.sh and ../steps.sh.
exec bash "$(dirname "$0")/../steps.sh" "$0" "$@"
