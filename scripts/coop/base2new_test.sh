#!/usr/bin/env bash
# DATASET SEED: test on the new classes what base2new_train.sh trained.
exec bash "$(dirname "$0")/../run.sh" experiments.run base2new_test CoOp "$@"
