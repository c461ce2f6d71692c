#!/usr/bin/env bash
# Arguments: FOLDER [--steps N] [--out FILE]. Pretrain ViT-Mini/8. This takes about 50 minutes on two CPU cores.
#
# FOLDER holds npm packages with the drawings that aren't in this repository. Missing packages are downloaded.
exec bash "$(dirname "$0")/../run.sh" tools.pretrain.pretrain "$@"
