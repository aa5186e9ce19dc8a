#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# kd-plan foretells what kd-dump then makes.

load helpers

setup_file() { make_once; }
setup() { enter_copy; }

# bytes_of DIRECTORY: of its shards.
bytes_of() {
    cat "$1"/shard-*.h5 | wc -c
}

@test "bytes are those of the dump, to the byte" {
    for codec in "--dtype f16" "--dtype f32" "--encoding top-k -k 3" \
        "--encoding top-k -k 4 --dtype bf16 --also-temperature 1,2"; do
        for views in "--views 1" "--views 3 --augment crop2,flip --clean --seed 7"; do
            # shellcheck disable=SC2086 # options
            expect 0 kd-plan --json --seconds 0.05 --data "$data" --shard-samples 70 \
                $codec $views model:a/model.h5
            cp "$stdout" plan.json
            # shellcheck disable=SC2086 # options
            dump --teacher model:a/model.h5 --shard-samples 70 $codec $views -o planned
            [ "$(json plan.json 'j["bytes"], j["exact"]')" = "($(bytes_of planned), True)" ]
            [ "$(json plan.json 'j["shards"]')" -eq "$(find planned -name '*.h5' | wc -l)" ]
            rm -r planned
        done
    done
}

@test "rows of varying length are planned by what the teacher gives" {
    expect 0 kd-plan --json --seconds 1 --shard-samples 128 --data "$data" \
        --encoding top-p --mass 0.9 -k 8 model:a/model.h5
    cp "$stdout" plan.json
    dump --teacher model:a/model.h5 --encoding top-p --mass 0.9 -k 8 -o planned
    [ "$(json plan.json 'j["exact"]')" = False ]
    [ "$(json plan.json "abs(j['bytes'] - $(bytes_of planned)) < 0.1 * j['bytes']")" = True ]
}

@test "without a teacher, samples and classes will do" {
    expect 0 kd-plan --samples 50000 --classes 1000 --views 10 --encoding top-k -k 10
    grep -q '^rows  *500000: 50000 samples, 10 views each$' "$stdout"
    grep -q '^has paid  *after 10 student epochs: 0.17 of a run of 60$' "$stdout"
    expect 0 kd-plan --json --samples 50000 --classes 100 --epochs 20 --views 5
    [ "$(json "$stdout" 'j["break_even_epochs"], j["break_even_runs"]')" = "(5, 0.25)" ]
    [ "$(json "$stdout" '20 < j["bytes_a_row"] - 200 < 40')" = True ]
}

@test "what is missing is asked for" {
    fails_like 64 'give --samples and --classes' -- kd-plan
    fails_like 64 'give --data DATASET' -- kd-plan model:a/model.h5
    fails_like 64 'leave out --samples' -- kd-plan --data "$data" --samples 3 model:a/model.h5
    fails_like 66 none.h5 -- kd-plan --data "$data" model:none.h5
    fails_like 64 'without an augmentation' -- \
        kd-plan --data "$data" --views 2 model:a/model.h5
}
