#!/usr/bin/env bash
# DATASET SEED: the variants of multi-modal prompts (configs/sweeps/variants.yaml), with a report.
exec bash "$(dirname "$0")/../ablation.sh" variants "" "$@"
