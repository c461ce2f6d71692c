#!/usr/bin/env bash
# RUN_FOLDER: repeat a run from its folder alone, and compare both runs bit by bit.
exec bash "$(dirname "$0")/run.sh" experiments.repeat "$@"
