#!/usr/bin/env bash
# Search rescale factors; a second call resumes. See settings.sh and ../steps.sh.
exec bash "$(dirname "$0")/../steps.sh" "$0" "$@"
