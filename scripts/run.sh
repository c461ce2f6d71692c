#!/usr/bin/env bash
# SCRIPT WORDS: runs a Python script of this folder, with the active environment's Python, else with .venv's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec "$python" "$root/scripts/$1" "${@:2}"
