#!/usr/bin/env bash
# Arguments: DATASET SEED. Test zero-shot CLIP on all classes. DATASET is usually imagenet. Nothing is trained.
exec bash "$(dirname "$0")/../run.sh" experiments.run xd_train ZeroshotCLIP "$@"
