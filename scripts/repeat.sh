#!/usr/bin/env bash
# RUN_FOLDER: does a run again from its folder alone, and compares the two bit by bit.
exec bash "$(dirname "$0")/run.sh" experiments.repeat "$@"
