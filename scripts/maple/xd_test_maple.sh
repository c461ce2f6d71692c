#!/usr/bin/env bash
# The same as xd_test.sh. The original code has the script under this name.
exec bash "$(dirname "$0")/xd_test.sh" "$@"
