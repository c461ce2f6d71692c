#!/usr/bin/env bash
# Arguments: DATASET SEED. Run base-to-new with several prompt depths (configs/sweeps/depth.yaml), then write a report.
exec bash "$(dirname "$0")/../ablation.sh" depth MaPLe "$@"
