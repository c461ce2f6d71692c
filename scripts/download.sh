#!/usr/bin/env bash
# Arguments: DATASET [DATASET ...].
# Download data sets into the folder that the environment variable DATA names (default: data).
exec bash "$(dirname "$0")/run.sh" tools.download "$@"
