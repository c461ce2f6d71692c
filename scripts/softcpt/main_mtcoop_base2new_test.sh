#!/usr/bin/env bash
# Arguments: DATASET CFG SHOTS CLASS_N_CTX CLASS_CSC TASK_N_CTX TASK_CSC N_CTX CSC PG_TYPE PG_RATIO.
# Test the prompts that main_mtcoop_base2new_train.sh trained, on the new classes of every task.
exec bash "$(dirname "$0")/../run.sh" experiments.run mtcoop_base2new_test SoftCPT "$@"
