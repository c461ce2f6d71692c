#!/usr/bin/env bash
# Arguments: DATASET SEED. Train and test on the base classes.
exec bash "$(dirname "$0")/../run.sh" experiments.run base2new_train IVLP:vit_b16_c2_ep5_batch4_4ctx_language_only "$@"
