#!/usr/bin/env bash
# Arguments: DATASET SHOTS WEIGHTS_FOLDER. Test released weights of few-shot runs, with the seeds 1 to 3.
exec bash "$(dirname "$0")/../run.sh" experiments.run reproduce_few_shot TaskRes "$@"
