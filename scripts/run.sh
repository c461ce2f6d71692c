#!/usr/bin/env bash
# SCRIPT WORDS: runs a Python script of this folder, with the active environment's Python, else with .venv's.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python=python
if [ -z "${VIRTUAL_ENV:-}" ] && [ -x "$here/../.venv/bin/python" ]; then
    python="$here/../.venv/bin/python"
fi
exec "$python" "$here/$1" "${@:2}"
