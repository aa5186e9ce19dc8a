#!/usr/bin/env bash
# Every offline and staged method with its controls, one setting, one table after the other.
#
#     pipelines/methods.sh [--methods 'ensemble takd ...'] [--cifar100 DIRECTORY]
#         [--scale full] [-o DIRECTORY] [--seeds '1 2 3'] [--epochs N] ...
#
# --help lists the flags; each method is a pipeline of that name, with flags of its own
# besides. They share teachers, caches and controls. At --scale full each has its own
# published sizes, so that it works in a directory of its own below -o.
# shellcheck disable=SC2154 # settings sets them
set -euo pipefail
# shellcheck source=lib_methods.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_methods.sh"

all='ensemble takd born-again tf-kd annealing-kd pro-kd codistill saved'
check() {
    check_methods
}
settings "$@" <<TABLE
methods | $all | $all
TABLE
run_methods "$@"
