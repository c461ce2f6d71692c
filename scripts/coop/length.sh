#!/usr/bin/env bash
# Arguments: DATASET SEED.
# Run base-to-new with several context lengths, starting from random vectors, then write a report.
exec bash "$(dirname "$0")/../ablation.sh" length 'CoOp --variant random TRAINER.COOP.CTX_INIT ""' "$@"
