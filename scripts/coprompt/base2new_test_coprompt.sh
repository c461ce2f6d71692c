#!/usr/bin/env bash
# Arguments: DATASET SEED EXP EPOCH. Test the prompts that base2new_train_coprompt.sh trained, on the new classes.
exec bash "$(dirname "$0")/../run.sh" experiments.run base2new_test_coprompt CoPrompt "$@"
