#!/usr/bin/env bash
# DATASET CFG SHOTS N_CTX CSC TSC: one context for all, a class or a task, seeds 1 to 3.
exec bash "$(dirname "$0")/../run.sh" experiments.run mtcoop_hard MTCoOpHard "$@"
