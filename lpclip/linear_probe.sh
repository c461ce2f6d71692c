#!/usr/bin/env bash
# bash lpclip/linear_probe.sh NAME [NAME ...]
# Trains few-shot linear probes, with 8 search steps and 3 runs for each number of shots.
# NAME is the name of a data set's folder in clip_feat/.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/env.sh"
for name in "$@"; do
    "$python" "$root/lpclip/linear_probe.py" --dataset "$name" --feature_dir clip_feat --num_step 8 --num_run 3
done
