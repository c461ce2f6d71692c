#!/usr/bin/env bash
# DATASET CFG SHOTS CLASS_N_CTX CLASS_CSC TASK_N_CTX TASK_CSC N_CTX CSC PG_TYPE PG_RATIO
# CLS_SAMPLE_RATE: use a share of the classes in every training step, seeds 1 to 3.
exec bash "$(dirname "$0")/../run.sh" experiments.run mtcoop_cls_sample SoftCPT "$@"
