#!/usr/bin/env bash
# The original's name of reproduce.sh.
exec bash "$(dirname "$0")/reproduce.sh" "$@"
