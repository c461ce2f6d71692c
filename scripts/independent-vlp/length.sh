#!/usr/bin/env bash
# DATASET SEED: base-to-new with several prompt lengths (configs/sweeps/length.yaml), and their report.
exec bash "$(dirname "$0")/../ablation.sh" length IVLP "$@"
