#!/usr/bin/env bash
# Arguments: DATASET SEED. Compare MaPLe with MaPLe-dagger, then write a report.
exec bash "$(dirname "$0")/../ablation.sh" dagger "" "$@"
