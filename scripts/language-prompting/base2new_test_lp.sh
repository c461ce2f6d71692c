#!/usr/bin/env bash
# The original's name of base2new_test.sh.
exec bash "$(dirname "$0")/base2new_test.sh" "$@"
