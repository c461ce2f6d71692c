#!/usr/bin/env bash
# The original's name of base2new_train.sh.
exec bash "$(dirname "$0")/base2new_train.sh" "$@"
