#!/usr/bin/env bash
# DATASET SEED WEIGHTS_FOLDER: test the released prompts on base and new classes.
exec bash "$(dirname "$0")/../run.sh" experiments.run reproduce IVLP "$@"
