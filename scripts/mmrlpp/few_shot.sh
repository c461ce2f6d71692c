#!/usr/bin/env bash
# Arguments: DATASET SEED. Train and test on all classes, with 16 shots. For 1 shot, add DATASET.NUM_SHOTS 1.
exec bash "$(dirname "$0")/../run.sh" experiments.run few_shot MMRLpp "$@"
