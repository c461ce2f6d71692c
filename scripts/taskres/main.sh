#!/usr/bin/env bash
# Arguments: DATASET CFG ENHANCE SHOTS SCALE. Train with few shots on all classes, with seed 1. ENHANCE is none or a file.
exec bash "$(dirname "$0")/../run.sh" experiments.run taskres TaskRes "$@"
