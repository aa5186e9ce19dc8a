#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# Every byte of a small cache altered in turn, and thousands of mutations: found out, or
# proved to be harmless (tests/fault/damage.c).

load ../cli/helpers

damage() {
    expect 0 "${bin%/bin}/tests/fault/damage" "$1"
    grep -h '^# kd-check' "$stdout" "$stderr" >&3
}

@test "no damage to a dense shard passes as good data" { damage a_dense_shard; }
@test "no damage to a top-k shard passes as good data" { damage a_top_k_shard; }
@test "no damage to a top-p shard passes as good data" { damage a_top_p_shard; }
@test "no damage to a sampled shard passes as good data" { damage a_sampled_shard; }
@test "no damage to a cache.json passes" { damage a_list; }
