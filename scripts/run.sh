#!/usr/bin/env bash
# The body of all protocol scripts: PROTOCOL TRAINER, then the user's words. Python is the active environment's, else .venv's.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python=python
if [ -z "${VIRTUAL_ENV:-}" ] && [ -x "$root/.venv/bin/python" ]; then
    python="$root/.venv/bin/python"
fi
exec "$python" "$root/scripts/protocols.py" "$@"
