#!/usr/bin/env bash
# DATASET SEED: compare MaPLe with MaPLe-dagger, and write a report.
exec bash "$(dirname "$0")/../ablation.sh" dagger "" "$@"
