#!/usr/bin/env bash
# What caching saves: distillation of an ensemble with the teachers run in every step of
# every student (kd-peers --method hinton), beside the same from a merged cache. Seconds,
# for some students, and what the students are worth.
#
#     pipelines/saved.sh [--students '1 5'] [--cifar100 DIRECTORY] [-o DIRECTORY] ...
#
# --help lists the flags. A student is trained for each seed, both ways; several students
# are so many times the mean of those. The teachers' training, the same for both, is left
# out, and so is measuring.
# shellcheck disable=SC2154 # settings sets them
set -euo pipefail
# shellcheck source=lib_peers.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_peers.sh"

table_usage() {
    cat <<'TEXT'
The table has seconds: of dumps and merge, which are done once, of one student, and of all
for so many students; and the students' test accuracy, both ways.
TEXT
}
check() {
    [[ $students =~ ^[1-9][0-9]*( [1-9][0-9]*)*$ ]] || die "--students: '$students' are no numbers"
}
settings "$@" <<'TABLE'
students | 1 5 | 1 5
TABLE
batch=128 # of `learn`, too

caches=() models=()
for i in $(seq "$teachers"); do
    teach "$i"
    dump "cache-$i" "teacher-$i/model.h5"
    caches+=("cache-$i")
    models+=("teacher-$i/model.h5")
done
merge merged mean-prob "${caches[@]}"
for seed in $seeds; do
    learn "$student-merged-$seed" hinton "$student" "$epochs" "$seed" --labels merged
done
peers "$student-looped" hinton --network "$student" --teachers "$(IFS=, && echo "${models[*]}")"

# seconds NAME...: what these took, in the mean.
seconds() {
    (cd stages && head -qn 1 -- "$@") | awk '{ sum += $1 } END { print sum / NR }'
}
mapfile -t trained < <(each "$student-merged")
mapfile -t looped < <(each "$student-looped")
say "done"
printf '\nsaved: %d teachers, %s; students, %s, %d epochs, seeds %s\n' "$teachers" \
    "$teacher" "$student" "$epochs" "$seeds"
awk -v students="$students" -v loop="$(seconds "${looped[@]}")" \
    -v dump="$(seconds "${caches[@]}")" -v teachers="$teachers" \
    -v merge="$(seconds merged)" -v training="$(seconds "${trained[@]}")" '
    BEGIN {
        once = teachers * dump + merge
        printf "%-34s %14s %14s %6s\n", "seconds", "in every step", "cached", "ratio"
        printf "%-34s %14s %14.1f\n", "dumps and merge, once", "-", once
        printf "%-34s %14.1f %14.1f\n", "a student", loop, training
        n = split(students, number, " ")
        for (i = 1; i <= n; i++) {
            all = once + number[i] * training
            printf "%-34s %14.1f %14.1f %6.2f\n",
                "in all, " number[i] (number[i] == 1 ? " student" : " students"),
                number[i] * loop, all, number[i] * loop / all
        }
    }'
printf '%-34s %14s %14s\n' 'test accuracy, %' \
    "$(figures student "$student-looped" | percent)" "$(accuracy "${trained[@]}" | percent)"
