#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# What the files are to other programs: h5py opens them and finds what is promised.

load helpers

python() {
    /usr/bin/python3 -I -
}

setup_file() {
    /usr/bin/python3 -c 'import h5py, numpy' 2>/dev/null || return 0
    make_once
    dump --teacher model:a/model.h5 --dtype f32 -o exact >/dev/null
    dump --teacher model:a/model.h5 --augment crop2 --views 2 --clean --seed 8 -o views \
        >/dev/null
    kd-merge -q --policy mean-logit --dtype f32 -o logit cache-a cache-b >/dev/null
}

setup() {
    /usr/bin/python3 -c 'import h5py, numpy' 2>/dev/null ||
        skip "/usr/bin/python3 has no h5py: install python3-h5py"
    enter_copy
}

@test "a shard's datasets have the promised types, shapes and layout" {
    python <<'PY'
import glob, h5py
types = {"id": "<u8", "view": "<u4", "label": "<i4", "row_max": "<f4", "log_z": "<f4",
         "check": "<u4"}
for name, logits in ("cache-a", "<f2"), ("exact", "<f4"), ("merged", "<f2"), ("logit", "<f4"):
    paths = sorted(glob.glob(name + "/shard-*.h5"))
    assert paths, name
    rows = 0
    for path in paths:
        with h5py.File(path, "r") as f:
            assert set(f) == set(types) | {"logits"}, (path, set(f))
            n = len(f["id"])
            rows += n
            assert f["logits"].shape == (n, 36), f["logits"].shape
            for key, dtype in dict(types, logits=logits).items():
                d = f[key]
                assert d.dtype.str == dtype, (path, key, d.dtype)
                assert d.shape[0] == n and (key == "logits" or d.ndim == 1), (path, key)
                assert d.chunks is None and d.compression is None, (path, key)
                offset = d.id.get_offset()
                unit = 4096 if d.nbytes >= 4096 else d.dtype.itemsize
                assert offset is not None and offset % unit == 0, (path, key, offset)
    assert rows == 300, (name, rows)
PY
}

@test "attributes are readable; history is str, a line a step" {
    python <<'PY'
import h5py, json, subprocess
with h5py.File("merged/shard-000000.h5", "r") as f:
    a = dict(f.attrs)
text = {k: v.decode() for k, v in a.items() if isinstance(v, bytes)}
assert isinstance(a["history"], str), type(a["history"])
assert a["history"].startswith("kd-merge "), a["history"]
assert text["format"] == "kdcache" and a["format_version"] == 1 and a["complete"] == 1
for key, value in {"kind": "merged", "value_kind": "logprobs", "encoding": "dense",
                   "dtype": "float16", "policy": "mean-prob", "augment": "none",
                   "bn_mode": "eval"}.items():
    assert text[key] == value, (key, text[key])
for key, value in {"num_classes": 36, "temperature": 4, "k": 36, "num_samples": 300,
                   "views": 1, "seed": 0}.items():
    assert a[key] == value, (key, a[key])
for key in ("dataset_digest", "class_map_digest", "teacher_digest"):
    assert len(text[key]) == 32 and int(text[key], 16), (key, text[key])
# kd-info tells the same.
says = json.loads(subprocess.run(["kd-info", "--json", "merged"], check=True,
                                 capture_output=True).stdout)["identity"]
for key, value in says.items():
    got = text[key] if key in text else a[key]
    assert got == value, (key, got, value)
parents = [h5py.File(f"cache-{m}/shard-000000.h5", "r").attrs["teacher_digest"].decode()
           for m in "ab"]
assert text["parents"] == ",".join(parents), text["parents"]
PY
}

@test "exp(logits - log_z) are probabilities: each row sums to 1" {
    python <<'PY'
import glob, h5py, numpy as np
for path in sorted(glob.glob("*/shard-*.h5")):
    with h5py.File(path, "r") as f:
        z = f["logits"][:].astype("f8")
        p = np.exp(z - f["log_z"][:][:, None])
        tolerance = 1e-3 if f["logits"].dtype == np.float16 else 1e-5
        assert np.abs(p.sum(1) - 1).max() < tolerance, path
        assert (z.max(1) == 0).all(), path
PY
}

# Half precision has 11 bits: a value is off by up to 2^-11 of itself, or by 2^-25
# where it is subnormal.
@test "float16 and float32 caches hold the same logits but for half's rounding" {
    python <<'PY'
import glob, h5py, numpy as np
for path in sorted(glob.glob("exact/shard-*.h5")):
    with h5py.File(path, "r") as f, h5py.File(path.replace("exact", "cache-a"), "r") as h:
        for key in ("id", "view", "label", "row_max", "log_z"):
            assert (f[key][:] == h[key][:]).all(), (path, key)
        x, y = f["logits"][:].astype("f8"), h["logits"][:].astype("f8")
        assert (np.abs(x - y) <= np.maximum(np.abs(x) * 2.0 ** -11, 2.0 ** -25)).all(), path
        assert (y == f["logits"][:].astype("f2").astype("f8")).all(), path
        absolute = f.attrs["temperature"] * (x + f["row_max"][:][:, None])
        assert 0.5 < np.abs(absolute).max() < 1000, path
PY
}

# h5py has no bfloat16: it makes float32 of it. Rounded to nearest even, bits are exact.
@test "bfloat16 is read as float32, and is the upper half of it" {
    dump --teacher model:a/model.h5 --dtype bf16 -o brain >/dev/null
    python <<'PY'
import glob, h5py, numpy as np
for path in sorted(glob.glob("exact/shard-*.h5")):
    with h5py.File(path, "r") as f, h5py.File(path.replace("exact", "brain"), "r") as b:
        d, x = b["logits"], f["logits"][:].view("u4")
        assert d.dtype == np.float32 and d.id.get_type().get_size() == 2, d.dtype
        assert b.attrs["dtype"] == b"bfloat16", b.attrs["dtype"]
        assert d.id.get_offset() is not None and d.id.get_storage_size() == x.size * 2
        due = (x + 0x7fff + (x >> 16 & 1)) >> 16 << 16
        assert (d[:].view("u4") == due).all(), path
PY
}

@test "sparse encodings keep the classes, and the mass left over, that they promise" {
    dump --teacher model:a/model.h5 --encoding top-k -k 5 -o top-k >/dev/null
    dump --teacher model:a/model.h5 --encoding top-p --mass 0.9 --also-temperature 8,1 \
        --dtype bf16 -o top-p >/dev/null
    dump --teacher model:a/model.h5 --encoding sampled -k 50 --dtype f32 -o sampled \
        >/dev/null
    python <<'PY'
import glob, h5py, numpy as np
def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)
small = {"id": "<u8", "view": "<u4", "label": "<i4", "row_max": "<f4", "log_z": "<f4",
         "log_tail": "<f4", "check": "<u4", "index": "|u1"}
more = {"top-k": {"logits": "<f2"},
        "top-p": {"logits": "<f4", "offset": "<u8", "log_z_also": "<f4",
                  "log_tail_also": "<f4"},
        "sampled": {"logits": "<f4", "offset": "<u8", "draws": "<u2"}}
drawn, due = np.zeros(36), np.zeros(36)
for path in sorted(glob.glob("exact/shard-*.h5")):
    with h5py.File(path, "r") as f:
        z = f["logits"][:].astype("f8")
        p, rank = softmax(z), np.argsort(-z, 1, kind="stable")
        small_due = {k: f[k][:] for k in ("id", "view", "label", "row_max", "log_z")}
    for name in more:
        with h5py.File(path.replace("exact", name), "r") as f:
            types = dict(small, **more[name])
            assert {k: d.dtype.str for k, d in f.items()} == types, (name, list(f))
            assert all(d.chunks is None for d in f.values()), name
            assert f.attrs["encoding"] == name.encode(), f.attrs["encoding"]
            assert f.attrs["k"] == {"top-k": 5, "top-p": 35, "sampled": 50}[name]
            for key, value in small_due.items():
                assert (f[key][:] == value).all(), (name, key)
            n = len(z)
            offset = f["offset"][:] if "offset" in f else np.arange(n + 1) * 5
            logits, index = f["logits"][:].ravel(), f["index"][:].ravel()
            assert len(index) == len(logits) == offset[n] and offset[0] == 0, name
            for i in range(n):
                at = slice(offset[i], offset[i + 1])
                c, left = index[at], np.delete(p[i], index[at]).sum()
                got = np.exp(logits[at] - f["log_z"][i])
                assert np.abs(got - p[i, c]).max() < 5e-3, (name, i)
                assert abs(f["log_tail"][i] - np.log(left)) < 1e-3, (name, i)
                assert name == "sampled" or (c == rank[i, :len(c)]).all(), (name, i)
                if name == "top-p":
                    assert p[i, c].sum() >= 0.9 > p[i, c[:-1]].sum(), i
                if name == "sampled":
                    assert len(set(c)) == len(c) and f["draws"][at].sum() == 50, i
                    drawn += np.bincount(c, f["draws"][at] / 50, 36)
            if name == "top-p":
                assert f.attrs["also_temperatures"] == b"1,8" and f.attrs["mass"] == 0.9
                for a, t in enumerate((1, 8)):
                    log_z = np.log(np.exp(z * 4 / t).sum(1))
                    assert np.abs(f["log_z_also"][:, a] - log_z).max() < 1e-3, t
            due += p.sum(0) * (name == "sampled")
# 15,000 draws in all: the mean of draws/50 is the mean of p, within 5 deviations.
assert (np.abs(drawn - due) <= 5 * np.sqrt(due / 50)).all(), (drawn, due)
PY
}

@test "merged rows are the mean of the probabilities, or of the logits" {
    dump --teacher model:b/model.h5 --dtype f32 -o exact-b
    kd-merge -q --dtype f32 -o prob --weights 1,3 exact exact-b
    python <<'PY'
import glob, h5py, numpy as np
def whole(name, key):
    return np.concatenate([h5py.File(p, "r")[key][:] for p in sorted(glob.glob(name + "/*.h5"))])
def logits(name):
    return whole(name, "logits").astype("f8") + whole(name, "row_max").astype("f8")[:, None]
def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)
assert (whole("prob", "id") == np.arange(300)).all()
assert (whole("prob", "label") == whole("exact", "label")).all()
due = 0.25 * softmax(logits("exact")) + 0.75 * softmax(logits("exact-b"))
assert np.abs(np.exp(logits("prob")) - due).max() < 1e-6
due = (logits("cache-a") + logits("cache-b")) / 2
assert np.abs(logits("logit") - due).max() < 1e-5
PY
}

@test "figures recomputed from a shard's arrays are those of kd-eval and kd-info" {
    python <<'PY'
import glob, h5py, json, subprocess, numpy as np
def tell(*command):
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
z, log_z, y = (np.concatenate([h5py.File(p, "r")[k][:] for p in sorted(glob.glob("cache-a/*.h5"))])
               for k in ("logits", "log_z", "label"))
log_p = z.astype("f8") - log_z[:, None]
p = np.exp(log_p)
due = {"accuracy": (log_p.argmax(1) == y).mean(), "nll": -log_p[np.arange(300), y].mean(),
       "entropy": -(p * log_p).sum(1).mean(), "confidence": p.max(1).mean()}
got = tell("kd-eval", "--json", "cache-a")["predictors"][0]
for key, value in due.items():
    assert abs(got[key] - value) < 2e-3, (key, got[key], value)
assert got["accuracy"] == due["accuracy"]
got = tell("kd-info", "--json", "cache-a")["statistics"]
assert got["argmax_is_label"] == due["accuracy"] and got["labelled"] == 300, got
assert abs(got["entropy"] - due["entropy"]) < 2e-3, got
assert abs(got["max_prob"] - due["confidence"]) < 2e-3, got
PY
}

@test "views are views: view 0 is the clean one, the others differ" {
    python <<'PY'
import glob, h5py, numpy as np
with h5py.File("views/shard-000000.h5", "r") as f, h5py.File("cache-a/shard-000000.h5", "r") as c:
    assert list(f["view"][:6]) == [0, 1, 2] * 2 and list(f["id"][:6]) == [0, 0, 0, 1, 1, 1]
    assert len(f["id"]) == 3 * 128
    worst = np.abs(f["logits"][::3].astype("f4") - c["logits"][:].astype("f4")).max()
    assert worst <= 2.0 ** -9, worst
    assert (f["logits"][1::3] != c["logits"][:]).any(1).mean() > 0.9
    assert (f["logits"][1::3] != f["logits"][2::3]).any(1).mean() > 0.9
PY
}

@test "cache.json lists the shards, their bytes and rows, keys sorted" {
    python <<'PY'
import json, os
text = open("merged/cache.json").read()
j = json.loads(text)
assert text.endswith("\n") and json.dumps(j, sort_keys=True) == json.dumps(j)
assert [s["name"] for s in j["shards"]] == [f"shard-00000{i}.h5" for i in range(3)]
for s in j["shards"]:
    assert s["bytes"] == os.path.getsize("merged/" + s["name"])
    assert s["rows"] == 100 and len(s["xxh3_128"]) == 32
assert j["rows"] == 300 and j["identity"]["policy"] == "mean-prob", j
PY
}

@test "a network is a state_dict: float32, PyTorch's names and shapes" {
    kd-train -q --network resnet8 --data "$data" --epochs 1 --batch 100 -o resnet >/dev/null
    python <<'PY'
import h5py, numpy as np
with h5py.File("a/model.h5", "r") as f:
    s = {}
    f["state_dict"].visititems(lambda k, v: s.update({k: v[()]}) if isinstance(v, h5py.Dataset) else None)
    assert f.attrs["format"] == b"kdcache-network", f.attrs["format"]
    assert isinstance(f.attrs["history"], str)
due = {"fc1.weight": (16, 400), "fc1.bias": None, "bn1.weight": (16,), "bn1.bias": (16,),
       "bn1.running_mean": (16,), "bn1.running_var": (16,), "fc.weight": (36, 16),
       "fc.bias": (36,)}
for key, shape in due.items():
    if shape is None and key not in s:
        continue
    assert key in s, (key, sorted(s))
    assert s[key].dtype == np.float32, (key, s[key].dtype)
    assert shape is None or s[key].shape == shape, (key, s[key].shape)
with h5py.File("resnet/model.h5", "r") as f:
    names = []
    f["state_dict"].visititems(lambda k, v: names.append(k) if isinstance(v, h5py.Dataset) else None)
    for key in ("conv1.weight", "bn1.running_var", "layer1.0.conv1.weight",
                "layer3.0.bn2.bias", "fc.weight"):
        assert key in names, (key, names)
    assert f["state_dict/conv1.weight"].shape == (16, 1, 3, 3)
    assert all(f["state_dict"][n].dtype == np.float32 for n in names)
PY
}

# softmax((W2 relu(bn(W1 x + b1)) + b2) / T), with the pixels of the dataset.
@test "a network computed in numpy from its file gives the cache's rows" {
    python <<'PY'
import h5py, numpy as np
with h5py.File("train.h5", "r") as f:
    x = f["x"][:128].reshape(128, -1) / 255.0
with h5py.File("a/model.h5", "r") as f:
    s = {k: v[()].astype("f8") for k, v in f["state_dict"].items()}
    x = (x - f.attrs["normalize_mean"]) / f.attrs["normalize_deviation"]
h = x @ s["fc1.weight"].T + s.get("fc1.bias", 0)
h = (h - s["bn1.running_mean"]) / np.sqrt(s["bn1.running_var"] + 1e-5)
h = np.maximum(h * s["bn1.weight"] + s["bn1.bias"], 0)
z = (h @ s["fc.weight"].T + s["fc.bias"]) / 4
with h5py.File("exact/shard-000000.h5", "r") as f:
    got = f["logits"][:] + f["row_max"][:][:, None]
assert np.abs(got - z).max() < 1e-4, np.abs(got - z).max()
PY
}
