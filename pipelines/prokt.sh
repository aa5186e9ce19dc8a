#!/usr/bin/env bash
# ProKT (Shi et al. 2021): a teacher that learns while it stays near its student; with
# lambda 0, a teacher that learns alone and is followed; with the multiplier that is
# learned; the same two networks alone; and a student of the teacher that learned alone
# (Hinton et al. 2015). pipelines/codistill.sh has prokt-rounds, the same through caches.
# The schedule at full scale is borrowed from OKDDip: the paper's networks are of language.
#
#     pipelines/prokt.sh [--cifar100 DIRECTORY] [--scale full] [-o DIRECTORY] ...
#
# --help lists the flags; --elder is the teacher's network.
# shellcheck disable=SC2154 # settings sets them
set -euo pipefail
# shellcheck source=lib_peers.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_peers.sh"

settings "$@" < <(peer_settings && echo 'elder | resnet14 | resnet32x4')
publish_peers '[150, 225]'

pair=(--networks "[$elder, $student]")
peers prokt-alone prokt --independent "${pair[@]}"
peers prokt prokt "${pair[@]}"
peers prokt-lambda-0 prokt --prokt-lambda 0 "${pair[@]}"
peers prokt-dual prokt --prokt-dual "${pair[@]}"
for seed in $seeds; do
    team prokt-kd hinton "$seed" --network "$student" \
        --teachers "prokt-alone-$seed/teacher.h5"
done

peer_table "prokt: teacher $elder, student $student, $epochs epochs"
for name in prokt-alone prokt prokt-lambda-0 prokt-dual; do
    peer_row "${name/prokt-alone/independent}: student" "$name"
    printf '%-36s %-16s\n' "${name/prokt-alone/independent}: teacher" \
        "$(figures teacher "$name" | percent)"
done
peer_row 'kd by the independent teacher' prokt-kd
