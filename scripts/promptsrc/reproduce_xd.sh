#!/usr/bin/env bash
# Arguments: DATASET SEED WEIGHTS_FOLDER. Test the released cross-dataset prompts.
exec bash "$(dirname "$0")/../run.sh" experiments.run reproduce_xd PromptSRC "$@"
