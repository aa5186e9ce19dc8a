#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# Any teacher: child processes in several languages, and images of any size.

load helpers

teachers=$root/pipelines/teachers
python="exec /usr/bin/python3 -B"

setup_file() {
    make_once
    kd-synth -q -n 60 --seed 3 -o small.h5 >/dev/null
}

setup() {
    enter_copy
    cat >linear.py <<'PY'
import numpy as np
W = np.random.default_rng(1).normal(size=(1024 * 3, 36)) / 30
def logits(x):
    return (x.reshape(len(x), -1) - 0.5) @ W[:x[0].size]
def probs(x):
    e = np.exp(logits(x))
    return e / e.sum(axis=1, keepdims=True)
PY
}

needs() {
    /usr/bin/python3 -c "import ${1//,/, }" 2>/dev/null ||
        skip "/usr/bin/python3 has no $1: install python3-${1##*,}"
}

# dump_exec COMMAND OPTION...
dump_exec() {
    dump --teacher "exec:$1" "${@:2}"
}

# rows_are CACHE TOLERANCE EXPRESSION: log-softmax of the rows at temperature T is that of
# the expression's value over T; x are the samples of small.h5, from 0 to 1.
rows_are() {
    /usr/bin/python3 -B - "$@" <<'PY'
import glob, h5py, numpy as np, sys
sys.path.insert(0, ".")
import linear
x = h5py.File("small.h5")["x"][:].astype("f4") / 255
def soft(z):
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))
got = []
for path in sorted(glob.glob(sys.argv[1] + "/shard-*.h5")):
    with h5py.File(path) as f:
        got.append(f["logits"][:].astype("f8") - f["log_z"][:][:, None])
        t = float(f.attrs["temperature"])
off = np.abs(np.concatenate(got) - soft(eval(sys.argv[3]).astype("f8") / t)).max()
assert off <= float(sys.argv[2]), off
PY
}

small=hdf5:small.h5:/x,/y

@test "a function of NumPy arrays; the bytes do not depend on the number of children" {
    needs numpy,h5py
    local numpy="$python $teachers/teacher_numpy.py"
    expect 0 dump_exec "$numpy linear:logits" --data "$small" --dtype f32 -o z
    stderr_is
    rows_are z 1e-5 'linear.logits(x)'
    expect 0 dump_exec "$numpy linear:logits --batch 7" --data "$small" --shard-samples 20 \
        --dtype f32 --jobs 3 -o many
    rows_are many 1e-5 'linear.logits(x)'
    expect 0 dump_exec "$numpy linear:logits --batch 7" --data "$small" --shard-samples 20 \
        --dtype f32 -o one
    same_files one many shard-000000.h5 shard-000001.h5 shard-000002.h5 cache.json
    expect 0 dump_exec "$numpy linear:probs --values probs" --data "$small" --dtype f32 -o p
    rows_are p 1e-5 'linear.logits(x)'
}

@test "samples come as a teacher wants them, views drawn already" {
    needs numpy,h5py
    cat >keep.py <<'PY'
import json, numpy as np, sys
sys.path.insert(0, sys.argv[1])
import kdteacher
kdteacher.greeting()
kept = []
def answer(batch):
    kept.append(batch)
    return np.zeros((len(batch), 36))
kdteacher.serve(answer, num_classes=36, values="logits", input=json.loads(sys.argv[3]))
np.save(sys.argv[2], np.concatenate(kept))
PY
    local keep="$python keep.py $teachers"
    expect 0 dump_exec "$keep a.npy '{\"dtype\":\"uint8\"}'" --data "$small" \
        --augment crop2,flip --views 3 --clean -o a-cache
    expect 0 dump_exec "$keep b.npy '{\"layout\":\"nhwc\",\"mean\":[0.5],\"deviation\":[0.25]}'" \
        --data "$small" --augment crop2,flip --views 3 --clean -o b-cache
    /usr/bin/python3 - <<'PY'
import h5py, numpy as np
x = h5py.File("small.h5")["x"][:]
a, b = np.load("a.npy"), np.load("b.npy")
assert a.dtype == np.uint8 and a.shape == (240,) + x.shape[1:], a.shape
assert (a[::4] == x).all() and not (a[1::4] == x).all()
assert b.dtype == np.float32
due = (a.transpose(0, 2, 3, 1).astype("f8") / 255 - 0.5) / 0.25
assert np.abs(b - due).max() < 1e-6
PY
}

# Images of several sizes in photos, of classes a and b.
draw_photos() {
    /usr/bin/python3 - <<'PY'
import os, numpy as np
from PIL import Image
r = np.random.default_rng(0)
for c in "ab":
    os.makedirs("photos/" + c)
    for i, (w, h) in enumerate([(50, 37), (30, 40), (22, 22), (64, 26), (23, 51)]):
        y, x = np.mgrid[0:h, 0:w]
        p = 128 + 90 * np.sin(x / 5 + i)[..., None] * np.cos(y[..., None] / (3 + np.arange(3)))
        p = (p + r.normal(0, 9, (h, w, 3))).clip(0, 255).astype("u1")
        Image.fromarray(p).save(f"photos/{c}/{i}." + ("jpg" if i % 2 else "png"))
PY
}

@test "images of any size are resized as Pillow does it, bit by bit" {
    needs numpy,PIL
    draw_photos
    cat >check.py <<'PY'
import glob, numpy as np, sys
sys.path.insert(0, sys.argv[1])
import kdteacher
from PIL import Image
files = sorted(glob.glob("photos/*/*"))
def due(path):
    image = Image.open(path).convert("RGB")
    w, h = image.size
    short = min(w, h)
    image = image.resize((24 * w // short, 24 * h // short), Image.BILINEAR)
    w, h = image.size
    left, top = round((w - 20) / 2), round((h - 19) / 2)
    return np.asarray(image)[top:top + 19, left:left + 20]
print(kdteacher.greeting()["samples"]["shape"], file=sys.stderr)
seen = 0
def answer(batch):
    global seen
    for image in batch:
        assert (image == due(files[seen])).all(), files[seen]
        seen += 1
    return np.eye(2)[[0] * len(batch)]
wanted = {} if sys.argv[2] == "any" else dict(size=[19, 20], resize=24)
kdteacher.serve(answer, num_classes=2, values="logits", name="check", digest="1",
                input=dict(dtype="uint8", layout="nhwc", **wanted))
assert seen == len(files)
PY
    local check="$python check.py $teachers"
    expect 0 dump_exec "$check any" --data folder:photos,resize24,crop19x20 -o named
    stderr_is "kd-dump: child: [3, 19, 20]"
    expect 0 kd-dump --teacher "exec:$check wants" --data folder:photos -o wanted
    grep -qF "images of different sizes: taken as folder:photos,resize24,crop19x20" "$stderr"
    grep -qF "child: [3, None, None]" "$stderr"
    # A student of that cache gives the same name, and sees the same pixels.
    expect 0 kd-train -q --network "$net" --data folder:photos,resize24,crop19x20 \
        --labels wanted --temperature 4 --epochs 1 --batch 5 -o student
    fails_like 65 "images of different sizes" folder:DIR,resize256,crop224 -- \
        dump --teacher "exec:$check any 2>/dev/null" --data folder:photos -o x
    fails_like 65 photos/a/1.jpg "30 x 40" resize256,crop224 -- \
        train --batch 5 --data folder:photos -o x
}

@test "a teacher of another size gets resized views" {
    needs numpy,PIL,h5py
    cat >grow.py <<'PY'
import numpy as np, sys
sys.path.insert(0, sys.argv[1])
import kdteacher
kdteacher.greeting()
kdteacher.serve(lambda b: b.reshape(len(b), -1)[:, ::50][:, :36].astype("f4") / 16, num_classes=36,
                values="logits", input=dict(dtype="uint8", size=[56, 40], resize=[60, 60]))
PY
    expect 0 dump_exec "$python grow.py $teachers" --data "$small" --dtype f32 -o big
    cat >>linear.py <<'PY'
def grown(x):
    from PIL import Image
    rows = []
    for image in np.rint(x * 255).astype("u1"):
        planes = [np.asarray(Image.fromarray(p).resize((60, 60), Image.BILINEAR))[2:58, 10:50]
                  for p in image]
        rows.append(np.stack(planes).ravel()[::50][:36] / 16)
    return np.array(rows)
PY
    rows_are big 1e-5 'linear.grown(x)'
}

@test "PyTorch: a module with its weights, and TorchScript" {
    needs torch,numpy,h5py
    cat >net.py <<'PY'
import h5py, torch
SIZE = h5py.File("small.h5")["x"][0].size
def make():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(SIZE, 36), torch.nn.Dropout())
PY
    /usr/bin/python3 -B - <<'PY'
import h5py, numpy as np, torch, net
x = torch.from_numpy(h5py.File("small.h5")["x"][:].astype("f4") / 255)
torch.manual_seed(1)
model = net.make()
z = model.eval()(x)
torch.save({"state_dict": model.state_dict()}, "net.pt")
torch.jit.save(torch.jit.trace(model, x[:1]), "script.pt")
np.save("due.npy", z.detach().numpy())
PY
    local torch="$python $teachers/teacher_torch.py"
    expect 0 dump_exec "$torch net:make --weights net.pt --batch 16" --data "$small" \
        --dtype f32 -o module
    rows_are module 1e-5 'np.load("due.npy")'
    expect 0 dump_exec "$torch script.pt" --data "$small" --dtype f32 -o script
    rows_are script 1e-5 'np.load("due.npy")'
    # Other code is another teacher. This one ends in probabilities.
    cat >>net.py <<'PY'
def soft():
    return torch.nn.Sequential(make(), torch.nn.Softmax(1))
PY
    fails_like 65 module/shard-000000.h5 "teacher_digest" -- \
        dump --teacher "exec:$torch net:make --weights net.pt --batch 16" --data "$small" \
        --dtype f32 -o module
    /usr/bin/python3 -B -c 'import torch
torch.save({"0." + k: v for k, v in torch.load("net.pt")["state_dict"].items()}, "soft.pt")'
    expect 0 dump_exec "$torch net:soft --weights soft.pt --values probs" --data "$small" \
        --dtype f32 -o soft
    rows_are soft 1e-5 'np.load("due.npy")'
}

@test "PyTorch: a network of torchvision on images" {
    needs torch,torchvision,PIL,numpy
    draw_photos
    /usr/bin/python3 -B - <<'PY'
import glob, numpy as np, torch, torchvision
from PIL import Image
from torchvision import transforms
torch.manual_seed(1)
model = torchvision.models.squeezenet1_1(num_classes=36).eval()
torch.save(model.state_dict(), "net.pt")
steps = transforms.Compose([
    transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
    transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
x = torch.stack([steps(Image.open(p).convert("RGB")) for p in sorted(glob.glob("photos/*/*"))])
np.save("due.npy", model(x).detach().numpy())
PY
    expect 0 dump_exec "$python $teachers/teacher_torch.py squeezenet1_1 --weights net.pt" \
        --data folder:photos,unlabeled --dtype f32 -o vision
    rows_are vision 1e-5 'np.load("due.npy")'
}

@test "scikit-learn: predict_proba, and decision_function" {
    needs sklearn,numpy,h5py
    /usr/bin/python3 -B -W ignore - <<'PY'
import h5py, joblib, numpy as np, pickle
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
with h5py.File("train.h5") as f:
    x, y = f["x"][:].reshape(len(f["x"]), -1), f["y"][:]
assert len(set(y)) == 36
joblib.dump(LogisticRegression(max_iter=20).fit(x / 255, y), "proba.joblib")
pickle.dump(LinearSVC(max_iter=20).fit(x, y), open("margin.pkl", "wb"))
PY
    local sklearn="$python -W ignore $teachers/teacher_sklearn.py"
    echo "import joblib" >>linear.py
    expect 0 dump_exec "$sklearn proba.joblib --dtype float32" --data "$small" --dtype f32 -o proba
    rows_are proba 1e-4 'linear.joblib.load("proba.joblib").predict_log_proba(x.reshape(60, -1))'
    expect 0 dump_exec "$sklearn margin.pkl" --data "$small" --dtype f32 -o margin
    rows_are margin 1e-3 'linear.joblib.load("margin.pkl").decision_function(x.reshape(60, -1) * 255)'
}

# The adapter with its packages, in the build directory: installed once.
install_onnx() {
    command -v npm >/dev/null || skip "no Node here: install nodejs and npm"
    onnx=$(cd "$root" && cd "${BUILD:-build}" && pwd)/teachers
    mkdir -p "$onnx"
    cp "$teachers"/{teacher_onnx.mjs,package.json,package-lock.json} "$onnx"
    [ -e "$onnx/node_modules/onnxruntime-node" ] ||
        (cd "$onnx" && timeout 100 npm ci --ignore-scripts >npm.log 2>&1) ||
        skip "npm ci cannot install onnxruntime-node: $(tail -n 1 "$onnx/npm.log")"
}

@test "ONNX on ONNX Runtime, by Node" {
    needs numpy,h5py,PIL
    install_onnx
    # linear.logits as a model: Sub, Flatten, MatMul. Protocol buffers, by hand.
    /usr/bin/python3 -B - <<'PY'
import linear, numpy as np
def number(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])
def field(key, value):
    if isinstance(value, int):
        return number(key << 3) + number(value)
    value = value.encode() if isinstance(value, str) else value
    return number(key << 3 | 2) + number(len(value)) + value
def node(kind, inputs, output):
    return field(1, b"".join(field(1, i) for i in inputs) + field(2, output) + field(4, kind))
def tensor(name, a):
    return field(5, b"".join(field(1, n) for n in a.shape) + field(2, 1) + field(8, name)
                 + field(9, a.astype("<f4").tobytes()))
def value(key, name, *shape):
    dims = b"".join(field(1, field(1, n) if isinstance(n, int) else field(2, n)) for n in shape)
    return field(key, field(1, name) + field(2, field(1, field(1, 1) + field(2, dims))))
import h5py
shape = h5py.File("small.h5")["x"].shape[1:]
size = int(np.prod(shape))
graph = (node("Sub", ["x", "half"], "a") + node("Flatten", ["a"], "b")
         + node("MatMul", ["b", "w"], "z") + field(2, "linear")
         + tensor("half", np.full(1, 0.5)) + tensor("w", linear.W[:size])
         + value(11, "x", "n", *shape) + value(12, "z", "n", 36))
open("linear.onnx", "wb").write(field(1, 7) + field(7, graph) + field(8, field(1, "") + field(2, 13)))
PY
    expect 0 dump_exec "exec node $onnx/teacher_onnx.mjs linear.onnx --threads 1" \
        --data "$small" --dtype f32 -o z
    rows_are z 1e-4 'linear.logits(x)'
    expect 0 dump_exec "exec node $onnx/teacher_onnx.mjs linear.onnx --fixed-batch 16" \
        --data "$small" --dtype f32 --jobs 2 -o fixed
    rows_are fixed 1e-4 'linear.logits(x)'
    expect 74 dump_exec "exec node $onnx/teacher_onnx.mjs linear.onnx --bach 3" --data "$small" -o x
    grep -qF "exit code 64; its last words: '--bach is not known'" "$stderr"
    draw_photos
    expect 74 dump_exec "exec node $onnx/teacher_onnx.mjs linear.onnx" --data folder:photos -o x
    grep -qF "say which one is wanted, by --size H W" "$stderr"
}

@test "native, exec and imported caches are merged" {
    needs numpy,h5py
    expect 0 dump_exec "$python $teachers/teacher_numpy.py linear:logits" -o z
    /usr/bin/python3 -B - <<'PY'
import h5py, linear, numpy as np
np.save("z.npy", -linear.logits(h5py.File("train.h5")["x"][:].astype("f4") / 255))
PY
    kd-import -q --from z.npy --values logits --temperature 4 --data "$data" --shard-samples 128 -o w >/dev/null
    expect 0 kd-merge -q --policy mean-prob -o all cache-a z w
    expect 0 kd-eval --json all
    # Names of classes are a class map, which numbers are not.
    cat >named.py <<'PY'
import numpy as np, sys
sys.path.insert(0, sys.argv[1])
import kdteacher
kdteacher.greeting()
kdteacher.serve(lambda b: np.zeros((len(b), 36)), num_classes=36, values="logits",
                class_names=[f"glyph {i}" for i in range(36)])
PY
    fails_like 65 "its classes" "not in the same order" -- \
        dump --teacher "exec:$python named.py $teachers" -o x
}

@test "a teacher of other classes: refused before it runs, or cached for a class map" {
    needs numpy,h5py
    cat >few.py <<'PY'
import numpy as np, sys
sys.path.insert(0, sys.argv[1])
import kdteacher
kdteacher.greeting()
def answer(batch):
    print("a batch", file=sys.stderr)
    return np.tile([2.0, 1.0, 0.0], (len(batch), 1))
kdteacher.serve(answer, num_classes=3, values="logits", name="few", digest="1")
PY
    /usr/bin/python3 - <<'PY'
import h5py, numpy as np
with h5py.File("train.h5") as f:
    np.save("x.npy", f["x"][:]), np.save("y3.npy", f["y"][:] % 3), np.save("y36.npy", f["y"][:])
np.save("z3.npy", np.zeros((300, 3), "f4"))
PY
    local numbered=(--data "npy:x.npy,y36.npy") few="exec:$python few.py $teachers"
    fails_like 65 "few: has 3 classes" "has 36" "labels from 3 on" --other-classes -- \
        dump --teacher "$few" "${numbered[@]}" -o x
    train --data npy:x.npy,y3.npy -o three
    fails_like 65 "three: has 3 classes" "labels from 3 on" --other-classes -- \
        dump --teacher model:three/model.h5 "${numbered[@]}" -o x
    fails_like 65 "z3.npy: has 3 classes" "labels from 3 on" --other-classes -- \
        kd-import -q --from z3.npy --values logits -T 4 "${numbered[@]}" -o x
    fails_like 64 "has those of" "names of its classes" -- \
        dump --teacher model:a/model.h5 --other-classes -o x
    [ ! -e x ]
    # Such rows have no labels; merged with those of a teacher that knows all classes they
    # get its labels, and a student learns from them.
    expect 0 dump --teacher "$few" "${numbered[@]}" --other-classes -o few
    expect 0 dump --teacher model:three/model.h5 "${numbered[@]}" --other-classes -o native
    expect 0 kd-plan --json --seconds 0.05 "${numbered[@]}" --other-classes model:three/model.h5
    [ "$(json "$stdout" "j['exact']")" = True ]
    fails_like 65 "three: has 3 classes" "labels from 3 on" -- kd-plan --seconds 0.05 \
        "${numbered[@]}" model:three/model.h5
    expect 0 kd-import -q --from z3.npy --values logits -T 4 --shard-samples 128 \
        "${numbered[@]}" --other-classes -o imported
    train "${numbered[@]}" -o all
    dump --teacher model:all/model.h5 "${numbered[@]}" -o whole
    printf '%s\n' teacher,class,to 2,0,5 2,1,6 2,2,7 3,0,5 3,1,6 3,2,7 4,0,5 4,1,6 4,2,7 >map.csv
    expect 0 kd-merge -q --class-map map.csv -o both whole few native imported
    /usr/bin/python3 - <<'PY'
import glob, h5py, numpy as np
def labels(cache):
    return np.concatenate([h5py.File(p)["label"][:] for p in sorted(glob.glob(cache + "/*.h5"))])
for cache in "few", "native", "imported":
    assert len(labels(cache)) == 300 and (labels(cache) == -1).all(), cache
assert (labels("both") == np.load("y36.npy")).all()
PY
    expect 0 train "${numbered[@]}" --labels both -o student
}

@test "what a child says on stderr is shown, and quoted when it fails" {
    expect 74 dump_exec "echo one >&2; echo two >&2; exit 3" -o x
    stderr_is "kd-dump: child: one" "kd-dump: child: two" \
        "kd-dump: exec:echo one >&2; echo two >&2; exit 3: child died before it had answered the greeting: exit code 3; its last words: 'one / two'"
    # What kd-dump sets for itself is not for its child; tests/run sets it for all.
    without_policy() { (unset OMP_WAIT_POLICY && dump_exec "$@"); }
    expect 74 without_policy "echo \$OMP_WAIT_POLICY \$KD_SHARES_CORES >&2; exit 3" -o x
    ! grep -q passive "$stderr" || complain "a child does not have the user's environment"
    expect 74 dump_exec "exec sleep 9" --teacher-timeout 0.2 -o x
    stderr_is "kd-dump: exec:exec sleep 9: child has not answered the greeting within 0.2 s (--teacher-timeout)"
    # Whether it has ended when it is heard or not.
    for end in "exit 0" "exit 5"; do
        fails_like 65 "child wrote 'hello' where one line of JSON is due" -- \
            dump --teacher "exec:read greeting; echo hello; $end" -o x
        fails_like 65 "answered the greeting wrongly: speaks version 2" -- \
            dump --teacher "exec:read greeting; echo '{\"kd_teacher\": 2}'; $end" -o x
    done
    expect 74 dump_exec "read greeting; mkdir first || exec sleep 9; echo hello" --jobs 2 -o x
    grep -q "the greeting answered with 'hello'" "$stderr" || complain "no 'hello'"
    expect 65 dump_exec "echo hello; exec sleep 9" -o x
    stderr_is "kd-dump: exec:echo hello; exec sleep 9: child wrote 'hello' where one line of JSON is due: what is for people belongs on stderr"
    [ ! -e x ]
}

@test "another teacher does not go on with a cache, the same one does" {
    needs numpy,h5py
    local numpy="$python $teachers/teacher_numpy.py"
    expect 0 dump_exec "$numpy linear:logits" -o z
    fails_like 65 z/shard-000000.h5 "not 'linear:probs'" -- \
        dump --teacher "exec:$numpy linear:probs --values probs" -o z
    rm z/shard-000001.h5
    expect 0 dump_exec "$numpy linear:logits" --jobs 2 -o z
    stderr_is
    expect 0 kd-check z
}

@test "the pipeline with PyTorch on both ends" {
    needs torch,numpy,h5py
    expect 0 env KD_BIN="$bin" PYTHON=/usr/bin/python3 "$root/pipelines/pytorch.sh" \
        -o run --samples 200 --epochs 1
    stdout_has "epoch 1 loss"
    expect 0 kd-check run/merged
}
