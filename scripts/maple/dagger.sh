#!/usr/bin/env bash
# DATASET SEED: MaPLe against MaPLe-dagger, and their report.
exec bash "$(dirname "$0")/../ablation.sh" dagger "" "$@"
