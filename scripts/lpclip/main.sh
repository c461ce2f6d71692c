#!/usr/bin/env bash
# DATASET SEED: few-shot linear probe on all classes.
exec bash "$(dirname "$0")/../run.sh" experiments.run few_shot LinearProbe "$@"
