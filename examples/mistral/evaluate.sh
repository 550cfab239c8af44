#!/usr/bin/env bash
# Compare the found factors with every baseline, at five lengths up to the target. See settings.sh and ../steps.sh.
exec bash "$(dirname "$0")/../steps.sh" "$0" "$@"
