#!/usr/bin/env bash
# Arguments: NAME|FILE. Run all runs of a sweep (configs/sweeps/), then write its report. --dry-run only lists the runs.
exec bash "$(dirname "$0")/run.sh" experiments.sweep "$@"
