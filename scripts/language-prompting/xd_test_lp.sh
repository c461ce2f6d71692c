#!/usr/bin/env bash
# The original's name of xd_test.sh.
exec bash "$(dirname "$0")/xd_test.sh" "$@"
