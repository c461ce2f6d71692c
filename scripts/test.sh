#!/usr/bin/env bash
# Install, then run lint, type checks and tests. Arguments are passed to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
install
cd "$root"
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
# One process per CPU, with one thread each: starting Python takes most of the time, and more threads would compete.
OMP_NUM_THREADS=1 "$python" -m pytest -n logical --maxprocesses 4 --dist loadfile -m "not slow" "$@"
