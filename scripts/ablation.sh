#!/usr/bin/env bash
# SWEEP TRAINERS DATASET SEED: run a sweep of configs/sweeps/ for one data set and seed (or several: dtd,eurosat 1,2,3).
# If TRAINERS is empty, the sweep's own trainers run.
if [ $# -lt 4 ]; then
    echo "usage: $1.sh DATASET SEED [--dry-run] [--jobs N] [flags and KEY VALUE pairs for train.py]" >&2
    exit 2
fi
exec bash "$(dirname "$0")/sweep.sh" "$1" ${2:+--trainers "$2"} --datasets "$3" --seeds "$4" "${@:5}"
