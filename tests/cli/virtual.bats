#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# kd-train --policy: several caches merged as they are read give the network that the
# merged cache gives, bit by bit; and what is refused.

load helpers

setup_file() {
    make_once
    dump --teacher model:a/model.h5 --encoding top-k -k 5 -o top-a >/dev/null
    dump --teacher model:b/model.h5 --encoding top-k -k 5 -o top-b >/dev/null
    dump --teacher model:b/model.h5 --data "$data@0:200" -o part >/dev/null
}
setup() { enter_copy; }

# agree LABELS MERGE-OPTION...: both ways, the same network.
agree() {
    local labels=$1
    shift
    rm -rf merged student one
    # shellcheck disable=SC2086 # a cache a word
    expect 0 kd-merge -q "$@" -o merged ${labels//,/ }
    expect 0 train --labels merged -o student
    expect 0 train --labels "$labels" "$@" -o one
    stdout_is one/model.h5
    same_files student one model.h5 || complain "other networks"
}

@test "a policy trains the network that the merged cache trains" {
    agree cache-a,cache-b --policy mean-prob
    agree cache-a,cache-b --policy mean-prob --weights 3,1
    agree cache-a,cache-b,cache-a --policy median
    agree cache-a,cache-b --policy vote
    agree top-a,top-b --policy mean-prob
    agree top-a,cache-b --policy entropy
    same_files student one recipe.txt metrics.jsonl
}

@test "options whose names a trainer has are told apart" {
    expect 0 kd-merge -q --policy random --seed 5 -o drawn cache-a cache-b
    expect 0 train --labels drawn --seed 2 -o student
    expect 0 train --labels cache-a,cache-b --policy random --merge-seed 5 --seed 2 -o one
    same_files student one model.h5
    expect 0 kd-merge -q --policy stacked --holdout 100:200 --calibrate -o fitted \
        cache-a cache-b
    expect 0 train --labels fitted --holdout 0.2 -o student-2
    expect 0 train --labels cache-a,cache-b --policy stacked --merge-holdout 100:200 \
        --calibrate --holdout 0.2 -o two
    same_files student-2 two model.h5
    expect 0 kd-merge -q --missing skip -o skipped cache-a part
    expect 0 train --labels skipped --missing skip -o student-3
    expect 0 train --labels cache-a,part --policy mean-prob --merge-missing skip \
        --missing skip -o three
    same_files student-3 three model.h5
    expect 0 kd-merge -q --missing renorm -o scaled cache-a part
    expect 0 train --labels scaled -o student-4
    expect 0 train --labels cache-a,part --policy mean-prob --merge-missing renorm \
        -o four
    same_files student-4 four model.h5
}

@test "leave-one-out takes its merges in turn" {
    expect 0 kd-merge -q --policy leave-one-out -o out cache-a cache-b top-a
    expect 0 train --labels out/without-1,out/without-2,out/without-3 \
        --labels-order random -o student
    expect 0 train --labels cache-a,cache-b,top-a --policy leave-one-out \
        --labels-order random -o one
    same_files student one model.h5
}

@test "a stage may have a policy of its own" {
    cat >r.yaml <<'YAML'
stages:
  - {labels: "cache-a,cache-b", policy: vote, merge-missing: error}
  - {labels: "cache-a,cache-b", labels-order: random, policy: null}
  - {labels: cache-a}
YAML
    sed -e '2s/.*/  - {labels: voted}/' r.yaml >plain.yaml
    expect 0 kd-merge -q --policy vote -o voted cache-a cache-b
    expect 0 train --config plain.yaml -o student
    expect 0 train --config r.yaml -o one
    same_files student one model.h5
    grep -q "^stage 1 labels: .* by vote weights=0.5,0.5 of " one/recipe.txt
    grep -q "^stage 2 labels: .* random$" one/recipe.txt
}

@test "the recipe has policy and inputs: another policy does not go on" {
    expect 0 train --labels cache-a,cache-b --policy mean-prob -o one
    grep -Eq '^labels: [0-9a-f]{32} by mean-prob weights=0.5,0.5 of [0-9a-f]{32},[0-9a-f]{32}$' \
        one/recipe.txt
    expect 0 train --labels cache-a,cache-b --policy mean-prob -o one
    for options in "--policy vote" "--policy mean-prob --weights 2,1" ""; do
        # shellcheck disable=SC2086 # options
        fails_like 64 one labels -- train --labels cache-a,cache-b $options -o one
    done
    fails_like 64 one labels -- train --labels cache-b,cache-a --policy mean-prob -o one
}

@test "threads, pipes and shards change nothing" {
    expect 0 train --labels cache-a,cache-b --policy mean-prob -o one
    printf '%s\n' "$PWD"/cache-b/shard-*.h5 | tac >paths
    train --labels cache-a,- --policy mean-prob -o three <paths
    same_files one three model.h5
    expect 0 kd-merge -q -o both cache-a cache-b
    expect 0 train --labels both --threads 2 -o student
    expect 0 train --labels cache-a,cache-b --policy mean-prob --threads 2 -o two
    same_files student two model.h5
    expect 0 train --labels cache-a,cache-b --policy mean-prob --shuffle block \
        --shuffle-block 32 -o four
    [ -e four/model.h5 ]
}

@test "a damaged row of an input stops the run, unless rows are not verified" {
    /usr/bin/python3 - cache-b/shard-000000.h5 <<'PYTHON' || skip "no h5py"
import h5py, sys
with h5py.File(sys.argv[1]) as f:
    at = f["logits"].id.get_offset() + 40
with open(sys.argv[1], "r+b") as f:
    f.seek(at)
    byte = f.read(1)
    f.seek(at)
    f.write(bytes([byte[0] ^ 1]))
PYTHON
    fails_like 65 cache-b/shard-000000.h5 row -- \
        train --labels cache-a,cache-b --policy mean-prob -o x
    expect 0 train --labels cache-a,cache-b --policy mean-prob --no-verify -o y
}

@test "what cannot be merged is refused with the options' names here" {
    dump --teacher model:b/model.h5 -T 2 -o cool
    fails_like 65 cool "--merge-temperature T" -- \
        train --labels cache-a,cool --policy mean-logit -o x
    expect 0 train --labels cache-a,cool --policy mean-logit --merge-temperature 4 -o y
    fails_like 64 "--trim" -- train --labels cache-a,cache-b --policy vote --trim 1 -o x
    fails_like 64 "--merge-holdout" -- \
        train --labels cache-a,cache-b --policy stacked -o x
    fails_like 65 part "num_samples is 200, not 300" -- \
        train --labels cache-a,part --policy mean-prob -o x
    fails_like 65 "0 to 199" "--missing hard-label or skip" -- \
        train --labels cache-a,part --policy mean-prob --merge-missing skip -o x
    fails_like 65 "mean-logit" -- \
        train --labels cache-a,cache-b --policy mean-prob --distance mse -o x
    fails_with 78 "weights: means something with a policy alone" \
        train --labels cache-a,cache-b --weights 1,2 -o x
    fails_with 78 "labels-order: means something with several caches in turn alone" \
        train --labels cache-a,cache-b --policy vote --labels-order random -o x
    fails_with 78 "policy: means something with caches alone" \
        train --labels virtual --policy vote -o x
    [ ! -e x ]
}
