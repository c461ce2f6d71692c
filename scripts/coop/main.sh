#!/usr/bin/env bash
# DATASET CFG CTP NCTX SHOTS CSC: few-shot training on all classes, seeds 1 to 3.
exec bash "$(dirname "$0")/../run.sh" experiments.run coop_main CoOp "$@"
