#!/usr/bin/env bash
# DATASET [DATASET ...]: download data sets into the folder DATA (default: data).
exec bash "$(dirname "$0")/run.sh" tools.download "$@"
