#!/usr/bin/env bash
# DATASET SEED WEIGHTS_FOLDER: test the released cross-dataset prompts.
exec bash "$(dirname "$0")/../run.sh" experiments.run reproduce_xd MaPLe "$@"
