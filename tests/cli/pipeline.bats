#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# Programs put together as users do: what comes out, twice the same.

load helpers

setup_file() { make_once; }
setup() { enter_copy; }

student() {
    train --seed 7 --labels merged -o student "$@"
}

merged_paths=(merged/shard-000000.h5 merged/shard-000001.h5 merged/shard-000002.h5)
cache_paths=(/shard-000000.h5 /shard-000001.h5 /shard-000002.h5)

@test "each program prints the paths that it wrote, and with -q nothing else" {
    rm -r ./*
    expect 0 kd-synth -q -n 300 --seed 1 -o train.h5
    stdout_is train.h5
    stderr_is
    local seed=0
    for name in a b; do
        expect 0 train --seed $((++seed)) -o "$name"
        stdout_is "$name/model.h5"
        stderr_is
        expect 0 dump --teacher "model:$name/model.h5" -o "cache-$name"
        stdout_is "${cache_paths[@]/#/cache-$name}"
        stderr_is
    done
    expect 0 kd-merge -q --shard-samples 100 -o merged cache-a cache-b
    stdout_is "${merged_paths[@]}"
    stderr_is
    expect 0 student
    stdout_is student/model.h5
    stderr_is
    expect 0 kd-eval -q --data "$data" student/model.h5 a/model.h5 merged
    stderr_is
    expect 0 kd-info -q merged "${merged_paths[@]}" cache-a
    stderr_is
    [ "$(ls -A)" = "$(printf '%s\n' a b cache-a cache-b merged student train.h5)" ]
    [ "$(ls -A merged)" = "$(printf '%s\n' cache.json shard-00000{0,1,2}.h5)" ]
    [ "$(ls -A student)" = \
        "$(printf '%s\n' checkpoint.h5 events.out.tfevents.kd metrics.jsonl model.h5 \
            recipe.txt run.jsonl)" ]
}

@test "a pipeline of process substitutions and - gives the same bytes as single steps" {
    expect 0 student
    kd-merge -q --shard-samples 100 -o piped \
        <(dump --teacher model:a/model.h5 -o piped-a) \
        <(dump --teacher model:b/model.h5 -o piped-b) |
        (train --seed 7 --labels - -o piped-student >path)
    lines_are path piped-student/model.h5
    diff -r cache-a piped-a
    diff -r cache-b piped-b
    diff -r merged piped
    same_files student piped-student model.h5 metrics.jsonl recipe.txt
}

@test "a cache is a directory, its shards, or their paths on stdin or a pipe" {
    expect 0 kd-info --json merged
    json "$stdout" 'j["statistics"]' >due
    printf '%s\n' "${merged_paths[@]}" >list
    expect 0 kd-info --json - <list
    json "$stdout" 'j["statistics"]' | diff due -
    expect 0 kd-info --json <(tac list)
    json "$stdout" 'j["statistics"]' | diff due -
    expect 0 kd-info --json "${merged_paths[1]}"
    [ "$(json "$stdout" 'j["rows"], j["rows_promised"]')" = "(100, 300)" ]
    expect 0 kd-merge -q -o one - cache-b --shard-samples 100 < <(printf '%s\n' cache-a/*.h5)
    diff -r one merged
    expect 0 student --labels - <list
    expect 0 train --seed 7 --labels merged -o student2
    same_files student student2 model.h5
}

@test "everything again is a no-op that prints the same paths and changes no byte" {
    expect 0 student
    snapshot . >"$BATS_TEST_TMPDIR/before"
    expect 0 train --seed 1 -o a
    stdout_is a/model.h5
    stderr_is
    expect 0 dump --teacher model:a/model.h5 -o cache-a
    stdout_is "${cache_paths[@]/#/cache-a}"
    stderr_is
    expect 0 kd-merge -q --shard-samples 100 -o merged cache-a cache-b
    stdout_is "${merged_paths[@]}"
    stderr_is
    expect 0 student
    stdout_is student/model.h5
    stderr_is
    snapshot . | diff "$BATS_TEST_TMPDIR/before" -
    cp train.h5 "$BATS_TEST_TMPDIR"
    expect 0 kd-synth -q -n 300 --seed 1 -o train.h5
    stdout_is train.h5
    cmp train.h5 "$BATS_TEST_TMPDIR/train.h5"
}

@test "two separate runs write the same bytes, wherever they are" {
    mkdir -p elsewhere/deep
    (cd elsewhere/deep && make_all >/dev/null)
    cmp train.h5 elsewhere/deep/train.h5
    for name in cache-a cache-b merged; do
        diff -r "$name" "elsewhere/deep/$name"
    done
    for name in a b; do
        same_files "$name" "elsewhere/deep/$name" model.h5 metrics.jsonl recipe.txt \
            checkpoint.h5
    done
    run cmp -s a/model.h5 b/model.h5
    [ "$status" -eq 1 ]
}

@test "seeds, temperature, dtype, policy and weights each change the bytes" {
    differs() { ! cmp -s "$1" "$2"; }
    dump --teacher model:a/model.h5 -T 2 -o t2
    differs cache-a/shard-000000.h5 t2/shard-000000.h5
    dump --teacher model:a/model.h5 --dtype f32 -o f32
    differs cache-a/shard-000000.h5 f32/shard-000000.h5
    kd-merge -q --shard-samples 100 --policy mean-logit -o logit cache-a cache-b
    differs merged/shard-000000.h5 logit/shard-000000.h5
    kd-merge -q --shard-samples 100 --weights 1,3 -o weighted cache-a cache-b
    differs merged/shard-000000.h5 weighted/shard-000000.h5
    kd-synth -q -n 300 --seed 3 -o seed3.h5
    differs train.h5 seed3.h5
}

# Logits of one thread and of two differ in the order of sums at most: 1e-5 is a
# hundred roundings of values of this size.
@test "dumps of one and of two threads agree within rounding" {
    rm train.h5
    kd-synth -q -n 700 --seed 4 -o train.h5
    kd-train -q --network plain2 --data "$data@0:256" --epochs 1 --batch 64 -o net
    for threads in 1 2; do
        dump --teacher model:net/model.h5 --dtype f32 --threads "$threads" -o "t$threads"
    done
    /usr/bin/python3 -c 'import h5py' || skip "no h5py for /usr/bin/python3"
    /usr/bin/python3 - <<'PY'
import glob, h5py, numpy as np
for path in sorted(glob.glob("t1/*.h5")):
    with h5py.File(path) as one, h5py.File(path.replace("t1", "t2")) as two:
        for name in ("id", "view", "label"):
            assert (one[name][:] == two[name][:]).all(), (path, name)
        for name in ("logits", "row_max", "log_z"):
            worst = np.abs(one[name][:] - two[name][:]).max()
            assert worst <= 1e-5, (path, name, worst)
PY
}

@test "merges of one and of two threads are the same bytes" {
    for policy in mean-prob mean-logit; do
        for threads in 1 2; do
            expect 0 kd-merge -q --policy "$policy" --threads "$threads" \
                -o "$policy$threads" cache-a cache-b
        done
        diff -r "${policy}1" "${policy}2"
    done
}

@test "how the inputs are cut into shards does not show in what is merged" {
    dump --teacher model:a/model.h5 --shard-samples 7 -o small
    [ "$(find small -name '*.h5' | wc -l)" -eq 43 ]
    expect 0 kd-merge -q --shard-samples 100 -o merged2 <(tac <(ls small/*.h5)) cache-b
    diff -r merged merged2
}

@test "a slice keeps the ids and rows that the whole has" {
    expect 0 kd-dump -q --teacher model:a/model.h5 --data "$data@100:228" --shard-samples 128 \
        -o slice
    stdout_is slice/shard-000000.h5 slice/shard-000001.h5
    expect 0 kd-info --json slice
    [ "$(json "$stdout" '[(s["first_id"], s["last_id"]) for s in j["shards"]]')" = \
        "[(100, 127), (128, 227)]" ]
    expect 0 kd-eval --json slice --data "$data@100:228"
    cp "$stdout" one
    expect 0 kd-eval --json cache-a --data "$data@100:228"
    predictor='{k: v for k, v in j["predictors"][0].items() if k != "name"}'
    [ "$(json one "$predictor")" = "$(json "$stdout" "$predictor")" ]
}

@test "a student of cached views sees them in turn, and only those" {
    dump --teacher model:a/model.h5 --augment crop2 --views 3 --seed 5 -o views
    expect 0 kd-info --json views
    [ "$(json "$stdout" 'j["rows"], j["identity"]["first_view"], j["identity"]["views"]')" = \
        "(900, 1, 3)" ]
    expect 0 train --labels views --epochs 4 -o student
    stdout_is student/model.h5
    dump --teacher model:a/model.h5 --augment crop2 --views 3 --seed 5 --clean -o clean
    expect 0 train --labels clean --labels-view clean --augment crop3,flip -o student2
    fails_like 65 clean views --clean -- \
        train --labels views --labels-view clean --augment crop3 -o student3
}

@test "a cache tells the same of its teacher as the teacher itself" {
    dump --teacher model:a/model.h5 --dtype f32 -T 1 -o exact
    expect 0 kd-eval --json -T 1 --data "$data" a/model.h5 exact
    cp "$stdout" both
    /usr/bin/python3 - <<'PY'
import json
predictors = json.load(open("both"))["predictors"]
assert [p["name"] for p in predictors] == ["a/model.h5", "exact"], predictors
a, b = ({k: v for k, v in p.items() if isinstance(v, (int, float))} for p in predictors)
assert len(a) >= 6 and a.keys() == b.keys(), (a, b)
for key in a:
    assert abs(a[key] - b[key]) < 1e-5, (key, a[key], b[key])
PY
}

@test "metrics.jsonl has a line an epoch, with what kd-eval finds at the end" {
    expect 0 train --test hdf5:other.h5:/x,/y --epochs 3 -o tested
    [ "$(wc -l <tested/metrics.jsonl)" -eq 3 ]
    tail -n 1 tested/metrics.jsonl >last
    expect 0 kd-eval --json --data hdf5:other.h5:/x,/y tested/model.h5
    [ "$(json last 'round(j["test_accuracy"], 6)')" = \
        "$(json "$stdout" 'round(j["predictors"][0]["accuracy"], 6)')" ]
    [ "$(json last 'round(j["test_nll"], 4)')" = \
        "$(json "$stdout" 'round(j["predictors"][0]["nll"], 4)')" ]
}
