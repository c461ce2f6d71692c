#!/usr/bin/env bash
# DATASET SEED: base-to-new at several prompt depths (configs/sweeps/depth.yaml), and their report.
exec bash "$(dirname "$0")/../ablation.sh" depth MaPLe "$@"
