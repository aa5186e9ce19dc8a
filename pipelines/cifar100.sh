#!/usr/bin/env bash
# The whole way on CIFAR-100's binary files: teachers, their merged cache, students
# with and without it.
#
#     pipelines/cifar100.sh --train train.bin --test test.bin -o DIRECTORY
#         [--teacher resnet14] [--teachers 3] [--teacher-epochs 60]
#         [--students 'resnet8 plain4'] [--student-epochs 30] [--views 30]
#         [--seeds '1 2 3'] [--temperature 4]
#
# Each stage that is done is skipped when it is run again.
# shellcheck disable=SC2154 # flags sets them
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

flags "$@" <<'TABLE'
train          |
test           |
teacher        | resnet14
teachers       | 3
teacher-epochs | 60
students       | resnet8 plain4
student-epochs | 30
views          | 30
seeds          | 1 2 3
temperature    | 4
TABLE
needed train test
count teachers teacher_epochs student_epochs views
given_file train test
mkdir -p "$output"
cd "$output"

common=(--data "cifar100:$train" --test "cifar100:$test" --batch 128)
for i in $(seq "$teachers"); do
    say "teacher $i: $teacher, $teacher_epochs epochs"
    kd-train "${common[@]}" --network "$teacher" --epochs "$teacher_epochs" --lr 0.1 \
        --augment crop4,flip --seed "$i" -o "teacher$i" >/dev/null
done

say "caching $views views a sample, and merging them as they come"
dump() {
    kd-dump --teacher "model:teacher$1/model.h5" --data "cifar100:$train" \
        --temperature "$temperature" --augment crop4,flip --views "$views" -o "cache$1"
}
inputs=()
for i in $(seq "$teachers"); do
    exec {fd}< <(dump "$i")
    inputs+=("/dev/fd/$fd")
done
kd-merge --policy mean-prob -o merged "${inputs[@]}" >/dev/null

for student in $students; do
    for seed in $seeds; do
        say "student $student, seed $seed"
        kd-train "${common[@]}" --network "$student" --epochs "$student_epochs" \
            --lr 0.1 --augment crop4,flip --seed "$seed" -o "$student-hard-$seed" \
            >/dev/null
        kd-train "${common[@]}" --network "$student" --epochs "$student_epochs" \
            --lr 0.1 --labels merged --temperature "$temperature" --seed "$seed" \
            -o "$student-soft-$seed" >/dev/null
    done
done

say "measuring the ensemble"
# shellcheck disable=SC2046 # numbers
ensemble "cifar100:$test" "$temperature" $(seq -f 'teacher%g' "$teachers") >ensemble.txt

say "done"
row='%-22s %-16s %-20s %s\n'
# shellcheck disable=SC2059 # the format of a row
{
    printf "\n$row" 'test accuracy, %' 'labels alone' 'merged soft labels' gain
    printf "$row" "$teachers teachers, $teacher" "$(accuracy teacher* | percent)" - -
    printf "$row" 'their ensemble' "$(percent <ensemble.txt)" - -
    for student in $students; do
        accuracy "$student"-hard-* >hard.txt
        accuracy "$student"-soft-* >soft.txt
        printf "$row" "student, $student" "$(percent <hard.txt)" "$(percent <soft.txt)" \
            "$(gains hard.txt soft.txt)"
    done
}
