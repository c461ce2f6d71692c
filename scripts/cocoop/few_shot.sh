#!/usr/bin/env bash
# DATASET SEED: train and test on all classes, with 16 shots. DATASET.NUM_SHOTS 1 sets another number.
exec bash "$(dirname "$0")/../run.sh" experiments.run few_shot CoCoOp "$@"
