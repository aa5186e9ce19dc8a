/* SPDX-License-Identifier: MIT */
/* Caches: shards found, listed and read together, or taken from a pipe. */
#include "cache_fixture.h"

#include "kd/h5.h"
#include "kd/thread.h"

#include <fcntl.h>
#include <math.h>
#include <sys/resource.h>

/* Opens the cache of the paths, handed over in a pipe. */
static enum kd_status open_piped(const char *text, struct kd_cache **cache)
{
    enum kd_status status = KD_EBUG;
    char name[32];
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], text, strlen(text)), (ssize_t)strlen(text));
    close(ends[1]);
    snprintf(name, sizeof name, "/dev/fd/%d", ends[0]);
    status = kd_cache_open(name, cache);
    close(ends[0]);
    return status;
}

static void rows_are_read_in_any_order(void **state)
{
    struct kd_identity of = fixture_identity(10, 100, 2, KD_F32);
    const uint64_t ids[5] = {99, 34, 42, 33, 0}; /* 34 begins a shard */
    const uint32_t views[5] = {1, 0, 1, 1, 1};
    float values[50], log_z[5], row[10];
    struct kd_cache *cache = NULL;

    (void)state;
    fixture_cache(fixture_path("order"), &of, 1, 17);
    assert_int_equal(kd_cache_open(fixture_path("order"), &cache), KD_OK);
    assert_int_equal(kd_cache_num_shards(cache), 6);
    assert_int_equal(kd_cache_rows(cache), 200);
    assert_int_equal(kd_cache_whole(cache), KD_OK);
    assert_int_equal(kd_cache_read(cache, ids, views, 5, values, log_z), KD_OK);
    for (size_t i = 0; i < 5; i++) {
        double sum = 0, top = -100;

        fixture_row(1, ids[i], views[i], 10, row);
        for (size_t c = 0; c < 10; c++)
            top = fmax(top, (double)row[c]);
        for (size_t c = 0; c < 10; c++) {
            assert_true(values[i * 10 + c] == row[c] - (float)top);
            sum += exp((double)values[i * 10 + c] - (double)log_z[i]);
        }
        assert_true(fabs(sum - 1) < 1e-5);
    }
    kd_cache_close(cache);
}

/* All C values of sparse rows, the rest of them in even shares. */
static void sparse_rows_are_read_in_any_order(void **state)
{
    static const struct kd_codec codecs[] = {
        {.encoding = KD_TOP_K, .dtype = KD_F32, .k = 4},
        {.encoding = KD_TOP_P, .dtype = KD_F32, .k = 19, .mass = 0.99},
        {.encoding = KD_SAMPLED, .dtype = KD_F32, .k = 30}};
    enum { COUNT = 500 };
    static float values[COUNT * 20];
    uint64_t ids[COUNT];
    uint32_t views[COUNT];
    float log_z[COUNT], row[20];

    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        ids[i] = i * 37 % 100;
        views[i] = i / 100 % 2;
    }
    for (size_t k = 0; k < 3; k++) {
        struct kd_identity of = fixture_identity(20, 100, 2, KD_F32);
        struct kd_cache *cache = NULL;

        of.codec = codecs[k];
        fixture_cache(fixture_path("sparse"), &of, 1, 17);
        assert_int_equal(kd_cache_open(fixture_path("sparse"), &cache), KD_OK);
        assert_true(kd_cache_kept(cache) >= 2 && kd_cache_kept(cache) <= 19);
        assert_int_equal(kd_cache_read(cache, ids, views, COUNT, values, log_z), KD_OK);
        for (size_t i = 0; i < COUNT; i++) {
            double sum = 0, top = -100;
            size_t same = 0;

            fixture_row(1, ids[i], views[i], 20, row);
            for (size_t c = 0; c < 20; c++)
                top = fmax(top, (double)row[c]);
            for (size_t c = 0; c < 20; c++) {
                sum += exp((double)values[i * 20 + c] - (double)log_z[i]);
                same += values[i * 20 + c] == row[c] - (float)top;
            }
            assert_true(fabs(sum - 1) < 1e-5);
            assert_true(same >= 1 && (k > 0 || same == 4));
        }
        kd_cache_close(cache);
        fixture_remove(fixture_path("sparse"));
    }
}

/* Shards as kd-dump does not make them: of any size, with holes between them. */
static void rows_of_unequal_shards_are_found(void **state)
{
    static const uint64_t bounds[][2] = {{1, 2},   {2, 3},   {3, 4},   {4, 5},
                                         {5, 6},   {6, 30},  {30, 31}, {40, 41},
                                         {41, 42}, {50, 90}, {95, 96}, {96, 100}};
    const size_t count = sizeof bounds / sizeof bounds[0];
    struct kd_identity of = fixture_identity(3, 100, 2, KD_F16);
    const struct kd_shard *shard = NULL;
    struct kd_cache *cache = NULL;
    char text[65536] = "";
    uint64_t row = 0;

    (void)state;
    for (size_t i = 0; i < count; i++) {
        char name[32];

        snprintf(name, sizeof name, "unequal-%zu.h5", i);
        fixture_shard(fixture_path(name), &of, 1, bounds[i][0], bounds[i][1]);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s\n",
                 fixture_path(name));
    }
    assert_int_equal(open_piped(text, &cache), KD_OK);
    for (uint64_t id = 0; id < 110; id++) {
        for (uint32_t view = 0; view < 3; view++) {
            bool there = false;

            for (size_t i = 0; i < count; i++)
                there |= id >= bounds[i][0] && id < bounds[i][1] && view < 2;
            assert_int_equal(kd_cache_find(cache, id, view, &shard, &row), there);
            if (there)
                assert_true(kd_shard_ids(shard)[row] == id &&
                            kd_shard_views(shard)[row] == view);
        }
    }
    assert_false(kd_cache_find(cache, UINT64_MAX, 0, &shard, &row));
    kd_cache_close(cache);
}

static void many_shards_need_few_descriptors(void **state)
{
    struct kd_identity of = fixture_identity(3, 200, 1, KD_F16);
    struct rlimit before, few;
    struct kd_cache *cache = NULL;
    float values[600];
    uint64_t ids[200];
    uint32_t views[200] = {0};

    (void)state;
    fixture_cache(fixture_path("many"), &of, 1, 1);
    for (size_t i = 0; i < 200; i++)
        ids[i] = 199 - i;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur = 32;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    if (kd_cache_open(fixture_path("many"), &cache) != KD_OK)
        fail_msg("%s", kd_error());
    assert_int_equal(kd_cache_num_shards(cache), 200);
    assert_int_equal(kd_cache_read(cache, ids, views, 200, values, NULL), KD_OK);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    kd_cache_close(cache);
}

/* Blocks of ids that come and go leave what is read as it is. */
static void hints_change_nothing(void **state)
{
    struct kd_identity of = fixture_identity(50, 100, 2, KD_F16);
    float before[50], after[50];
    struct kd_cache *cache = NULL;
    const uint32_t view = 1;

    (void)state;
    fixture_cache(fixture_path("hints"), &of, 1, 30);
    assert_int_equal(kd_cache_open(fixture_path("hints"), &cache), KD_OK);
    for (uint64_t begin = 0; begin < 100; begin += 40) {
        const uint64_t id = begin + 5;

        assert_int_equal(kd_cache_read(cache, &id, &view, 1, before, NULL), KD_OK);
        kd_cache_forget(cache, 0, 100);
        kd_cache_prefetch(cache, begin, begin + 40);
        assert_int_equal(kd_cache_read(cache, &id, &view, 1, after, NULL), KD_OK);
        assert_memory_equal(before, after, sizeof before);
        kd_cache_forget(cache, begin, begin + 40);
    }
    kd_cache_prefetch(cache, 7, 7);
    kd_cache_forget(cache, 200, UINT64_MAX);
    kd_cache_close(cache);
}

static void a_damaged_row_is_read_only_if_checks_are_left_out(void **state)
{
    struct kd_identity of = fixture_identity(10, 100, 1, KD_F32);
    const char *path = fixture_path("damaged.h5");
    const uint64_t id = 99;
    const uint32_t view = 0;
    struct kd_array_info info;
    struct kd_cache *cache = NULL;
    struct kd_h5 *file = NULL;
    float values[10], zeros[10] = {0};

    (void)state;
    fixture_shard(path, &of, 1, 0, 100);
    assert_int_equal(kd_h5_open(path, &file), KD_OK);
    assert_int_equal(kd_h5_info(file, "logits", &info), KD_OK);
    kd_h5_close(file);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, zeros, 40, (off_t)(info.offset + 99 * 40)), 40);
    close(fd);
    assert_int_equal(kd_cache_open(path, &cache), KD_OK);
    assert_int_equal(kd_cache_read(cache, &id, &view, 1, values, NULL), KD_EDATA);
    assert_says("damaged.h5: row 99 (sample 99, view 0): damaged");
    kd_cache_set_verify(cache, false);
    assert_int_equal(kd_cache_read(cache, &id, &view, 1, values, NULL), KD_OK);
    assert_memory_equal(values, zeros, sizeof zeros);
    kd_cache_set_verify(cache, true);
    assert_int_equal(kd_cache_read(cache, &id, &view, 1, values, NULL), KD_EDATA);
    kd_cache_close(cache);
}

static void a_missing_row_is_named(void **state)
{
    struct kd_identity of = fixture_identity(10, 100, 2, KD_F16);
    const uint64_t id = 60;
    const uint32_t view = 1;
    struct kd_cache *cache = NULL;
    const struct kd_shard *shard = NULL;
    uint64_t row = 0;
    float values[10];

    (void)state;
    fixture_shard(fixture_path("one.h5"), &of, 1, 30, 60);
    assert_int_equal(kd_cache_open(fixture_path("one.h5"), &cache), KD_OK);
    assert_int_equal(kd_cache_read(cache, &id, &view, 1, values, NULL), KD_EDATA);
    assert_says("sample 60, view 1 is not in the cache");
    assert_false(kd_cache_find(cache, 29, 0, &shard, &row));
    assert_true(kd_cache_find(cache, 59, 1, &shard, &row));
    assert_int_equal(row, 59);
    assert_int_equal(kd_cache_whole(cache), KD_EDATA);
    assert_says("140 of 200 rows are missing, the first of them sample 0, view 0");
    kd_cache_close(cache);
}

static void shards_come_through_a_pipe_in_any_order(void **state)
{
    struct kd_identity of = fixture_identity(10, 90, 1, KD_F16);
    struct kd_cache *cache = NULL;
    char *text = NULL;

    (void)state;
    fixture_cache(fixture_path("piped"), &of, 1, 30);
    text = kd_format("%s\n\n%s\n%s", fixture_path("piped/shard-000002.h5"),
                     fixture_path("piped/shard-000000.h5"),
                     fixture_path("piped/shard-000001.h5"));
    assert_int_equal(open_piped(text, &cache), KD_OK);
    assert_int_equal(kd_cache_whole(cache), KD_OK);
    assert_int_equal(kd_shard_ids(kd_cache_shard(cache, 0))[0], 0);
    kd_cache_close(cache);
    free(text);
}

static void a_hole_between_shards_is_named(void **state)
{
    struct kd_identity of = fixture_identity(10, 90, 1, KD_F16);
    struct kd_cache *cache = NULL;
    char *text = NULL;

    (void)state;
    fixture_cache(fixture_path("hole"), &of, 1, 30);
    text = kd_format("%s\n%s\n", fixture_path("hole/shard-000000.h5"),
                     fixture_path("hole/shard-000002.h5"));
    assert_int_equal(open_piped(text, &cache), KD_OK);
    assert_int_equal(kd_cache_whole(cache), KD_EDATA);
    assert_says("30 of 90 rows are missing, the first of them sample 30, view 0");
    kd_cache_close(cache);
    free(text);
}

static void an_empty_pipe_is_refused(void **state)
{
    struct kd_cache *cache = NULL;

    (void)state;
    assert_int_equal(open_piped("", &cache), KD_EDATA);
    assert_says("no shard came");
    assert_int_equal(open_piped("\n\n", &cache), KD_EDATA);
    assert_says("no shard came");
}

static void shards_that_do_not_belong_together_are_refused(void **state)
{
    struct kd_identity of = fixture_identity(10, 90, 1, KD_F16), other = of;
    struct kd_cache *cache = NULL;
    char *text = NULL;

    (void)state;
    other.temperature = 2;
    fixture_shard(fixture_path("a.h5"), &of, 1, 0, 30);
    fixture_shard(fixture_path("b.h5"), &other, 1, 30, 60);
    fixture_shard(fixture_path("c.h5"), &of, 1, 29, 60);
    text = kd_format("%s\n%s\n", fixture_path("a.h5"), fixture_path("b.h5"));
    assert_int_equal(open_piped(text, &cache), KD_EDATA);
    assert_says("temperature is 2, not 4");
    assert_says("b.h5");
    free(text);
    text = kd_format("%s\n%s\n", fixture_path("a.h5"), fixture_path("c.h5"));
    assert_int_equal(open_piped(text, &cache), KD_EDATA);
    assert_says("sample 29");
    free(text);
}

static void an_unfinished_directory_says_so(void **state)
{
    struct kd_identity of = fixture_identity(10, 90, 1, KD_F16);
    struct kd_cache *cache = NULL;

    (void)state;
    assert_int_equal(kd_make_directory(fixture_path("half")), KD_OK);
    fixture_shard(fixture_path("half/shard-000000.h5"), &of, 1, 0, 30);
    assert_int_equal(kd_cache_open(fixture_path("half"), &cache), KD_EDATA);
    assert_says("unfinished");
    assert_says("cache.json");
    assert_int_equal(kd_cache_open(fixture_path("nowhere"), &cache), KD_ENOINPUT);
}

static void a_directory_without_shards_is_no_cache(void **state)
{
    struct kd_cache *cache = NULL;

    (void)state;
    assert_int_equal(mkdir(fixture_path("folder"), 0777), 0);
    assert_int_equal(kd_cache_open(fixture_path("folder"), &cache), KD_EDATA);
    assert_says("folder: is no cache: there are no shards in it");
    assert_null(strstr(kd_error(), "network"));
    assert_int_equal(kd_file_write(fixture_path("folder/model.h5"), "", 0), KD_OK);
    assert_int_equal(kd_cache_open(fixture_path("folder"), &cache), KD_EDATA);
    assert_says("is no cache: there are no shards in it; with its model.h5 it is a "
                "network's directory");
    assert_int_equal(kd_file_write(fixture_path("folder/shard-000003.h5.part"), "", 0),
                     KD_OK);
    assert_int_equal(kd_cache_open(fixture_path("folder"), &cache), KD_EDATA);
    assert_says("folder: an unfinished cache: it has no cache.json");
}

static void what_came_out_of_a_pipe_has_a_title(void **state)
{
    static const struct {
        const char *where, *shard, *title;
    } cases[] = {{"-", "soft/a/shard-000000.h5", "soft/a (of -)"},
                 {"-", "/shard-000000.h5", "/shard-000000.h5 (of -)"},
                 {"-", "x.h5", "x.h5 (of -)"},
                 {"/dev/null", "a/x.h5", "a (of /dev/null)"},
                 {"/tmp", "/tmp/x.h5", "/tmp"},
                 {"/etc/passwd", "/etc/passwd", "/etc/passwd"}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *title = kd_cache_title(cases[i].where, cases[i].shard);

        assert_string_equal(title, cases[i].title);
        free(title);
    }
}

static void sealing_again_changes_nothing(void **state)
{
    struct kd_identity of = fixture_identity(10, 90, 1, KD_F16);
    struct kd_cache_list list;
    struct stat before, after;
    struct kd_digest digest;
    uint64_t bytes = 0;
    char *paths[2] = {NULL, NULL};

    (void)state;
    fixture_cache(fixture_path("seal"), &of, 1, 50);
    for (size_t i = 0; i < 2; i++)
        paths[i] = kd_cache_shard_path(fixture_path("seal"), i);
    assert_int_equal(stat(fixture_path("seal/cache.json"), &before), 0);
    assert_int_equal(kd_cache_seal(fixture_path("seal"), paths, 2), KD_OK);
    assert_int_equal(stat(fixture_path("seal/cache.json"), &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);

    assert_int_equal(kd_cache_list_read(&list, fixture_path("seal")), KD_OK);
    assert_int_equal(list.count, 2);
    assert_string_equal(list.entries[1].name, "shard-000001.h5");
    assert_int_equal(list.entries[1].rows, 40);
    assert_int_equal(kd_hash_file(paths[1], &digest, &bytes), KD_OK);
    assert_true(kd_digest_equal(&digest, &list.entries[1].digest));
    assert_int_equal(bytes, list.entries[1].bytes);
    kd_cache_list_clear(&list);
    free(paths[0]);
    free(paths[1]);
}

static void sealing_sees_a_shard_that_changed(void **state)
{
    struct kd_identity of = fixture_identity(10, 90, 1, KD_F16);
    struct kd_cache_list old, fresh;
    char *path = NULL;

    (void)state;
    fixture_cache(fixture_path("change"), &of, 1, 90);
    assert_int_equal(kd_cache_list_read(&old, fixture_path("change")), KD_OK);
    path = kd_cache_shard_path(fixture_path("change"), 0);
    fixture_shard(path, &of, 2, 0, 90); /* other rows, of the same size */
    assert_int_equal(kd_cache_seal(fixture_path("change"), &path, 1), KD_OK);
    assert_int_equal(kd_cache_list_read(&fresh, fixture_path("change")), KD_OK);
    assert_int_equal(old.entries[0].bytes, fresh.entries[0].bytes);
    assert_false(kd_digest_equal(&old.entries[0].digest, &fresh.entries[0].digest));
    kd_cache_list_clear(&old);
    kd_cache_list_clear(&fresh);
    free(path);
}

static void shards_out_of_order_are_not_sealed(void **state)
{
    struct kd_identity of = fixture_identity(10, 90, 1, KD_F16);
    char *paths[2] = {NULL, NULL};

    (void)state;
    fixture_cache(fixture_path("swap"), &of, 1, 50);
    paths[0] = kd_cache_shard_path(fixture_path("swap"), 1);
    paths[1] = kd_cache_shard_path(fixture_path("swap"), 0);
    assert_int_equal(kd_cache_seal(fixture_path("swap"), paths, 2), KD_EDATA);
    assert_says("shard-000000.h5");
    free(paths[0]);
    free(paths[1]);
}

static void a_shard_that_is_not_the_listed_one_is_refused(void **state)
{
    struct kd_identity of = fixture_identity(10, 90, 1, KD_F16), other = of;
    struct kd_cache *cache = NULL;

    (void)state;
    fixture_cache(fixture_path("listed"), &of, 1, 90);
    fixture_shard(fixture_path("listed/shard-000000.h5"), &of, 1, 0, 89);
    assert_int_equal(kd_cache_open(fixture_path("listed"), &cache), KD_EDATA);
    assert_says("another number of rows");
    other.seed = 1;
    fixture_shard(fixture_path("listed/shard-000000.h5"), &other, 1, 0, 90);
    assert_int_equal(kd_cache_open(fixture_path("listed"), &cache), KD_EDATA);
    assert_says("another identity");
    assert_int_equal(remove(fixture_path("listed/shard-000000.h5")), 0);
    assert_int_equal(kd_cache_open(fixture_path("listed"), &cache), KD_ENOINPUT);
    assert_says("shard-000000.h5");
}

static void wrong_lists_are_refused(void **state)
{
#define HEAD "{\"format\":\"kdcache-list\",\"format_version\":1,\"identity_digest\":"
#define ID   "\"0123456789abcdef0123456789abcdef\""
#define ENTRY(name, rows, bytes, digest)                                               \
    HEAD ID ",\"shards\":[{\"name\":" name ",\"rows\":" rows ",\"bytes\":" bytes       \
            ",\"xxh3_128\":" digest "}]}"
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"", "not JSON"},
        {"{", "not JSON"},
        {"{} x", "not JSON"},
        {"[]", "\"format\""},
        {"{\"format\":\"other\"}", "not the list of a cache"},
        {"{\"format\":\"kdcache-list\",\"format_version\":2}", "another version"},
        {HEAD "\"xyz\"}", "\"identity_digest\""},
        {HEAD ID "}", "\"shards\""},
        {HEAD ID ",\"shards\":[]}", "\"shards\""},
        {HEAD ID ",\"shards\":[7]}", "\"name\""},
        {ENTRY("\"../x.h5\"", "1", "1", ID), "no name of a shard"},
        {ENTRY("\"..\"", "1", "1", ID), "no name of a shard"},
        {ENTRY("\"/etc/passwd\"", "1", "1", ID), "no name of a shard"},
        {ENTRY("\"\"", "1", "1", ID), "no name of a shard"},
        {ENTRY("\"a\\nb\"", "1", "1", ID), "no name of a shard"},
        {ENTRY("\"a.h5\"", "-1", "1", ID), "\"rows\""},
        {ENTRY("\"a.h5\"", "1.5", "1", ID), "\"rows\""},
        {ENTRY("\"a.h5\"", "1e300", "1", ID), "\"rows\""},
        {ENTRY("\"a.h5\"", "1", "null", ID), "\"bytes\""},
        {ENTRY("\"a.h5\"", "1", "1", "\"00\""), "\"xxh3_128\""},
    };
#undef HEAD
#undef ID
#undef ENTRY
    struct kd_cache_list list;

    (void)state;
    assert_int_equal(kd_make_directory(fixture_path("list")), KD_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(kd_file_write(fixture_path("list/cache.json"), cases[i].text,
                                       strlen(cases[i].text)),
                         KD_OK);
        assert_int_equal(kd_cache_list_read(&list, fixture_path("list")), KD_EDATA);
        assert_says(cases[i].words);
        assert_says("cache.json");
        assert_int_equal(list.count, 0);
    }
}

static void a_stream_waits_for_its_lines(void **state)
{
    struct kd_shard_stream *stream = NULL;
    const char *path = NULL;
    char name[32];
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    snprintf(name, sizeof name, "/dev/fd/%d", ends[0]);
    assert_int_equal(kd_shard_stream_open(name, &stream), KD_OK);
    assert_true(kd_shard_stream_fd(stream) >= 0);
    assert_int_equal(write(ends[1], "a.h5\nb", 6), 6);
    assert_int_equal(kd_shard_stream_pump(stream), KD_OK);
    assert_int_equal(kd_shard_stream_fd(stream), -1);
    assert_int_equal(kd_shard_stream_next(stream, &path), KD_OK);
    assert_string_equal(path, "a.h5");
    assert_true(kd_shard_stream_fd(stream) >= 0); /* half a line is none */
    assert_int_equal(write(ends[1], ".h5\n", 4), 4);
    assert_int_equal(kd_shard_stream_next(stream, &path), KD_OK);
    assert_string_equal(path, "b.h5");
    close(ends[1]);
    assert_int_equal(kd_shard_stream_next(stream, &path), KD_OK);
    assert_null(path);
    assert_int_equal(kd_shard_stream_next(stream, &path), KD_OK);
    assert_null(path);
    kd_shard_stream_close(stream);
    close(ends[0]);
}

static void what_is_no_list_of_paths_is_refused(void **state)
{
    struct kd_shard_stream *stream = NULL;
    const char *path = NULL;
    char name[32];
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "\x89HDF\0\n", 6), 6);
    snprintf(name, sizeof name, "/dev/fd/%d", ends[0]);
    assert_int_equal(kd_shard_stream_open(name, &stream), KD_OK);
    assert_int_equal(kd_shard_stream_next(stream, &path), KD_EDATA);
    assert_says("binary");
    kd_shard_stream_close(stream);
    close(ends[0]);
    close(ends[1]);
}

static void figures_do_not_depend_on_threads(void **state)
{
    struct kd_identity of = fixture_identity(10, 700, 2, KD_F16);
    struct kd_cache_stats one, two;
    struct kd_cache *cache = NULL;

    (void)state;
    fixture_cache(fixture_path("stats"), &of, 1, 300);
    assert_int_equal(kd_cache_open(fixture_path("stats"), &cache), KD_OK);
    assert_int_equal(kd_cache_measure(cache, &one), KD_OK);
    kd_threads_set(3);
    assert_int_equal(kd_cache_measure(cache, &two), KD_OK);
    kd_threads_set(1);
    assert_true(one.entropy == two.entropy && one.max_prob == two.max_prob);
    assert_int_equal(one.rows, 1400);
    assert_int_equal(one.labelled, 1400);
    kd_cache_close(cache);
}

static void figures_are_right(void **state)
{
    struct kd_identity of = fixture_identity(4, 3, 1, KD_F32);
    const uint64_t id[3] = {0, 1, 2};
    const uint32_t view[3] = {0};
    const int32_t label[3] = {2, 1, -1};
    const float scaled[12] = {5, 5, 5, 5, -90, 10, -90, -90, 3, 3, -90, -90};
    struct kd_shard_writer *writer = NULL;
    struct kd_cache_stats stats;
    struct kd_cache *cache = NULL;
    const char *path = fixture_path("figures.h5");

    (void)state;
    assert_int_equal(kd_shard_writer_open(path, &of, 3, "", &writer), KD_OK);
    assert_int_equal(kd_shard_writer_add(writer, &(struct kd_rows){.count = 3,
                                                                   .id = id,
                                                                   .view = view,
                                                                   .label = label,
                                                                   .scaled = scaled}),
                     KD_OK);
    assert_int_equal(kd_shard_writer_commit(writer), KD_OK);
    assert_int_equal(kd_cache_open(path, &cache), KD_OK);
    assert_int_equal(kd_cache_measure(cache, &stats), KD_OK);
    assert_true(fabs(stats.max_prob - (0.25 + 1 + 0.5) / 3) < 1e-6);
    assert_true(fabs(stats.entropy - (log(4) + 0 + log(2)) / 3) < 1e-6);
    assert_int_equal(stats.labelled, 2);
    assert_int_equal(stats.agreeing, 1);
    assert_true(stats.bytes > 0);
    assert_true(stats.kept_mass == 1 && stats.values == 12);
    kd_cache_close(cache);
}

/* What is not kept counts as spread evenly. */
static void figures_of_sparse_caches_are_right(void **state)
{
    static const struct kd_codec codecs[] = {
        {.encoding = KD_TOP_K, .dtype = KD_F32, .k = 1},
        {.encoding = KD_TOP_P, .dtype = KD_F32, .k = 3, .mass = 0.6}};
    const uint64_t id[2] = {0, 1};
    const uint32_t view[2] = {0};
    const int32_t label[2] = {2, 1};
    /* probabilities 1/8, 1/8, 1/2, 1/4, and 1 - 3e, e, e, e for e near 0 */
    const float scaled[8] = {0, 0, 2 * 0.6931472F, 0.6931472F, 0, -60, -60, -60};
    const char *path = fixture_path("sparse.h5");

    (void)state;
    for (size_t k = 0; k < 2; k++) {
        const double kept = k == 0 ? 0.5 : 0.75, other = k == 0 ? 0.5 / 3 : 0.125;
        struct kd_identity of = fixture_identity(4, 2, 1, KD_F32);
        struct kd_shard_writer *writer = NULL;
        struct kd_cache_stats stats;
        struct kd_cache *cache = NULL;

        of.codec = codecs[k];
        assert_int_equal(kd_shard_writer_open(path, &of, 2, "", &writer), KD_OK);
        assert_int_equal(
            kd_shard_writer_add(writer, &(struct kd_rows){.count = 2,
                                                          .id = id,
                                                          .view = view,
                                                          .label = label,
                                                          .scaled = scaled}),
            KD_OK);
        assert_int_equal(kd_shard_writer_commit(writer), KD_OK);
        assert_int_equal(kd_cache_open(path, &cache), KD_OK);
        assert_int_equal(kd_cache_measure(cache, &stats), KD_OK);
        assert_int_equal(stats.values, k == 0 ? 2 : 3);
        assert_true(fabs(stats.kept_mass - (kept + 1) / 2) < 1e-6);
        assert_true(fabs(stats.max_prob - (0.5 + 1) / 2) < 1e-6);
        const double entropy =
            0.5 * log(2) + (k > 0 ? 0.25 * log(4) : 0) - (1 - kept) * log(other);
        assert_true(fabs(stats.entropy - entropy / 2) < 1e-6);
        assert_true(stats.labelled == 2 && stats.agreeing == 1);
        kd_cache_close(cache);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_read_in_any_order),
        cmocka_unit_test(sparse_rows_are_read_in_any_order),
        cmocka_unit_test(rows_of_unequal_shards_are_found),
        cmocka_unit_test(many_shards_need_few_descriptors),
        cmocka_unit_test(hints_change_nothing),
        cmocka_unit_test(a_damaged_row_is_read_only_if_checks_are_left_out),
        cmocka_unit_test(a_missing_row_is_named),
        cmocka_unit_test(shards_come_through_a_pipe_in_any_order),
        cmocka_unit_test(a_hole_between_shards_is_named),
        cmocka_unit_test(an_empty_pipe_is_refused),
        cmocka_unit_test(shards_that_do_not_belong_together_are_refused),
        cmocka_unit_test(an_unfinished_directory_says_so),
        cmocka_unit_test(a_directory_without_shards_is_no_cache),
        cmocka_unit_test(what_came_out_of_a_pipe_has_a_title),
        cmocka_unit_test(sealing_again_changes_nothing),
        cmocka_unit_test(sealing_sees_a_shard_that_changed),
        cmocka_unit_test(shards_out_of_order_are_not_sealed),
        cmocka_unit_test(a_shard_that_is_not_the_listed_one_is_refused),
        cmocka_unit_test(wrong_lists_are_refused),
        cmocka_unit_test(a_stream_waits_for_its_lines),
        cmocka_unit_test(what_is_no_list_of_paths_is_refused),
        cmocka_unit_test(figures_do_not_depend_on_threads),
        cmocka_unit_test(figures_are_right),
        cmocka_unit_test(figures_of_sparse_caches_are_right),
    };

    kd_threads_set(1);
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
