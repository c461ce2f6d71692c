#!/usr/bin/env bash
# Arguments: DATASET SEED. Train on all classes. DATASET is usually imagenet. xd_test.sh then tests on other data sets.
exec bash "$(dirname "$0")/../run.sh" experiments.run xd_train IVLP:vit_b16_c2_ep5_batch4_4ctx_language_only "$@"
