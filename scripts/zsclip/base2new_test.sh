#!/usr/bin/env bash
# DATASET SEED: test on the new classes what base2new_train.sh trained.
exec bash "$(dirname "$0")/../run.sh" protocols.py base2new_test ZeroshotCLIP "$@"
