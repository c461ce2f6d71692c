#!/usr/bin/env bash
# Arguments: DATASET SEED. Test zero-shot CLIP on another data set than imagenet.
exec bash "$(dirname "$0")/../run.sh" experiments.run xd_test ZeroshotCLIP "$@"
