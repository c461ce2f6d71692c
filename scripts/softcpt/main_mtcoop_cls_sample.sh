#!/usr/bin/env bash
# Arguments: DATASET CFG SHOTS CLASS_N_CTX CLASS_CSC TASK_N_CTX TASK_CSC N_CTX CSC PG_TYPE PG_RATIO
# CLS_SAMPLE_RATE.
# Train with the seeds 1 to 3. Every step uses the classes in its batch and a share (CLS_SAMPLE_RATE) of the others.
exec bash "$(dirname "$0")/../run.sh" experiments.run mtcoop_cls_sample SoftCPT "$@"
