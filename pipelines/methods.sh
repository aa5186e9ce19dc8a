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

from=$PWD
check() {
    local method
    for method in $methods; do
        [[ " $all " == *" $method "* ]] || die "--methods: there is no $method"
    done
}
all='ensemble takd born-again tf-kd annealing-kd pro-kd codistill saved'
settings "$@" <<TABLE
methods | $all | $all
TABLE
into=$PWD

flags=()
while [ $# -gt 0 ]; do
    [ "$1" = --methods ] || flags+=("$1" "$2")
    shift 2
done
cd "$from"
for method in $methods; do
    say "$method"
    directory=$into
    [ "$scale" = small ] || directory=$into/$method
    "$here/pipelines/$method.sh" "${flags[@]}" -o "$directory"
done
