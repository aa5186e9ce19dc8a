#!/usr/bin/env bash
# OKDDip (Chen et al. 2020): diverse peers, each with a mixture of them as its target,
# and a leader that learns from their mean. Whole networks and branches of one trunk;
# the plain mean instead of attention, projections that learn nothing, and all targets
# open as in the authors' code; beside them as many networks that learn alone.
#
#     pipelines/okddip.sh [--cifar100 DIRECTORY] [--scale full] [-o DIRECTORY] ...
#
# --help lists the flags; --members counts the peers and the leader.
# shellcheck disable=SC2154 # settings sets them
set -euo pipefail
# shellcheck source=lib_peers.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_peers.sh"

settings "$@" < <(peer_settings && echo 'members | 4 | 4')
publish_peers '[150, 225]'

independent "$members"
group=(--network "$student" --peers "$members" --ramp-epochs "$ramp_epochs")
peers okddip okddip "${group[@]}"
peers okddip-branches okddip --okddip-branches "${group[@]}"
peers okddip-mean okddip --okddip-weights mean "${group[@]}"
peers okddip-random okddip --okddip-detach targets "${group[@]}"
peers okddip-code okddip --okddip-detach nothing --okddip-mix logits "${group[@]}"

peer_table "okddip: $((members - 1)) peers and a leader, $student, $epochs epochs"
peer_row independent "independent-$members"
peer_row 'okddip, whole networks' okddip
peer_row 'okddip, branches' okddip-branches
peer_row 'mean instead of attention' okddip-mean
peer_row 'attention that does not learn' okddip-random
peer_row "as the authors' code" okddip-code
