#!/usr/bin/env bash
# Arguments: DATASET CFG.
# Test the prompts that main.sh trained on imagenet, with the seeds 1 to 3. DATASET is another data set.
exec bash "$(dirname "$0")/../run.sh" experiments.run coop_eval CoOp "$@"
