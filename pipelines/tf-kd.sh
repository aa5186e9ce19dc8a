#!/usr/bin/env bash
# Teacher-free distillation (Tf-KD, Yuan et al. 2020): a student learns from itself, as it
# was trained on the labels; from a virtual teacher, a function of the label, in both
# readings; a larger network learns from the student (Re-KD); the student learns from a
# teacher of one epoch (De-KD) or a good one. Controls: the labels alone, smoothed labels,
# and the labels times 0.05, which is what some of the published settings amount to.
#
#     pipelines/tf-kd.sh [--cifar100 DIRECTORY] [--scale full] [-o DIRECTORY] ...
#
# --help lists the flags. At --scale full resnet32x4 stands in for the ResNet-18.
# shellcheck disable=SC2154 # settings sets them
set -euo pipefail
# shellcheck source=lib_methods.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_methods.sh"

settings "$@" <<'TABLE'
student        | plain2 | mobilenetv2
epochs         | 10     | 200
teacher-epochs | 20     | 200
TABLE
if [ "$scale" = full ]; then
    published=(--schedule multistep --milestones '[60, 120, 160]' --gamma 0.2
        --no-nesterov)
fi

# student NAME RECIPE OPTION...
student() {
    local name=$1 recipe=$2
    shift 2
    learn "$student-$name-$seed" "$recipe" "$student" "$epochs" "$seed" "$@"
}
virtual=(--augment "$augment")

for seed in $seeds; do
    i=$(teacher_of "$seed")
    teach "$i"
    dump "cache-$i" "teacher-$i/model.h5"
    dump "defective-$i" "$(footstep "$i" 1)"
    alone "$student" "$seed"
    dump "cache-$student-labels-$seed" "$student-labels-$seed/model.h5"

    student smoothed labels --augment "$augment" --label-smoothing 0.1
    student twentieth labels --augment "$augment" --hard 0.05
    student self tf-kd --labels "cache-$student-labels-$seed"
    student self-batch tf-kd --labels "cache-$student-labels-$seed" --reduction batchmean
    student virtual tf-kd-virtual "${virtual[@]}"
    student virtual-power tf-kd-virtual "${virtual[@]}" --virtual-soften power
    student virtual-small tf-kd-virtual "${virtual[@]}" --virtual-temperature 40 \
        --hard 0.05 --soft 0.95
    student defective tf-kd --labels "defective-$i"
    student normal tf-kd --labels "cache-$i"

    alone "$teacher" "$seed"
    learn "$teacher-reversed-$seed" tf-kd "$teacher" "$epochs" "$seed" \
        --labels "cache-$student-labels-$seed" --hard 0.4 --soft 0.6
done

table "tf-kd: $student and $teacher, $epochs epochs; teachers of $teacher_epochs epochs" \
    'CE, KL, T, mean'
# shellcheck disable=SC2046 # names
{
    mapfile -t base < <(each "$student-labels")
    row "$student, labels alone" '1 0' "${base[@]}"
    row 'label smoothing 0.1' '1 0' $(each "$student-smoothed")
    row 'labels times 0.05' '0.05 0' $(each "$student-twentieth")
    row 'self' '0.05 0.95 20 elem' $(each "$student-self")
    row 'self' '0.05 0.95 20 batch' $(each "$student-self-batch")
    row 'virtual, softmax of prob.' '0.9 10 20 elem' $(each "$student-virtual")
    row 'virtual, power' '0.9 10 20 elem' $(each "$student-virtual-power")
    row 'virtual, softmax of prob.' '0.05 0.95 40 elem' $(each "$student-virtual-small")
    row "De-KD: $teacher of one epoch" '0.05 0.95 20 elem' $(each "$student-defective")
    row "KD: $teacher" '0.05 0.95 20 elem' $(each "$student-normal")
    mapfile -t base < <(each "$teacher-labels")
    row "$teacher, labels alone" '1 0' "${base[@]}"
    row "Re-KD: $teacher, by $student" '0.4 0.6 20 elem' $(each "$teacher-reversed")
}
