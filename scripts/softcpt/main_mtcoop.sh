#!/usr/bin/env bash
# Arguments: DATASET CFG SHOTS CLASS_N_CTX CLASS_CSC TASK_N_CTX TASK_CSC N_CTX CSC PG_TYPE PG_RATIO.
# Train on all tasks of a multi-task data set, with the seeds 1 to 3.
exec bash "$(dirname "$0")/../run.sh" experiments.run mtcoop SoftCPT "$@"
