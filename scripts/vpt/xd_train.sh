#!/usr/bin/env bash
# DATASET SEED: train on all classes (of imagenet). xd_test.sh tests on other data sets.
exec bash "$(dirname "$0")/../run.sh" experiments.run xd_train VPT "$@"
