#!/usr/bin/env bash
# Arguments: DATASET SEED. Train on all classes. DATASET is usually imagenet. xd_test.sh then tests on other data sets.
exec bash "$(dirname "$0")/../run.sh" experiments.run xd_train TaskRes "$@"
