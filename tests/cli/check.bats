#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# kd-check: what is wrong, one line each; what is repaired, kd-dump and kd-merge make
# again.

load helpers

setup_file() { make_once; }
setup() { enter_copy; }

# Alters a byte in the middle of the shard's logits: row 64 of 128, if rows are alike.
damage() {
    /usr/bin/python3 - "$1" <<'PYTHON' || skip "no h5py for /usr/bin/python3"
import h5py, sys
with h5py.File(sys.argv[1]) as f:
    logits = f["logits"]
    at = logits.id.get_offset() + logits.id.get_storage_size() // 2
with open(sys.argv[1], "r+b") as f:
    f.seek(at)
    byte = f.read(1)
    f.seek(at)
    f.write(bytes([byte[0] ^ 0x10]))
PYTHON
}

altered() { echo "$1: altered: its digest is not the one in cache.json"; }

@test "a whole cache passes, with the line that shows that rows and labels match" {
    expect 0 kd-check cache-a merged
    stderr_is
    [ "$(wc -l <"$stdout")" -eq 2 ] || complain "not two lines"
    local bytes share
    bytes=$(cat cache-a/shard-*.h5 | wc -c)
    kd-info --json cache-a >info
    share=$(json info '"%.2f" % (100 * j["statistics"]["argmax_is_label"])')
    head -n 1 "$stdout" | grep -qxF "cache-a: all is well: 300 rows in 3 shards, $bytes \
bytes; the most probable class is the label in $share % of 300 rows" ||
        complain "the first line"
    expect 0 kd-check --quick cache-a
    stdout_is "cache-a: all is well: 300 rows in 3 shards, $bytes bytes; neither hashed \
nor read"
}

@test "a shard, and paths on stdin or a pipe, are checked too" {
    expect 0 kd-check --quick cache-a/shard-000001.h5
    stdout_has "cache-a/shard-000001.h5: all is well: 128 of 300 rows in 1 shard, "
    printf '%s\n' cache-a/shard-00000{2,0}.h5 >paths
    expect 0 kd-check - <paths
    stdout_has "-: all is well: 172 of 300 rows in 2 shards, "
    expect 1 kd-check <(cat paths paths)
    [ "$(grep -c 'holds rows that' "$stdout")" -eq 2 ] || complain "the findings"
    fails_like 64 cache-a/shard-000001.h5 directory -- \
        kd-check --repair cache-a/shard-000001.h5
}

@test "what is wrong is 1 with a line each; of several caches all are told" {
    damage cache-a/shard-000000.h5
    expect 1 kd-check cache-a cache-b
    [ "$(head -n 1 "$stdout")" = "$(altered cache-a/shard-000000.h5)" ] ||
        complain "the first line"
    sed -n 2p "$stdout" | grep -q '^cache-a/shard-000000.h5: row 64 (sample 64, view 0): ' ||
        complain "the second line"
    tail -n 1 "$stdout" | grep -q '^cache-b: all is well: ' || complain "the last line"
    [ "$(wc -l <"$stdout")" -eq 3 ] || complain "not three lines"
    stderr_is "kd-check: 1 of 2 caches found wanting"

    head -c 5000 cache-b/shard-000002.h5 >half
    mv half cache-b/shard-000002.h5
    rm cache-b/shard-000001.h5
    : >cache-b/cache.json.part
    expect 1 kd-check --quick cache-b
    local line
    for line in "cache-b/cache.json.part: left behind by a run that was killed" \
        "cache-b/shard-000001.h5: not there, though listed in cache.json" \
        "cache-b/shard-000002.h5: has 5000 bytes, where cache.json says " \
        "cache-b: rows are missing: samples 128 to 299 (172 rows)"; do
        stdout_has "$line"
    done
}

@test "with --json there is an array of one object a cache" {
    damage cache-a/shard-000000.h5
    expect 1 kd-check --json cache-a merged
    json "$stdout" '[c["name"] for c in j]' >got
    lines_are got "['cache-a', 'merged']"
    json "$stdout" 'j[0]["findings"][0]["path"], len(j[0]["findings"])' >got
    lines_are got "('cache-a/shard-000000.h5', 2)"
    json "$stdout" 'j[1]["findings"], j[1]["rows"], j[1]["rows_promised"], j[1]["shards"]' \
        >got
    lines_are got "([], 300, 300, 3)"
    json "$stdout" '0 <= j[1]["argmax_is_label"] <= 1, j[1]["labelled"]' >got
    lines_are got "(True, 300)"
}

@test "what is not there is 66, what is no cache 65" {
    fails_with 66 "none: cannot open: No such file or directory" kd-check none
    mkdir empty
    fails_with 65 "empty: not a cache: it has no cache.json and no shards" kd-check empty
    fails_like 64 "CACHE" -- kd-check
    expect 1 kd-check train.h5
    stdout_has "train.h5: not a shard"
}

@test "a damaged cache, repaired, is made again by its program to the same bytes" {
    local cache
    cp -a cache-a whole-a
    cp -a merged whole-merged
    damage cache-a/shard-000001.h5
    damage merged/shard-000002.h5
    : >merged/shard-000001.h5.part
    expect 1 kd-check --repair cache-a
    stdout_has "cache-a/shard-000001.h5: put aside as cache-a/shard-000001.h5.damaged"
    stdout_has "cache-a: to have what is missing made, run the kd-dump command that made \
it again"
    expect 1 kd-check --repair merged
    stdout_has "merged: to have what is missing made, run the kd-merge command that made \
it again"
    expect 1 kd-check cache-a
    stdout_has "cache-a: unfinished: it has no cache.json"
    fails_like 65 cache-a "unfinished" -- kd-merge -q -o x cache-a cache-b

    local before
    before=$(stat -c %Y.%i cache-a/shard-000000.h5)
    expect 0 dump --teacher model:a/model.h5 -o cache-a
    [ "$before" = "$(stat -c %Y.%i cache-a/shard-000000.h5)" ] || complain "made twice"
    expect 0 kd-merge -q --shard-samples 100 -o merged cache-a cache-b
    for cache in a merged; do
        [ "$cache" = merged ] || cache=cache-$cache
        expect 0 kd-check "$cache"
        rm "$cache"/*.damaged
        diff -r "$cache" "whole-${cache#cache-}"
    done
}

@test "a cache that only lacks its cache.json gets it back" {
    cp cache-a/cache.json saved
    rm cache-a/cache.json
    expect 1 kd-check cache-a
    expect 0 kd-check --repair cache-a
    stdout_has "cache-a/cache.json: written anew"
    cmp saved cache-a/cache.json
    echo '{}' >cache-a/cache.json
    expect 0 kd-check --repair cache-a
    cmp saved cache-a/cache.json
    local before
    before=$(snapshot cache-a)
    expect 0 kd-check --repair cache-a
    [ "$before" = "$(snapshot cache-a)" ] || complain "a whole cache was touched"
}

@test "every encoding passes, and its damage does not" {
    local encoding
    for encoding in "dense --dtype bf16" "top-k --k 3 --also-temperature 1,2" \
        "top-p --k 9 --mass 0.9" "sampled --k 20"; do
        rm -rf sparse
        # shellcheck disable=SC2086 # words
        expect 0 dump --teacher model:a/model.h5 --encoding $encoding -o sparse
        expect 0 kd-check sparse
        damage sparse/shard-000001.h5
        expect 1 kd-check sparse
        stdout_has "sparse/shard-000001.h5: row "
    done
}

@test "an archived cache is checked file by file" {
    expect 0 kd-export -q --layout archive -o packed cache-a
    expect 0 kd-check packed
    stdout_has "packed: all is well: 300 rows in 3 shards, "
    stdout_has "archived: hashed, and not read"
    printf '\x55' | dd of=packed/shard-000001.h5 bs=1 seek=3000 conv=notrunc status=none
    expect 1 kd-check packed
    stdout_has "$(altered packed/shard-000001.h5)"
}
