#!/usr/bin/env bash
# Arguments: DATASET SEED EXP. Train and test on the base classes. The output is in the folder EXP below output.
exec bash "$(dirname "$0")/../run.sh" experiments.run base2new_train_coprompt CoPrompt "$@"
