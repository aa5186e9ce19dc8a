/* SPDX-License-Identifier: MIT */
/* Checking caches: what is wrong is named, what is whole passes, and what is repaired
 * can be gone on with. (Damage byte by byte: tests/fault/damage.c.) */
#include "cache_fixture.h"

#include "kd/cache_check.h"
#include "kd/json.h"

#include <fcntl.h>
#include <fnmatch.h>
#include <sys/wait.h>

static const struct kd_check_options thorough = {0};
static const struct kd_check_options quick = {.quick = true};
static const struct kd_check_options repair = {.repair = true};

/* 50 samples in 2 views: shards of the samples 0 to 19, 20 to 39 and 40 to 49. */
static struct kd_identity fifty(void)
{
    return fixture_identity(5, 50, 2, KD_F16);
}

static const char *new_cache(const char *name)
{
    const struct kd_identity of = fifty();

    fixture_cache(fixture_path(name), &of, 1, 20);
    return fixture_path(name);
}

/* "a/b/NAME" for the last of these names. */
static const char *inside(const char *directory, const char *name)
{
    char path[4096];

    snprintf(path, sizeof path, "%s/%s", strrchr(directory, '/') + 1, name);
    return fixture_path(path);
}

/* Checks, and insists on these findings, in this order: patterns of the beginning of
 * "NAME: WHAT", where NAME is the last part of a path. NULL ends them. */
static void finds(const char *where, const struct kd_check_options *options, ...)
{
    struct kd_check_report report;
    enum kd_status status = kd_cache_check(where, options, &report);
    const char *due = NULL;
    size_t n = 0;
    va_list arguments;

    va_start(arguments, options);
    while ((due = va_arg(arguments, const char *)) != NULL) {
        char line[8192] = "nothing", pattern[8192];

        if (n < report.findings.count)
            snprintf(line, sizeof line, "%s: %s",
                     kd_path_base(report.findings.all[n].path),
                     report.findings.all[n].what);
        snprintf(pattern, sizeof pattern, "%s*", due);
        if (fnmatch(pattern, line, 0) != 0)
            fail_msg("finding %zu: '%s' where '%s' is due (%s)", n, line, due,
                     kd_error());
        n++;
    }
    va_end(arguments);
    if (report.findings.count > n)
        fail_msg("found as well: %s: %s", report.findings.all[n].path,
                 report.findings.all[n].what);
    if (!options->repair)
        assert_int_equal(status, n > 0 ? KD_WANTING : KD_OK);
    kd_check_report_clear(&report);
}

static void replace_bytes(const char *path, long at, const char *bytes, size_t size)
{
    FILE *file = fopen(path, "r+");

    assert_non_null(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* Where in the file the shard's row_max column lies: found by its bytes. */
static long find_bytes(const char *path, const void *bytes, size_t size)
{
    size_t length = 0;
    char *all = fixture_bytes(path, &length);
    long at = -1;

    for (size_t i = 0; i + size <= length && at < 0; i++)
        if (memcmp(all + i, bytes, size) == 0)
            at = (long)i;
    free(all);
    assert_true(at >= 0);
    return at;
}

/* Alters the row_max of a row; its check no longer holds. */
static void damage_row(const char *path, uint64_t row)
{
    struct kd_shard *shard = NULL;
    float max[2];

    assert_int_equal(kd_shard_open(path, &shard), KD_OK);
    for (uint64_t i = 0; i < 2; i++)
        max[i] = kd_shard_row_max(shard, row + i);
    kd_shard_close(shard);
    replace_bytes(path, find_bytes(path, max, sizeof max), "\x01", 1);
}

static void write_text(const char *path, const char *text)
{
    assert_int_equal(kd_file_write(path, text, strlen(text)), KD_OK);
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* -- whole ones ------------------------------------------------------------- */

static void a_whole_cache_passes_with_its_figures(void **state)
{
    const char *where = new_cache("whole");
    struct kd_check_report report;
    uint64_t agreeing = 0, bytes = 0;
    float row[5];
    struct stat facts;

    (void)state;
    assert_int_equal(kd_cache_check(where, &thorough, &report), KD_OK);
    for (uint64_t i = 0; i < 100; i++) {
        int best = 0;
        fixture_row(1, i / 2, (uint32_t)(i % 2), 5, row);
        for (int c = 1; c < 5; c++)
            best = row[c] > row[best] ? c : best;
        agreeing += best == fixture_label(i / 2, 5);
    }
    for (int i = 0; i < 3; i++) {
        char *path = kd_cache_shard_path(where, (uint64_t)i);
        assert_int_equal(stat(path, &facts), 0);
        bytes += (uint64_t)facts.st_size;
        free(path);
    }
    assert_int_equal(report.findings.count, 0);
    assert_int_equal(report.shards, 3);
    assert_int_equal(report.rows, 100);
    assert_int_equal(report.promised, 100);
    assert_int_equal(report.bytes, bytes);
    assert_int_equal(report.labelled, 100);
    assert_int_equal(report.agreeing, agreeing);
    kd_check_report_clear(&report);
    finds(where, &quick, NULL);
}

static void every_encoding_passes(void **state)
{
    const struct kd_codec codecs[] = {
        {KD_DENSE, KD_F32, 100, 0, ""},    {KD_DENSE, KD_BF16, 100, 0, ""},
        {KD_TOP_K, KD_F16, 10, 0, "1,16"}, {KD_TOP_K, KD_BF16, 99, 0, ""},
        {KD_TOP_P, KD_F16, 50, 0.9, "2"},  {KD_SAMPLED, KD_F16, 40, 0, ""},
        {KD_SAMPLED, KD_F32, 1, 0, "8"}};

    (void)state;
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++) {
        struct kd_identity of = fixture_identity(100, 40, 1, codecs[i].dtype);
        char name[32];

        of.codec = codecs[i];
        snprintf(name, sizeof name, "encoding-%zu", i);
        fixture_cache(fixture_path(name), &of, 1, 25);
        finds(fixture_path(name), &thorough, NULL);
    }
}

static void a_shard_alone_and_shards_by_their_paths_pass(void **state)
{
    const char *where = new_cache("parts");
    char *text = NULL, name[32];
    int ends[2];

    (void)state;
    finds(inside(where, "shard-000001.h5"), &thorough, NULL);
    text =
        kd_format("%s\n%s\n%s\n", inside(where, "shard-000002.h5"),
                  inside(where, "shard-000000.h5"), inside(where, "shard-000002.h5"));
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], text, strlen(text)), (ssize_t)strlen(text));
    close(ends[1]);
    snprintf(name, sizeof name, "/dev/fd/%d", ends[0]);
    finds(name, &thorough, "shard-000002.h5: holds rows that ", NULL);
    close(ends[0]);
    free(text);
}

/* -- damaged ones ----------------------------------------------------------- */

static void altered_bytes_are_found_and_rows_named(void **state)
{
    const char *where = new_cache("altered");
    const char *shard = inside(where, "shard-000001.h5");
    const char wrong[] = "shard-000001.h5: altered: its digest is not the one in "
                         "cache.json";

    (void)state;
    damage_row(shard, 7);
    finds(where, &quick, NULL);
    finds(where, &thorough, wrong,
          "shard-000001.h5: row 7 (sample 23, view 1): damaged", NULL);
    finds(shard, &thorough, "shard-000001.h5: row 7 (sample 23, view 1): damaged",
          NULL);
    for (uint64_t row = 8; row < 21; row++)
        damage_row(shard, row);
    finds(where, &thorough, wrong, "shard-000001.h5: row 7", "shard-000001.h5: row 8",
          "shard-000001.h5: row 9", "shard-000001.h5: row 10",
          "shard-000001.h5: row 11", "shard-000001.h5: row 12",
          "shard-000001.h5: row 13", "shard-000001.h5: row 14",
          "shard-000001.h5: 6 more rows are damaged", NULL);
}

/* A check that holds is of no use if it was made of wrong values. The row is the
 * shard's only one, so that its columns are found by their bytes. */
static void rows_that_are_no_distribution_are_found(void **state)
{
    const struct kd_identity of = fixture_identity(5, 1, 1, KD_F32);
    const char *path = fixture_path("mass.h5");
    struct kd_shard *shard = NULL;
    struct {
        uint64_t id;
        uint32_t view;
        int32_t label;
        float logits[5], row_max, log_z;
    } row = {0};
    const void *const parts[] = {&row};
    const size_t sizes[] = {44};
    uint32_t check = 0;

    (void)state;
    fixture_shard(path, &of, 1, 0, 1);
    assert_int_equal(kd_shard_open(path, &shard), KD_OK);
    assert_int_equal(kd_shard_read(shard, 0, 1, row.logits), KD_OK);
    row.label = kd_shard_label(shard, 0);
    row.row_max = kd_shard_row_max(shard, 0);
    row.log_z = kd_shard_log_z(shard, 0);
    kd_shard_close(shard);

    const long at_check = find_bytes(
        path, (check = kd_hash_check_parts(parts, sizes, 1), &check), sizeof check);
    const long at_log_z = find_bytes(path, &row.log_z, sizeof row.log_z);
    row.log_z += 0.1F;
    check = kd_hash_check_parts(parts, sizes, 1);
    replace_bytes(path, at_log_z, (const char *)&row.log_z, sizeof row.log_z);
    replace_bytes(path, at_check, (const char *)&check, sizeof check);
    finds(path, &thorough,
          "mass.h5: row 0 (sample 0, view 0): its probabilities do not sum to 1", NULL);
}

static void a_truncated_and_a_foreign_shard_are_found(void **state)
{
    const char *where = new_cache("cut");

    (void)state;
    assert_int_equal(truncate(inside(where, "shard-000000.h5"), 5000), 0);
    write_text(inside(where, "shard-000002.h5"), "of another kind");
    for (int i = 0; i < 2; i++)
        finds(where, i == 0 ? &thorough : &quick, "shard-000000.h5: has 5000 bytes",
              "shard-000000.h5: not a readable HDF5 file",
              "shard-000002.h5: has 15 bytes",
              "shard-000002.h5: not a readable HDF5 file",
              "cut: rows are missing: samples 0 to 19 (40 rows)",
              "cut: rows are missing: samples 40 to 49 (20 rows)", NULL);
}

/* A fill value that is marked as lying elsewhere, where HDF5 1.10.8 looks for it in
 * vain. Should another release not crash, it must find the file damaged. */
static void a_shard_that_crashes_hdf5_is_a_finding(void **state)
{
    static const char fill[] = "\x05\x00\x08\x00\x01\x00\x00\x00\x02\x01\x01\x01";
    const char *where = new_cache("crash");
    const char *path = inside(where, "shard-000001.h5");
    struct kd_check_report report;

    (void)state;
    replace_bytes(path, find_bytes(path, fill, sizeof fill - 1) + 4, "\x02", 1);
    assert_int_equal(kd_cache_check(where, &quick, &report), KD_WANTING);
    assert_int_equal(report.findings.count, 2);
    assert_string_equal(report.findings.all[0].path, path);
    if (strstr(report.findings.all[0].what, "crashed") == NULL)
        print_message("this HDF5 does not crash: %s\n", report.findings.all[0].what);
    else
        assert_string_equal(report.findings.all[0].what,
                            "damaged: reading its HDF5 structure crashed (signal 11)");
    assert_string_equal(report.findings.all[1].what,
                        "rows are missing: samples 20 to 39 (40 rows)");
    kd_check_report_clear(&report);
}

static void a_pipe_in_place_of_a_shard_is_not_waited_for(void **state)
{
    const char *where = new_cache("pipe");

    (void)state;
    assert_int_equal(unlink(inside(where, "shard-000001.h5")), 0);
    assert_int_equal(mkfifo(inside(where, "shard-000001.h5"), 0600), 0);
    finds(where, &thorough, "shard-000001.h5: not a regular file",
          "pipe: rows are missing: samples 20 to 39 (40 rows)", NULL);
}

/* -- rows that are missing, or twice ---------------------------------------- */

/* A shard that has only some views of some samples. */
static void sparse_shard(const char *path, const struct kd_identity *of,
                         const uint64_t *ids, const uint32_t *views, size_t count)
{
    struct kd_shard_writer *writer = NULL;

    assert_int_equal(kd_shard_writer_open(path, of, count, "a test", &writer), KD_OK);
    for (size_t i = 0; i < count; i++) {
        const int32_t label = -1;
        float row[5];

        fixture_row(1, ids[i], views[i], 5, row);
        assert_int_equal(
            kd_shard_writer_add(writer, &(struct kd_rows){.count = 1,
                                                          .id = &ids[i],
                                                          .view = &views[i],
                                                          .label = &label,
                                                          .scaled = row}),
            KD_OK);
    }
    assert_int_equal(kd_shard_writer_commit(writer), KD_OK);
}

static void missing_rows_are_told_as_ranges(void **state)
{
    const struct kd_identity of = fixture_identity(5, 10, 3, KD_F16);
    const uint64_t ids[] = {1, 1, 2, 2, 2, 5, 5, 5, 7};
    const uint32_t views[] = {0, 2, 0, 1, 2, 0, 1, 2, 1};
    char *path = kd_cache_shard_path(fixture_path("holes"), 0);

    (void)state;
    assert_int_equal(kd_make_directory(fixture_path("holes")), KD_OK);
    sparse_shard(path, &of, ids, views, 9);
    assert_int_equal(kd_cache_seal(fixture_path("holes"), &path, 1), KD_OK);
    finds(
        fixture_path("holes"), &thorough, "holes: rows are missing: sample 0 (3 rows)",
        "holes: rows are missing: sample 1, view 1 (1 rows)",
        "holes: rows are missing: samples 3 to 4 (6 rows)",
        "holes: rows are missing: sample 6, view 0 to sample 7, view 0 (4 rows)",
        "holes: rows are missing: sample 7, view 2 to sample 9, view 2 (7 rows)", NULL);
    finds(path, &thorough, NULL);
    free(path);
}

static void many_holes_are_summed_up(void **state)
{
    const struct kd_identity of = fixture_identity(5, 60, 1, KD_F16);
    const uint32_t views[30] = {0};
    uint64_t ids[30];
    char *path = kd_cache_shard_path(fixture_path("sieve"), 0);

    (void)state;
    for (size_t i = 0; i < 30; i++)
        ids[i] = 2 * i + 1;
    assert_int_equal(kd_make_directory(fixture_path("sieve")), KD_OK);
    sparse_shard(path, &of, ids, views, 30);
    assert_int_equal(kd_cache_seal(fixture_path("sieve"), &path, 1), KD_OK);
    finds(fixture_path("sieve"), &thorough, "sieve: rows are missing: sample 0 (1",
          "sieve: rows are missing: sample 2 (1", "sieve: rows are missing: sample 4",
          "sieve: rows are missing: sample 6", "sieve: rows are missing: sample 8",
          "sieve: rows are missing: sample 10", "sieve: rows are missing: sample 12",
          "sieve: rows are missing: sample 14",
          "sieve: rows are missing: 22 more, in 22 places", NULL);
    free(path);
}

static void missing_and_stray_shards_are_found(void **state)
{
    const struct kd_identity of = fifty();
    const char *where = new_cache("stray");

    (void)state;
    assert_int_equal(unlink(inside(where, "shard-000001.h5")), 0);
    fixture_shard(inside(where, "shard-000007.h5"), &of, 1, 35, 45);
    finds(where, &thorough, "shard-000001.h5: not there, though listed in cache.json",
          "shard-000007.h5: not listed in cache.json",
          "shard-000007.h5: holds rows that */shard-000002.h5 holds too: samples 40 to "
          "44",
          "stray: rows are missing: samples 20 to 34 (30 rows)", NULL);
}

static void shards_of_another_cache_are_found(void **state)
{
    struct kd_identity of = fifty();
    const char *where = new_cache("strangers");

    (void)state;
    of.temperature = 2;
    fixture_shard(inside(where, "shard-000001.h5"), &of, 1, 20, 40);
    finds(where, &thorough, "shard-000001.h5: altered",
          "shard-000001.h5: of another cache: temperature is 2, not 4",
          "strangers: rows are missing: samples 20 to 39 (40 rows)", NULL);
}

/* -- directories ------------------------------------------------------------ */

static void what_a_killed_run_leaves_is_found(void **state)
{
    const char *where = new_cache("killed");

    (void)state;
    write_text(inside(where, "shard-000003.h5.part"), "half");
    write_text(inside(where, ".lock"), "");
    write_text(inside(where, "notes.txt"), "of the user's own");
    finds(where, &thorough, ".lock: left behind by a run that was killed",
          "shard-000003.h5.part: left behind by a run that was killed", NULL);
    assert_int_equal(unlink(inside(where, "cache.json")), 0);
    finds(where, &thorough, "killed: unfinished: it has no cache.json",
          ".lock: left behind by a run that was killed",
          "shard-000003.h5.part: left behind by a run that was killed", NULL);
}

/* Runs `body` while another process holds the lock of the directory. */
static void while_locked(const char *where, void (*body)(const char *where))
{
    int ready[2], over[2];
    char byte = 0;
    pid_t pid = -1;

    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(over), 0);
    pid = fork();
    if (pid == 0) {
        struct kd_lock lock;
        if (kd_lock_open(&lock, where) != KD_OK || write(ready[1], "", 1) != 1)
            _exit(1);
        close(over[1]);
        _exit(read(over[0], &byte, 1) == 0 ? 0 : 1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    body(where);
    for (int i = 0; i < 2; i++) {
        close(ready[i]);
        close(over[i]);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void check_locked(const char *where)
{
    struct kd_check_report report;

    finds(where, &thorough, "locked: process ", NULL);
    assert_int_equal(kd_cache_check(where, &repair, &report), KD_ECREATE);
    assert_says("is writing there: wait for it, or end it");
    kd_check_report_clear(&report);
}

static void a_cache_that_is_being_written_is_let_alone(void **state)
{
    const char *where = new_cache("locked");

    (void)state;
    write_text(inside(where, "shard-000001.h5.part"), "half");
    while_locked(where, check_locked);
    assert_true(exists(inside(where, "shard-000001.h5.part")));
}

static void what_is_no_cache_is_an_error(void **state)
{
    struct kd_check_report report;

    (void)state;
    assert_int_equal(kd_cache_check(fixture_path("none"), &thorough, &report),
                     KD_ENOINPUT);
    kd_check_report_clear(&report);
    assert_int_equal(kd_make_directory(fixture_path("empty")), KD_OK);
    assert_int_equal(kd_cache_check(fixture_path("empty"), &thorough, &report),
                     KD_EDATA);
    assert_says("not a cache: it has no cache.json and no shards");
    kd_check_report_clear(&report);
    write_text(fixture_path("empty/text"), "");
    assert_int_equal(kd_cache_check(fixture_path("empty/text"), &repair, &report),
                     KD_EUSAGE);
    kd_check_report_clear(&report);
}

/* -- cache.json ------------------------------------------------------------- */

/* Replaces a text in a file by another of its length. */
static void alter_text(const char *path, const char *from, const char *to)
{
    replace_bytes(path, find_bytes(path, from, strlen(from)), to, strlen(to));
}

static void a_cache_json_that_was_altered_is_found(void **state)
{
    const char *where = new_cache("list"), *path = inside(where, "cache.json");

    (void)state;
    alter_text(path, "\"temperature\"", "\"temperaturf\"");
    finds(where, &thorough, "cache.json: altered", NULL);
    alter_text(path, "identity_digest\": \"", "identity_digest\": \"x");
    finds(where, &thorough,
          "cache.json: \"identity_digest\" is not 32 hexadecimal digits", NULL);
    alter_text(path, "identity_digest\": \"x", "identity_digest\": \"0");
    finds(where, &thorough, "cache.json: its identity_digest is none of its shards'",
          NULL);
    write_text(path, "{}");
    finds(where, &thorough, "cache.json: \"format\" is missing", NULL);
}

/* -- repair ----------------------------------------------------------------- */

/* Repairs, and insists on whether the cache is whole then. */
static void repairs(const char *where, enum kd_status due, size_t count)
{
    struct kd_check_report report;
    const enum kd_status status = kd_cache_check(where, &repair, &report);

    assert_int_equal(status, due);
    if (report.repairs.count != count)
        fail_msg("%zu repairs where %zu are due; the last is %s", report.repairs.count,
                 count,
                 report.repairs.count > 0
                     ? report.repairs.all[report.repairs.count - 1].what
                     : "none");
    kd_check_report_clear(&report);
    assert_false(exists(inside(where, ".lock")));
}

static void a_damaged_shard_is_put_aside_and_made_again(void **state)
{
    const struct kd_identity of = fifty();
    const char *whole = new_cache("intact"), *where = new_cache("repaired");
    char *paths[3];

    (void)state;
    damage_row(inside(where, "shard-000001.h5"), 7);
    repairs(where, KD_WANTING, 3); /* list removed, shard put aside, what to do */
    assert_false(exists(inside(where, "cache.json")));
    assert_false(exists(inside(where, "shard-000001.h5")));
    assert_true(exists(inside(where, "shard-000001.h5.damaged")));
    assert_same_file(inside(where, "shard-000002.h5"),
                     inside(whole, "shard-000002.h5"));

    fixture_shard(inside(where, "shard-000001.h5"), &of, 1, 20, 40);
    damage_row(inside(where, "shard-000001.h5"), 7);
    repairs(where, KD_WANTING, 2); /* there is no list now */
    assert_true(exists(inside(where, "shard-000001.h5.damaged-2")));

    fixture_shard(inside(where, "shard-000001.h5"), &of, 1, 20, 40);
    for (size_t i = 0; i < 3; i++)
        paths[i] = kd_cache_shard_path(where, i);
    assert_int_equal(kd_cache_seal(where, paths, 3), KD_OK);
    finds(where, &thorough, NULL);
    for (size_t i = 0; i < 3; i++)
        free(paths[i]);
}

static void a_list_is_written_anew_where_all_rows_are_there(void **state)
{
    const char *whole = new_cache("model"), *where = new_cache("unlisted");
    const char *list = inside(where, "cache.json");

    (void)state;
    assert_int_equal(unlink(list), 0);
    repairs(where, KD_OK, 1);
    assert_same_file(list, inside(whole, "cache.json"));
    finds(where, &thorough, NULL);

    write_text(list, "{");
    repairs(where, KD_OK, 2);
    assert_same_file(list, inside(whole, "cache.json"));

    /* In the order of rows, not of names. */
    assert_int_equal(
        rename(inside(where, "shard-000000.h5"), inside(where, "shard-000009.h5")), 0);
    repairs(where, KD_OK, 2);
    finds(where, &thorough, NULL);
}

static void leftovers_are_removed_and_nothing_else(void **state)
{
    const char *whole = new_cache("tidy"), *where = new_cache("untidy");

    (void)state;
    write_text(inside(where, "cache.json.part"), "half");
    write_text(inside(where, ".lock"), "");
    write_text(inside(where, "notes.txt"), "of the user's own");
    repairs(where, KD_OK, 1);
    assert_false(exists(inside(where, "cache.json.part")));
    assert_true(exists(inside(where, "notes.txt")));
    assert_same_file(inside(where, "cache.json"), inside(whole, "cache.json"));
    repairs(where, KD_OK, 0);
}

static void strangers_stay_where_no_list_tells_which_they_are(void **state)
{
    struct kd_identity of = fifty();
    const char *where = new_cache("mixed");

    (void)state;
    of.temperature = 2;
    fixture_shard(inside(where, "shard-000009.h5"), &of, 1, 20, 40);
    assert_int_equal(unlink(inside(where, "cache.json")), 0);
    repairs(where, KD_WANTING, 1);
    assert_true(exists(inside(where, "shard-000009.h5")));
    assert_false(exists(inside(where, "cache.json")));
}

/* -- the report ------------------------------------------------------------- */

static void the_report_is_lines_or_json(void **state)
{
    const char *where = new_cache("told");
    struct kd_check_report report;
    struct kd_json *json = NULL;
    const char *text = NULL;
    char *line = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&line, &size);

    (void)state;
    assert_non_null(to);
    write_text(inside(where, "a\n\033.part"), "half");
    assert_int_equal(kd_cache_check(where, &quick, &report), KD_WANTING);
    kd_check_report_write(&report, to);
    assert_int_equal(kd_json_new(&json), KD_OK);
    kd_json_begin(json, NULL, '{');
    kd_check_report_json(&report, json);
    kd_json_end(json);
    assert_int_equal(kd_json_text(json, &text), KD_OK);
    assert_non_null(strstr(text, "\"what\":\"left behind by a run that was killed\""));
    assert_non_null(strstr(text, "\"rows\":100,\"rows_promised\":100,\"shards\":3}"));
    kd_json_free(json);
    kd_check_report_clear(&report);
    assert_int_equal(unlink(inside(where, "a\n\033.part")), 0);
    assert_int_equal(kd_cache_check(inside(where, "shard-000000.h5"), &quick, &report),
                     KD_OK);
    kd_check_report_write(&report, to);
    kd_check_report_clear(&report);
    fclose(to);
    assert_non_null(
        strstr(line, "told/a??.part: left behind by a run that was killed\n"));
    assert_non_null(strstr(line, "shard-000000.h5: all is well: 40 of 100 rows in 1 "
                                 "shard, "));
    free(line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_cache_passes_with_its_figures),
        cmocka_unit_test(every_encoding_passes),
        cmocka_unit_test(a_shard_alone_and_shards_by_their_paths_pass),
        cmocka_unit_test(altered_bytes_are_found_and_rows_named),
        cmocka_unit_test(rows_that_are_no_distribution_are_found),
        cmocka_unit_test(a_truncated_and_a_foreign_shard_are_found),
        cmocka_unit_test(a_shard_that_crashes_hdf5_is_a_finding),
        cmocka_unit_test(a_pipe_in_place_of_a_shard_is_not_waited_for),
        cmocka_unit_test(missing_rows_are_told_as_ranges),
        cmocka_unit_test(many_holes_are_summed_up),
        cmocka_unit_test(missing_and_stray_shards_are_found),
        cmocka_unit_test(shards_of_another_cache_are_found),
        cmocka_unit_test(what_a_killed_run_leaves_is_found),
        cmocka_unit_test(a_cache_that_is_being_written_is_let_alone),
        cmocka_unit_test(what_is_no_cache_is_an_error),
        cmocka_unit_test(a_cache_json_that_was_altered_is_found),
        cmocka_unit_test(a_damaged_shard_is_put_aside_and_made_again),
        cmocka_unit_test(a_list_is_written_anew_where_all_rows_are_there),
        cmocka_unit_test(leftovers_are_removed_and_nothing_else),
        cmocka_unit_test(strangers_stay_where_no_list_tells_which_they_are),
        cmocka_unit_test(the_report_is_lines_or_json),
    };

    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
