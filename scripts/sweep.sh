#!/usr/bin/env bash
# NAME|FILE: every run of a sweep (configs/sweeps/), then its report. --dry-run lists them.
exec bash "$(dirname "$0")/run.sh" experiments.sweep "$@"
