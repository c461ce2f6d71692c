#!/usr/bin/env bash
# DATASET SEED: test the prompts of xd_train.sh, trained on imagenet, on another data set.
exec bash "$(dirname "$0")/../run.sh" experiments.run xd_test ZeroshotCLIP "$@"
