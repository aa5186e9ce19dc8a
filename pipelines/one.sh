#!/usr/bin/env bash
# Branches of one trunk: ONE (Lan et al. 2018), whose gate weighs them into the ensemble
# that teaches them, and CL-ILR (Song and Chai 2018), whose heads learn from the mean of
# the others; beside them whole networks that learn alone.
#
#     pipelines/one.sh [--cifar100 DIRECTORY] [--scale full] [-o DIRECTORY] ...
#
# --help lists the flags; --branches is how many there are.
# shellcheck disable=SC2154 # settings sets them
set -euo pipefail
# shellcheck source=lib_peers.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_peers.sh"

settings "$@" < <(peer_settings && echo 'branches | 3 | 3')
publish_peers '[151, 225]'
[ "$scale" = small ] || published+=(--no-nesterov --weight-decay 1e-4)

independent "$branches"
branch=(--network "$student" --peers "$branches")
peers one one "${branch[@]}" --ramp-epochs "$ramp_epochs"
peers cl-ilr cl-ilr "${branch[@]}" --ramp-epochs "$ramp_epochs"

peer_table "one: $branches branches, $student, $epochs epochs"
peer_row 'independent, whole networks' "independent-$branches"
peer_row one one gate
peer_row cl-ilr cl-ilr
