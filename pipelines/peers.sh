#!/usr/bin/env bash
# Every method of networks that teach each other, one table after the other.
#
#     pipelines/peers.sh [--methods 'dml one ...'] [--cifar100 DIRECTORY] [--scale full]
#         [-o DIRECTORY] [--seeds '1 2 3'] [--epochs N] ...
#
# --help lists the flags; each method is a pipeline of that name, with flags of its own
# besides. They share their controls; at --scale full, where each has settings of its
# own, they work in directories of their own below -o.
# shellcheck disable=SC2154 # settings sets them
set -euo pipefail
# shellcheck source=lib_peers.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_peers.sh"

check() {
    local method
    for method in $methods; do
        [[ " $all " == *" $method "* ]] || die "--methods: there is no $method"
    done
}
all='dml one okddip ffl afd prokt codistill-peers peers-then-cache'
from=$PWD
settings "$@" < <(peer_settings && echo "methods | $all | $all")
into=$PWD
flags=()
while [ $# -gt 0 ]; do
    [ "$1" = --methods ] || [ "$1" = -o ] || flags+=("$1" "$2")
    shift 2
done
cd "$from"
for method in $methods; do
    say "$method"
    directory=$into
    [ "$scale" = small ] || directory=$into/$method
    "$here/pipelines/$method.sh" "${flags[@]}" -o "$directory"
done
