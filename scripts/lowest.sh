#!/usr/bin/env bash
# Arguments: FOLDER [arguments of pytest]. Run the tests with the lowest package versions that setup.py allows. They are
# installed into FOLDER, a new environment of about 6 GB. This needs uv (https://docs.astral.sh/uv).
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
folder="${1:?FOLDER of the new environment}"
shift
if [ ! -x "$folder/bin/python" ]; then
    uv venv --python 3.11 --seed "$folder"
    uv pip install --python "$folder/bin/python" --resolution lowest-direct --editable "$root[test]"
fi
cd "$root"
OMP_NUM_THREADS=1 "$folder/bin/python" -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not slow and not long" "$@"
