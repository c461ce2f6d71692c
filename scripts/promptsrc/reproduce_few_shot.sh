#!/usr/bin/env bash
# Arguments: DATASET SHOTS WEIGHTS_FOLDER. Test the released few-shot prompts, with the seeds 1 to 3.
exec bash "$(dirname "$0")/../run.sh" experiments.run reproduce_few_shot PromptSRC "$@"
