#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# Views that mix samples: what a dump says of them, and who may learn from them.

load helpers

setup_file() {
    make_once
}

setup() {
    enter_copy
}

mixed() {
    dump --teacher model:a/model.h5 --views 2 --seed 3 "$@"
}

# What a cache's rows are like: means, shares and so on, without its identity.
statistics() {
    kd-info --json "$1" | /usr/bin/python3 -c '
import json, sys; print(json.load(sys.stdin)["statistics"])'
}

# augment_is CACHE TEXT
augment_is() {
    expect 0 kd-info --json "$1"
    [ "$(json "$stdout" 'j["identity"]["augment"]')" = "$2" ] ||
        complain "the augmentation is not '$2'"
}

@test "a cache says what its views are mixed of" {
    expect 0 mixed --augment cutmix,flip,mixup0.50 -o whole
    augment_is whole flip,mixup0.5,cutmix1,from0:300
    expect 0 kd-dump -q --data "$data@10:200" --teacher model:a/model.h5 \
        --augment crop2,mixup -o slice
    augment_is slice crop2,mixup0.2,from10:200
    expect 0 kd-dump -q --data "$data@10:200" --teacher model:a/model.h5 \
        --augment mixup,from0:300 -o said
    augment_is said mixup0.2,from0:300
}

@test "mixing twice gives the same bytes; other partners and no partners others" {
    expect 0 mixed --augment crop2,mixup1 -o one
    expect 0 mixed --augment crop2,mixup1,from0:300 -o two
    same_files one two shard-000000.h5 shard-000001.h5 shard-000002.h5
    expect 0 mixed --augment crop2,mixup1,from0:299 -o fewer
    expect 0 mixed --augment crop2 -o none
    for other in fewer none; do
        [ "$(statistics one)" != "$(statistics "$other")" ] || complain "$other has the same rows"
    done
}

@test "slices dumped apart with one from have the rows of the whole" {
    /usr/bin/python3 -c 'import h5py, numpy' 2>/dev/null ||
        skip "/usr/bin/python3 has no h5py: install python3-h5py"
    expect 0 mixed --dtype f32 --augment crop2,mixup1,cutmix1 -o whole
    for slice in 0:100 100:300; do
        expect 0 kd-dump -q --data "$data@$slice" --teacher model:a/model.h5 --views 2 \
            --seed 3 --dtype f32 --augment crop2,mixup1,cutmix1,from0:300 -o "part$slice"
    done
    /usr/bin/python3 -I - <<'PY'
import glob, h5py, numpy
def rows(pattern):
    return {(i, v): z for path in glob.glob(pattern) for f in [h5py.File(path, "r")]
            for i, v, z in zip(f["id"][:], f["view"][:], f["logits"][:])}
whole, parts = rows("whole/*.h5"), rows("part*/*.h5")
assert len(whole) == 600 and whole.keys() == parts.keys()
for key in whole:
    assert numpy.allclose(whole[key], parts[key], rtol=1e-4, atol=1e-4), key
PY
}

@test "a student learns from mixed views, but from none that mix in what is held out" {
    expect 0 mixed --augment crop2,mixup,cutmix -o views
    expect 0 train --labels views --hard 0 -o student
    fails_like 64 @0:200 "leaves out samples" "0 to 299" -- kd-train -q --network "$net" \
        --data "$data@0:200" --labels views --hard 0 --epochs 1 --batch 50 -o x
}

@test "mixtures that cannot be are refused" {
    fails_like 64 --augment "'mixup0'" mixupA -- \
        dump --teacher model:a/model.h5 --augment mixup0 -o x
    fails_like 64 --augment "'flip,from0:9'" "without mixup" -- \
        dump --teacher model:a/model.h5 --augment flip,from0:9 -o x
    fails_like 64 --augment from0:301 "no more than 300" -- \
        dump --teacher model:a/model.h5 --augment mixup,from0:301 -o x
    [ ! -e x ]
}
