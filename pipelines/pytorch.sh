#!/usr/bin/env bash
# PyTorch on both ends: teachers trained in PyTorch are dumped through exec:, merged here,
# and a student in PyTorch learns from the merged cache, exported as one file.
#
#     pipelines/pytorch.sh [-o DIRECTORY] [--samples N] [--epochs N]
#
# Needs Debian's python3-torch and python3-h5py. Run it again to see what is kept.
# shellcheck disable=SC2154 # flags sets them
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

python=${PYTHON:-/usr/bin/python3}
flags "$@" <<'TABLE'
samples | 4000
epochs  | 5
TABLE
count samples epochs
output=${output:-pytorch}
"$python" -c 'import h5py, torch' || die "install python3-torch and python3-h5py"
mkdir -p "$output"
cd "$output"
export PYTHONPATH=$here/pipelines PYTHONDONTWRITEBYTECODE=1

say "drawing the dataset"
kd-synth -n "$samples" --seed 1 -o train.h5 >/dev/null

for seed in 1 2; do
    [ ! -e "teacher$seed.pt" ] || continue
    say "training teacher $seed, in PyTorch"
    "$python" -m pytorch_net --data train.h5 --epochs "$epochs" --seed "$seed" \
        -o "teacher$seed.pt" | tail -n 1 >&2
done

say "caching the teachers' soft labels, and merging them as they come"
dump() {
    kd-dump -q --teacher "exec:exec $python $here/pipelines/teachers/teacher_torch.py pytorch_net:make \
        --weights teacher$1.pt --threads 1" --data hdf5:train.h5:/x,/y --temperature 2 \
        --shard-samples 1000 -o "cache$1"
}
kd-merge -q --policy mean-prob -o merged <(dump 1) <(dump 2) >/dev/null

say "training a student of them, in PyTorch"
kd-export -q merged --for torch -o merged.safetensors >/dev/null
"$python" -m pytorch_dataset --cache merged.safetensors --data train.h5 --epochs "$epochs"
say "done"
