#!/usr/bin/env bash
# One teacher or several, at once or one after the other: a student of one teacher
# (Hinton et al. 2015), of all teachers' merged soft labels, of the teachers in turn
# (stages, in several orders; or batch by batch), of a teacher drawn for each batch or
# for each row. All students have the same epochs; the last column says how many passes
# of a teacher over the data they learned from.
#
#     pipelines/ensemble.sh [--cifar100 DIRECTORY] [--scale full] [-o DIRECTORY] ...
#
# --help lists the flags. --scale full has sizes and epochs that are usual for CIFAR-100,
# as no paper compares just these.
# shellcheck disable=SC2034,SC2154 # settings sets some, others are named by ${!name}
set -euo pipefail
# shellcheck source=lib_methods.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_methods.sh"

check() {
    [ "$teachers" -ge 2 ] || die "--teachers: an ensemble has two at least"
    [ "$epochs" -ge "$teachers" ] || die "--epochs: fewer than there are teachers"
}
settings "$@" <<'TABLE'
TABLE
if [ "$scale" = full ]; then
    published=(--schedule multistep --milestones '[150, 180, 210]' --lr 0.05 --warmup 0)
fi
fewer=$((epochs / teachers))

caches=() few=()
for i in $(seq "$teachers"); do
    teach "$i"
    dump "cache-$i" "teacher-$i/model.h5"
    dump "few-$i" "teacher-$i/model.h5" --augment "$augment" --views "$fewer"
    caches+=("cache-$i")
    few+=("few-$i")
done
merge merged mean-prob "${caches[@]}"
merge merged-few mean-prob "${few[@]}"
merge merged-random random "${caches[@]}"
together ensemble $(seq -f 'teacher-%g' "$teachers")

# walk TEACHER...: the stages of a student that goes from teacher to teacher; the rate
# falls over the whole run.
walk() {
    local last=${*: -1} i list=
    for i; do
        [ "$i" != "$last" ] || fewer=$((epochs - (teachers - 1) * (epochs / teachers)))
        list+=", {labels: cache-$i, epochs: $fewer, optimizer: keep}"
    done
    echo "[${list#, }]"
}
forward=$(seq -s ' ' "$teachers")
backward=$(seq -s ' ' "$teachers" -1 1)
rotated="${forward#* } 1"

student() {
    local name=$1
    shift
    learn "$student-$name-$seed" hinton "$student" "$epochs" "$seed" "$@"
}
orders=(forward backward)
[ "$teachers" -lt 3 ] || orders+=(rotated)
for seed in $seeds; do
    alone "$student" "$seed"
    student one --labels "cache-$(teacher_of "$seed")"
    student merged --labels merged
    student merged-few --labels merged-few
    for order in "${orders[@]}"; do
        # shellcheck disable=SC2086 # numbers
        student "$order" --schedule-over run --stages "$(walk ${!order})"
    done
    student turns --labels "$(IFS=, && echo "${caches[*]}")"
    student drawn --labels "$(IFS=, && echo "${caches[*]}")" --labels-order random
    student random --labels merged-random
done

title="ensemble: $teachers teachers, $teacher, $teacher_epochs epochs"
table "$title; students, $student, $epochs epochs" passes
# shellcheck disable=SC2046 # names
{
    row teachers - $(seq -f 'teacher-%g' "$teachers")
    row 'their ensemble' - ensemble
    mapfile -t base < <(each "$student-labels")
    row 'labels alone' 0 "${base[@]}"
    row 'hinton: one teacher' "$epochs" $(each "$student-one")
    row 'ensemble: merged' $((teachers * epochs)) $(each "$student-merged")
    row 'ensemble, at equal passes' $((teachers * (epochs / teachers))) \
        $(each "$student-merged-few")
    for order in "${orders[@]}"; do
        row "sequential: ${!order}" "$epochs" $(each "$student-$order")
    done
    row 'in turn, batch by batch' "$epochs" $(each "$student-turns")
    row 'a teacher drawn for each batch' "$epochs" $(each "$student-drawn")
    row 'random-teacher, for each row' "$epochs" $(each "$student-random")
}
