#!/usr/bin/env bash
# Arguments: DATASET SEED. Test zero-shot CLIP on the base classes. Nothing is trained.
exec bash "$(dirname "$0")/../run.sh" experiments.run base2new_train ZeroshotCLIP "$@"
