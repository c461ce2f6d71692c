#!/usr/bin/env bash
# Install the project, run base-to-new generalisation with ZeroshotCLIP, CoOp and MaPLe on the embedded benchmark, and
# print a table. Nothing but packages is downloaded.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
install
mkdir -p "$root/output/demo"
cd "$root/output/demo"
for trainer in ZeroshotCLIP CoOp MaPLe; do
    for step in base2new_train base2new_test; do
        bash "$root/scripts/maple/$step.sh" emoji_food 1 --trainer "$trainer" TEST.SAVE_PREDICTIONS True "$@"
    done
done
PYTHONPATH="$root" "$python" -P -m tools.picture output/base2new picture.png
"$python" "$root/report.py" output --protocol base2new --html report.html
echo "All is in output/demo: report.html, results in output/base2new, predictions for some images in picture.png."
