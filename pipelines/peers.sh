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

all='dml one okddip ffl afd prokt codistill-peers peers-then-cache'
check() {
    check_methods
}
settings "$@" < <(peer_settings && echo "methods | $all | $all")
run_methods "$@"
