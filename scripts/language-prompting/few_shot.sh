#!/usr/bin/env bash
# few_shot.sh DATASET SEED [flags and KEY VALUE pairs]: trains on 16 shots of all classes (DATASET.NUM_SHOTS 1 ...).
exec bash "$(dirname "$0")/../run.sh" experiments.run few_shot IVLP:vit_b16_c2_ep5_batch4_4ctx_language_only "$@"
