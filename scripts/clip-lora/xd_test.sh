#!/usr/bin/env bash
# Arguments: DATASET SEED. Test what xd_train.sh trained on imagenet. DATASET is another data set.
exec bash "$(dirname "$0")/../run.sh" experiments.run xd_test CLIPLoRA "$@"
