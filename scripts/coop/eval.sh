#!/usr/bin/env bash
# DATASET CFG: test on another data set what main.sh trained on imagenet, seeds 1 to 3.
exec bash "$(dirname "$0")/../run.sh" experiments.run coop_eval CoOp "$@"
