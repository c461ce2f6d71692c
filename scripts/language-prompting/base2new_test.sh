#!/usr/bin/env bash
# DATASET SEED: test on the new classes what base2new_train.sh trained.
exec bash "$(dirname "$0")/../run.sh" experiments.run base2new_test IVLP:vit_b16_c2_ep5_batch4_4ctx_language_only "$@"
