#!/usr/bin/env bash
# Arguments: DATASET CFG CTP NCTX SHOTS CSC. Train with few shots on all classes, with the seeds 1 to 3.
exec bash "$(dirname "$0")/../run.sh" experiments.run prograd ProGrad "$@"
