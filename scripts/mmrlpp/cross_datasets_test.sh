#!/usr/bin/env bash
# Arguments: DATASET SEED. The official name of xd_test.sh.
exec bash "$(dirname "$0")/../run.sh" experiments.run xd_test MMRLpp "$@"
