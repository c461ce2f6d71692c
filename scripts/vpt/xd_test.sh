#!/usr/bin/env bash
# DATASET SEED: test on another data set what xd_train.sh trained on imagenet.
exec bash "$(dirname "$0")/../run.sh" experiments.run xd_test VPT "$@"
