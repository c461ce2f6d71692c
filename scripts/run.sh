#!/usr/bin/env bash
# Arguments: MODULE ARGUMENTS.
# Run a Python module of this project in the active environment. If none is active, use .venv.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
if [ "$python" = python3 ] && ! python3 -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)'; then
    echo "error: python3 has no torch: activate your environment, or let bash scripts/demo.sh make one" >&2
    exit 2
fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -P -m "$@"
