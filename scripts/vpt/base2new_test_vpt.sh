#!/usr/bin/env bash
# The same as base2new_test.sh. The original code has the script under this name.
exec bash "$(dirname "$0")/base2new_test.sh" "$@"
