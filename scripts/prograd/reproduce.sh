#!/usr/bin/env bash
# Arguments: DATASET SEED WEIGHTS_FOLDER. Test the released prompts on base and new classes.
exec bash "$(dirname "$0")/../run.sh" experiments.run reproduce ProGrad "$@"
