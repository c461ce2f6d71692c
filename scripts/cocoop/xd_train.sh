#!/usr/bin/env bash
# Arguments: SEED. Train on all classes of imagenet. xd_test.sh then tests on other data sets.
exec bash "$(dirname "$0")/../run.sh" experiments.run xd_train CoCoOp imagenet "$@"
