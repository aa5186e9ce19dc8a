#!/usr/bin/env bash
# The two halves together: networks teach each other, are dumped and merged like any
# teachers, and a smaller student learns from the cache; beside it a student of networks
# that learned alone, and one of the labels alone.
#
#     pipelines/peers-then-cache.sh [--cifar100 DIRECTORY] [-o DIRECTORY] ...
#
# --help lists the flags; --pupil is the smaller student's network, which is trained in
# batches of 128.
# shellcheck disable=SC2154 # settings sets them
set -euo pipefail
# shellcheck source=lib_peers.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_peers.sh"

check() {
    named pupil
}
settings "$@" < <(peer_settings && echo 'pupil | plain2 | resnet20')
publish_peers '[150, 225]'

independent 2
peers dml dml --network "$student" --peers 2

# soften RUN: what its networks know, merged, into soft-RUN.
soften() {
    local k
    for k in 1 2; do
        dump "soft-$1-$k" "$1/peer$k.h5"
    done
    merge "soft-$1" mean-prob "soft-$1-1" "soft-$1-2"
}
for seed in $seeds; do
    alone "$pupil" "$seed"
    for run in independent-2 dml; do
        soften "$run-$seed"
        learn "$pupil-$run-$seed" hinton "$pupil" "$epochs" "$seed" \
            --labels "soft-$run-$seed"
    done
done

peer_table "peers-then-cache: 2 networks, $student, then a student, $pupil; $epochs epochs"
peer_row 'independent networks' independent-2
peer_row 'dml' dml
for name in labels independent-2 dml; do
    mapfile -t runs < <(each "$pupil-$name")
    printf '%-36s %-16s\n' "$pupil learns from: $name" "$(accuracy "${runs[@]}" | percent)"
done
