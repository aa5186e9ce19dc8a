#!/usr/bin/env bash
# prokd_reconstructed: a student walks through its teacher's footsteps, the networks that
# it was on its way, in order, then learns the labels (pipelines/recipes/pro-kd.yaml says
# what is reconstructed). Controls: all logits at their size, the reverse order, each
# footstep alone (the last is the finished teacher), ordinary distillation, and the
# footsteps as anchors of ordinary distillation (RCO, Jin et al. 2019).
#
#     pipelines/pro-kd.sh [--footsteps N] [--logits-lr X] [--cifar100 DIRECTORY]
#         [--scale full] [-o DIRECTORY] ...
#
# --help lists the flags. The best of the single footsteps is the best on the test set:
# a control that has an advantage.
# shellcheck disable=SC2154 # settings sets them
set -euo pipefail
# shellcheck source=lib_methods.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_methods.sh"

check() {
    [ "$epochs" -ge 2 ] || die "--epochs: two phases have two at least"
}
settings "$@" <<'TABLE'
logits-lr      | 0.02   | 0.1
student        | plain2 | resnet8
teacher        | resnet14 | resnet110
teachers       | 1      | 1
epochs         | 10     | 300
teacher-epochs | 20     | 200
TABLE
for most in "$teacher_epochs" $((epochs - 1)); do # at most one an epoch
    [ "$footsteps" -le "$most" ] || footsteps=$most
done
length=$((2 * epochs / (3 * footsteps)))
[ "$length" -ge 1 ] || length=1
rest=$((epochs - length * footsteps))

# cache_of EPOCH: of the teacher after that epoch.
cache_of() {
    [ "$1" = "$teacher_epochs" ] && echo "cache-$i" || echo "foot-$i-$1"
}

# walk FACTOR EPOCH...: stages through these footsteps at a constant rate, logits times
# k/n (rising) or 1, then the labels, at a falling one.
walk() {
    local factor=$1 k=0 epoch list='' times=1
    shift
    for epoch; do
        k=$((k + 1))
        [ "$factor" = 1 ] || times=$(awk -v k="$k" -v n=$# 'BEGIN { printf "%.4g", k / n }')
        list+="{labels: $(cache_of "$epoch"), epochs: $length, scale: $times, lr: $logits_lr, clip: 5, "
        list+="schedule: constant, warmup: $((k == 1)), optimizer: keep}, "
    done
    echo "[$list{labels: none, hard: 1, epochs: $rest$(stage_halves "$rest")}]"
}

# anchors EPOCH...: stages of ordinary distillation, the rate falling over all of them.
anchors() {
    local epoch list='' left=$epochs count=$#
    for epoch; do
        list+=", {labels: $(cache_of "$epoch"), epochs: $((left / count)), optimizer: keep}"
        left=$((left - left / count)) count=$((count - 1))
    done
    echo "[${list#, }]"
}

student() {
    local name=$1
    shift
    learn "$student-$name-$seed" pro-kd "$student" "$epochs" "$seed" \
        --augment "$augment" "$@"
}

mapfile -t forward < <(steps)
mapfile -t backward < <(steps | sort -nr)
for seed in $seeds; do
    i=$(teacher_of "$seed")
    publish_halves "$teacher_epochs" # as Annealing-KD has it
    teach "$i"
    publish_halves "$epochs"
    for epoch in "${forward[@]}"; do
        model=$(footstep "$i" "$epoch")
        [ "$epoch" != "$teacher_epochs" ] || model=teacher-$i/model.h5
        dump "$(cache_of "$epoch")" "$model"
    done
    alone "$student" "$seed"
    student prokd --stages "$(walk rising "${forward[@]}")"
    student prokd-flat --stages "$(walk 1 "${forward[@]}")"
    student prokd-reverse --stages "$(walk 1 "${backward[@]}")"
    for epoch in "${forward[@]}"; do
        same=()
        for _ in "${forward[@]}"; do same+=("$epoch"); done
        student "prokd-only-$epoch" --stages "$(walk 1 "${same[@]}")"
    done
    learn "$student-last-$seed" hinton "$student" "$epochs" "$seed" --labels "cache-$i"
    learn "$student-rco-$seed" hinton "$student" "$epochs" "$seed" --schedule-over run \
        --stages "$(anchors "${forward[@]}")"
done

table "pro-kd: $student by $teacher, $footsteps x $length epochs of logits, then $rest of labels" \
    "teacher's epochs"
# shellcheck disable=SC2046 # names
{
    mapfile -t base < <(each "$student-labels")
    row 'labels alone' - "${base[@]}"
    row 'prokd_reconstructed' "${forward[*]}" $(each "$student-prokd")
    row 'no factor' "${forward[*]}" $(each "$student-prokd-flat")
    row 'no factor, reverse order' "${backward[*]}" $(each "$student-prokd-reverse")
    for epoch in "${forward[@]}"; do
        row 'one footstep alone' "$epoch" $(each "$student-prokd-only-$epoch")
    done
    row 'KD, the last alone' "$teacher_epochs" $(each "$student-last")
    row 'RCO: KD in order' "${forward[*]}" $(each "$student-rco")
}
