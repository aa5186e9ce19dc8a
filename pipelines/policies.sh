#!/usr/bin/env bash
# Every ensemble policy over the same unlike teachers: how right and how well calibrated
# the merged soft labels are, and what a student makes of them.
#
#     pipelines/policies.sh --train train.bin --test test.bin -o DIRECTORY
#         [--teachers 'resnet14 plain4 resnet8 plain6'] [--teacher-epochs 20]
#         [--student plain2] [--epochs 10] [--views 10] [--seeds '1 2']
#         [--temperature 4] [--known 18000] [--fit 1000]
#
# Of CIFAR-100's training file the teachers and students see the first --known samples.
# Of those that follow, the first --fit ones are what learned policies and calibration
# are fitted on, and by the rest the merged rows are judged, in their clean view and at
# temperature 1: no teacher has seen either.
# Each stage that is done is skipped when it is run again.
# shellcheck disable=SC2154 # flags sets them
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

flags "$@" <<'TABLE'
train          |
test           |
teachers       | resnet14 plain4 resnet8 plain6
teacher-epochs | 20
student        | plain2
epochs         | 10
views          | 10
seeds          | 1 2
temperature    | 4
known          | 18000
fit            | 1000
TABLE
needed train test
count teacher_epochs epochs views known fit
given_file train test
all=$(records "$train")
[ $((known + fit)) -lt "$all" ] || die "--known, --fit: of $all samples none is left to judge by"
mkdir -p "$output"
cd "$output"

common=(--data "cifar100:$train@0:$known" --test "cifar100:$test" --batch 128)
caches=() judged=()
for teacher in $teachers; do
    say "teacher $teacher, $teacher_epochs epochs"
    kd-train -q "${common[@]}" --network "$teacher" --epochs "$teacher_epochs" --lr 0.1 \
        --augment crop4,flip -o "teacher-$teacher" >/dev/null
    kd-dump -q --teacher "model:teacher-$teacher/model.h5" --data "cifar100:$train" \
        --temperature "$temperature" --augment crop4,flip --views "$views" \
        -o "cache-$teacher" >/dev/null
    kd-dump -q --teacher "model:teacher-$teacher/model.h5" --temperature 1 \
        --data "cifar100:$train@$known:$all" -o "judged-$teacher" >/dev/null
    caches+=("cache-$teacher")
    judged+=("judged-$teacher")
done

# The policies, and what each is told: those that learn learn from the held-out ids.
held=(--holdout "$known:$((known + fit))")
policies=(mean-prob calibrated mean-logit median trimmed-mean entropy confidence
    label-confidence correct best-by-label best-overall random vote vote-share agreement
    agreement-js noisy-vote stacked greedy class-weights)
options() {
    case $1 in
    calibrated) echo --policy mean-prob --calibrate "${held[@]}" ;;
    best-overall | stacked | greedy | class-weights) echo --policy "$1" "${held[@]}" ;;
    random) echo --policy random --seed 1 ;;
    agreement) echo --policy agreement --threshold 0.75 ;;
    agreement-js) echo --policy agreement --agree js --threshold 0.1 ;;
    noisy-vote) echo --policy noisy-vote --noise gnmax --noise-scale 1 --seed 1 ;;
    *) echo --policy "$1" ;;
    esac
}

# learn NAME SEED OPTION...: a student of those soft labels.
learn() {
    local name=$1 seed=$2
    shift 2
    say "$student learns from $name, seed $seed"
    kd-train -q "${common[@]}" --network "$student" --epochs "$epochs" --lr 0.1 \
        --seed "$seed" -o "$student-$name-$seed" "$@" >/dev/null
}

for policy in "${policies[@]}"; do
    say "merging: $policy"
    # shellcheck disable=SC2046 # options
    kd-merge -q $(options "$policy") -o "cache-$policy" "${caches[@]}" >/dev/null
    # shellcheck disable=SC2046
    kd-merge -q $(options "$policy") -o "judged-$policy" "${judged[@]}" >/dev/null
done
rows=("${caches[@]#cache-}" "${policies[@]}")
for row in "${rows[@]}"; do
    kd-eval --json --data "cifar100:$train@$((known + fit)):$all" "judged-$row" \
        >"measured-$row.json"
done
for seed in $seeds; do
    learn labels-alone "$seed" --augment crop4,flip
    for row in "${rows[@]}"; do
        learn "$row" "$seed" --labels "cache-$row" --temperature "$temperature"
    done
done

# number ROW KEY FACTOR DIGITS: what was measured of its soft labels; JSON has null for
# the NLL of a label whose probability is 0.
number() {
    grep -oE "\"$2\": *[-0-9a-z.+]+" "measured-$1.json" | head -n 1 | sed 's/.*: *//' |
        awk -v factor="$3" -v format="%.$4f" \
            '{ if ($1 == "null") printf "inf"; else printf format, factor * $1 }'
}

say "done"
format='%-18s %11s %7s %6s   %s\n'
# shellcheck disable=SC2059 # the format of a row
{
    printf "$format" 'soft labels' 'accuracy, %' NLL ECE "$student's accuracy, %"
    printf "$format" 'none' - - - "$(accuracy "$student"-labels-alone-* | percent)"
    for row in "${rows[@]}"; do
        printf "$format" "$row" "$(number "$row" accuracy 100 2)" \
            "$(number "$row" nll 1 3)" "$(number "$row" ece 1 3)" \
            "$(accuracy "$student-$row"-[0-9]* | percent)"
    done
}
