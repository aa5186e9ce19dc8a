#!/usr/bin/env bash
# Teacher assistants (TAKD, Mirzadeh et al. 2020): from a large network to a small one by
# way of those between, each of them dumped for the next. The full path, each single
# assistant, and for controls the teacher itself and the labels alone. No augmentation,
# one clean view, as in the authors' code.
#
#     pipelines/takd.sh [--assistants 'plain8 plain6 plain4']
#         [--reduction batchmean|elemmean] [--cifar100 DIRECTORY] [-o DIRECTORY] ...
#
# --help lists the flags. Networks learn for --epochs all, the teacher for
# --teacher-epochs. --teachers N makes N chains of teachers and assistants, for the
# students of the seeds in turn.
# shellcheck disable=SC2154 # settings sets them
set -euo pipefail
# shellcheck source=lib_methods.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_methods.sh"

check() {
    case $reduction in batchmean | elemmean) ;; *) die "--reduction: batchmean or elemmean" ;; esac
    [ -n "$assistants" ] || die "--assistants: there are none"
}
settings "$@" <<'TABLE'
student        | plain2  | plain2
assistants     | plain8 plain6 plain4 | plain8 plain6 plain4
teacher        | plain10 | plain10
reduction      | batchmean | elemmean
teachers       | 1   | 3
epochs         | 10  | 160
teacher-epochs | 10  | 160
TABLE
if [ "$scale" = full ]; then # as the code runs: its plain networks keep their rate
    published=(--schedule constant --warmup 0 --lr 0.01 --no-nesterov --weight-decay 1e-4)
fi

# taught NETWORK NAME SEED TEACHER: into the directory NAME, by what is in TEACHER.
taught() {
    local network=$1 name=$2 seed=$3 by=$4
    dump "clean-$by" "$by/model.h5" --views 1
    learn "$name" takd "$network" "$epochs" "$seed" --labels "clean-$by" \
        --reduction "$reduction"
}

# A network's name is its way from the teacher, and the number of its chain or its seed.
for i in $(seq "$teachers"); do
    learn "$teacher-top-$i" labels "$teacher" "$teacher_epochs" "$i" --augment none
    before=$teacher-top-$i way=$teacher
    for assistant in $assistants; do
        taught "$assistant" "$assistant-by-$teacher-$i" "$i" "$teacher-top-$i"
        way=$assistant-by-$way
        taught "$assistant" "$way-$i" "$i" "$before"
        before=$way-$i
    done
done
full=$student-by-$way

for seed in $seeds; do
    i=$(teacher_of "$seed")
    learn "$student-clean-$seed" labels "$student" "$epochs" "$seed" --augment none
    taught "$student" "$student-by-$teacher-$seed" "$seed" "$teacher-top-$i"
    for assistant in $assistants; do
        taught "$student" "$student-by-$assistant-by-$teacher-$seed" "$seed" \
            "$assistant-by-$teacher-$i"
    done
    taught "$student" "$full-$seed" "$seed" "$way-$i"
done

title="takd: $teacher, $assistants, $student"
table "$title; students of $epochs epochs, KL $reduction, clean views" way
# shellcheck disable=SC2046 # names
{
    row "teacher, $teacher" - $(seq -f "$teacher-top-%g" "$teachers")
    for assistant in $assistants; do
        row "assistant, $assistant" - $(seq -f "$assistant-by-$teacher-%g" "$teachers")
    done
    mapfile -t base < <(each "$student-clean")
    row "$student, labels alone" - "${base[@]}"
    row 'KD, by the teacher itself' "$student < $teacher" $(each "$student-by-$teacher")
    for assistant in $assistants; do
        row "TAKD, assistant $assistant" "$student < $assistant < $teacher" \
            $(each "$student-by-$assistant-by-$teacher")
    done
    [[ $assistants != *' '* ]] ||
        row 'TAKD, full path' "${full//-by-/ < }" $(each "$full")
}
