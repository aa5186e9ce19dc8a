#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# kd-peers: networks that teach each other, as files that the other programs take.

load helpers

two='[{family: mlp, hidden: [16]}, {family: resnet, depth: 8, width: 4}]'

peers=(kd-peers -q --networks "$two" --data "$data" --epochs 2 --batch 50)

setup_file() {
    mkdir "$BATS_FILE_TMPDIR/made"
    cd "$BATS_FILE_TMPDIR/made" || return 1
    kd-synth -q -n 300 --seed 1 -o train.h5 >/dev/null
    kd-synth -q -n 200 --seed 2 -o test.h5 >/dev/null
    "${peers[@]}" --test hdf5:test.h5:/x,/y --holdout 0.2 -o run >/dev/null
}
setup() { enter_copy; }

# metric RUN EXPRESSION: of the last epoch.
metric() {
    tail -n 1 "$1/metrics.jsonl" >last.json
    json last.json "$2"
}

@test "a run prints the paths of its networks, and again when it is done" {
    expect 0 "${peers[@]}" --test hdf5:test.h5:/x,/y --holdout 0.2 -o run
    stdout_is run/peer1.h5 run/peer2.h5
    stderr_is
    expect 0 "${peers[@]}" -o two --method dml --update simultaneous
    stdout_is two/peer1.h5 two/peer2.h5
    [ "$(ls run)" = "$(printf '%s\n' checkpoint.h5 metrics.jsonl peer1-best.h5 peer1.h5 \
        peer2-best.h5 peer2.h5 recipe.txt run.jsonl)" ]
}

@test "its networks are networks like any other" {
    expect 0 kd-info run/peer2.h5
    stdout_has "{family: resnet, depth: 8, width: 4}"
    expect 0 kd-dump -q --teacher model:run/peer1.h5 --data "$data" -o cache
    expect 0 train --labels cache -o student
    expect 0 kd-eval --json --data hdf5:test.h5:/x,/y run/peer1.h5 run/peer2.h5
    for k in 0 1; do
        a=$(json "$stdout" "round(j['predictors'][$k]['accuracy'], 6)")
        b=$(metric run "round(j['peer$((k + 1))']['test_accuracy'], 6)")
        [ "$a" = "$b" ] || complain "kd-eval says $a, the run $b"
    done
}

@test "each epoch has a line with every network and their ensemble" {
    [ "$(wc -l <run/metrics.jsonl)" -eq 2 ]
    [ "$(metric run "j['epoch']")" = 2 ]
    for key in loss hard_loss soft_loss train_accuracy holdout_accuracy test_nll; do
        [ "$(metric run "'$key' in j['peer1'] and '$key' in j['peer2']")" = True ]
    done
    [ "$(metric run "sorted(j['ensemble'])")" = \
        "['holdout_accuracy', 'holdout_nll', 'test_accuracy', 'test_nll']" ]
}

@test "what it says beforehand changes nothing" {
    expect 0 kd-peers --networks "$two" --data "$data" --epochs 2 --batch 50 \
        --test hdf5:test.h5:/x,/y --holdout 0.2 -o loud
    grep -Eq '^kd-peers: dml, 2 networks: [0-9.]+ MiB, some [0-9.]+ s an epoch' "$stderr" ||
        complain "nothing about memory and time"
    same_files run loud peer1.h5 peer2.h5 peer1-best.h5 checkpoint.h5 metrics.jsonl \
        recipe.txt
}

@test "one network is no networks" {
    expect 0 kd-peers --method hinton --network mlp --teachers run/peer1.h5 --epochs 1 \
        --data "$data" --batch 50 -o one
    grep -q '^kd-peers: hinton, 1 network: ' "$stderr" || complain "one is several"
}

@test "a run that is killed goes on and ends with the same bytes" {
    "${peers[@]}" --epochs 6 -o whole >/dev/null
    "${peers[@]}" --epochs 6 -o broken >/dev/null &
    pid=$!
    for _ in $(seq 500); do
        [ ! -e broken/checkpoint.h5 ] || break
        sleep 0.01
    done
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" || true
    expect 0 "${peers[@]}" --epochs 6 -o broken
    same_files whole broken peer1.h5 peer2.h5 checkpoint.h5 metrics.jsonl recipe.txt
}

@test "an interrupted run says so" {
    "${peers[@]}" --epochs 1000 -o long >/dev/null 2>"$stderr" &
    pid=$!
    for _ in $(seq 500); do
        [ ! -e long/checkpoint.h5 ] || break
        sleep 0.01
    done
    kill -TERM "$pid"
    code=0
    wait "$pid" || code=$?
    [ "$code" -eq 75 ] || complain "exit code $code"
    [ ! -e long/peer1.h5 ]
}

@test "a rehearsal shows members, parts, memory and time, and leaves nothing" {
    expect 0 "${peers[@]}" --dry-run
    stdout_has "dml: deep mutual learning"
    stdout_has "{family: mlp, hidden: [16], batch-norm: true}"
    stdout_has "6 of 50 samples"
    grep -Eq '^peer2 +50 +[0-9]+ +[0-9.]+ MiB$' "$stdout" || complain "no parts"
    grep -Eq '^memory +[0-9.]+ MiB' "$stdout" || complain "no memory"
    grep -Eq '^an epoch +[0-9.]+ s$' "$stdout" || complain "no time"
    [ "$(ls)" = "$(printf '%s\n' run test.h5 train.h5)" ]
}

@test "a rehearsal in JSON has the same, in bytes and seconds" {
    expect 0 "${peers[@]}" --holdout 0.2 --dry-run --json
    [ "$(json "$stdout" 'j["method"], list(j["networks"]), j["samples"], j["held_out"]')" = \
        "('dml', ['peer1', 'peer2'], 240, 60)" ]
    [ "$(json "$stdout" 'j["parts"][0]["name"], j["parts"][0]["batch"]')" = "('peer1', 50)" ]
    [ "$(json "$stdout" 'j["networks"]["peer1"]')" = \
        "{family: mlp, hidden: [16], batch-norm: true}" ]
    [ "$(json "$stdout" 'j["steps"], j["batch"], j["epochs"]')" = "(4, 50, 2)" ]
    [ "$(json "$stdout" 'all(p["parameters"] > 0 and p["bytes"] > 0 for p in j["parts"])')" = \
        True ]
    [ "$(json "$stdout" 'abs(j["all_seconds"] / j["epoch_seconds"] - 2) < 1e-9')" = True ]
    [ "$(json "$stdout" 'j["memory_bytes"] > sum(p["bytes"] for p in j["parts"])')" = True ]
    fails_with 64 "--json is for --dry-run: a run prints paths" "${peers[@]}" --json -o x
    [ ! -e x ]
}

@test "a recipe in YAML is the same run" {
    cat >recipe.yaml <<'END'
method: dml
networks:
  - {family: mlp, hidden: [16]}
  - {family: resnet, depth: 8, width: 4}
data: hdf5:train.h5:/x,/y
test: hdf5:test.h5:/x,/y
holdout: 0.2
epochs: 2
batch: 50
END
    expect 0 kd-peers -q --config recipe.yaml -o yaml
    same_files run yaml peer1.h5 peer2.h5 checkpoint.h5 recipe.txt
}

@test "several of one network" {
    expect 0 kd-peers -q --network "$net" --peers 3 --data "$data" --epochs 1 --batch 50 \
        -o three
    stdout_is three/peer1.h5 three/peer2.h5 three/peer3.h5
    if cmp -s three/peer1.h5 three/peer2.h5; then complain "two are the same"; fi
}

@test "what cannot be is refused, and leaves nothing" {
    fails_with 64 "say where the run shall live: -o DIRECTORY" "${peers[@]}"
    fails_like 64 "which networks" -- kd-peers --data "$data" -o x
    fails_like 78 "at least 2, not 1" -- kd-peers --networks mlp --data "$data" -o x
    fails_like 64 "either --networks" -- "${peers[@]}" --network mlp -o x
    fails_like 64 "--method" "dml" -- "${peers[@]}" --method dmll -o x
    fails_like 64 "batch of 400" -- "${peers[@]}" --batch 400 -o x
    fails_like 64 "labels" -- "${peers[@]}" --labels soft -o x
    fails_like 66 "none.h5" -- "${peers[@]}" --data hdf5:none.h5:/x,/y -o x
    [ ! -e x ]
    fails_like 64 "'method: dml update gauss-seidel sum-peers 0' there" -- \
        "${peers[@]}" --test hdf5:test.h5:/x,/y --holdout 0.2 --sum-peers -o run
}
