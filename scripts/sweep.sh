#!/usr/bin/env bash
# NAME|FILE: all runs of a sweep (configs/sweeps/), then its report. --dry-run lists the runs.
exec bash "$(dirname "$0")/run.sh" experiments.sweep "$@"
