#!/usr/bin/env bash
# Arguments: DATASET SEED. Test zero-shot CLIP on the new classes.
exec bash "$(dirname "$0")/../run.sh" experiments.run base2new_test ZeroshotCLIP "$@"
