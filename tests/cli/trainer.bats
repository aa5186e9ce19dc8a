#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# kd-train beyond the plain run: sparse, partial and damaged caches, samples held out,
# rehearsals; and kd-eval's comparison of caches.

load helpers

setup_file() {
    make_once
    dump --teacher model:a/model.h5 -o dense --dtype f32 >/dev/null
    dump --teacher model:a/model.h5 --encoding top-k -k 5 -o top >/dev/null
    dump --teacher model:a/model.h5 --data "$data@0:200" -o part >/dev/null
}
setup() { enter_copy; }

# metric RUN KEY: of the last epoch.
metric() {
    tail -n 1 "$1/metrics.jsonl" >last.json
    json last.json "j['$2']"
}

differ() {
    if cmp -s "$1" "$2"; then complain "$1 and $2 are the same"; fi
}

@test "a rehearsal shows layers, sums and times, and leaves nothing" {
    expect 0 train --dry-run --holdout 0.1
    stdout_has "dense          fc1                          16"
    stdout_has "270 of an epoch, 30 held out"
    stdout_has "5 of 50 samples"
    grep -Eq '^in all +[0-9]+ +[0-9]+$' "$stdout" || complain "no sums"
    grep -Eq '^an epoch +[0-9.]+ s$' "$stdout" || complain "no time"
    [ "$(ls)" = "$(printf '%s\n' a b cache-a cache-b dense merged other.h5 part top \
        train.h5)" ]
}

@test "each tail rule trains on a sparse cache, and gives another network" {
    for rule in spread renorm bucket; do
        expect 0 train --labels top --tail "$rule" -o "student-$rule"
    done
    differ student-spread/model.h5 student-renorm/model.h5
    differ student-spread/model.h5 student-bucket/model.h5
    fails_like 65 top "--encoding dense" -- train --labels top --distance mse -o x
    fails_like 65 top "--also-temperature 2" "--temperature 4" -- \
        train --labels top -T 2 -o x
    [ ! -e x ]
}

@test "a dense cache of one teacher serves every temperature" {
    expect 0 train --labels dense -T 2 -o two
    expect 0 train --labels dense -T 8 -o eight
    differ two/model.h5 eight/model.h5
}

@test "samples that the cache lacks are an error, or follow their rule" {
    fails_like 65 part "0 to 199" "--missing hard-label or skip" -- \
        train --labels part -o x
    [ ! -e x ]
    expect 0 train --labels part --missing skip -o skip
    [ "$(metric skip soft_rows)" -le 200 ]
    [ "$(metric skip rows)" = "$(metric skip soft_rows)" ]
    expect 0 train --labels part --missing hard-label -o hard
    [ "$(metric hard rows)" = 300 ]
    [ "$(metric hard soft_rows)" = 200 ]
}

@test "a damaged row stops the run, unless rows are not verified" {
    /usr/bin/python3 - dense/shard-000000.h5 <<'PYTHON' || skip "no h5py"
import h5py, sys
with h5py.File(sys.argv[1]) as f:
    at = f["logits"].id.get_offset() + 40
with open(sys.argv[1], "r+b") as f:
    f.seek(at)
    byte = f.read(1)
    f.seek(at)
    f.write(bytes([byte[0] ^ 1]))
PYTHON
    for threads in 1 2; do
        fails_like 65 dense/shard-000000.h5 "row" -- \
            train --labels dense --threads "$threads" -o x
    done
    [ ! -e x ] || [ ! -e x/model.h5 ]
    expect 0 train --labels dense --no-verify -o y
}

@test "the best epoch is kept, by the samples held out or, if asked, the test set" {
    expect 0 train --holdout 0.2 --epochs 4 -o held
    stdout_is held/model.h5
    [ -e held/best.h5 ]
    expect 0 kd-eval -q --data "$data" held/best.h5
    expect 0 train --test "$data" -o plain
    [ ! -e plain/best.h5 ]
    expect 0 train --test "$data" --select test -o tested
    [ -e tested/best.h5 ]
    fails_like 78 patience "--holdout" -- train --patience 2 --test "$data" -o x
}

@test "samples in blocks give another network than a full shuffle" {
    expect 0 train --labels cache-a -o full
    expect 0 train --labels cache-a --shuffle block --shuffle-block 32 -o block
    expect 0 train --labels cache-a --shuffle block --shuffle-block 32 -o again
    same_files block again model.h5 metrics.jsonl
    differ full/model.h5 block/model.h5
}

@test "a cache's directory is no place for a run, nor a run's for a cache" {
    fails_like 64 cache-a "holds a cache" -- train -o cache-a
    fails_like 64 "a: holds a training run" -- \
        dump --teacher model:b/model.h5 -o a
    [ ! -e a/cache.json ]
}

@test "an option that would make no difference is refused" {
    fails_like 78 gamma "step or multistep" -- train --gamma 0.5 -o x
    fails_like 78 momentum sgd -- train --optimizer adam --momentum 0.5 -o x
    [ ! -e x ]
}

@test "weights beside no soft labels are told, once" {
    loud=(kd-train --network "$net" --data "$data" --epochs 1)
    expect 0 "${loud[@]}" --hard 0.1 -o x
    [ "$(grep -c 'no soft labels: the labels alone are learned, at weight 0.1$' "$stderr")" -eq 1 ]
    expect 0 "${loud[@]}" --soft 0.9 --stages '[{}, {}]' -o y
    [ "$(grep -c 'are learned, at weight 1$' "$stderr")" -eq 1 ]
    for options in "--hard 1" "--labels cache-a --hard 0.1"; do
        # shellcheck disable=SC2086 # options
        expect 0 "${loud[@]}" $options --dry-run
        if grep -q "no soft labels" "$stderr"; then complain "$options is told"; fi
    done
}

@test "the options that hold lists take a list in YAML" {
    printf 'labels: [cache-a, cache-b]\naugment:\n  - none\n' >lists.yaml
    expect 0 train --config lists.yaml -o x
    expect 0 train --labels cache-a,cache-b --augment none -o y
    same_files x y model.h5 recipe.txt
    printf 'weights: [2, 1]\npolicy: mean-prob\n' >lists.yaml
    expect 0 kd-merge -q --config lists.yaml -o m cache-a cache-b
    expect 0 kd-merge -q --policy mean-prob --weights 2,1 -o n cache-a cache-b
    same_files m n cache.json
}

@test "kd-eval compares caches with a reference, row by row" {
    expect 0 kd-eval -q --reference dense dense top cache-a
    [ "$(wc -l <"$stdout")" -eq 4 ]
    grep -Eq '^dense +300 +4 +[0-9.]+ +0.000e\+00 .* 1.0000$' "$stdout" ||
        complain "not equal to itself"
    expect 0 kd-eval -q --reference dense --tail bucket --json top cache-a
    [ "$(json "$stdout" 'len(j["comparisons"])')" = 2 ]
    [ "$(json "$stdout" '0 < j["comparisons"][0]["kl_mean"] < 1')" = True ]
    [ "$(json "$stdout" 'j["comparisons"][1]["total_variation_worst"] < 0.002')" = True ]
    [ "$(json "$stdout" 'j["comparisons"][0]["agreement"]')" = 1 ]
    fails_like 64 "--data" "--reference" -- kd-eval --data "$data" --reference dense top
    fails_like 64 "--tail" "--reference" -- kd-eval --tail renorm top
    fails_like 65 top "--also-temperature 1" -- kd-eval -T 1 --reference dense top
}

# A recipe in three stages, in recipe.yaml.
write_stages() {
    cat >recipe.yaml <<YAML
network: $net
data: $data
epochs: 2
batch: 50
schedule: {kind: cosine, warmup: 0}
loss: {temperature: 4}
stages:
  - {labels: dense, hard: 0, soft: 1, distance: mse, anneal: 2}
  - {labels: "cache-a,cache-b", epochs: 3, labels-order: random}
  - {labels: none, lr: 0.01, optimizer: keep}
YAML
}

@test "a run goes through the stages of its recipe, and each says which it is" {
    write_stages
    expect 0 kd-train -q --config recipe.yaml -o student
    stdout_is student/model.h5
    [ "$(wc -l <student/metrics.jsonl)" -eq 7 ]
    grep -o '"stage":.' student/metrics.jsonl | tr -dc 0-9 >order
    [ "$(cat order)" = 1122233 ]
    grep -q '^stage 3 epochs: 2 optimizer keep$' student/recipe.txt
    grep -q '^stage 2 labels: [0-9a-f]*,[0-9a-f]* random$' student/recipe.txt
    expect 0 kd-train --config recipe.yaml --print-config
    stdout_has "anneal: 2"
    expect 0 kd-train -q --config recipe.yaml -o again
    same_files student again model.h5 metrics.jsonl recipe.txt
    expect 0 kd-train --config recipe.yaml --dry-run
    stdout_has "stage 2          3 epochs, soft labels: cache-a,cache-b"
}

@test "what later stages lack is found before the first step" {
    write_stages
    sed -i 's/cache-a,cache-b/part/' recipe.yaml
    sed -i 's/, labels-order: random//' recipe.yaml
    fails_like 65 "stage 2: part" "0 to 199" -- kd-train --config recipe.yaml -o x
    sed -i 's/labels: "part"/lables: "part"/' recipe.yaml
    fails_like 78 "recipe.yaml:9" "did you mean 'labels'?" -- \
        kd-train --config recipe.yaml -o x
    [ ! -e x ]
}

@test "a virtual teacher needs no file, and its control is a share of the labels" {
    expect 0 train --labels virtual --virtual-temperature 20 -T 1 --no-t-squared \
        --virtual-soften softmax-of-prob --reduction elemmean --hard 0.05 --soft 0.95 \
        -o reg
    expect 0 train --labels none --hard 0.05 -o control
    grep -q '^labels: virtual correct 0.98.* temperature 20 softmax-of-prob$' reg/recipe.txt
    grep -q '^loss: hard 0.05.* soft 0 ' control/recipe.txt
    differ reg/model.h5 control/model.h5
    [ "$(json <(tail -n 1 control/metrics.jsonl) \
        'abs(j["loss"] - 0.05 * j["hard_loss"]) < 1e-9')" = True ]
    fails_like 65 "kl or ce" -- train --labels virtual --distance mse -o x
    fails_like 78 virtual-correct -- train --labels dense --virtual-correct 0.9 -o x
}
