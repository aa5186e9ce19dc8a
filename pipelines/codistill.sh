#!/usr/bin/env bash
# Networks that teach each other by way of caches, in rounds: before each round every
# network's soft labels are dumped, and each learns from the mean of the others'.
#
#     codistill      labels and the others' mean, after a burn-in (Anil et al. 2018)
#     dml-stale      the same with no burn-in but the first round, which has nobody to learn
#                    from: deep mutual learning but for its staleness
#     prokt-rounds   a teacher learns labels and stays near the student; the student
#                    learns from it alone (after Shi et al. 2021)
#
# Beside them, networks that are independent, with smoothed labels or not, in rounds of the
# same lengths; and how far retrains are apart: churn, the share of test samples that two
# networks of different seeds say different classes of, and their mean |p - q|.
#
#     pipelines/codistill.sh [--methods 'codistill:1 codistill:5 dml-stale:1']
#         [--networks N] [--burn-in EPOCHS] [--data-split shared|disjoint]
#         [--cifar100 DIRECTORY] [--scale full] [-o DIRECTORY] ...
#
# --help lists the flags. METHOD:N has rounds of N epochs, one cut at the burn-in's
# end: its soft labels are stale by N/2 epochs in the mean, the last column says it in
# steps (mean/most). The learning rate falls from epoch to epoch along a cosine over all
# rounds; the optimizer begins each round without memory. --data-split disjoint gives each
# network a part of the data of its own, on which the others are dumped.
# shellcheck disable=SC2154 # settings sets them
set -euo pipefail
# shellcheck source=lib_methods.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_methods.sh"

check() {
    count networks
    [ "$networks" -ge 2 ] || die "--networks: two at least teach each other"
    [[ $burn_in =~ ^[0-9]+$ ]] || die "--burn-in: '$burn_in' is no number of epochs"
    for method in $methods; do
        [[ $method =~ ^(codistill|dml-stale|prokt-rounds):[1-9][0-9]?$ ]] ||
            die "--methods: '$method': codistill, dml-stale or prokt-rounds, and :N"
        [ "${method#*:}" -le "$epochs" ] || die "--methods: $method: more than all epochs"
        [ "${method#*:}" -le 64 ] || die "--methods: $method: more than 64"
    done
    case $data_split in shared | disjoint) ;; *) die "--data-split: shared or disjoint" ;; esac
}
settings "$@" <<'TABLE'
methods    | codistill:1 dml-stale:1 prokt-rounds:1 | codistill:5 dml-stale:5 prokt-rounds:5
networks   | 2      | 2
burn-in    | 2      | 80
data-split | shared | shared
student    | plain2 | resnet32
teacher    | resnet14 | resnet110
epochs     | 10     | 200
TABLE
size=$samples parts=1
[ -z "$cifar100" ] || size=$(records "$cifar100/train.bin")
[ "$data_split" = shared ] || parts=$networks

# part NUMBER: the data of a network.
part() {
    if [ "$data_split" = shared ]; then
        echo "$train"
    else
        echo "$train@$((($1 - 1) * size / networks)):$(($1 * size / networks))"
    fi
}

# rates FIRST LAST: a stage an epoch, each with its rate.
rates() {
    awk -v a="$1" -v b="$2" -v n="$epochs" 'BEGIN {
        for (e = a; e <= b; e++)
            printf "%s{epochs: 1, schedule: constant, warmup: %d, optimizer: keep, lr: %.6g}",
                e == a ? "[" : ", ", e == 1, 0.05 * (1 + cos(3.14159265 * (e - 0.5) / n))
        print "]"
    }'
}

# next_round NAME RECIPE NETWORK NUMBER OPTION...: trains NAME-rROUND from NAME-r of the
# round before, epochs `first` to `last`.
next_round() {
    local name=$1 how=$2 network=$3 number=$4 from=()
    shift 4
    [ "$round" = 1 ] || from=(--start "$name-r$((round - 1))/model.h5")
    learn "$name-r$round" "$how" "$network" 1 $((100000 * (round - 1) + 1000 * number + seed)) \
        --data "$(part "$number")" --stages "$(rates "$first" "$last")" "${from[@]}" "$@"
}

# others NAME NUMBER: dumps what the others say of the network's data, and merges it.
# Each round of each seed draws views of its own; merged probabilities are good at their
# temperature alone.
views() {
    echo --temperature 1 --augment "$augment" --views "$((last - first + 1))" \
        --seed "$((1000 * round + seed))"
}
others() {
    local name=$1 number=$2 other caches=()
    for other in $(seq "$networks"); do
        [ "$other" != "$number" ] || continue
        # shellcheck disable=SC2046 # options
        dump "cache-$name-$other-for-$number-$seed-r$round" \
            "$name-$other-$seed-r$((round - 1))/model.h5" $(views) --data "$(part "$number")"
        caches+=("cache-$name-$other-for-$number-$seed-r$round")
    done
    merge "others-$name-$number-$seed-r$round" mean-prob "${caches[@]}"
}
# The same where all have the same data: each is dumped once.
all_but_one() {
    local name=$1 number caches=()
    for number in $(seq "$networks"); do
        # shellcheck disable=SC2046 # options
        dump "cache-$name-$number-$seed-r$round" \
            "$name-$number-$seed-r$((round - 1))/model.h5" $(views)
        caches+=("cache-$name-$number-$seed-r$round")
    done
    merge "others-$name-$seed-r$round" leave-one-out "${caches[@]}"
}

# rounds EVERY BURN-IN: the last epoch of each round.
rounds() {
    local first=1 last
    while [ "$first" -le "$epochs" ]; do
        last=$((first + $1 - 1))
        [ "$first" -gt "$2" ] || [ "$last" -le "$2" ] || last=$2
        [ "$last" -le "$epochs" ] || last=$epochs
        echo "$last"
        first=$((last + 1))
    done
}

# peers NAME RECIPE EVERY BURN-IN OPTION...: `networks` networks in rounds. The options
# are of epochs that learn from the labels alone.
peers() {
    local name=$1 how=$2 every=$3 burn=$4 number
    shift 4
    round=0 last=0
    for end in $(rounds "$every" "$burn"); do
        first=$((last + 1)) last=$end round=$((round + 1))
        if [ "$first" -gt "$burn" ] && [ "$round" -gt 1 ] && [ "$data_split" = shared ]; then
            all_but_one "$name"
        fi
        for number in $(seq "$networks"); do
            if [ "$first" -le "$burn" ] || [ "$round" = 1 ]; then
                next_round "$name-$number-$seed" labels "$student" "$number" \
                    --augment "$augment" "$@"
            elif [ "$data_split" = shared ]; then
                next_round "$name-$number-$seed" "$how" "$student" "$number" \
                    --labels "others-$name-$seed-r$round/without-$number"
            else
                others "$name" "$number"
                next_round "$name-$number-$seed" "$how" "$student" "$number" \
                    --labels "others-$name-$number-$seed-r$round"
            fi
        done
    done
}

# prokt NAME EVERY: a teacher and a student. In the first round the teacher stays near a
# student that knows nothing, whose classifier is zero in the paper: that is a label
# smoothing of lambda.
prokt() {
    local name=$1 every=$2
    round=0 last=0
    for end in $(rounds "$every" 0); do
        first=$((last + 1)) last=$end round=$((round + 1))
        if [ "$round" = 1 ]; then
            next_round "$name-teacher-$seed" labels "$teacher" 1 --augment "$augment" \
                --label-smoothing 0.4
        else
            # shellcheck disable=SC2046 # options
            dump "cache-$name-student-$seed-r$round" \
                "$name-1-$seed-r$((round - 1))/model.h5" $(views)
            next_round "$name-teacher-$seed" prokt-teacher "$teacher" 1 \
                --labels "cache-$name-student-$seed-r$round"
        fi
        # shellcheck disable=SC2046 # options
        dump "cache-$name-teacher-$seed-r$round" "$name-teacher-$seed-r$round/model.h5" \
            $(views)
        next_round "$name-1-$seed" prokt-student "$student" 1 \
            --labels "cache-$name-teacher-$seed-r$round"
    done
}

# lengths: of rounds, those that the methods have.
lengths() {
    local method
    for method in $methods; do echo "${method#*:}"; done | sort -nu
}
# last_round EVERY BURN-IN
last_round() {
    rounds "$1" "$2" | wc -l
}
group=
[ "$networks" = 2 ] || group=-of-$networks
[ "$data_split" = shared ] || group+=-apart
for seed in $seeds; do
    for every in $(lengths); do
        peers "alone-$every$group" labels "$every" "$epochs"
        peers "smooth-$every$group" labels "$every" "$epochs" --label-smoothing 0.1
    done
    for method in $methods; do
        every=${method#*:} name=${method/:/-}$group
        case $method in
        codistill:*) peers "$name-$burn_in" codistill "$every" "$burn_in" ;;
        dml-stale:*) peers "$name" dml-stale "$every" 0 ;;
        prokt-rounds:*) prokt "$name" "$every" ;;
        esac
    done
    for every in $(lengths); do
        for name in "alone-$every$group" "smooth-$every$group"; do
            # shellcheck disable=SC2046 # names
            together "$name-all-$seed" \
                $(seq -f "$name-%g-$seed-r$(last_round "$every" "$epochs")" "$networks")
        done
    done
done

# finals NAME ROUNDS NUMBER...: the networks of the last round, seed by seed.
finals() {
    local name=$1 rounds=$2 number seed
    shift 2
    for seed in $seeds; do
        for number; do echo "$name-$number-$seed-r$rounds"; done
    done
}

# of_peers LABEL NAME EVERY BURN-IN [STALE]: the row of networks; retrains are first
# networks.
of_peers() {
    local label=$1 name=$2 every=$3 rounds steps stale=-
    rounds=$(last_round "$every" "$4")
    if [ $# -gt 4 ]; then
        steps=$((every * (size / parts / 128)))
        stale=$(awk -v s="$steps" 'BEGIN { print s / 2 "/" s }')
    fi
    # shellcheck disable=SC2046 # names
    row "$label" "$(churn $(finals "$name" "$rounds" 1))  $stale" \
        $(finals "$name" "$rounds" "${numbers[@]}")
}

# compared_with EVERY: what the next rows' gains are over.
compared_with() {
    mapfile -t base < <(finals "alone-$1$group" "$(last_round "$1" "$epochs")" "${numbers[@]}")
}

mapfile -t numbers < <(seq "$networks")
table "codistill: $networks $student, $epochs epochs, data $data_split, burn-in $burn_in" \
    'churn |p-q|  stale steps'
# shellcheck disable=SC2046 # names
{
    for every in $(lengths); do
        alone=alone-$every$group smooth=smooth-$every$group
        compared_with "$every"
        of_peers "independent, rounds of $every" "$alone" "$every" "$epochs"
        row 'their ensembles' "$(churn $(each "$alone-all"))  -" $(each "$alone-all")
        of_peers 'label smoothing 0.1' "$smooth" "$every" "$epochs"
        row 'their ensembles' "$(churn $(each "$smooth-all"))  -" $(each "$smooth-all")
    done
    for method in $methods; do
        every=${method#*:} name=${method/:/-}$group
        compared_with "$every"
        case $method in
        codistill:*)
            of_peers "codistill, rounds of $every" "$name-$burn_in" "$every" "$burn_in" stale
            ;;
        dml-stale:*) of_peers "dml-stale, rounds of $every" "$name" "$every" 0 stale ;;
        prokt-rounds:*)
            numbers=(1)
            compared_with "$every"
            of_peers "prokt-rounds of $every, student" "$name" "$every" 0 stale
            row "prokt-rounds of $every, teacher" - \
                $(finals "$name" "$(last_round "$every" 0)" teacher)
            mapfile -t numbers < <(seq "$networks")
            ;;
        esac
    done
}
