#!/usr/bin/env bash
# What each encoding of soft labels costs and what it loses: bytes a row, its distance
# to float32, and the accuracy of students that learn from it.
#
#     pipelines/encodings.sh --teacher teacher/model.h5 --data DATASET --test DATASET
#         -o DIRECTORY [--student resnet8] [--epochs 15] [--views 15] [--seeds '1 2 3']
#         [--temperature 4] [--others '1 2 8'] [--lr 0.1] [--tail spread]
#
# Each stage that is done is skipped when it is run again.
# shellcheck disable=SC2154 # flags sets them
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

flags "$@" <<'TABLE'
teacher     |
data        |
test        |
student     | resnet8
epochs      | 15
views       | 15
seeds       | 1 2 3
temperature | 4
others      | 1 2 8
lr          | 0.1
tail        | spread
TABLE
needed teacher data test
count epochs views
given_file teacher
mkdir -p "$output"
cd "$output"

# NAME: options of kd-dump; the first one is what the others are compared with.
names=(f32 f16 bf16 top-50 top-10 top-p-0.9 sampled-50)
options() {
    case $1 in
    f32 | f16 | bf16) echo --dtype "$1" ;;
    top-p-*) echo --encoding top-p --mass "${1#top-p-}" -k 50 ;;
    top-*) echo --encoding top-k -k "${1#top-}" ;;
    sampled-*) echo --encoding sampled -k "${1#sampled-}" ;;
    esac
    case $1 in
    top-* | sampled-*) echo --also-temperature "${others// /,}" ;;
    esac
}

# field FORMAT JSON KEY: the first number of that key in a report; - where there is none.
field() {
    local number
    number=$(grep -oE "\"$3\": *[-0-9.e+]+" "$2" | head -n 1 | sed 's/.*: *//')
    # shellcheck disable=SC2059 # the format of a number
    if [ -n "$number" ]; then printf "$1" "$number"; else echo -; fi
}

for name in "${names[@]}"; do
    say "$name: caching $views views a sample"
    # shellcheck disable=SC2046 # options
    kd-dump -q --teacher "model:$teacher" --data "$data" --temperature "$temperature" \
        --augment crop4,flip --views "$views" $(options "$name") -o "cache-$name" >/dev/null
    kd-info --json "cache-$name" >"info-$name.json"
    for t in $temperature $others; do
        kd-eval --json --reference cache-f32 --temperature "$t" --tail "$tail" \
            "cache-$name" >"distance-$name-$t.json"
    done
done
for seed in $seeds; do
    for name in "${names[@]}"; do
        say "$name: a student of seed $seed"
        kd-train -q --data "$data" --test "$test" --network "$student" --batch 128 \
            --epochs "$epochs" --lr "$lr" --labels "cache-$name" --temperature "$temperature" \
            --tail "$tail" --seed "$seed" -o "$student-$name-$seed" >/dev/null
    done
done

say "done"
{
    printf '%-12s %8s %14s' encoding bytes 'accuracy, %'
    for t in $temperature $others; do
        printf ' %21s' "KL at T=$t, mean/worst"
    done
    printf '\n'
    for name in "${names[@]}"; do
        printf '%-12s %8s %14s' "$name" "$(field %.1f "info-$name.json" bytes_a_row)" \
            "$(accuracy "$student-$name"-* | percent)"
        for t in $temperature $others; do
            printf ' %10s %10s' "$(field %.2g "distance-$name-$t.json" kl_mean)" \
                "$(field %.2g "distance-$name-$t.json" kl_worst)"
        done
        printf '\n'
    done
}
