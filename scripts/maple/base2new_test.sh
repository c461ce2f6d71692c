#!/usr/bin/env bash
# DATASET SEED: test the prompts of base2new_train.sh on the new classes.
exec bash "$(dirname "$0")/../run.sh" experiments.run base2new_test MaPLe "$@"
