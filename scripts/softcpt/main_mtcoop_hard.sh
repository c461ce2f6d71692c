#!/usr/bin/env bash
# Arguments: DATASET CFG SHOTS N_CTX CSC TSC.
# Train one context for all classes, or one per class (CSC True) or task (TSC True), with the seeds 1 to 3.
exec bash "$(dirname "$0")/../run.sh" experiments.run mtcoop_hard MTCoOpHard "$@"
