#!/usr/bin/env bash
# Arguments: DATASET SEED.
# Run base-to-new with several prompt lengths (configs/sweeps/length.yaml), then write a report.
exec bash "$(dirname "$0")/../ablation.sh" length VPT "$@"
