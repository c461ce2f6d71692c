#!/usr/bin/env bash
# Arguments: DATASET SEED. Test what base2new_train.sh trained, on the new classes.
exec bash "$(dirname "$0")/../run.sh" experiments.run base2new_test MultiModalAdapter "$@"
