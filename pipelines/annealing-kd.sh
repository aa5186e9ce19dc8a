#!/usr/bin/env bash
# Annealing-KD: a student learns the teacher's logits, scaled up to their size in steps,
# for two thirds of its epochs, then the labels. Controls: no annealing, ordinary
# distillation, the labels alone, all of as many epochs. The authors' code begins the
# second phase with the epoch that was best on the test set; here one row does.
#
#     pipelines/annealing-kd.sh [--steps N] [--logits-lr X] [--cifar100 DIRECTORY] [--scale full]
#         [-o DIRECTORY] ...
#
# --help lists the flags. A squared error is steeper than a cross-entropy, so the first
# phase has a learning rate of its own; for plain networks the authors' is 0.01.
# shellcheck disable=SC2154 # settings sets them
set -euo pipefail
# shellcheck source=lib_methods.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_methods.sh"

check() {
    count steps
    [ "$epochs" -ge 2 ] || die "--epochs: two phases have two at least"
}
settings "$@" <<'TABLE'
steps          | 10     | 10
logits-lr      | 0.02   | 0.1
student        | plain2 | resnet8
teacher        | resnet14 | resnet110
epochs         | 10     | 300
teacher-epochs | 20     | 200
TABLE
first=$((2 * epochs / 3)) second=$((epochs - 2 * epochs / 3))
[ "$steps" -le "$first" ] || steps=$first

# phases ANNEAL START
phases() {
    printf '[{epochs: %d, lr: %s, clip: 5, anneal: %d%s}, ' \
        "$first" "$logits_lr" "$1" "$(stage_halves "$first")"
    printf '{epochs: %d, labels: none, hard: 1, start: %s%s}]' \
        "$second" "$2" "$(stage_halves "$second")"
}
student() {
    local name=$1
    shift
    learn "$student-$name-$seed" annealing-kd "$student" "$epochs" "$seed" \
        --labels "cache-$i" --augment "$augment" "$@"
}

for seed in $seeds; do
    i=$(teacher_of "$seed")
    publish_halves "$teacher_epochs"
    teach "$i"
    dump "cache-$i" "teacher-$i/model.h5"
    publish_halves "$epochs"
    alone "$student" "$seed"
    learn "$student-one-$seed" hinton "$student" "$epochs" "$seed" --labels "cache-$i"
    student annealed --stages "$(phases "$steps" last)"
    student annealed-best --stages "$(phases "$steps" best)" --select test
    student unannealed --stages "$(phases 0 last)"
done

title="annealing-kd: $student by $teacher, $teacher_epochs epochs"
title+="; $first epochs of logits, then $second of labels"
table "$title" 'second phase begins with'
# shellcheck disable=SC2046 # names
{
    mapfile -t base < <(each "$student-labels")
    row 'labels alone' - "${base[@]}"
    row 'KD' - $(each "$student-one")
    row "annealing-kd, $steps steps" 'last epoch' $(each "$student-annealed")
    row "annealing-kd, $steps steps" 'best on the test set' $(each "$student-annealed-best")
    row 'no annealing' 'last epoch' $(each "$student-unannealed")
}
