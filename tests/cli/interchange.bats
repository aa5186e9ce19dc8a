#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# Rows from and to other programs: NumPy, PyTorch, TinyViT's files, spreadsheets; and
# caches packed for shipping.

load helpers

setup_file() {
    make_once
    dump --teacher model:a/model.h5 --encoding top-k --k 5 --also-temperature 1 \
        -o top >/dev/null
    dump --teacher model:a/model.h5 --dtype f32 -o exact >/dev/null
    dump --teacher model:a/model.h5 --augment crop2 --views 2 --seed 8 -o views \
        >/dev/null
}

setup() { enter_copy; }

python() {
    PYTHONPATH=$root/pipelines PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 "$@"
}

needs() {
    python -c "import ${1//,/, }" 2>/dev/null ||
        skip "/usr/bin/python3 has no $1: install python3-${1##*,}"
}

import() {
    kd-import -q --data "$data" --shard-samples 128 "$@"
}

# same_rows TOLERANCE A B...: dense caches hold the same rows but for rounding.
same_rows() {
    python - "$@" <<'PY'
import glob, h5py, numpy as np, sys
def load(directory):
    rows = {}
    for path in sorted(glob.glob(directory + "/shard-*.h5")):
        with h5py.File(path, "r") as f:
            for key in f:
                rows.setdefault(key, []).append(f[key][()])
    return {k: np.concatenate(v) for k, v in rows.items()}
a = load(sys.argv[2])
for other in sys.argv[3:]:
    b = load(other)
    for key in ("id", "view", "label"):
        assert (a[key] == b[key]).all(), (other, key)
    p, q = (np.exp(x["logits"].astype("f8") - x["log_z"][:, None]) for x in (a, b))
    off = np.abs(p - q).max()
    assert off <= float(sys.argv[1]), (other, off)
PY
}

@test "what is exported is imported again, row for row" {
    needs numpy,h5py
    for cache in exact cache-a views; do
        local flags=(--values logits -T 4 --dtype f32) tolerance=1e-6
        # Half precision's normaliser is that of the rows before they were rounded.
        [ $cache = exact ] || tolerance=1e-4
        [ $cache != views ] || flags+=(--augment crop2 --seed 8)
        expect 0 kd-export "$cache" --format npy -o "$cache.dir"
        stdout_is "$cache.dir"
        expect 0 import --from "$cache.dir" "${flags[@]}" -o "$cache-npy"
        for format in safetensors csv; do
            expect 0 kd-export "$cache" --format $format -o "$cache.$format"
            stdout_is "$cache.$format"
            expect 0 import --from "$cache.$format" "${flags[@]}" -o "$cache-$format"
        done
        # The same rows whichever way they took; only the source differs.
        same_rows 0 "$cache-npy" "$cache-csv" "$cache-safetensors"
        same_rows $tolerance "$cache" "$cache-npy"
    done
    expect 0 kd-export exact --format npy --values probs -o exact.probs
    expect 0 import --from exact.probs --values probs -T 4 --dtype f32 -o exact-probs
    same_rows 1e-6 exact exact-probs
}

@test "an imported cache trains and merges like any other" {
    kd-export exact --format npy -o exact.dir >/dev/null
    expect 0 import --from exact.dir --values logits -T 4 --name theirs -o theirs
    stdout_is theirs/shard-00000{0,1,2}.h5
    expect 0 kd-info --json --no-statistics theirs
    json "$stdout" '(j["identity"]["teacher_name"], j["identity"]["value_kind"])'
    expect 0 train --labels theirs -o student
    expect 0 kd-merge -q -o both cache-b theirs
    expect 0 kd-check theirs
}

@test "the same export gives the same bytes, and the same import" {
    for format in npy safetensors csv tinyvit; do
        for n in 1 2; do
            kd-export top --format $format -o "$format.$n" >/dev/null
        done
        diff -r $format.1 $format.2
    done
    import --from npy.1 --values probs -T 4 -o one
    import --from npy.2 --values probs -T 4 --name npy.1 -o two
    for n in 0 1 2; do
        python - "one/shard-00000$n.h5" "two/shard-00000$n.h5" <<'PY' || needs h5py
import h5py, sys
a, b = (h5py.File(p, "r") for p in sys.argv[1:])
assert a.attrs["teacher_digest"] == b.attrs["teacher_digest"]
assert all((a[k][()] == b[k][()]).all() for k in a)
PY
    done
    expect 0 import --from npy.1 --values probs -T 4 -o one
    stdout_is one/shard-00000{0,1,2}.h5
}

@test "NumPy reads the arrays; safetensors are what their description says" {
    needs numpy,h5py
    kd-export exact --format npy -o z >/dev/null
    kd-export exact --format safetensors -o z.safetensors >/dev/null
    kd-export top --format npy -T 1 --tail renorm -o p >/dev/null
    python <<'PY'
import h5py, json, numpy as np, struct
z, id, view, label = (np.load(f"z/{n}.npy") for n in ("logits", "id", "view", "label"))
assert z.shape == (300, 36) and z.dtype == np.float32
assert id.dtype == np.uint64 and (id == np.arange(300)).all() and (view == 0).all()
with h5py.File("exact/shard-000000.h5", "r") as f:
    due = 4 * (f["logits"][:].astype("f8") + f["row_max"][:][:, None])
    assert np.abs(z[:128] - due).max() < 1e-5
    assert (label[:128] == f["label"][:]).all()
p = np.load("p/probs.npy")
q = np.exp(z - z.max(1, keepdims=True)); q /= q.sum(1, keepdims=True)
top = np.argsort(-q, 1, "stable")[:, :5]
kept = np.take_along_axis(q, top, 1)
assert ((p > 0).sum(1) == 5).all()
got = np.take_along_axis(p, top, 1)
assert np.abs(got - kept / kept.sum(1, keepdims=True)).max() < 1e-3
raw = open("z.safetensors", "rb").read()
(size,) = struct.unpack("<Q", raw[:8])
header = json.loads(raw[8:8 + size])
assert header.pop("__metadata__")["values"] == "logits"
kinds = {"F32": "<f4", "I64": "<i8", "I32": "<i4"}
for name, due in ("logits", z), ("id", id), ("view", view), ("label", label):
    entry = header.pop(name)
    begin, end = entry["data_offsets"]
    got = np.frombuffer(raw[8 + size + begin:8 + size + end], kinds[entry["dtype"]])
    assert begin % 4 == 0 and (got.reshape(entry["shape"]) == due).all(), name
assert not header and len(raw) == 8 + size + max(
    e["data_offsets"][1] for e in json.loads(raw[8:8 + size]).values() if "dtype" in e)
PY
}

@test "NumPy's arrays of every kind are read; rows in any order by their ids" {
    needs numpy,h5py
    kd-export exact --format npy -o z >/dev/null
    python <<'PY'
import numpy as np
z = np.load("z/logits.npy").astype("f8")
order = np.random.default_rng(1).permutation(300)
np.save("mixed.npy", z[order].astype("f4")); np.save("ids.npy", order)
np.save("z64.npy", z); np.save("fortran.npy", np.asfortranarray(z))
p = np.exp(z / 4 - (z / 4).max(1, keepdims=True)); p /= p.sum(1, keepdims=True)
np.save("p16.npy", p.astype("f2")); np.save("lp32.npy", np.log(p).astype("f4"))
with open("z.tsv", "w") as f:
    f.write("id\t" + "\t".join(f"c{i}" for i in range(36)) + "\n")
    for i in order:
        f.write(f"{i}\t" + "\t".join(repr(v) for v in z[i]) + "\n")
PY
    local flags=(--dtype f32 -T 4)
    expect 0 import --from z64.npy --values logits "${flags[@]}" -o z64
    expect 0 import --from mixed.npy --ids ids.npy --values logits "${flags[@]}" -o mixed
    expect 0 import --from z.tsv --values logits "${flags[@]}" -o tsv
    expect 0 import --from lp32.npy --values logprobs "${flags[@]}" -o lp32
    expect 0 import --from p16.npy --values probs "${flags[@]}" -o p16
    same_rows 1e-6 exact z64 mixed tsv lp32
    same_rows 1e-3 exact p16
    fails_like 65 fortran.npy ascontiguousarray -- \
        import --from fortran.npy --values logits -T 4 -o x
    fails_like 65 z64.npy "row 0" "probability" -- \
        import --from z64.npy --values probs -T 4 -o x
}

@test "TinyViT's files go out and come in; each view is an epoch" {
    expect 0 kd-export views --format tinyvit -k 7 -o tv
    stdout_is tv/logits_top7_epoch{0,1}
    [ "$(stat -c %s tv/logits_top7_epoch1/rank0-values.bin)" -eq $((300 * 32)) ]
    expect 0 import --from tv --values probs -T 4 --augment crop2 --seed 8 -o back
    expect 0 kd-info --json --no-statistics back
    [ "$(json "$stdout" \
        '[j["identity"][k] for k in ("encoding", "k", "views", "first_view")]')" = \
        "['top-k', 7, 2, 1]" ]
    # Half precision is what they have: within its rounding the same soft labels.
    expect 0 train --labels back -o student
    fails_like 64 "give --values probs" -- import --from tv --values logits -T 4 -o x
    fails_like 64 "--encoding top-k" -- \
        import --from tv --values probs -T 4 --encoding dense -o x
    sed -i '12s/.*/13/' tv/logits_top7_epoch1/rank0-keys.txt
    fails_like 65 tv/logits_top7_epoch1/rank0-values.bin "record 13" "sample 13" \
        "is there already" "record 11" -- import --from tv --values probs -T 4 -o x
    sed -i '12s/.*/cat/' tv/logits_top7_epoch1/rank0-keys.txt
    fails_like 65 rank0-keys.txt "line 12" "'cat'" --keys -- \
        import --from tv --values probs -T 4 -o x
    sed -i '12d' tv/logits_top7_epoch1/rank0-keys.txt
    fails_like 65 rank0-values.bin "299 keys" -- \
        import --from tv --values probs -T 4 -o x
}

@test "what a command line leaves out or contradicts is 64" {
    kd-export exact --format csv -o z.csv >/dev/null
    fails_like 64 "--from" -- kd-import --data "$data" -o x
    fails_like 64 "--data" -- kd-import --from z.csv -o x
    fails_like 64 "--values" -- kd-import --from z.csv --data "$data" -o x
    fails_like 64 "--temperature" -- import --from z.csv --values logits -o x
    fails_like 64 "-o" -- import --from z.csv --values logits -T 4
    fails_like 64 train.h5 "--format" -- import --from train.h5 --values logits -T 4 -o x
    fails_like 66 none.npy -- import --from none.npy --values logits -T 4 -o x
    fails_like 64 "--format, --for or --layout" -- kd-export exact -o x
    fails_like 64 "-o" -- kd-export exact --format npy
    fails_like 64 "--values: not with --layout" -- \
        kd-export exact --layout archive --values probs -o x
    fails_like 64 exact "no temperature" -- \
        kd-export exact --format npy --values logits -T 2 -o x
    fails_like 64 top "some classes alone" -- \
        kd-export top --format npy --values logits -o x
    fails_like 65 top "--also-temperature 3" -- kd-export top --format npy -T 3 -o x
    fails_like 64 merged "log-probabilities" -- \
        kd-export merged --format npy --values logits -o x
    fails_like 65 merged "temperature 1" -- kd-export merged --format npy -T 1 -o x
    fails_like 66 none -- kd-export none --format npy -o x
    [ ! -e x ]
}

@test "foreign views are imported, but not trained on as if they were drawn here" {
    kd-export views --format npy -o v >/dev/null
    expect 0 import --from v --values logits -T 4 -o foreign
    expect 0 kd-info --json --no-statistics foreign
    [ "$(json "$stdout" 'j["identity"]["augment"]')" = foreign ]
    expect 64 train --labels foreign -o x
    grep -q foreign "$stderr" || complain "message"
    expect 0 import --from v --values logits -T 4 --augment crop2 --seed 8 -o drawn
    expect 0 train --labels drawn -o x
}

@test "an archive is smaller, is read by h5py, and unpacks to the same bytes" {
    for cache in cache-a top views merged; do
        expect 0 kd-export "$cache" --layout archive -o "$cache.packed"
        expect 0 kd-export "$cache.packed" --layout contiguous -o "$cache.back"
        stdout_is "$(cd "$cache" && printf "$cache.back/%s\n" shard-*.h5)"
        diff -r "$cache" "$cache.back"
    done
    fails_like 65 cache-a.packed/shard-000000.h5 \
        "archived: unpack it with kd-export --layout contiguous" -- kd-info cache-a.packed
    fails_like 65 "archived: unpack" -- train --labels cache-a.packed -o x
    fails_like 65 "archived: unpack" -- kd-merge -o x cache-a.packed cache-b
    fails_like 65 "contiguous already" -- kd-export cache-a --layout contiguous -o x
    fails_like 64 "of itself" -- kd-export cache-a --layout archive -o ./cache-a/
    fails_like 65 shard-000000.h5 "another content" -- \
        kd-export cache-a --layout archive -o cache-b
    printf x >>cache-a.packed/shard-000001.h5 # harmless behind the end
    rm -r cache-a.back
    expect 0 kd-export cache-a.packed --layout contiguous -o cache-a.back
    diff -r cache-a cache-a.back
    needs h5py
    python <<'PY'
import h5py
with h5py.File("views.packed/shard-000000.h5", "r") as f, \
        h5py.File("views/shard-000000.h5", "r") as g:
    assert f.attrs["layout"] == b"archive"
    assert f.attrs["identity_digest"] == g.attrs["identity_digest"]
    for key in g:
        assert (f[key][()] == g[key][()]).all(), key
        assert f[key].compression == "gzip" and f[key].shuffle, key
        assert f[key].chunks[1:] == g[key].shape[1:], key
PY
}

@test "an interrupted or killed export leaves nothing, and the next one is whole" {
    printf 'x' >z.csv.part
    expect 0 kd-export exact --format csv -o z.csv
    [ ! -e z.csv.part ]
    cp z.csv due.csv
    (kd-export exact --format csv -o late.csv >/dev/null 2>&1 & kill -9 $!) || true
    expect 0 kd-export exact --format csv -o late.csv
    cmp due.csv late.csv
    mkdir there.csv
    fails_like 73 there.csv "not a regular file" -- \
        kd-export exact --format csv -o there.csv
    fails_like 73 none/z.csv -- kd-export exact --format csv -o none/z.csv
}

@test "the Python Dataset reads the rows that kd-export writes" {
    needs numpy,h5py
    dump --teacher model:a/model.h5 --encoding top-p --mass 0.9 --k 20 -o most >/dev/null
    dump --teacher model:a/model.h5 --dtype bf16 -o brain >/dev/null
    for cache in exact cache-a views brain top most merged; do
        kd-export "$cache" --format npy --values probs -o "$cache.dir" >/dev/null
    done
    kd-export top --format npy --tail renorm -o renorm.dir >/dev/null
    dump --teacher model:a/model.h5 --encoding sampled --k 20 -o sampled >/dev/null
    kd-export cache-a --layout archive -o packed >/dev/null
    rm cache-b/cache.json
    python <<'PY'
import numpy as np, pickle
from pytorch_dataset import CacheError, SoftLabelDataset, SoftLabels
def compare(soft, directory):
    id, view, label, p = (np.load(f"{directory}/{n}.npy")
                          for n in ("id", "view", "label", "probs"))
    keys = list(zip(id.tolist(), view.tolist()))
    assert list(soft.keys()) == keys and len(soft) == len(keys)
    for at in np.random.default_rng(0).permutation(len(keys)):
        assert np.abs(soft.row(*keys[at]) - p[at]).max() < 1e-6, (directory, keys[at])
        assert soft.label(*keys[at]) == label[at]
    data = SoftLabelDataset(soft)
    got = data[7]
    assert len(data) == len(keys) and got[:2] == keys[7] and got[2] == label[7]
    assert (got[3] == soft.row(*keys[7])).all()
for cache in "exact cache-a views brain top most merged".split():
    compare(SoftLabels(cache), cache + ".dir")
compare(SoftLabels("top", tail="renorm"), "renorm.dir")
compare(pickle.loads(pickle.dumps(SoftLabels("top"))), "top.dir")
for key in (300, 0), (0, 1), (-1, 0):
    try:
        SoftLabels("exact").row(*key)
        raise AssertionError(key)
    except KeyError:
        pass
for cache, says in (("sampled", "sampled rows are not read"), ("packed", "archived"),
                    ("cache-b", "unfinished"), ("a", "unfinished")):
    try:
        SoftLabels(cache).row(0)
        raise AssertionError(cache)
    except CacheError as error:
        assert says in str(error), error
PY
}

@test "PyTorch trains a student on a cache" {
    needs numpy,h5py,torch
    expect 0 python "$root/pipelines/pytorch_dataset.py" --cache cache-a \
        --data train.h5 --epochs 4 --workers 2 --lr 0.01
    [ "$(wc -l <"$stdout")" -eq 4 ] || complain "a line an epoch"
    awk '{ if (NR > 1 && $4 >= last) exit 1; last = $4 }' "$stdout" ||
        complain "the loss does not fall"
    expect 1 python "$root/pipelines/pytorch_dataset.py" --cache views --data train.h5
    stderr_is "pytorch_dataset.py: views: has no clean view: dump it with --clean"
}

@test "kd-export --for torch: the cache's very bits in one file, and the Dataset reads it" {
    needs numpy,h5py
    dump --teacher model:a/model.h5 --encoding top-p --mass 0.9 --k 20 -o most >/dev/null
    dump --teacher model:a/model.h5 --dtype bf16 -o brain >/dev/null
    for cache in exact cache-a views brain top most merged; do
        expect 0 kd-export "$cache" --for torch -o "$cache.safetensors"
        stdout_is "$cache.safetensors"
        rm -f again.safetensors
        expect 0 kd-export "$cache" --for torch --threads 2 -o again.safetensors
        cmp "$cache.safetensors" again.safetensors
    done
    python <<'PY'
import glob, h5py, numpy as np, pickle
from pytorch_dataset import CacheError, Export, SoftLabelDataset, SoftLabels
def bits(dataset):
    raw = np.empty(dataset.id.get_storage_size(), "u1")
    with open(dataset.file.filename, "rb") as file:
        file.seek(dataset.id.get_offset())
        file.readinto(raw)
    return raw
for cache in "exact cache-a views brain top most merged".split():
    export, due = Export(cache + ".safetensors"), {}
    for path in sorted(glob.glob(cache + "/shard-*.h5")):
        with h5py.File(path, "r") as f:
            for name in f:
                due.setdefault(name, []).append(bits(f[name]))
    del due["check"]
    if "offset" in due:
        ends = [part.view("u8")[1:] for part in due["offset"]]
        starts = np.cumsum([0] + [e[-1] for e in ends[:-1]])
        due["offset"] = [np.zeros(8, "u1")] + [
            (e + s.astype("u8")).view("u1") for e, s in zip(ends, starts)]
    due["scaled"] = due.pop("logits")
    assert set(export.columns) == set(due), (cache, set(export.columns))
    for name, parts in due.items():
        got = export.columns[name]
        assert (np.frombuffer(got.tobytes(), "u1") == np.concatenate(parts)).all(), (cache, name)
        assert got.dtype.kind in "fi" or got.dtype.str in ("|u1", "<u2"), (name, got.dtype)
    for tail in "spread", "renorm":
        a, b = SoftLabels(cache, tail), SoftLabels(cache + ".safetensors", tail)
        b = pickle.loads(pickle.dumps(b))
        assert a.identity == b.identity and len(a) == len(b) > 0
        keys = list(a.keys())
        assert keys == list(b.keys())
        for key in keys[::7]:
            assert (a.row(*key) == b.row(*key)).all() and a.label(*key) == b.label(*key)
    assert SoftLabelDataset(b)[3][:2] == keys[3]
try:
    SoftLabels("a/model.h5")
    raise AssertionError
except CacheError as error:
    assert "not written by kd-export --for torch" in str(error)
PY
    python -c 'import sys
sys.modules["h5py"] = None
import pytorch_dataset as p
assert abs(p.SoftLabels("exact.safetensors").row(299).sum() - 1) < 1e-5
try:
    p.SoftLabels("exact").row(299)
    raise AssertionError
except p.CacheError as error:
    assert "kd-export --for torch" in str(error)'
    # Its rows are not logits to be imported.
    fails_like 65 exact.safetensors "'logits'" -- \
        import --from exact.safetensors --values logits -T 4 -o x
    dump --teacher model:a/model.h5 --encoding sampled --k 20 -o sampled >/dev/null
    fails_like 64 sampled "sampled rows" "--format" -- kd-export sampled --for torch -o x
    fails_like 64 "--values: not with --for" -- kd-export exact --for torch --values probs -o x
    fails_like 64 "--for and --layout" -- kd-export exact --for torch --layout archive -o x
    printf '\125' | dd of=exact/shard-000001.h5 bs=1 seek=20000 conv=notrunc status=none
    fails_like 65 exact/shard-000001.h5 -- kd-export exact --for torch -o x
    [ ! -e x ] && [ ! -e x.part ]
}

@test "a student in PyTorch learns the same from the cache and from its export" {
    needs torch,numpy,h5py
    kd-export exact --for torch -o exact.safetensors >/dev/null
    python "$root/pipelines/pytorch_dataset.py" --cache exact --data train.h5 --epochs 1 >due
    expect 0 python "$root/pipelines/pytorch_dataset.py" --cache exact.safetensors \
        --data train.h5 --epochs 1
    cmp due "$stdout"
}
