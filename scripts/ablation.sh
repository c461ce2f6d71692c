#!/usr/bin/env bash
# Arguments: SWEEP TRAINERS DATASET SEED.
# Run a sweep of configs/sweeps/. To run several data sets and seeds, write them as dtd,eurosat 1,2,3.
# TRAINERS is "" for the trainers that the sweep lists.
if [ $# -lt 4 ]; then
    echo "usage: $1.sh DATASET SEED [--dry-run] [--jobs N] [flags and KEY VALUE pairs for train.py]" >&2
    exit 2
fi
exec bash "$(dirname "$0")/sweep.sh" "$1" ${2:+--trainers "$2"} --datasets "$3" --seeds "$4" "${@:5}"
