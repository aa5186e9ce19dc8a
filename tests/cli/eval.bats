#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# kd-eval: caches and networks side by side, as tables and as JSON.

load helpers

setup_file() {
    make_once
    kd-merge -q --policy vote -o vote cache-a cache-b >/dev/null
    dump --teacher model:a/model.h5 --encoding top-k -k 5 --also-temperature 1 -o top >/dev/null
    dump --teacher model:b/model.h5 --data "$data@100:250" -o slice >/dev/null
}
setup() { enter_copy; }

@test "tables: a line a predictor, three matrices, and how many are right" {
    expect 0 kd-eval -q cache-a cache-b merged vote
    stderr_is
    head -n 1 "$stdout" | grep -qx "300 samples of ids 0 to 299, 300 labelled" ||
        complain "the samples"
    for heading in name agreement divergence variation; do
        grep -A 4 "^   $heading " "$stdout" >table
        [ "$(awk 'NR > 1 { print $1, $2 }' table)" = \
            "$(printf '%s\n' "1 cache-a" "2 cache-b" "3 merged" "4 vote")" ] ||
            complain "$heading"
    done
    grep -qE '^   exactly right +0 +1 +2 +3 +4 +oracle$' "$stdout" || complain "right"
    [ "$(awk '{ print length }' "$stdout" | sort -n | tail -n 1)" -le 80 ] ||
        complain "lines are wide"
    expect 0 kd-eval -q cache-a
    [ "$(wc -l <"$stdout")" -eq 4 ]
}

@test "--json says the same of everything, and what it says adds up" {
    expect 0 kd-eval -q --json cache-a cache-b merged vote
    cp "$stdout" all.json
    /usr/bin/python3 - <<'PY'
import json, math
j = json.load(open("all.json"))
assert (j["samples"], j["labelled"], j["left_out"]) == (300, 300, 0), j
right, by_name = j["exactly_right"], {p["name"]: p for p in j["predictors"]}
assert len(right) == 5 and abs(sum(right) - 1) < 1e-12, right
assert abs(sum(m * r for m, r in enumerate(right)) -
           sum(p["accuracy"] for p in j["predictors"])) < 1e-12
assert abs(j["oracle_accuracy"] - (1 - right[0])) < 1e-12
assert j["oracle_accuracy"] >= max(p["accuracy"] for p in j["predictors"])
assert len(j["pairs"]) == 6
for p in j["pairs"]:
    assert 0 < p["js_divergence"] <= math.log(2) + 1e-12, p
    assert p["js_divergence"] <= math.log(2) * p["total_variation"] + 1e-9, p
for p in j["predictors"]:
    bins = [b for b in p["reliability"] if b["samples"]]
    ece = sum(b["samples"] * abs(b["accuracy"] - b["confidence"]) for b in bins) / 300
    assert len(p["reliability"]) == 15 and abs(ece - p["ece"]) < 1e-9, p
    assert p["kept_mass"] == 1
vote = by_name["vote"]
assert vote["nll"] is None and vote["entropy"] == 0, vote
assert abs(vote["impossible"] / 300 - (1 - vote["accuracy"])) < 1e-9, vote
PY
}

@test "--bins and --reliability" {
    expect 0 kd-eval -q --bins 4 --reliability cache-a merged
    [ "$(grep -c '^reliability of ' "$stdout")" -eq 2 ]
    [ "$(sed -n '/^reliability of  2 merged$/,$p' "$stdout" | wc -l)" -eq 6 ]
    grep -qE '^ +0\.7500 +1\.0000 ' "$stdout" || complain "no last bin"
    expect 0 kd-eval -q --bins 1 --json merged
    [ "$(json "$stdout" 'len(j["predictors"][0]["reliability"])')" = 1 ]
    [ "$(json "$stdout" '(lambda p: abs(p["ece"] - abs(p["accuracy"] - p["confidence"])) < 1e-12)(
        j["predictors"][0])')" = True ]
    fails_like 64 --bins -- kd-eval --bins 0 merged
    fails_like 64 --bins -- kd-eval --bins 1001 merged
    fails_like 64 --bins --reference -- kd-eval --bins 10 --reference cache-a merged
    fails_like 64 --reliability --reference -- \
        kd-eval --reliability --reference cache-a merged
}

@test "networks and caches are measured together; the slice that all have counts" {
    expect 0 kd-eval -q --json --data "$data" b/model.h5 slice cache-a
    [ "$(json "$stdout" 'j["samples"], j["first_id"], j["ids"]')" = "(150, 100, 150)" ]
    [ "$(json "$stdout" 'j["pairs"][0]["agreement"] > 0.98')" = True ]
    expect 0 kd-eval -q cache-a - < <(ls cache-b/shard-00000{0,2}.h5)
    head -n 1 "$stdout" | grep -qx \
        "172 samples of ids 0 to 299, 172 labelled; 128 left out that not all have" ||
        complain "the samples"
    fails_like 65 "no sample in common" -- kd-eval --data "$data@0:100" slice
}

@test "sparse caches are spread, and say what they have kept" {
    expect 0 kd-eval -q cache-a top
    head -n 1 "$stdout" | grep -q "; mass that is not kept is spread evenly$" ||
        complain "the rule"
    grep -q ' entropy     kept$' "$stdout" || complain "no column"
    expect 0 kd-eval -q --json top
    kept=$(json "$stdout" 'j["predictors"][0]["kept_mass"]')
    expect 0 kd-info --json top --statistics
    [ "$(json "$stdout" "abs(j['statistics']['kept_mass'] - $kept) < 1e-9")" = True ]
    expect 0 kd-eval -q --json -T 1 top a/model.h5 --data "$data"
    [ "$(json "$stdout" 'j["pairs"][0]["agreement"] > 0.98')" = True ]
    fails_like 65 top "--also-temperature 2" -- kd-eval -T 2 top
}

@test "the bytes are the same with any number of threads" {
    expect 0 kd-eval -q --json --threads 1 cache-a top merged
    cp "$stdout" one
    expect 0 kd-eval -q --json --threads 3 cache-a top merged
    cmp one "$stdout"
}
