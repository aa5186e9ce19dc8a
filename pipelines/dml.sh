#!/usr/bin/env bash
# Deep mutual learning (Zhang et al. 2018): networks that learn from each other's
# predictions, in the three orders of updates that there are, and an unlike pair; beside
# them as many networks that learn alone.
#
#     pipelines/dml.sh [--cifar100 DIRECTORY] [--scale full] [-o DIRECTORY] ...
#
# --help lists the flags; --other is the unlike network.
# shellcheck disable=SC2154 # settings sets them
set -euo pipefail
# shellcheck source=lib_peers.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_peers.sh"

settings "$@" < <(peer_settings && printf '%s\n' 'other | resnet14 | wrn-28-10' 'batch | 64 | 64' \
    'epochs | 8 | 200')
publish_peers '[60, 120, 180]'

independent 2
pair=(--network "$student" --peers 2)
peers dml dml "${pair[@]}"
peers dml-simultaneous dml --update simultaneous "${pair[@]}"
peers dml-alternating dml --update alternating "${pair[@]}"
peers unlike dml --networks "[$student, $other]"
peers unlike-independent dml --update simultaneous --independent \
    --networks "[$student, $other]"

peer_table "dml: 2 networks, $student, $epochs epochs"
peer_row independent independent-2
peer_row 'dml (gauss-seidel)' dml
peer_row 'dml, simultaneous' dml-simultaneous
peer_row 'dml, alternating batches' dml-alternating
for k in 1 2; do
    printf '%-36s %-16s\n' "independent, $([ $k = 1 ] && echo "$student" || echo "$other")" \
        "$(figures peer$k unlike-independent | percent)"
    printf '%-36s %-16s\n' "dml $student + $other: the $([ $k = 1 ] && echo first || echo other)" \
        "$(figures peer$k unlike | percent)"
done
