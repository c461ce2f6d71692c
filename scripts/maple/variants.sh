#!/usr/bin/env bash
# DATASET SEED: the variants of multi-modal prompts (configs/sweeps/variants.yaml), and their report.
exec bash "$(dirname "$0")/../ablation.sh" variants "" "$@"
