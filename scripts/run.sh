#!/usr/bin/env bash
# MODULE ARGUMENTS: runs a Python module of this project with the active environment's Python, or else with .venv's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
if [ "$python" = python3 ] && ! python3 -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)'; then
    echo "error: python3 has no torch: activate your environment, or let bash scripts/demo.sh make one" >&2
    exit 2
fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -P -m "$@"
