#!/usr/bin/env bash
# NAME [NAME ...] (of classes, as in clip_feat/): few-shot linear probe, 8 steps of search, 3 runs.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/env.sh"
for name in "$@"; do
    "$python" "$root/lpclip/linear_probe.py" --dataset "$name" --feature_dir clip_feat --num_step 8 --num_run 3
done
