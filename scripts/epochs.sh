#!/usr/bin/env bash
# Arguments: RUN_FOLDER. Test a run after each of its epochs, on base and new classes. The run needs TRAIN.CHECKPOINT_FREQ 1.
exec bash "$(dirname "$0")/run.sh" experiments.epochs "$@"
