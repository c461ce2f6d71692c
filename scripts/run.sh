#!/usr/bin/env bash
# MODULE WORDS: runs a Python module of this project with the active environment's Python, else with .venv's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
if ! "$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)'; then
    echo "error: $python has no torch: activate your environment, or let bash scripts/demo.sh make one" >&2
    exit 2
fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -P -m "$@"
