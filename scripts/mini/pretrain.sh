#!/usr/bin/env bash
# pretrain.sh FOLDER [--steps N] [--out FILE]: pretrains ViT-Mini/8, in about 40 minutes on two cores.
#
# FOLDER holds, or gets through npm, the packages with drawings that are not in this repository.
exec bash "$(dirname "$0")/../run.sh" tools.pretrain.pretrain "$@"
