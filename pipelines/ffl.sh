#!/usr/bin/env bash
# FFL (Kim et al. 2020): a module fuses the last feature maps of two networks into a
# classifier that teaches them, and learns from their ensemble. Branches of one trunk,
# and whole networks; beside them networks that learn alone.
#
#     pipelines/ffl.sh [--cifar100 DIRECTORY] [--scale full] [-o DIRECTORY] ...
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
pair=(--network "$student" --peers 2 --ramp-epochs "$ramp_epochs")
peers ffl ffl "${pair[@]}"
peers ffl-separate ffl --ffl-separate "${pair[@]}"

peer_table "ffl: 2 networks, $student, $epochs epochs"
peer_row 'independent, whole networks' independent-2
peer_row 'ffl, branches' ffl fused
peer_row 'ffl, whole networks' ffl-separate fused
