#!/usr/bin/env bash
# Arguments: DATASET SEED WEIGHTS_FOLDER. Test the released prompts on base and new classes.
exec bash "$(dirname "$0")/../run.sh" experiments.run reproduce IVLP:vit_b16_c2_ep5_batch4_4ctx_language_only "$@"
