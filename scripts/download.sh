#!/usr/bin/env bash
# DATASET [DATASET ...]: fetch data sets into the folder that DATA names (data by default).
exec bash "$(dirname "$0")/run.sh" tools.download "$@"
