#!/usr/bin/env bash
# The same as reproduce.sh. The original code has the script under this name.
exec bash "$(dirname "$0")/reproduce.sh" "$@"
