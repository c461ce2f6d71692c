#!/usr/bin/env bash
# MODULE ARGUMENTS: runs a Python module of this project with the active environment's Python, or else with .venv's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -P -m "$@"
