#!/usr/bin/env bash
# Arguments: DATASET SEED WEIGHTS_FOLDER. Test released weights on base and new classes.
exec bash "$(dirname "$0")/../run.sh" experiments.run reproduce CLIPLoRA "$@"
