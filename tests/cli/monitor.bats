#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# The teacher watches the student: kd-train --monitor, kd-eval --monitor and --churn;
# and the networks that a run keeps for those who follow it.

load helpers

setup_file() { make_once; }
setup() { enter_copy; }

@test "a monitored run says how far the student is, and keeps a record" {
    expect 0 train --labels cache-a --monitor report -o watched
    stdout_is watched/model.h5
    for key in agreement fidelity_kl fidelity_tv both_right behind outgrown both_wrong; do
        [ "$(grep -c "\"$key\":" watched/metrics.jsonl)" -eq 2 ] || complain "no $key"
    done
    tail -n 1 watched/metrics.jsonl >last.json
    [ "$(json last.json 'abs(j["both_right"] + j["behind"] + j["outgrown"] +
        j["both_wrong"] - 1) < 1e-12')" = True ]
    grep -qx "monitor: report" watched/recipe.txt
    expect 0 train --labels cache-a -o plain
    [ ! -e plain/monitor.h5 ]
    /usr/bin/python3 - <<'PY'
import h5py
with h5py.File("watched/monitor.h5") as f:
    assert f.attrs["format"] == b"kdcache-monitor", f.attrs["format"]
    assert list(f["id"][:3]) == [0, 1, 2] and len(f["id"]) == 300
    assert all(f["seen"][()] == 2) and all(f["epoch"][()] == 2)
    flags = f["flags"][()]
    assert all((f["student"][()] > 0) & (f["teacher"][()] > 0))
    behind = ((flags & 4) > 0) & ((flags & 2) == 0)
    import json
    assert abs(behind.mean() - json.load(open("last.json"))["behind"]) < 1e-9
PY
}

@test "kd-info says what a record has on the whole" {
    expect 0 train --labels cache-a --monitor report -o watched
    tail -n 1 watched/metrics.jsonl >last.json
    expect 0 kd-info --json watched/monitor.h5
    for key in agreement both_right behind outgrown both_wrong; do
        [ "$(json "$stdout" "j['$key']")" = "$(json last.json "j['$key']")" ] ||
            complain "$key is not that of the last epoch"
    done
    [ "$(json "$stdout" "j['compared'], j['labelled'], j['last_epoch']")" = "(300, 300, 2)" ]
    expect 0 kd-info watched/monitor.h5
    stdout_has "compared           300, in epochs up to 2"
    /usr/bin/python3 -c 'import h5py; h5py.File("watched/monitor.h5", "a")["kl"][3] = 5'
    fails_like 65 "watched/monitor.h5: damaged" -- kd-info watched/monitor.h5
}

@test "an earlier record weighs samples; wrong soft labels are dropped; runs stop" {
    expect 0 train --labels cache-a --monitor report -o one
    expect 0 train --labels cache-a --monitor weigh --monitor-from one/monitor.h5 -o two
    expect 0 train --labels cache-a --monitor weigh -o three
    if cmp -s two/model.h5 three/model.h5; then complain "the record is not heeded"; fi
    grep -qE '^monitor-from: [0-9a-f]{32}$' two/recipe.txt
    expect 0 train --labels cache-a --monitor correct-only -o four
    [ "$(json <(tail -n 1 four/metrics.jsonl) 'j["outgrown"] + j["both_wrong"] > 0')" = True ]
    cat >recipe.yaml <<YAML
network: $net
data: $data
labels: cache-a
epochs: 20
batch: 50
optimizer: {lr: 1e-9}
monitor: {use: stop, patience: 3}
YAML
    expect 0 kd-train --config recipe.yaml -o five
    grep -q "the stage ends" "$stderr" || complain "it does not say why"
    [ "$(wc -l <five/metrics.jsonl)" -lt 20 ]
    expect 0 kd-train -q --config recipe.yaml -o five
    stdout_is five/model.h5
}

@test "what does not fit together is refused before anything is made" {
    fails_like 78 monitor-from "monitor weigh" -- \
        train --labels cache-a --monitor report --monitor-from a/model.h5 -o x
    fails_like 65 "a/model.h5: not a record" -- \
        train --labels cache-a --monitor weigh --monitor-from a/model.h5 -o x
    fails_like 66 none.h5 -- \
        train --labels cache-a --monitor weigh --monitor-from none.h5 -o x
    fails_like 78 "'every N' or a list" -- train --keep-epochs all -o x
    fails_like 78 "no soft labels to compare with" -- train --monitor report -o x
    fails_like 78 "hold some out" -- train --stages '[{}, {start: best}]' -o x
    [ ! -e x ]
}

@test "kd-eval --monitor: figures, classes, and the samples to look at" {
    expect 0 kd-eval -q --monitor --reference cache-a --data "$data" --limit 3 b/model.h5
    head -n 1 "$stdout" |
        grep -qx "b/model.h5, compared with cache-a: 300 rows at temperature 4" ||
        complain "the heading"
    grep -qE '^all +300 +[0-9.]+ +[0-9.]+ +[0-9.]+ +[0-9.]+$' "$stdout" || complain "all"
    [ "$(sed -n '/^behind: id/,$p' "$stdout" | wc -l)" -eq 4 ]
    [ "$(awk '{ print length }' "$stdout" | sort -n | tail -n 1)" -le 80 ] ||
        complain "lines are wide"
    expect 0 kd-eval -q --monitor --json --reference cache-a cache-b
    cp "$stdout" all.json
    expect 0 kd-eval -q --json -T 4 cache-a cache-b
    cp "$stdout" pair.json
    /usr/bin/python3 - <<'PY'
import json
j, pair = json.load(open("all.json")), json.load(open("pair.json"))
assert abs(j["agreement"] - pair["pairs"][0]["agreement"]) < 1e-12
assert abs(j["fidelity_tv"] - pair["pairs"][0]["total_variation"]) < 1e-9
a, b = (p["accuracy"] for p in pair["predictors"])
assert abs(j["both_right"] + j["behind"] - a) < 1e-12
assert abs(j["both_right"] + j["outgrown"] - b) < 1e-12
assert abs(j["both_right"] - pair["exactly_right"][2]) < 1e-12
rows = j["behind_rows"]
assert len(rows) == min(20, round(300 * j["behind"]))
assert [r["loss"] for r in rows] == sorted((r["loss"] for r in rows), reverse=True)
assert sum(c["labelled"] for c in j["classes"]) == 300
PY
    fails_like 64 "--reference CACHE" -- kd-eval --monitor cache-b
    fails_like 64 "one student" -- kd-eval --monitor --reference cache-a cache-b merged
    fails_like 64 "--limit" "--monitor" -- kd-eval --limit 3 cache-b
    fails_like 64 "--churn" "--monitor" -- \
        kd-eval --churn --monitor --reference cache-a cache-b
}

@test "kd-eval --churn: each pair of retrains, and their mean" {
    expect 0 kd-eval -q --churn --data "$data" a/model.h5 b/model.h5 cache-a
    grep -qE '^ 1,  2 +[01]\.[0-9]{4} +0\.[0-9]{4}$' "$stdout" || complain "no pair"
    grep -qE '^mean +0\.[0-9]{4} +0\.[0-9]{4}$' "$stdout" || complain "no mean"
    expect 0 kd-eval -q --churn --json cache-a cache-b merged
    cp "$stdout" churn.json
    expect 0 kd-eval -q --json cache-a cache-b merged
    cp "$stdout" all.json
    /usr/bin/python3 - <<'PY'
import json
c, j = json.load(open("churn.json")), json.load(open("all.json"))
for mine, theirs in zip(c["pairs"], j["pairs"]):
    assert (mine["a"], mine["b"]) == (theirs["a"], theirs["b"])
    assert mine["churn"] == theirs["churn"]
    assert mine["difference"] == theirs["total_variation"]
assert abs(c["churn_mean"] - sum(p["churn"] for p in c["pairs"]) / 3) < 1e-12
PY
    fails_like 64 "two predictors" -- kd-eval --churn cache-a
    fails_like 64 "--bins" "--churn" -- kd-eval --churn --bins 3 cache-a cache-b
}

@test "a run keeps a teacher's footsteps, which can be dumped" {
    expect 0 train --epochs 4 --keep-epochs '[1, 3]' -o teacher
    [ "$(cd teacher && echo epoch-*)" = "epoch-001.h5 epoch-003.h5" ]
    expect 0 dump --teacher model:teacher/epoch-003.h5 -o step
    expect 0 train --holdout 0.2 --stages \
        '[{labels: step, epochs: 2, hard: 0}, {labels: none, start: best}]' -o student
    [ -e student/stage-1.h5 ]
    grep -qx "stage 2 epochs: 2 optimizer reset start best" student/recipe.txt
}
