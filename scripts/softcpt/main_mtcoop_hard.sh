#!/usr/bin/env bash
# DATASET CFG SHOTS N_CTX CSC TSC: a context for all classes, for each class, or for each task, seeds 1 to 3.
exec bash "$(dirname "$0")/../run.sh" experiments.run mtcoop_hard MTCoOpHard "$@"
