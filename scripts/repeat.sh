#!/usr/bin/env bash
# Arguments: RUN_FOLDER. Repeat a run from the files in its folder, and check that the results are bit-identical.
exec bash "$(dirname "$0")/run.sh" experiments.repeat "$@"
