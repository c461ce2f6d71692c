#!/usr/bin/env bash
# Arguments: NAME|FILE[,...]. Run all runs of the sweeps (configs/sweeps/), then write one report. --dry-run only lists them.
exec bash "$(dirname "$0")/run.sh" experiments.sweep "$@"
