#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# Weights that PyTorch trained: kd-convert makes networks of them.

load helpers

setup_file() {
    cd "$BATS_FILE_TMPDIR" || return 1
    kd-synth -q -n 60 --seed 1 -o train.h5 >/dev/null
    train --epochs 1 -o a >/dev/null
}

setup() {
    cd "$BATS_FILE_TMPDIR" || return 1
}

# convert PATH OPTION...: the weights at PATH, of the network of a.
convert() {
    kd-convert --network "$net" --data "$data" --from "$@"
}

@test "weights of every family load from every container and give PyTorch's logits" {
    /usr/bin/python3 -c 'import h5py, torch, torchvision' 2>/dev/null ||
        skip "/usr/bin/python3 has no torchvision: install python3-torchvision"
    mkdir cases
    cd cases || return 1
    /usr/bin/python3 -B "$root/tests/cli/weights.py" make
    local case kind source options samples=npy:x.npy,y.npy
    for case in */; do
        case=${case%/}
        options=(--network "$(cat "$case/network")" --data "$samples"
            --rename "$(cat "$case/rename")" --mean 0 --deviation 1)
        for kind in safetensors h5 npy; do
            source=$case/weights.$kind
            [ "$kind" != npy ] || source=$case/npy
            expect 0 kd-convert --from "$source" "${options[@]}" -o "$case/$kind.out.h5"
            stdout_is "$case/$kind.out.h5"
            stderr_is
        done
        kd-dump -q --teacher "model:$case/h5.out.h5" --data "$samples" -T 1 \
            --dtype f32 -o "$case/cache" >/dev/null
    done
    expect 0 /usr/bin/python3 -B "$root/tests/cli/weights.py" same ./*/
    cat "$stdout" >&3 # how far off they are
}

@test "a saved network becomes the same teacher again" {
    expect 0 convert a/model.h5 -o b.h5
    stdout_is b.h5
    for model in a/model.h5 b.h5; do
        kd-info --json "$model" >"$BATS_TEST_TMPDIR/${model//\//-}.json"
        dump --teacher "model:$model" -o "$BATS_TEST_TMPDIR/${model//\//-}.cache" >/dev/null
    done
    # But for its name, its age and its identity.
    cd "$BATS_TEST_TMPDIR" || return 1
    for key in architecture num_classes parameters normalize_mean normalize_deviation \
        class_map_digest; do
        [ "$(json a-model.h5.json "j['$key']")" = "$(json b.h5.json "j['$key']")" ]
    done
    /usr/bin/python3 - <<'PY'
import h5py
a, b = (h5py.File(name + ".cache/shard-000000.h5") for name in ("a-model.h5", "b.h5"))
for name in a:
    assert a[name][()].tobytes() == b[name][()].tobytes(), name
PY
}

@test "classes and normalisation are what is said, else the data's" {
    expect 0 convert a/model.h5 --mean '[0.5]' --deviation 0.25 -o c.h5
    kd-info --json c.h5 >c.json
    [ "$(json c.json "j['normalize_mean'], j['normalize_deviation']")" = "([0.5], [0.25])" ]
    fails_like 65 "a/model.h5: fc.weight is [36][16], in the network it is [7][16]" -- \
        convert a/model.h5 --classes 7 -o d.h5
    fails_like 78 "2 numbers for 1 channels" -- \
        convert a/model.h5 --mean '[1, 2]' --deviation 1 -o d.h5
    fails_with 64 "--mean and --deviation go together: give both" \
        convert a/model.h5 --mean 1 -o d.h5
    [ ! -e d.h5 ]
}

@test "what does not fit is named, and nothing is written" {
    fails_with 64 "which weights? give --from FILE or a directory" \
        kd-convert --network mlp --data "$data" -o d.h5
    fails_with 64 "of what network? give --network NET" \
        kd-convert --from a/model.h5 --data "$data" -o d.h5
    fails_with 64 "for which samples? give --data DATASET" \
        kd-convert --from a/model.h5 --network mlp -o d.h5
    fails_with 64 "where to? give -o FILE.h5" convert a/model.h5
    fails_with 64 "'fc' does not rename: write FROM=TO,..." \
        convert a/model.h5 --rename fc -o d.h5
    fails_with 66 "nowhere: cannot open: No such file or directory" convert nowhere -o d.h5
    fails_with 65 "a/model.h5: not this network's weights: missing fc.weight, fc.bias; \
unexpected head.bias, head.weight (FROM=TO renames)" \
        convert a/model.h5 --rename fc=head -o d.h5
    printf 'PK\3\4' >torch.pt
    fails_like 65 "torch.pt: a Python pickle" -- convert torch.pt -o d.h5
    [ ! -e d.h5 ]
}
