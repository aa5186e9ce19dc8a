#!/usr/bin/env bash
# What caching saves: distillation of an ensemble with the teachers run in every step,
# beside the same from a merged cache, in seconds, for some students.
#
#     pipelines/saved.sh [--students '1 5'] [--cifar100 DIRECTORY] [-o DIRECTORY] ...
#
# --help lists the flags. Teachers in the loop are not run here: what they would add to an
# epoch of a student is measured as what dumping one fresh view of each sample takes each
# teacher, which is its forward passes (and 0.5 % of writing). The student's own epochs
# take the same in both cases. So
#
#     in the loop   students * (epochs * (a dump of one view by each teacher) + training)
#     cached        dumps of all views + merge + students * training
#
# and the teachers' training, the same in both, is left out.
# shellcheck disable=SC2154 # settings sets them
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

check() {
    [[ $students =~ ^[1-9][0-9]*( [1-9][0-9]*)*$ ]] || die "--students: '$students' are no numbers"
}
settings "$@" <<'TABLE'
students | 1 5 | 1 5
TABLE

caches=() fresh=()
for i in $(seq "$teachers"); do
    teach "$i"
    dump "cache-$i" "teacher-$i/model.h5"
    # A view behind those of the cache, as an epoch in the loop would draw it.
    dump "fresh-$i" "teacher-$i/model.h5" --augment "$augment" --views 1 \
        --seed $((epochs + 1))
    caches+=("cache-$i")
    fresh+=("fresh-$i")
done
merge merged mean-prob "${caches[@]}"
for seed in $seeds; do
    learn "$student-merged-$seed" hinton "$student" "$epochs" "$seed" --labels merged
done

# seconds NAME...: what these took, in all.
seconds() {
    (cd stages && head -qn 1 -- "$@") | awk '{ sum += $1 } END { print sum }'
}
mapfile -t trained < <(each "$student-merged")
say "done"
printf '\nsaved: %d teachers, %s; students, %s, %d epochs\n' "$teachers" "$teacher" \
    "$student" "$epochs"
awk -v n="${#trained[@]}" -v epochs="$epochs" -v students="$students" \
    -v fresh="$(seconds "${fresh[@]}")" -v dumps="$(seconds "${caches[@]}")" \
    -v merge="$(seconds merged)" -v training="$(seconds "${trained[@]}")" '
    function line(name, loop, cached) {
        printf "%-34s %12.1f %12.1f %8.2f\n", name, loop, cached, loop / cached
    }
    BEGIN {
        training /= n
        printf "%-34s %12s %12s %8s\n", "seconds", "in the loop", "cached", "ratio"
        printf "%-34s %12.1f %12.1f\n", "teachers, for a student", epochs * fresh, dumps
        printf "%-34s %12s %12.1f\n", "merge", "-", merge
        printf "%-34s %12.1f %12.1f\n", "student", training, training
        n = split(students, number, " ")
        for (i = 1; i <= n; i++)
            line("in all, " number[i] (number[i] == 1 ? " student" : " students"),
                 number[i] * (epochs * fresh + training), dumps + merge + number[i] * training)
    }'
