#!/usr/bin/env bash
# Arguments: DATASET SEED. Train and test on the base classes.
exec bash "$(dirname "$0")/../run.sh" experiments.run base2new_train MultiModalAdapter "$@"
