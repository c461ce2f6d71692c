#!/usr/bin/env bash
# Install the project, then run lint, type checks and tests. Arguments are passed to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
install test
cd "$root"
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
# Run one process per CPU, with one thread each. More threads would compete for the CPUs. Files keep their order: sorted by
# their number of tests, the few tests that take longest would come last, on one CPU.
OMP_NUM_THREADS=1 "$python" -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not slow and not long" "$@"
