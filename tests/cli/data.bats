#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# The whole way on real data, where there is some: KD_DATA, or ../shared/data
# beside the project.

load helpers

cifar=$real_data/cifar100-20k/test.bin

setup() {
    [ -r "$cifar" ] || skip "no $cifar: set KD_DATA to where cifar100-20k/test.bin is"
    cd "$BATS_TEST_TMPDIR" || return 1
}

@test "CIFAR-100: train, dump views, merge, distil, evaluate" {
    local slice=cifar100:$cifar@0:512
    local paths=(/shard-000000.h5 /shard-000001.h5)
    for seed in 1 2; do
        expect 0 kd-train -q --network plain2 --data "$slice" --augment crop4,flip \
            --epochs 1 --batch 64 --seed $seed -o "teacher$seed"
        stdout_is "teacher$seed/model.h5"
        expect 0 kd-dump -q --teacher "model:teacher$seed/model.h5" --data "$slice" \
            --augment crop4,flip --views 2 --shard-samples 300 -o "cache$seed"
        stdout_is "${paths[@]/#/cache$seed}"
    done
    expect 0 kd-merge -q --shard-samples 300 -o merged cache1 cache2
    stdout_is "${paths[@]/#/merged}"
    expect 0 kd-train -q --network plain2 --data "$slice" --labels merged \
        --test "cifar100:$cifar@512:1024" --epochs 2 --batch 64 -o student
    stdout_is student/model.h5
    [ "$(wc -l <student/metrics.jsonl)" -eq 2 ]

    expect 0 kd-info --json merged
    [ "$(json "$stdout" 'j["rows"], j["identity"]["num_classes"], j["identity"]["augment"]')" = \
        "(1024, 100, 'crop4,flip')" ]
    [ "$(json "$stdout" 'j["statistics"]["labelled"]')" = 1024 ]
    expect 0 kd-eval --json --data "cifar100:$cifar@512:1024" student/model.h5
    [ "$(json "$stdout" 'j["samples"], j["predictors"][0]["labelled"]')" = "(512, 512)" ]
}

@test "CIFAR-100: a student of the other half is refused" {
    local slice=cifar100:$cifar@0:512
    kd-train -q --network plain2 --data "$slice" --epochs 1 --batch 64 -o teacher
    kd-dump -q --teacher model:teacher/model.h5 --data "$slice" -o cache
    fails_like 65 cache "0 to 511" "512 to 1023" -- \
        kd-train --network plain2 --data "cifar100:$cifar@512:1024" --labels cache -o student
}
