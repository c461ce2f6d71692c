#!/usr/bin/env bash
# Sets up, then runs lint, types and tests; further words go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
install
cd "$root"
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
# A process a CPU: most of the time goes into starting Python. Threads of theirs would wait for each other.
OMP_NUM_THREADS=1 "$python" -m pytest -n logical --maxprocesses 4 --dist loadfile -m "not slow" "$@"
