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

# sparse OPTION...: caches top-a and top-b of both teachers.
sparse() {
    rm -rf top-a top-b
    for t in a b; do
        expect 0 dump --teacher "model:$t/model.h5" --encoding top-k --k 3 "$@" -o "top-$t"
    done
}

@test "sparse caches give a sparse one, and how far it may be off" {
    sparse
    expect 0 kd-merge -o out top-a top-b
    grep -q "^kd-merge: sparse rows: at most 0\.[0-9]* in total variation" "$stderr"
    [ "$(fact encoding)" = top-k ]
    [ "$(fact k)" = 3 ]
    expect 0 kd-check -q out
    kd-info out | grep -q "^  bound  *mean 0\.[0-9]*, at most 0\.[0-9]* in total variation"
    /usr/bin/python3 - <<'END'
import h5py
at = h5py.File("out/shard-000000.h5").attrs
assert 0 < at["bound_mean"] <= at["bound_max"] < 1
END
    expect 0 kd-merge -q --encoding dense -o dense top-a cache-b
    kd-info dense | grep -q "^  encoding  *dense"
    expect 0 kd-merge --policy mean-logit -o other top-a top-b
    grep -q "not bounded under mean-logit" "$stderr"
    [ "$(kd-info other | grep -c "^  bound")" = 0 ]
}

@test "temperatures are converted where that is exact" {
    dump --teacher model:a/model.h5 --temperature 2 -o warm >paths
    fails_like 65 warm "temperature is 2, not" "give --temperature" -- \
        kd-merge -q -o out cache-b warm
    expect 0 kd-merge -q --temperature 3 -o out cache-b warm
    [ "$(fact temperature)" = 3 ]
    fails_like 65 out "merged as probabilities" -- \
        kd-merge -q --temperature 2 -o x out warm
    sparse --also-temperature 7
    expect 0 kd-merge -q --temperature 7 -o seven top-a top-b
    fails_like 65 top-a "--also-temperature 6" -- \
        kd-merge -q --temperature 6 -o x top-a top-b
}

@test "classes are mapped by a table or by names" {
    printf 'teacher,class,to\n' >map.csv
    seq 0 35 | sed "s|.*|2,&,&|" >>map.csv
    expect 0 kd-merge -q --shard-samples 300 -o plain cache-a cache-b
    expect 0 kd-merge -q --shard-samples 300 --class-map map.csv -o out cache-a cache-b
    parameters "weights=0.5,0.5 class-map=[0-9a-f]*"
    /usr/bin/python3 - <<'END'
import h5py
a, b = (h5py.File(f"{d}/shard-000000.h5") for d in ("out", "plain"))
assert all((a[n][:] == b[n][:]).all() for n in ("id", "logits", "log_z"))
END
    echo 2,36,0 >>map.csv
    fails_like 65 cache-b "has 36 classes" "class 36" -- \
        kd-merge -q --class-map map.csv -o x cache-a cache-b
    printf '%s\n' {0..9} {A..Z} >names
    expect 0 kd-merge -q --classes names --class-names names,names -o named \
        cache-a cache-b
    fails_like 64 "1 files for 2 caches" -- \
        kd-merge -q --classes names --class-names names -o x cache-a cache-b
    fails_like 64 "--class-names" -- kd-merge -q --classes names -o x cache-a cache-b
}

@test "rows that a teacher lacks are an error, left to the others, or skipped" {
    expect 0 kd-dump -q --data "$data@0:200" --teacher model:b/model.h5 -o part
    fails_like 65 part "num_samples is 200, not 300" -- kd-merge -q -o x cache-a part
    expect 0 kd-merge --missing renorm -o out cache-a part
    grep -qx "kd-merge: 100 of 300 rows lack a teacher" "$stderr"
    expect 0 kd-check -q out
    parameters "weights=0.5,0.5 missing=renorm"
    expect 0 kd-merge -q --missing skip -o less cache-a part
    kd-info --json less >info.json
    [ "$(json info.json "j['rows']")" = 200 ]
}
