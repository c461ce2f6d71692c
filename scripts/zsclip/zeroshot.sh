#!/usr/bin/env bash
# DATASET CFG: zero-shot CLIP on all classes.
exec bash "$(dirname "$0")/../run.sh" experiments.run zeroshot ZeroshotCLIP "$@"
