#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# Wrong inputs: one line on stderr that names file and cause, the right exit code, and
# nothing left behind that looks like a result.

load helpers

setup_file() { make_once; }
setup() { enter_copy; }

# left_nothing DIRECTORY: no file is in it, if it is there at all.
left_nothing() {
    [ ! -e "$1" ] || [ -z "$(ls -A "$1")" ] || {
        echo "left behind:" && ls -A "$1"
        return 1
    }
}

# unchanged COMMAND...: all files stay as they are.
unchanged() {
    local before after
    before=$(snapshot .)
    "$@" || return
    after=$(snapshot .)
    [ "$before" = "$after" ] || diff <(echo "$before") <(echo "$after")
}

@test "an input that is not there is 66, by its name" {
    local missing='cannot open: No such file or directory'
    fails_with 66 "none.h5: $missing" train --data hdf5:none.h5:/x,/y -o x
    fails_with 66 "none.bin: $missing" train --data cifar100:none.bin -o x
    fails_with 66 "none.npy: $missing" train --data npy:none.npy -o x
    fails_with 66 "none-idx: $missing" train --data idx:none-idx,none2 -o x
    fails_with 66 "none: cannot open this folder: No such file or directory" \
        train --data folder:none -o x
    fails_with 66 "none.h5: $missing" train --test hdf5:none.h5:/x,/y -o x
    fails_with 66 "nowhere: $missing" train --labels nowhere -o x
    fails_with 66 "none.h5: $missing" dump --teacher model:none.h5 -o x
    fails_with 66 "none: $missing" kd-merge -o x none
    fails_with 66 "none: $missing" kd-merge -o x cache-a none
    fails_with 66 "none: $missing" kd-info none
    fails_with 66 "none: $missing" kd-eval none
    fails_with 66 "none: $missing" kd-merge -o x - <<<none
    left_nothing x
}

@test "a file that is something else is 65, or 64 where its name says so" {
    fails_like 65 train.h5 "cifar100" -- train --data cifar100:train.h5 -o x
    fails_like 65 train.h5 "not an IDX file" -- train --data idx:train.h5 -o x
    fails_like 65 train.h5 -- train --data npy:train.h5 -o x
    fails_like 65 a/model.h5 "no dataset" -- train --data hdf5:a/model.h5:/x,/y -o x
    fails_like 65 /etc/passwd "not a readable HDF5 file" -- \
        train --data hdf5:/etc/passwd:/x -o x
    fails_like 64 train.h5 hdf5:FILE -- train --data train.h5 -o x
    fails_like 64 nonsense: cifar10:FILE -- train --data nonsense:train.h5 -o x
    fails_like 65 train.h5 "not a network saved by kd-train" -- \
        dump --teacher model:train.h5 -o x
    fails_like 65 cache-a/shard-000000.h5 "not a network" kdcache -- \
        dump --teacher model:cache-a/shard-000000.h5 -o x
    fails_like 64 nobody model:FILE -- dump --teacher nobody -o x
    fails_like 65 train.h5 "not a shard" -- kd-merge -o x train.h5
    fails_like 65 a/model.h5 "not a shard" -- kd-merge -o x cache-a a/model.h5
    fails_like 65 a/model.h5 "not a shard" -- train --labels a/model.h5 -o x
    fails_like 65 /etc/passwd "not a readable HDF5 file" -- kd-merge -o x - <<<"/etc/passwd"
    fails_like 65 - "no shard came" -- kd-merge -o x - </dev/null
    fails_like 65 - "no shard came" -- train --labels - -o x </dev/null
    fails_like 65 train.h5 -- kd-info train.h5
    left_nothing x
}

@test "a dataset that is cut off is 65, wherever it is cut" {
    for size in 0 7 100 5000 $(($(stat -c %s train.h5) - 1)); do
        head -c "$size" train.h5 >cut.h5
        fails_like 65 cut.h5 -- train --data hdf5:cut.h5:/x,/y -o x
        fails_like 65 cut.h5 -- dump --data hdf5:cut.h5:/x,/y --teacher model:a/model.h5 -o y
    done
    head -c $((3074 * 5 - 1)) /dev/zero >cut.bin
    fails_like 65 cut.bin 15369 3074 truncated -- train --data cifar100:cut.bin -o x
    left_nothing x
    left_nothing y
}

@test "a network or a shard that is cut off or altered is 65" {
    for size in 0 100 5000 $(($(stat -c %s a/model.h5) - 1)); do
        head -c "$size" a/model.h5 >cut.h5
        fails_like 65 cut.h5 -- dump --teacher model:cut.h5 -o x
    done
    shard=cache-b/shard-000001.h5
    cp "$shard" whole.h5
    for size in 0 100 5000 $(($(stat -c %s $shard) - 1)); do
        head -c "$size" whole.h5 >"$shard"
        fails_like 65 "$shard" -- kd-merge -q -o x cache-a cache-b
        fails_like 65 "$shard" -- kd-info cache-b
        fails_like 65 "$shard" -- train --labels cache-b -o y
        fails_like 65 "$shard" "remove it" -- dump --teacher model:b/model.h5 -o cache-b
    done
    rm "$shard"
    expect 0 dump --teacher model:b/model.h5 -o cache-b
    cmp whole.h5 "$shard"

    # One bit of one logit: row 5 of the 128.
    cp whole.h5 "$shard"
    offset=$(/usr/bin/python3 -c '
import h5py
print(h5py.File("whole.h5")["logits"].id.get_offset() + 5 * 36 * 2 + 17)') ||
        skip "no h5py for /usr/bin/python3"
    printf '\x55' | dd of="$shard" bs=1 seek="$offset" conv=notrunc status=none
    for command in "kd-merge -q -o x cache-a cache-b" "kd-info cache-b" \
        "kd-eval cache-b" "train --labels cache-b -o y"; do
        # shellcheck disable=SC2086 # words
        fails_like 65 "$shard" "row 5" "sample 133" damaged -- $command
    done
    [ ! -e y/model.h5 ]
    [ -z "$(find x -name '*1.h5*' -o -name cache.json)" ]
}

@test "a cache without cache.json is unfinished: the message names the remedy" {
    rm cache-a/cache.json
    local message="cache-a: an unfinished cache: it has no cache.json; run its program \
again to finish it"
    fails_with 65 "$message" kd-merge -o x cache-a cache-b
    fails_with 65 "$message" kd-info cache-a
    fails_with 65 "$message" kd-eval cache-a
    fails_with 65 "$message" train --labels cache-a -o x
    left_nothing x
    expect 0 dump --teacher model:a/model.h5 -o cache-a
    expect 0 kd-merge -q -o x cache-a cache-b
}

@test "a directory that is no cache is called none, and a network's by its name" {
    mkdir empty
    local message="is no cache: there are no shards in it"
    fails_with 65 "empty: $message" kd-merge -o x empty
    fails_with 65 "empty: $message" kd-info empty
    fails_with 65 "empty: $message" train --labels empty -o x
    message+="; with its model.h5 it is a network's directory"
    fails_with 65 "a: $message" kd-merge -o x a
    fails_with 65 "a: $message" train --labels a -o x
    left_nothing x
}

@test "what came out of a pipe is called by its directory" {
    dump --teacher model:b --data hdf5:other.h5:/x,/y -o other
    fails_like 65 "other (of /dev/fd/" "merged with cache-a (of /dev/fd/" dataset_digest -- \
        kd-merge -o x <(ls cache-a/*.h5) <(ls other/*.h5)
    fails_like 65 "other (of /dev/fd/" "another dataset" -- train --labels <(ls other/*.h5) -o x
    fails_like 65 "other (of -)" "another dataset" -- train --labels - -o x < <(ls other/*.h5)
    fails_like 65 "other (of -)" "another dataset" -- kd-eval --data "$data" - < <(ls other/*.h5)
    fails_like 65 "cache-a (of /dev/fd/" "other (of /dev/fd/" dataset_digest -- \
        train --labels <(ls cache-a/*.h5),<(ls other/*.h5) --policy mean-prob -o x
    left_nothing x
}

@test "an altered label, id or view is a damaged shard" {
    local column shard=cache-a/shard-000000.h5
    cp $shard whole.h5
    for column in id label view; do
        cp whole.h5 $shard
        /usr/bin/python3 -c '
import h5py, sys
h5py.File(sys.argv[1], "r+")[sys.argv[2]][5] = 9999' $shard $column || skip "no h5py"
        fails_like 65 $shard "row 5" "damaged: the " "; make the shard again" -- kd-info cache-a
        fails_like 65 $shard "damaged: the " -- kd-merge -q -o x cache-a cache-b
    done
}

@test "a cache that lacks a shard or has a strange one is refused" {
    rm cache-a/shard-000001.h5
    fails_like 66 cache-a/shard-000001.h5 -- kd-merge -o x cache-a cache-b
    cp cache-b/shard-000001.h5 cache-a/
    fails_like 65 cache-a/shard-000001.h5 cache.json -- kd-info cache-a
    fails_like 65 cache-a/shard-000001.h5 "teacher_name is 'b', not 'a'" -- kd-merge -o x cache-a cache-b
    fails_like 65 cache-a/shard-000001.h5 "teacher_name is 'b', not 'a'" -- kd-info - < <(ls cache-a/*.h5)
    fails_like 65 "sample 128" -- \
        train --labels - -o x < <(ls cache-b/shard-00000{0,2}.h5)
    fails_like 65 cache-b -- kd-merge -o x - < <(ls cache-b/*0.h5 cache-b/*0.h5)
    printf '{"format": "kdcache-list", ' >cache-b/cache.json
    fails_like 65 cache-b/cache.json "cut off" -- kd-info cache-b
    left_nothing x
}

@test "a merge fails where a producer does, and leaves no cache.json" {
    expect 65 kd-merge -q -o x cache-a <(dump --teacher model:none.h5 -o y 2>/dev/null)
    grep -q "no shard came: its producer failed" "$stderr" || complain "message"
    expect 65 kd-merge -q --shard-samples 128 -o x cache-a <(ls cache-b/shard-00000{0,1}.h5)
    grep -q "it ended before sample 256, view 0 came: did its producer fail" "$stderr" ||
        complain "message"
    stdout_is x/shard-000000.h5 x/shard-000001.h5
    [ "$(ls -A x)" = "$(printf 'shard-00000%s.h5\n' 0 1)" ]
    expect 0 kd-merge -q --shard-samples 128 -o x cache-a cache-b
    stdout_is x/shard-00000{0,1,2}.h5
}

@test "encodings that make no sense are refused before anything is written" {
    local rows="--teacher model:a/model.h5 -o x"
    # shellcheck disable=SC2086 # options
    {
        fails_like 64 "--k 5" "top-k, top-p or sampled" -- dump $rows -k 5
        fails_like 64 "of how many classes" "--k" -- dump $rows --encoding top-k
        fails_like 64 "k is 36" "1 to 35" -- dump $rows --encoding top-k -k 36
        fails_like 64 "of which mass" "--mass" -- dump $rows --encoding top-p
        fails_like 64 "--mass" "top-p" -- dump $rows --encoding sampled -k 5 --mass 0.5
        fails_like 64 "--also-temperature" "1 is there twice" -- \
            dump $rows --encoding top-k -k 5 --also-temperature 1,2,1
        fails_like 64 "every temperature" -- dump $rows --also-temperature 1
    }
    fails_like 64 "k is 36" -- kd-merge -o x --encoding top-k -k 36 cache-a cache-b
    left_nothing x
}

@test "a student over another dataset than the cache's is refused" {
    fails_like 65 merged "another dataset" other.h5 -- \
        train --data hdf5:other.h5:/x,/y --labels merged -o x
    fails_like 65 merged "another dataset" other.h5 -- \
        kd-eval --data hdf5:other.h5:/x,/y merged
    left_nothing x
    dump --teacher model:a/model.h5 --data "$data@0:200" -o slice
    fails_like 65 slice "0 to 199" "0 to 299" "train on a slice" -- train --labels slice -o x
    left_nothing x
    expect 0 train --labels slice --data "$data@50:150" -o x
}

@test "a student at another temperature is refused; the message names the remedy" {
    fails_like 65 merged "temperature 2 are wanted" "is 4" "--temperature 4" -- \
        train --labels merged --temperature 2 -o x
    left_nothing x
    expect 0 train --labels merged --temperature 4 -o x
}

@test "a student of other views is refused; the message names the remedies" {
    fails_like 64 merged "'none'" "'crop2'" "leave augment out" labels-view -- \
        train --labels merged --augment crop2 -o x
    dump --teacher model:a/model.h5 --augment crop2 --seed 3 -o views
    fails_like 64 views "'crop2'" "'none'" "with --clean and set labels-view: clean" -- \
        train --labels views --augment none -o x
    dump --teacher model:b --augment crop2 --seed 4 -o others
    fails_like 65 others "with --clean and set labels-view: clean" -- \
        train --labels views,others -o x
    dump --teacher model:a --augment crop2 --seed 3 --clean -o views-too
    fails_like 64 "dump again, or set labels-view: clean" -- \
        train --labels views-too --augment none -o x
    dump --teacher model:b --augment crop2 --seed 4 --clean -o others-too
    fails_like 65 "dump them alike, or set labels-view: clean" -- \
        train --labels views-too,others-too -o x
    left_nothing x
}

@test "caches that do not go together are refused, by what differs" {
    dump --teacher model:b/model.h5 -T 2 -o t2
    fails_like 65 t2 cache-a "temperature is 2, not 4" -- kd-merge -o x cache-a t2
    dump --teacher model:b/model.h5 --data hdf5:other.h5:/x,/y -o other
    fails_like 65 other cache-a dataset_digest -- kd-merge -o x cache-a other
    dump --teacher model:b/model.h5 --data "$data@0:200" -o slice
    fails_like 65 slice cache-a num_samples -- kd-merge -o x cache-a slice
    dump --teacher model:a/model.h5 --augment crop2 --seed 1 -o seed1
    dump --teacher model:b/model.h5 --augment crop2 --seed 2 -o seed2
    fails_like 65 seed2 seed1 "seed is 2, not 1" -- kd-merge -o x seed1 seed2
    fails_like 65 merged mean-logit -- kd-merge --policy mean-logit -o x merged
    fails_like 64 stdin -- kd-merge -o x - - </dev/null
    left_nothing x
}

@test "a teacher whose samples are others is refused" {
    kd-train -q --network "$net" --data "$data" --epochs 1 --batch 50 -o x
    /usr/bin/python3 -c '
import numpy as np
np.save("x.npy", np.zeros((9, 5, 5), "u1")); np.save("y.npy", np.arange(9) % 3)' ||
        skip "no numpy for /usr/bin/python3"
    fails_like 65 x/model.h5 npy:x.npy -- \
        dump --teacher model:x/model.h5 --data npy:x.npy,y.npy -o y
    left_nothing y
}

@test "a place that cannot be written to is 73, before any work" {
    touch file
    for where in file file/below /proc/nothing; do
        expect 73 train -o "$where"
        grep -q "^kd-train: $where: cannot \|^kd-train: file: cannot " "$stderr" ||
            complain "train"
        expect 73 dump --teacher model:a/model.h5 -o "$where"
        grep -q "^kd-dump: $where: cannot \|^kd-dump: file: cannot " "$stderr" ||
            complain "dump"
        expect 73 kd-merge -q -o "$where" cache-a
        grep -q "^kd-merge: $where: cannot \|^kd-merge: file: cannot " "$stderr" ||
            complain "merge"
    done
    expect 73 kd-synth -q -n 10 -o file/below
    grep -q "^kd-synth: file/below.*: cannot " "$stderr" || complain "synth"
    [ ! -s file ]
}

@test "a directory with another run in it is refused and left as it is" {
    other_run() { fails_like "$@"; }
    unchanged other_run 64 a/checkpoint.h5 "another run" "seed: 1" "seed: 5" -- \
        train --seed 5 -o a
    unchanged other_run 64 a/checkpoint.h5 "another run" "epochs: 2" "epochs: 3" -- \
        train --seed 1 --epochs 3 -o a
    unchanged other_run 65 cache-a/shard-000000.h5 "teacher_name is 'a', not 'b'" -- \
        dump --teacher model:b/model.h5 -o cache-a
    unchanged other_run 65 cache-a/shard-000000.h5 "temperature is 4, not 2" -- \
        dump --teacher model:a/model.h5 -T 2 -o cache-a
    unchanged other_run 65 cache-a/shard-000000.h5 "0 to 127, not 100 of 0 to 99" -- \
        dump --teacher model:a/model.h5 --shard-samples 100 -o cache-a
    unchanged other_run 65 merged/shard-000000.h5 "value_kind is logprobs, not logits" -- \
        kd-merge --shard-samples 100 --policy mean-logit -o merged cache-a cache-b
    unchanged other_run 65 merged/shard-000000.h5 -- \
        kd-merge --shard-samples 100 --weights 1,2 -o merged cache-a cache-b
    unchanged other_run 65 cache-a/shard-000000.h5 "kind is teacher, not merged" -- \
        kd-merge --shard-samples 128 -o cache-a cache-a cache-b
}

# One of the two is stopped while it holds the directory, so that this is no race.
@test "two dumps at once into one directory: the second is refused, the first finishes" {
    start() {
        rm -rf both
        dump --teacher model:a/model.h5 --shard-samples 1 -o both >"$BATS_TEST_TMPDIR/one" \
            3>&- &
        first=$!
    }
    local held=
    for _ in 1 2 3 4 5; do
        start
        until [ -e both/shard-000000.h5 ]; do
            kill -0 "$first" && sleep 0.002
        done
        kill -STOP "$first" && sleep 0.05
        if grep -q '^State:.T' "/proc/$first/task/"*/status 2>/dev/null &&
            [ -e both/.lock ]; then
            held=yes
            break
        fi
        kill -CONT "$first" || true
        wait "$first" || true
    done
    [ -n "$held" ]
    expect 73 dump --teacher model:a/model.h5 --shard-samples 1 -o both
    stdout_is
    kill -CONT "$first"
    [ "$(wc -l <"$stderr")" -eq 1 ] || complain "stderr"
    grep -qE "^kd-dump: both: process [0-9]+ is writing there: wait for it" "$stderr" ||
        complain "message"
    wait "$first"
    [ "$(wc -l <"$BATS_TEST_TMPDIR/one")" -eq 300 ]
    expect 0 dump --teacher model:a/model.h5 --shard-samples 1 -o both
    [ "$(wc -l <"$stdout")" -eq 300 ] || complain "a line a shard"
    [ -z "$(find both -name '.*' -o -name '*.part')" ]
}

@test "a network is known by its file, its directory, and either behind model:" {
    local name
    for name in a a/model.h5 model:a model:a/model.h5; do
        expect 0 kd-info "$name"
        stdout_has "a/model.h5: a network"
        stdout_has "  history            kd-train "
        expect 0 kd-eval --data "$data" "$name"
        expect 0 train --seed 3 --start "$name" -o "start-${name//\//-}"
        expect 0 dump --teacher "model:${name#model:}" -o cache-a
        stderr_is
        expect 0 kd-peers -q --method hinton --networks "[$net]" --data "$data" \
            --epochs 1 --batch 50 --teachers "$name" -o "peers-${name//\//-}"
    done
    cmp start-a/model.h5 start-model:a/model.h5
    cmp start-a/recipe.txt start-a-model.h5/recipe.txt
    cmp start-a/model.h5 start-model:a-model.h5/model.h5
    cmp peers-a/student.h5 peers-model:a-model.h5/student.h5
    cmp peers-a/recipe.txt peers-model:a/recipe.txt
    expect 0 kd-info --no-statistics merged
    stdout_has "  teacher_name       a+b"
    stdout_has "  history            kd-merge "
}

@test "kd-synth and kd-convert leave files alone that are there" {
    echo "network: mlp" >recipe.yaml
    local message="is there already, made otherwise: remove it or say another -o" file
    for file in other.h5 a/model.h5 recipe.yaml; do
        unchanged fails_with 64 "$file: $message" kd-synth -q -n 300 --seed 1 -o $file
    done
    unchanged fails_with 64 "train.h5: $message" kd-synth -q -n 301 --seed 1 -o train.h5
    expect 0 kd-synth -q -n 300 --seed 1 -o train.h5
    stdout_is train.h5
    convert() { kd-convert -q --network "$net" --data "$data" --from a/model.h5:/state_dict "$@"; }
    for file in b/model.h5 train.h5 recipe.yaml; do
        unchanged fails_with 64 "$file: $message" convert -o $file
    done
    expect 0 convert -o c.h5
    expect 0 convert -o c.h5
    stdout_is c.h5
    unchanged fails_with 64 "c.h5: $message" convert --mean 0 --deviation 1 -o c.h5
}

@test "kd-export leaves files alone that are there" {
    echo "network: mlp" >recipe.yaml
    local message="is there already, made otherwise: remove it or say another -o" format
    for format in "--format csv" "--format safetensors" "--for torch"; do
        local to="out${format// /-}"
        # shellcheck disable=SC2086 # words
        {
            expect 0 kd-export cache-a $format -o "$to"
            expect 0 kd-export cache-a $format -o "$to"
            stdout_is "$to"
            unchanged fails_with 64 "$to: $message" kd-export cache-b $format -o "$to"
            unchanged fails_with 64 "recipe.yaml: $message" \
                kd-export cache-a $format -o recipe.yaml
        }
    done
    expect 0 kd-export cache-a --format npy -o out
    expect 0 kd-export cache-a --format npy -o out
    unchanged fails_with 64 "out/logits.npy: $message" kd-export cache-b --format npy -o out
    cp out/id.npy id.npy
    rm out/id.npy
    unchanged fails_with 64 "out/logits.npy: $message" kd-export cache-b --format npy -o out
    expect 0 kd-export cache-a --format tinyvit -k 3 -o views
    expect 0 kd-export cache-a --format tinyvit -k 3 -o views
    fails_like 64 rank0-values.bin "$message" -- \
        kd-export cache-b --format tinyvit -k 3 -o views
}
