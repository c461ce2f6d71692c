#!/usr/bin/env bash
# DATASET SEED: base-to-new with several prompt lengths (configs/sweeps/length.yaml), with a report.
exec bash "$(dirname "$0")/../ablation.sh" length MaPLe "$@"
