#!/usr/bin/env bash
# Arguments: DATASET SEED. Train and test a few-shot linear probe on all classes.
exec bash "$(dirname "$0")/../run.sh" experiments.run few_shot LinearProbe "$@"
