#!/usr/bin/env bash
# DATASET CFG: test the prompts of main.sh, trained on imagenet, on another data set, seeds 1 to 3.
exec bash "$(dirname "$0")/../run.sh" experiments.run coop_eval CoOp "$@"
