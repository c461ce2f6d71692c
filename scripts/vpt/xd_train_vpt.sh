#!/usr/bin/env bash
# The original's name of xd_train.sh.
exec bash "$(dirname "$0")/xd_train.sh" "$@"
