#!/usr/bin/env bash
# AFD (Chung et al. 2020): networks learn from each other's logits and, through critics,
# from the distribution of each other's feature maps; without the critics; alone.
#
#     pipelines/afd.sh [--cifar100 DIRECTORY] [--scale full] [-o DIRECTORY] ...
#
# --help lists the flags.
# shellcheck disable=SC2154 # settings sets them
set -euo pipefail
# shellcheck source=lib_peers.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_peers.sh"

settings "$@" < <(peer_settings)
publish_peers '[150, 225]'
[ "$scale" = small ] || published+=(--weight-decay 1e-4)

independent 2
pair=(--network "$student" --peers 2)
peers afd afd "${pair[@]}"
peers afd-logits afd --no-adversarial "${pair[@]}"

peer_table "afd: 2 networks, $student, $epochs epochs"
peer_row independent independent-2
peer_row afd afd
peer_row 'without the adversarial term' afd-logits
