#!/usr/bin/env bash
# Arguments: DATASET SEED. Run the variants of multi-modal prompts (configs/sweeps/variants.yaml), then write a report.
exec bash "$(dirname "$0")/../ablation.sh" variants "" "$@"
