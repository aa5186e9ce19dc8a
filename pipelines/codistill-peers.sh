#!/usr/bin/env bash
# Codistillation (Anil et al. 2018) in one process: networks learn from what the others
# were at the last exchange; exchanges at every step, every few and every epoch;
# alone.
# pipelines/codistill.sh has it in rounds, through caches.
#
#     pipelines/codistill-peers.sh [--cifar100 DIRECTORY] [--scale full] [-o DIRECTORY] ...
#
# --help lists the flags; --exchanges are steps between two of them, or `epoch`.
# shellcheck disable=SC2154 # settings sets them
set -euo pipefail
# shellcheck source=lib_peers.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_peers.sh"

settings "$@" < <(peer_settings && echo 'exchanges | 1 10 epoch | 1 50 epoch')
publish_peers

size=$samples
[ -z "$cifar100" ] || size=$(records "$cifar100/train.bin")
exchanges=${exchanges//epoch/$((size / batch))}

independent 2
for every in $exchanges; do
    peers "codistill-$every" codistill --exchange-every "$every" --network "$student" \
        --peers 2
done

peer_table "codistill-peers: 2 networks, $student, $epochs epochs"
peer_row independent independent-2
for every in $exchanges; do
    peer_row "an exchange every $every steps" "codistill-$every"
done
