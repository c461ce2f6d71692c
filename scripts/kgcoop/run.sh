#!/usr/bin/env bash
# No arguments. Train and test base-to-new on all 11 data sets with the seeds 1 to 3, then write a report.
exec bash "$(dirname "$0")/../sweep.sh" base2new --trainers KgCoOp "$@"
