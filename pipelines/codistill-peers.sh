#!/usr/bin/env bash
# Codistillation (Anil et al. 2018) in one process: networks learn from what the others
# were at the last exchange; exchanges at every step, every few and every epoch; alone,
# and alone with smoothed labels. And churn, how far retrains are apart: the percentage of
# test samples that the first networks of two seeds say different classes of, and their
# mean |p - q|. pipelines/codistill.sh has it in rounds, through caches. The schedule at full
# scale is borrowed from OKDDip.
#
#     pipelines/codistill-peers.sh [--cifar100 DIRECTORY] [--scale full] [-o DIRECTORY] ...
#
# --help lists the flags; --exchanges are steps between two of them, or `epoch`.
# shellcheck disable=SC2154 # settings sets them
set -euo pipefail
# shellcheck source=lib_peers.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_peers.sh"

settings "$@" < <(peer_settings && echo 'exchanges | 1 10 epoch | 1 50 epoch')
publish_peers '[150, 225]'

size=$samples
[ -z "$cifar100" ] || size=$(records "$cifar100/train.bin")
exchanges=${exchanges//epoch/$((size / batch))}

independent 2
peers smoothed-2 dml --update simultaneous --independent --label-smoothing 0.1 \
    --network "$student" --peers 2
for every in $exchanges; do
    peers "codistill-$every" codistill --exchange-every "$every" --network "$student" \
        --peers 2
done

peer_table "codistill-peers: 2 networks, $student, $epochs epochs"
peer_row independent independent-2
peer_row 'label smoothing 0.1' smoothed-2
for every in $exchanges; do
    peer_row "an exchange every $every steps" "codistill-$every"
done

printf '\n%-36s %6s %7s\n' 'retrains of the first network' churn '|p-q|'
retrains() {
    local first
    mapfile -t first < <(each "$2")
    printf '%-36s %s\n' "$1" "$(churn "${first[@]/%//peer1.h5}")"
}
retrains independent independent-2
retrains 'label smoothing 0.1' smoothed-2
for every in $exchanges; do
    retrains "an exchange every $every steps" "codistill-$every"
done
