#!/usr/bin/env bash
# DATASET SEED: few-shot linear probe on all classes.
exec bash "$(dirname "$0")/../run.sh" protocols.py few_shot LinearProbe "$@"
