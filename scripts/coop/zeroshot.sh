#!/usr/bin/env bash
# Arguments: DATASET CFG. Test zero-shot CLIP on all classes.
exec bash "$(dirname "$0")/../run.sh" experiments.run zeroshot ZeroshotCLIP "$@"
