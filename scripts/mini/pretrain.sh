#!/usr/bin/env bash
# FOLDER [--steps N] [--out FILE]: pretrain ViT-Mini/8, in about 40 minutes on two cores.
#
# FOLDER holds the packages with drawings that aren't in this repository. Missing ones are downloaded through npm.
exec bash "$(dirname "$0")/../run.sh" tools.pretrain.pretrain "$@"
