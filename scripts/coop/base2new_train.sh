#!/usr/bin/env bash
# DATASET SEED: train and test on the base classes.
exec bash "$(dirname "$0")/../run.sh" experiments.run base2new_train CoOp "$@"
