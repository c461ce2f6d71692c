#!/usr/bin/env bash
# The original's name of reproduce_xd.sh.
exec bash "$(dirname "$0")/reproduce_xd.sh" "$@"
