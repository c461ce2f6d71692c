#!/usr/bin/env bash
# DATASET SEED: base-to-new with several context lengths, from random vectors, with a report.
exec bash "$(dirname "$0")/../ablation.sh" length 'CoOp --variant random TRAINER.COOP.CTX_INIT ""' "$@"
