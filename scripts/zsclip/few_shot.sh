#!/usr/bin/env bash
# Arguments: DATASET SEED. Test zero-shot CLIP on all classes. Nothing is trained.
exec bash "$(dirname "$0")/../run.sh" experiments.run few_shot ZeroshotCLIP "$@"
