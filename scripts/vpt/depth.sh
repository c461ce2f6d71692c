#!/usr/bin/env bash
# DATASET SEED: base-to-new with several prompt depths (configs/sweeps/depth.yaml), with a report.
exec bash "$(dirname "$0")/../ablation.sh" depth VPT "$@"
