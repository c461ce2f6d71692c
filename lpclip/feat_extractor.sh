#!/usr/bin/env bash
# bash lpclip/feat_extractor.sh DATASET [DATASET ...]
# Writes RN50's image features of the splits train, val and test to clip_feat/.
# DATASET is the name of a file in configs/datasets/, without .yaml.
# The environment variable DATA names the folder of all data sets.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/env.sh"
for dataset in "$@"; do
    for split in train val test; do
        "$python" "$root/lpclip/feat_extractor.py" --split "$split" --seed 1 --output-dir clip_feat \
            --dataset-config-file "$root/configs/datasets/$dataset.yaml" \
            --config-file "$root/configs/trainers/CoOp/rn50_val.yaml"
    done
done
