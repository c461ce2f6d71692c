#!/usr/bin/env bash
# Measure the project on a GPU, and run the tests that need one, in at most 9 minutes. Arguments: benchmarks/gpu.py --help
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/env.sh"
cd "$root"
exec "$python" benchmarks/gpu.py "$@"
