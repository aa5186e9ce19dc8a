#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# kd-merge: every policy by its options, what it writes down, and what it refuses.

load helpers

setup_file() { make_once; }
setup() { enter_copy; }

# merge POLICY [OPTION...]: of both caches, into `out`.
merge() {
    local policy=$1
    shift
    rm -rf out
    kd-merge -q --policy "$policy" "$@" -o out cache-a cache-b
}

# fact NAME: what `out` says of itself.
fact() {
    kd-info --json out >info.json && json info.json "j['identity']['$1']"
}

# parameters REGEX: the policy's.
parameters() {
    local is
    is=$(fact policy_parameters)
    [[ $is =~ ^$1$ ]] || {
        echo "policy_parameters is '$is'"
        return 1
    }
}

@test "every policy merges" {
    printf 'id,teacher\n0:100,1\n*,2\n' >routes.csv
    for policy in mean-prob mean-logit entropy label-confidence confidence correct \
        best-by-label random vote vote-share; do
        expect 0 merge "$policy"
        expect 0 kd-check -q out
    done
    expect 0 merge best-overall --accuracies 0.4,0.5
    expect 0 merge route --route routes.csv
    expect 0 merge agreement --agree js --threshold 0.1
    expect 0 merge noisy-vote --noise gnmax --noise-scale 2 --seed 3
    for policy in stacked greedy class-weights best-overall; do
        expect 0 merge "$policy" --holdout 100:200 --calibrate
    done
    rm -rf out
    expect 0 kd-merge -q --policy median -o out cache-a cache-b cache-a
    rm -rf out
    expect 0 kd-merge -q --policy trimmed-mean -o out cache-a cache-b cache-a
}

@test "what a policy did is written down" {
    expect 0 merge random --weights 1,3 --seed 9
    parameters "weights=0.25,0.75 seed=9"
    expect 0 merge stacked --holdout 100:200 --calibrate
    parameters "weights=[0-9.,e-]* calibration=[0-9.]*,[0-9.]* holdout=100:200"
    expect 0 merge noisy-vote --noise lnmax --noise-scale 4 --fallback uniform
    parameters "noise=lnmax noise-scale=4 questions=300 epsilon=[0-9.]* delta=1e-05 fallback=uniform seed=0"
}

@test "one teacher's row as it is keeps its logits" {
    expect 0 merge best-by-label
    [ "$(fact value_kind)" = logits ]
    expect 0 merge vote
    [ "$(fact value_kind)" = logprobs ]
}

@test "leave-one-out makes a cache for each teacher" {
    expect 0 kd-merge -q --policy leave-one-out --shard-samples 300 -o out \
        cache-a cache-b merged
    stdout_is out/without-{1,2,3}/shard-000000.h5
    expect 0 kd-merge -q --shard-samples 300 -o pair cache-a merged
    /usr/bin/python3 - <<'END'
import h5py
a, b = (h5py.File(f"{d}/shard-000000.h5") for d in ("out/without-2", "pair"))
assert a.attrs["policy"].decode() == "leave-one-out"
assert all((a[n][:] == b[n][:]).all() for n in ("id", "logits", "log_z"))
END
    fails_like 64 - "more than once" -- \
        kd-merge --policy leave-one-out -o x cache-a - <<<cache-b/shard-000000.h5
}

@test "an option of another policy is refused" {
    refused() {
        local policy=$1 words=()
        shift
        while [ "$1" != -- ]; do
            words+=("$1")
            shift
        done
        shift
        fails_like 64 "${words[@]}" -- kd-merge -o x --policy "$policy" "$@" cache-a cache-b
    }
    refused mean-prob --trim "mean-prob does not take it" -- --trim 1
    refused median --weights "median takes none" -- --weights 1,2
    refused stacked --holdout "stacked is fitted on held-out ids" --
    refused stacked --holdout "ids 0 to 299" -- --holdout 200:301
    refused route --route "give --route FILE" --
    refused agreement --threshold agreement --
    refused noisy-vote --noise-scale above --
    printf 'id,teacher\n5,3\n' >routes.csv
    fails_like 65 routes.csv "line 2" "1 to 2" -- \
        kd-merge -q -o x --policy route --route routes.csv cache-a cache-b
    printf 'id,teacher\n5,2\n' >routes.csv
    fails_like 65 "sample 0, view 0" "add one" -- \
        kd-merge -q -o x --policy route --route routes.csv cache-a cache-b
}
