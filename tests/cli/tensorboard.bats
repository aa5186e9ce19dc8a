#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# What a run leaves for TensorBoard, read by a parser that knows nothing of ours; and a
# rehearsal as JSON.

load helpers

setup_file() {
    make_once
}
setup() { enter_copy; }

# scalars FILE: "STEP TAG VALUE", one a line; fails on a wrong checksum.
scalars() {
    /usr/bin/python3 "$root/tests/cli/tensorboard.py" "$1"
}

# expected RUN: the same of its metrics.jsonl.
expected() {
    /usr/bin/python3 - "$1/metrics.jsonl" <<'EOF'
import json, struct, sys
for line in open(sys.argv[1], encoding="utf-8"):
    values = json.loads(line)
    for tag, value in values.items():
        if tag != "epoch":
            value = struct.unpack("<f", struct.pack("<f", value))[0]
            print(values["epoch"], tag, repr(value))
EOF
}

events=events.out.tfevents.kd

@test "a run leaves its metrics as scalars" {
    expect 0 train --test "$data" --holdout 0.1 -o run
    scalars "run/$events" >got
    expected run >want
    [ "$(wc -l <got)" -ge 12 ]
    cmp got want || complain "the scalars are not the metrics"
    expect 0 train --test "$data" --holdout 0.1 -o again
    cmp "run/$events" "again/$events"
}

@test "a run that goes on has each epoch once" {
    expect 0 train --epochs 3 -o whole
    expect 0 train --epochs 3 -o broken
    # As if it had been killed behind the first epoch's checkpoint, in the middle of
    # writing the second's events.
    head -c 100 "whole/$events" >>"broken/$events"
    rm broken/model.h5
    expect 0 train --epochs 3 -o broken
    cmp "whole/$events" "broken/$events" || complain "events are there twice"
}

@test "a run may leave no scalars" {
    expect 0 train --no-tensorboard -o run
    [ ! -e "run/$events" ]
    expect 0 train -o with
    cmp run/model.h5 with/model.h5
}

@test "a rehearsal as JSON has what its table has" {
    expect 0 train --dry-run --json --holdout 0.1
    cp "$stdout" facts.json
    [ "$(json facts.json 'j["samples"], j["held_out"], j["steps"], j["batch"]')" = \
        "(270, 30, 5, 50)" ]
    [ "$(json facts.json 'sum(l["parameters"] for l in j["layers"]) - j["parameters"]')" = 0 ]
    [ "$(json facts.json 'j["layers"][0]["layer"], j["layers"][0]["output"]')" = \
        "('dense', [16, 1, 1])" ]
    [ "$(json facts.json 'j["epoch_seconds"] > 0 and j["samples_per_second"] > 0')" = True ]
    fails_like 64 "--json is for --dry-run" -- train --json -o x
    [ ! -e x ]
}
