#!/usr/bin/env bash
# DATASET SEED: train on the base classes, test on them.
exec bash "$(dirname "$0")/../run.sh" experiments.run base2new_train CoCoOp "$@"
