#!/usr/bin/env bash
# DATASET [DATASET ...]: features of train, val and test by RN50, into clip_feat/. DATA names the data sets' folder.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/env.sh"
for dataset in "$@"; do
    for split in train val test; do
        "$python" "$root/lpclip/feat_extractor.py" --split "$split" --seed 1 --output-dir clip_feat \
            --dataset-config-file "$root/configs/datasets/$dataset.yaml" \
            --config-file "$root/configs/trainers/CoOp/rn50_val.yaml"
    done
done
