#!/usr/bin/env bash
# Sets up, then runs the main job, base-to-new generalisation on Caltech101, for MaPLe and ZeroshotCLIP, and prints a table.
#
# The weights are random (scripts/small_clip.py), so the accuracies are chance; what it shows is that everything runs.
# The photos are those of ../shared/data, or any folder that DATA names and that holds caltech-101/.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
data="${DATA:-$root/../shared/data}"
if [ ! -d "$data/caltech-101" ]; then
    echo "error: no $data/caltech-101. Set DATA to a folder that holds it; bash scripts/download.sh caltech101 fetches it" >&2
    exit 2
fi
DATA="$(cd "$data" && pwd)"
export DATA
install
mkdir -p "$root/output/demo"
cd "$root/output/demo"
[ -e small.pt ] || "$python" "$root/scripts/small_clip.py" small.pt
for trainer in ZeroshotCLIP MaPLe; do
    for step in base2new_train base2new_test; do
        bash "$root/scripts/maple/$step.sh" caltech101 1 --trainer "$trainer" MODEL.BACKBONE.PATH small.pt \
            INPUT.SIZE "(64,64)" TRAINER.MAPLE.PROMPT_DEPTH 3 OPTIM.MAX_EPOCH 2 OPTIM.WARMUP_EPOCH 0 "$@"
    done
done
"$python" "$root/scripts/table.py" output/base2new
