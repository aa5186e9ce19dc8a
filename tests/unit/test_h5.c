/* SPDX-License-Identifier: MIT */
/* HDF5: what is written comes back, in the same bytes; foreign files are refused
 * in one sentence. The foreign ones are made here with the library itself. */
#include "kd/h5.h"

#include "kd/file.h"
#include "kd/memory.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <hdf5.h>

static char directory[] = "/tmp/kd-test-h5-XXXXXX";

static int enter(void **state)
{
    (void)state;
    return mkdtemp(directory) != NULL && chdir(directory) == 0 ? 0 : -1;
}

static int leave(void **state)
{
    (void)state;
    unlink("a.h5");
    unlink("b.h5");
    return chdir("/") == 0 && rmdir(directory) == 0 ? 0 : -1;
}

static void assert_ok(enum kd_status status)
{
    if (status != KD_OK)
        fail_msg("status %d: %s", (int)status, kd_error());
}

/* Failed with that status and a one-line message that has `words` in it. */
static void assert_fails(enum kd_status got, enum kd_status expected, const char *words)
{
    if (got != expected)
        fail_msg("status %d for \"%s\"", (int)got, words);
    if (strstr(kd_error(), words) == NULL || strchr(kd_error(), '\n') != NULL)
        fail_msg("\"%s\" lacks \"%s\"", kd_error(), words);
}

static struct kd_h5 *create(const char *path)
{
    struct kd_h5 *file = NULL;

    assert_ok(kd_h5_create(path, &file));
    assert_string_equal(kd_h5_path(file), path);
    return file;
}

static struct kd_h5 *reopen(const char *path)
{
    struct kd_h5 *file = NULL;

    assert_ok(kd_h5_open(path, &file));
    return file;
}

/* 6 rows of 4 elements of any type, as bytes. */
static const uint64_t shape_6x4[] = {6, 4};
static unsigned char pattern[6 * 4 * 8];

static void fill_pattern(void)
{
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = (unsigned char)(i * 37 + 11);
}

static void every_type_comes_back_with_its_bits(void **state)
{
    unsigned char back[sizeof pattern];
    struct kd_array_info info;

    (void)state;
    fill_pattern();
    struct kd_h5 *file = create("a.h5");
    for (int t = 0; t < KD_TYPE_COUNT; t++)
        assert_ok(kd_h5_write(file, kd_type_name((enum kd_type)t), (enum kd_type)t, 2,
                              shape_6x4, pattern, NULL));
    assert_ok(kd_h5_finish(file));

    file = reopen("a.h5");
    for (int t = 0; t < KD_TYPE_COUNT; t++) {
        const char *name = kd_type_name((enum kd_type)t);
        assert_ok(kd_h5_info(file, name, &info));
        assert_int_equal(info.type, t);
        assert_int_equal(info.rank, 2);
        assert_int_equal(info.shape[0], 6);
        assert_int_equal(info.shape[1], 4);
        assert_int_equal(info.bytes, 24 * kd_type_size(info.type));
        memset(back, 0, sizeof back);
        assert_ok(kd_h5_read(file, name, &info, back));
        assert_memory_equal(back, pattern, info.bytes);
    }
    kd_h5_close(file);
}

static void the_bytes_lie_at_the_offset(void **state)
{
    static const uint64_t shapes[] = {3, 4095, 4096, 5, 100000, 1};
    uint64_t offset = 0;
    struct kd_array_info info;
    struct kd_map map;
    unsigned char *data = kd_alloc(100000, 1);

    (void)state;
    memset(data, 0xa5, 100000);
    struct kd_h5 *file = create("a.h5");
    for (size_t i = 0; i < 6; i++) {
        char name[2] = {(char)('a' + i), 0};
        data[0] = (unsigned char)i;
        assert_ok(kd_h5_write(file, name, KD_U8, 1, &shapes[i], data, &offset));
        if (shapes[i] >= 4096)
            assert_int_equal(offset % 4096, 0);
    }
    assert_ok(kd_h5_finish(file));
    file = reopen("a.h5");
    assert_ok(kd_map_open(&map, "a.h5"));
    for (size_t i = 0; i < 6; i++) {
        char name[2] = {(char)('a' + i), 0};
        data[0] = (unsigned char)i;
        assert_ok(kd_h5_info(file, name, &info));
        assert_true(info.offset + info.bytes <= map.size);
        assert_memory_equal(map.data + info.offset, data, info.bytes);
    }
    kd_map_close(&map);
    kd_h5_close(file);
    free(data);
}

static void data_may_be_written_later_at_the_offset(void **state)
{
    uint64_t offset[2];
    unsigned char back[sizeof pattern];
    struct kd_array_info info;

    (void)state;
    fill_pattern();
    struct kd_h5 *file = create("a.h5");
    assert_ok(kd_h5_write(file, "x", KD_F64, 2, shape_6x4, NULL, &offset[0]));
    assert_ok(kd_h5_write(file, "y", KD_F64, 2, shape_6x4, NULL, &offset[1]));
    assert_ok(kd_h5_finish(file));
    int fd = open("a.h5", O_RDWR);
    assert_int_equal(pwrite(fd, pattern, sizeof pattern, (off_t)offset[1]),
                     sizeof pattern);
    close(fd);
    file = reopen("a.h5");
    assert_ok(kd_h5_info(file, "y", &info));
    assert_int_equal(info.offset, offset[1]);
    assert_ok(kd_h5_read(file, "y", &info, back));
    assert_memory_equal(back, pattern, sizeof pattern);
    kd_h5_close(file);
}

static void rows_are_read_from_the_middle(void **state)
{
    unsigned char back[sizeof pattern];
    struct kd_array_info info;

    (void)state;
    fill_pattern();
    struct kd_h5 *file = create("a.h5");
    assert_ok(kd_h5_write(file, "x", KD_F16, 2, shape_6x4, pattern, NULL));
    assert_ok(kd_h5_finish(file));
    file = reopen("a.h5");
    assert_ok(kd_h5_info(file, "x", &info));
    for (uint64_t first = 0; first <= 6; first++)
        for (uint64_t count = 0; first + count <= 6; count++) {
            memset(back, 0xee, sizeof back);
            assert_ok(kd_h5_read_rows(file, "x", &info, first, count, back));
            assert_memory_equal(back, pattern + first * 8, count * 8);
            assert_int_equal(back[count * 8], 0xee);
        }
    assert_fails(kd_h5_read_rows(file, "x", &info, 5, 2, back), KD_EBUG,
                 "'x': has no 2 rows from 5 on");
    assert_fails(kd_h5_read_rows(file, "x", &info, 1, UINT64_MAX, back), KD_EBUG,
                 "no 18446744073709551615 rows");
    kd_h5_close(file);
}

static void arrays_of_no_rows_and_scalars_work(void **state)
{
    const uint64_t none[] = {0, 4};
    uint64_t offset = 0;
    double value = 2.5;
    struct kd_array_info info;

    (void)state;
    struct kd_h5 *file = create("a.h5");
    assert_ok(kd_h5_write(file, "none", KD_F32, 2, none, NULL, &offset));
    assert_int_equal(offset, UINT64_MAX);
    assert_ok(kd_h5_write(file, "one", KD_F64, 0, NULL, &value, &offset));
    assert_int_not_equal(offset, UINT64_MAX);
    assert_ok(kd_h5_finish(file));

    file = reopen("a.h5");
    assert_ok(kd_h5_info(file, "none", &info));
    assert_int_equal(info.rank, 2);
    assert_int_equal(info.shape[1], 4);
    assert_int_equal(info.bytes, 0);
    assert_int_equal(info.offset, UINT64_MAX);
    assert_ok(kd_h5_read(file, "none", &info, &value));
    assert_ok(kd_h5_read_rows(file, "none", &info, 0, 0, &value));
    value = 0;
    assert_ok(kd_h5_info(file, "one", &info));
    assert_int_equal(info.rank, 0);
    assert_int_equal(info.count, 1);
    assert_ok(kd_h5_read(file, "one", &info, &value));
    assert_true(value == 2.5);
    assert_fails(kd_h5_read_rows(file, "one", &info, 0, 1, &value), KD_EBUG, "rows");
    kd_h5_close(file);
}

/* All that a file may hold, in one. */
static void write_specimen(const char *path)
{
    const double values[] = {1, 0.5, 0.25};

    fill_pattern();
    struct kd_h5 *file = create(path);
    assert_ok(
        kd_h5_write(file, "layer1/0/weight", KD_F32, 2, shape_6x4, pattern, NULL));
    assert_ok(kd_h5_write(file, "logits", KD_F16, 2, shape_6x4, pattern, NULL));
    assert_ok(kd_h5_set_u64(file, "num_samples", 6));
    assert_ok(kd_h5_set_f64(file, "temperature", 4));
    assert_ok(kd_h5_set_f64s(file, "weights", values, 3));
    assert_ok(kd_h5_set_string(file, "format", "kdcache"));
    assert_ok(kd_h5_set_history(file, "one"));
    assert_ok(kd_h5_set_history(file, "one\ntwo \xc3\xa4"));
    assert_ok(kd_h5_finish(file));
}

static void the_same_calls_give_the_same_bytes_at_another_time(void **state)
{
    char *a = NULL, *b = NULL;
    size_t size_a = 0, size_b = 0;

    (void)state;
    write_specimen("a.h5");
    nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 100000000}, NULL);
    write_specimen("b.h5");
    assert_ok(kd_file_read("a.h5", 1 << 20, &a, &size_a));
    assert_ok(kd_file_read("b.h5", 1 << 20, &b, &size_b));
    assert_int_equal(size_a, size_b);
    assert_memory_equal(a, b, size_a);
    free(a);
    free(b);
}

static void attributes_come_back(void **state)
{
    uint64_t u = 0;
    double f = 0, values[3];
    size_t count = 0;
    char *text = NULL;

    (void)state;
    write_specimen("a.h5");
    struct kd_h5 *file = reopen("a.h5");
    assert_ok(kd_h5_get_u64(file, "num_samples", &u));
    assert_int_equal(u, 6);
    assert_ok(kd_h5_get_f64(file, "temperature", &f));
    assert_true(f == 4);
    assert_ok(kd_h5_get_f64(file, "num_samples", &f)); /* an integer will do */
    assert_true(f == 6);
    assert_ok(kd_h5_get_f64s(file, "weights", values, 3, &count));
    assert_int_equal(count, 3);
    assert_true(values[2] == 0.25);
    assert_ok(kd_h5_get_string(file, "format", &text));
    assert_string_equal(text, "kdcache");
    free(text);
    assert_true(kd_h5_has_attribute(file, "history"));
    assert_false(kd_h5_has_attribute(file, "histor"));

    assert_fails(kd_h5_get_u64(file, "none", &u), KD_EDATA,
                 "a.h5: no attribute 'none'");
    assert_fails(kd_h5_get_u64(file, "temperature", &u), KD_EDATA, "not an integer");
    assert_fails(kd_h5_get_u64(file, "format", &u), KD_EDATA, "not a number");
    assert_fails(kd_h5_get_f64(file, "format", &f), KD_EDATA, "not a number");
    assert_fails(kd_h5_get_f64(file, "weights", &f), KD_EDATA, "3 values where 1 fit");
    assert_fails(kd_h5_get_f64s(file, "weights", values, 2, &count), KD_EDATA,
                 "3 values where 2 fit");
    assert_fails(kd_h5_get_string(file, "num_samples", &text), KD_EDATA,
                 "not a string");
    assert_fails(kd_h5_get_string(file, "history", &text), KD_EDATA, "variable length");
    assert_null(text);
    kd_h5_close(file);
}

/* What kd_h5_tell_history says of a.h5, as text or as JSON. */
static void assert_told(bool as_json, const char *due)
{
    char *text = NULL;
    size_t size = 0;
    struct kd_json *json = NULL;
    FILE *to = open_memstream(&text, &size);

    assert_non_null(to);
    assert_ok(kd_json_new(&json));
    kd_json_begin(json, NULL, '{');
    assert_ok(kd_h5_tell_history("a.h5", as_json ? json : NULL, to));
    kd_json_end(json);
    assert_ok(kd_json_write(json, to));
    assert_int_equal(fclose(to), 0);
    assert_string_equal(text, due);
    kd_json_free(json);
    free(text);
}

static void a_history_is_told_to_people(void **state)
{
    const char *const texts[] = {"a", "b"};
    (void)state;
    struct kd_h5 *file = create("a.h5");
    assert_ok(kd_h5_set_history(file, "one\ntwo \xc3\xa4\n\x1b[2J"));
    assert_ok(kd_h5_finish(file));
    assert_told(false, "  history            one\n"
                       "                     two \xc3\xa4\n"
                       "                     ?[2J\n{}\n");
    assert_told(true, "{\"history\":\"one\\ntwo \xc3\xa4\\n?[2J\"}\n");

    assert_ok(kd_h5_finish(create("a.h5")));
    assert_told(false, "{}\n");
    assert_told(true, "{}\n");

    file = create("a.h5"); /* of no use, or harmful */
    assert_ok(kd_h5_set_u64(file, "history", 7));
    assert_ok(kd_h5_finish(file));
    assert_told(false, "  history            unreadable: damaged\n{}\n");
    const hsize_t two = 2;
    const hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate_simple(1, &two, NULL);
    const hid_t other = H5Fcreate("a.h5", H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Tset_size(type, H5T_VARIABLE) >= 0);
    const hid_t pair =
        H5Acreate2(other, "history", type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Awrite(pair, type, texts) >= 0);
    H5Aclose(pair);
    H5Sclose(space);
    H5Tclose(type);
    assert_true(H5Fclose(other) >= 0);
    assert_told(true, "{\"history\":\"unreadable: damaged\"}\n");
}

static void attributes_are_replaced_in_a_finished_file(void **state)
{
    uint64_t u = 0;
    char *text = NULL;
    struct kd_h5 *file = NULL;

    (void)state;
    write_specimen("a.h5");
    assert_ok(kd_h5_open_rw("a.h5", &file));
    assert_ok(kd_h5_set_u64(file, "num_samples", UINT64_MAX));
    assert_ok(kd_h5_set_string(file, "format", "a longer string"));
    assert_ok(kd_h5_set_string(file, "temperature", "")); /* of another kind */
    assert_ok(kd_h5_finish(file));
    file = reopen("a.h5");
    assert_ok(kd_h5_get_u64(file, "num_samples", &u));
    assert_int_equal(u, UINT64_MAX);
    assert_ok(kd_h5_get_string(file, "format", &text));
    assert_string_equal(text, "a longer string");
    free(text);
    assert_ok(kd_h5_get_string(file, "temperature", &text));
    assert_string_equal(text, "");
    free(text);
    kd_h5_close(file);
}

static void only_plain_text_becomes_a_string(void **state)
{
    char *text = NULL, *longest = kd_alloc(64002, 1);

    (void)state;
    memset(longest, 'x', 64001);
    struct kd_h5 *file = create("a.h5");
    assert_fails(kd_h5_set_string(file, "s", "\xc3\xa4"), KD_EDATA,
                 "a.h5: attribute 's': only printable ASCII");
    assert_fails(kd_h5_set_string(file, "s", "\x1b[2J"), KD_EDATA, "printable");
    assert_fails(kd_h5_set_string(file, "s", longest), KD_EDATA, "64001 characters");
    assert_false(kd_h5_has_attribute(file, "s"));
    longest[64000] = '\0';
    assert_ok(kd_h5_set_string(file, "s", longest));
    assert_ok(kd_h5_set_string(file, "lines", "a\nb"));
    assert_ok(kd_h5_finish(file));
    file = reopen("a.h5");
    assert_ok(kd_h5_get_string(file, "s", &text));
    assert_string_equal(text, longest);
    free(text);
    kd_h5_close(file);
    free(longest);
}

static void a_dataset_is_overwritten_in_place_or_not_at_all(void **state)
{
    const uint64_t other[] = {4, 6};
    float back[24];
    struct kd_array_info info, after;
    struct kd_h5 *file = NULL;

    (void)state;
    write_specimen("a.h5");
    file = reopen("a.h5");
    assert_ok(kd_h5_info(file, "layer1/0/weight", &info));
    kd_h5_close(file);
    assert_ok(kd_h5_open_rw("a.h5", &file));
    memset(pattern, 7, sizeof pattern);
    assert_ok(
        kd_h5_write(file, "layer1/0/weight", KD_F32, 2, shape_6x4, pattern, NULL));
    assert_fails(kd_h5_write(file, "layer1/0/weight", KD_F32, 2, other, pattern, NULL),
                 KD_EDATA, "another type or shape");
    assert_fails(
        kd_h5_write(file, "layer1/0/weight", KD_I32, 2, shape_6x4, pattern, NULL),
        KD_EDATA, "another type or shape");
    assert_fails(kd_h5_write(file, "layer1/0", KD_I32, 2, shape_6x4, pattern, NULL),
                 KD_EDATA, "not a dataset");
    assert_ok(kd_h5_finish(file));
    file = reopen("a.h5");
    assert_ok(kd_h5_info(file, "layer1/0/weight", &after));
    assert_int_equal(after.offset, info.offset);
    assert_ok(kd_h5_read(file, "layer1/0/weight", &after, back));
    assert_memory_equal(back, pattern, sizeof back);
    kd_h5_close(file);
}

static void names_and_shapes_that_cannot_be_are_refused(void **state)
{
    const uint64_t huge[] = {UINT64_C(1) << 40, UINT64_C(1) << 40};
    char name[1100];

    (void)state;
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    struct kd_h5 *file = create("a.h5");
    assert_fails(kd_h5_write(file, "", KD_U8, 2, shape_6x4, NULL, NULL), KD_EBUG,
                 "name");
    assert_fails(kd_h5_write(file, name, KD_U8, 2, shape_6x4, NULL, NULL), KD_EBUG, "");
    assert_fails(kd_h5_write(file, "x", KD_U8, 2, huge, NULL, NULL), KD_EBUG, "shape");
    assert_fails(kd_h5_write(file, "x", KD_U8, 9, huge, NULL, NULL), KD_EBUG, "shape");
    assert_ok(kd_h5_write(file, "x", KD_U8, 0, NULL, "", NULL));
    assert_fails(kd_h5_write(file, "x/y", KD_U8, 2, shape_6x4, NULL, NULL), KD_EIO,
                 "y");
    assert_ok(kd_h5_finish(file));
}

static void objects_are_found_by_name(void **state)
{
    struct kd_array_info info;

    (void)state;
    write_specimen("a.h5");
    struct kd_h5 *file = reopen("a.h5");
    assert_true(kd_h5_has(file, "logits"));
    assert_true(kd_h5_has(file, "/logits"));
    assert_true(kd_h5_has(file, "layer1"));
    assert_true(kd_h5_has(file, "layer1//0/weight/"));
    assert_false(kd_h5_has(file, "layer1/1/weight"));
    assert_false(kd_h5_has(file, "logits/x"));
    assert_false(kd_h5_has(file, ""));
    assert_false(kd_h5_has(file, "/"));
    assert_ok(kd_h5_info(file, "/layer1/0/weight", &info));
    assert_fails(kd_h5_info(file, "label", &info), KD_EDATA,
                 "a.h5: no dataset 'label'");
    assert_fails(kd_h5_info(file, "layer1/9/w", &info), KD_EDATA, "no dataset");
    assert_fails(kd_h5_info(file, "layer1", &info), KD_EDATA,
                 "'layer1': not a dataset");
    assert_fails(kd_h5_info(file, "logits/x", &info), KD_EDATA, "cannot be found");
    assert_fails(kd_h5_info(file, "", &info), KD_EDATA, "not a name");
    kd_h5_close(file);
}

struct names {
    char text[200];
    int left; /* fails when it reaches 0 */
};

static enum kd_status add_name(void *context, const char *name)
{
    struct names *names = context;

    strcat(names->text, name);
    strcat(names->text, " ");
    return --names->left == 0 ? kd_fail(KD_WANTING, "enough") : KD_OK;
}

static void each_goes_in_the_order_of_the_whole_names(void **state)
{
    static const char *const made[] = {"b/2", "b/10", "a-b", "a/z", "c/d/e"};
    struct names names = {.left = -1};

    (void)state;
    struct kd_h5 *file = create("a.h5");
    assert_ok(kd_h5_each(file, add_name, &names));
    assert_string_equal(names.text, "");
    for (size_t i = 0; i < 5; i++)
        assert_ok(kd_h5_write(file, made[i], KD_U8, 2, shape_6x4, NULL, NULL));
    assert_ok(kd_h5_each(file, add_name, &names));
    assert_string_equal(names.text, "a-b a/z b/10 b/2 c/d/e ");
    names = (struct names){.left = 2};
    assert_int_equal(kd_h5_each(file, add_name, &names), KD_WANTING);
    assert_string_equal(names.text, "a-b a/z ");
    assert_ok(kd_h5_finish(file));
}

/* A file by the library itself, with the given links and datasets of others. */
static hid_t foreign_file(void)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return H5Fcreate("a.h5", H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
}

static void links_out_of_the_file_are_not_followed(void **state)
{
    struct kd_array_info info;
    struct names names = {.left = -1};

    (void)state;
    write_specimen("b.h5");
    hid_t id = foreign_file();
    hid_t group = H5Gcreate2(id, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_external("b.h5", "logits", id, "out", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_external("b.h5", "layer1", id, "dir", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/g", id, "soft", H5P_DEFAULT, H5P_DEFAULT);
    H5Gclose(group);
    H5Fclose(id);

    struct kd_h5 *file = reopen("a.h5");
    assert_fails(kd_h5_info(file, "out", &info), KD_EDATA,
                 "a.h5: 'out': a soft or external link");
    assert_fails(kd_h5_info(file, "dir/0/weight", &info), KD_EDATA, "'dir': a soft");
    assert_fails(kd_h5_info(file, "soft/x", &info), KD_EDATA, "'soft': a soft");
    assert_false(kd_h5_has(file, "out"));
    assert_false(kd_h5_has(file, "soft"));
    assert_ok(kd_h5_each(file, add_name, &names));
    assert_string_equal(names.text, "");
    kd_h5_close(file);
}

static void groups_in_a_circle_or_too_deep_are_refused(void **state)
{
    struct names names = {.left = -1};
    hid_t id = foreign_file();
    hid_t group = H5Gcreate2(id, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    char deep[100] = "";

    (void)state;
    H5Lcreate_hard(id, "g", group, "circle", H5P_DEFAULT, H5P_DEFAULT);
    H5Gclose(group);
    H5Fclose(id);
    struct kd_h5 *file = reopen("a.h5");
    assert_fails(kd_h5_each(file, add_name, &names), KD_EDATA, "nested too deeply");
    kd_h5_close(file);

    file = create("a.h5");
    for (int i = 0; i < 32; i++)
        strcat(deep, "a/");
    strcat(deep, "x");
    assert_ok(kd_h5_write(file, deep, KD_U8, 0, NULL, "", NULL));
    assert_ok(kd_h5_each(file, add_name, &names));
    memcpy(strchr(deep, 'x'), "a/x", 4);
    assert_ok(kd_h5_write(file, deep, KD_U8, 0, NULL, "", NULL));
    assert_fails(kd_h5_each(file, add_name, &names), KD_EDATA, "nested too deeply");
    assert_ok(kd_h5_finish(file));
}

/* Adds a dataset of 6 x 4 of a type and creation list, which are closed. */
static void add_foreign(hid_t file, const char *name, hid_t type, hid_t creation,
                        const void *data)
{
    hsize_t shape[] = {6, 4};
    hid_t space = H5Screate_simple(2, shape, NULL);
    hid_t id = H5Dcreate2(file, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);

    assert_true(id >= 0);
    if (data != NULL)
        assert_true(
            H5Dwrite(id, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(id);
    H5Sclose(space);
    H5Tclose(type);
    if (creation != H5P_DEFAULT)
        H5Pclose(creation);
}

static hid_t chunked(int deflate)
{
    hsize_t chunk[] = {2, 4};
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);

    H5Pset_chunk(list, 2, chunk);
    if (deflate)
        H5Pset_deflate(list, 1);
    return list;
}

static void other_layouts_and_byte_orders_are_read_without_an_offset(void **state)
{
    static const char *const names[] = {"chunked", "deflated", "big", "compact"};
    int32_t values[24], back[24];
    struct kd_array_info info;
    hid_t compact = H5Pcreate(H5P_DATASET_CREATE), id = foreign_file();

    (void)state;
    for (int i = 0; i < 24; i++)
        values[i] = i * 1000 - 5;
    H5Pset_layout(compact, H5D_COMPACT);
    add_foreign(id, "chunked", H5Tcopy(H5T_STD_I32LE), chunked(0), values);
    add_foreign(id, "deflated", H5Tcopy(H5T_STD_I32LE), chunked(1), values);
    add_foreign(id, "big", H5Tcopy(H5T_STD_I32BE), H5P_DEFAULT, values);
    add_foreign(id, "compact", H5Tcopy(H5T_STD_I32LE), compact, values);
    add_foreign(id, "late", H5Tcopy(H5T_STD_I32LE), H5P_DEFAULT, NULL);
    H5Fclose(id);

    struct kd_h5 *file = reopen("a.h5");
    for (size_t i = 0; i < 4; i++) {
        assert_ok(kd_h5_info(file, names[i], &info));
        assert_int_equal(info.type, KD_I32);
        assert_int_equal(info.offset, UINT64_MAX);
        memset(back, 0, sizeof back);
        assert_ok(kd_h5_read(file, names[i], &info, back));
        assert_memory_equal(back, values, sizeof back);
        assert_ok(kd_h5_read_rows(file, names[i], &info, 3, 2, back));
        assert_memory_equal(back, values + 12, 32);
    }
    assert_ok(kd_h5_info(file, "late", &info));
    assert_int_equal(info.offset, UINT64_MAX);
    kd_h5_close(file);
}

static hid_t external(void)
{
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);

    H5Pset_external(list, "/etc/passwd", 0, 96);
    return list;
}

static hid_t virtual(void)
{
    hsize_t shape[] = {6, 4};
    hid_t list = H5Pcreate(H5P_DATASET_CREATE),
          space = H5Screate_simple(2, shape, NULL);

    H5Pset_virtual(list, space, "b.h5", "logits", space);
    H5Sclose(space);
    return list;
}

static void other_kinds_of_datasets_are_refused(void **state)
{
    static const char *const odd[] = {"string", "compound", "reference", "enum",
                                      "int24",  "float8",   "bitfield"};
    struct kd_array_info info;
    hid_t id = foreign_file();
    hid_t compound = H5Tcreate(H5T_COMPOUND, 8), int24 = H5Tcopy(H5T_STD_I32LE);
    hid_t tiny = H5Tcopy(H5T_IEEE_F32LE), truth = H5Tenum_create(H5T_STD_I8LE);
    hsize_t nine[] = {1, 1, 1, 1, 1, 1, 1, 1, 1};

    (void)state;
    H5Tinsert(compound, "x", 0, H5T_STD_I32LE);
    H5Tset_precision(int24, 24);
    H5Tenum_insert(truth, "TRUE", &(signed char){1});
    H5Tset_fields(tiny, 7, 2, 5, 0, 2);
    H5Tset_size(tiny, 1);
    add_foreign(id, "string", H5Tcopy(H5T_C_S1), H5P_DEFAULT, NULL);
    add_foreign(id, "compound", compound, H5P_DEFAULT, NULL);
    add_foreign(id, "reference", H5Tcopy(H5T_STD_REF_OBJ), H5P_DEFAULT, NULL);
    add_foreign(id, "enum", truth, H5P_DEFAULT, NULL);
    add_foreign(id, "int24", int24, H5P_DEFAULT, NULL);
    add_foreign(id, "float8", tiny, H5P_DEFAULT, NULL);
    add_foreign(id, "bitfield", H5Tcopy(H5T_STD_B8LE), H5P_DEFAULT, NULL);
    add_foreign(id, "external", H5Tcopy(H5T_STD_I32LE), external(), NULL);
    add_foreign(id, "virtual", H5Tcopy(H5T_STD_I32LE), virtual(), NULL);
    hid_t space = H5Screate(H5S_NULL);
    H5Dclose(H5Dcreate2(id, "null", H5T_STD_I8LE, space, H5P_DEFAULT, H5P_DEFAULT,
                        H5P_DEFAULT));
    H5Sclose(space);
    space = H5Screate_simple(9, nine, NULL);
    H5Dclose(H5Dcreate2(id, "nine", H5T_STD_I8LE, space, H5P_DEFAULT, H5P_DEFAULT,
                        H5P_DEFAULT));
    H5Sclose(space);
    H5Fclose(id);

    struct kd_h5 *file = reopen("a.h5");
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        assert_fails(kd_h5_info(file, odd[i], &info), KD_EDATA, "not of plain numbers");
    assert_fails(kd_h5_info(file, "external", &info), KD_EDATA, "lie in other files");
    assert_fails(kd_h5_info(file, "virtual", &info), KD_EDATA, "lie in other files");
    assert_fails(kd_h5_info(file, "null", &info), KD_EDATA, "dimensions");
    assert_fails(kd_h5_info(file, "nine", &info), KD_EDATA, "has 9 dimensions");
    kd_h5_close(file);
}

/* Adds an attribute to the root; closes both handles. */
static void add_foreign_attribute(hid_t file, const char *name, hid_t type, hid_t space,
                                  hid_t memory, const void *data)
{
    hid_t id = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);

    assert_true(id >= 0);
    if (data != NULL)
        assert_true(H5Awrite(id, memory, data) >= 0);
    H5Aclose(id);
    H5Tclose(type);
    H5Sclose(space);
}

static void other_peoples_attributes_are_read_or_refused(void **state)
{
    const int minus = -3, nine = 9;
    const uint64_t large = UINT64_MAX;
    uint64_t u = 0;
    double f = 0;
    char *text = NULL;
    hid_t id = foreign_file(), spaced = H5Tcopy(H5T_C_S1), control = H5Tcopy(H5T_C_S1);

    (void)state;
    H5Tset_size(spaced, 6);
    H5Tset_strpad(spaced, H5T_STR_SPACEPAD);
    H5Tset_size(control, 3);
    hid_t as = H5Tcopy(control);
    add_foreign_attribute(id, "minus", H5Tcopy(H5T_STD_I8LE), H5Screate(H5S_SCALAR),
                          H5T_NATIVE_INT, &minus);
    add_foreign_attribute(id, "short", H5Tcopy(H5T_STD_I16BE), H5Screate(H5S_SCALAR),
                          H5T_NATIVE_INT, &nine);
    add_foreign_attribute(id, "large", H5Tcopy(H5T_STD_U64BE), H5Screate(H5S_SCALAR),
                          H5T_NATIVE_UINT64, &large);
    add_foreign_attribute(id, "float", H5Tcopy(H5T_IEEE_F32LE), H5Screate(H5S_SCALAR),
                          H5T_NATIVE_INT, &nine);
    add_foreign_attribute(id, "empty", H5Tcopy(H5T_STD_I8LE), H5Screate(H5S_NULL),
                          H5T_NATIVE_INT, NULL);
    add_foreign_attribute(id, "long", H5Tcopy(H5T_NATIVE_LDOUBLE),
                          H5Screate(H5S_SCALAR), H5T_NATIVE_INT, &nine);
    hid_t other = H5Tcopy(spaced);
    add_foreign_attribute(id, "spaced", spaced, H5Screate(H5S_SCALAR), other, "ab c  ");
    H5Tclose(other);
    add_foreign_attribute(id, "control", control, H5Screate(H5S_SCALAR), as, "a\x1b\0");
    H5Tclose(as);
    H5Fclose(id);

    struct kd_h5 *file = reopen("a.h5");
    assert_fails(kd_h5_get_u64(file, "minus", &u), KD_EDATA, "'minus': -3 is negative");
    assert_ok(kd_h5_get_f64(file, "minus", &f));
    assert_true(f == -3);
    assert_ok(kd_h5_get_u64(file, "short", &u));
    assert_int_equal(u, 9);
    assert_ok(kd_h5_get_u64(file, "large", &u));
    assert_int_equal(u, UINT64_MAX);
    assert_ok(kd_h5_get_f64(file, "float", &f));
    assert_true(f == 9);
    assert_fails(kd_h5_get_u64(file, "empty", &u), KD_EDATA, "holds no value");
    assert_fails(kd_h5_get_f64(file, "empty", &f), KD_EDATA, "holds no value");
    assert_fails(kd_h5_get_f64(file, "long", &f), KD_EDATA, "not a number");
    assert_ok(kd_h5_get_string(file, "spaced", &text));
    assert_string_equal(text, "ab c");
    free(text);
    assert_fails(kd_h5_get_string(file, "control", &text), KD_EDATA, "printable");
    kd_h5_close(file);
}

static void files_that_are_none_are_refused_in_one_sentence(void **state)
{
    struct kd_h5 *file = NULL;
    char *data = NULL;
    size_t size = 0;

    (void)state;
    assert_fails(kd_h5_open("none.h5", &file), KD_ENOINPUT,
                 "none.h5: cannot open: No such file");
    assert_null(file);
    assert_fails(kd_h5_open(".", &file), KD_EDATA, ".: not a regular file");
    assert_ok(kd_file_write("b.h5", "this is no HDF5 file", 20));
    assert_fails(kd_h5_open("b.h5", &file), KD_EDATA,
                 "b.h5: not a readable HDF5 file: file signature not found");
    assert_ok(kd_file_write("b.h5", "", 0));
    assert_fails(kd_h5_open_rw("b.h5", &file), KD_EDATA,
                 "b.h5: not an HDF5 file: it is empty");
    assert_fails(kd_h5_create("none/b.h5", &file), KD_ECREATE,
                 "none/b.h5: cannot create: No such file or directory");
    assert_null(file);

    write_specimen("a.h5");
    assert_ok(kd_file_read("a.h5", 1 << 20, &data, &size));
    assert_int_equal(truncate("a.h5", (off_t)(size - 1)), 0);
    assert_fails(kd_h5_open("a.h5", &file), KD_EDATA, "truncated file");
    free(data);
    kd_h5_close(NULL);
}

/* The library itself notices a file shorter than its superblock says; here the
 * superblock agrees with the shorter file, and the dataset does not. */
static void a_dataset_beyond_the_end_of_the_file_is_refused(void **state)
{
    const uint64_t shape[] = {100000};
    struct kd_array_info info;
    char *data = NULL;
    size_t size = 0;
    uint64_t end;

    (void)state;
    struct kd_h5 *file = create("a.h5");
    assert_ok(kd_h5_write(file, "x", KD_U8, 1, shape, NULL, NULL));
    assert_ok(kd_h5_finish(file));
    assert_ok(kd_file_read("a.h5", 1 << 20, &data, &size));
    end = 50000;
    memcpy(data + 40, &end, 8); /* the end of file address of superblock 0 */
    assert_ok(kd_file_write("a.h5", data, 50000));
    free(data);
    file = reopen("a.h5");
    assert_fails(kd_h5_info(file, "x", &info), KD_EDATA,
                 "'x': truncated: its 100000 bytes");
    kd_h5_close(file);
}

/* Nor may it do harm later, as the work that the library does at exit would. */
static void a_full_disk_is_an_error_with_its_reason(void **state)
{
    const uint64_t shape[] = {1000000};
    struct rlimit old, small = {.rlim_cur = 65536};
    unsigned char *data = kd_alloc(1000000, 1);

    (void)state;
    memset(data, 1, 1000000);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    struct kd_h5 *file = create("a.h5"), *other = create("b.h5");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum kd_status write = kd_h5_write(file, "x", KD_U8, 1, shape, data, NULL);
    char *why = kd_copy_string(kd_error());
    assert_ok(kd_h5_write(other, "x", KD_U8, 1, shape, NULL, NULL));
    enum kd_status finish = kd_h5_finish(other);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_fails(finish, KD_EIO, "b.h5: cannot write: File too large");
    assert_int_equal(write, KD_EIO);
    assert_string_equal(why, "a.h5: 'x': cannot write: File too large");
    kd_h5_close(file);
    free(why);
    free(data);
}

static void no_file_is_locked_and_no_plugin_loaded(void **state)
{
    unsigned plugins = 1;

    (void)state;
    write_specimen("a.h5");
    struct kd_h5 *file = reopen("a.h5");
    int fd = open("a.h5", O_RDONLY);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    close(fd);
    assert_true(H5PLget_loading_state(&plugins) >= 0);
    assert_int_equal(plugins, 0);
    kd_h5_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_comes_back_with_its_bits),
        cmocka_unit_test(the_bytes_lie_at_the_offset),
        cmocka_unit_test(data_may_be_written_later_at_the_offset),
        cmocka_unit_test(rows_are_read_from_the_middle),
        cmocka_unit_test(arrays_of_no_rows_and_scalars_work),
        cmocka_unit_test(the_same_calls_give_the_same_bytes_at_another_time),
        cmocka_unit_test(attributes_come_back),
        cmocka_unit_test(a_history_is_told_to_people),
        cmocka_unit_test(attributes_are_replaced_in_a_finished_file),
        cmocka_unit_test(only_plain_text_becomes_a_string),
        cmocka_unit_test(a_dataset_is_overwritten_in_place_or_not_at_all),
        cmocka_unit_test(names_and_shapes_that_cannot_be_are_refused),
        cmocka_unit_test(objects_are_found_by_name),
        cmocka_unit_test(each_goes_in_the_order_of_the_whole_names),
        cmocka_unit_test(links_out_of_the_file_are_not_followed),
        cmocka_unit_test(groups_in_a_circle_or_too_deep_are_refused),
        cmocka_unit_test(no_file_is_locked_and_no_plugin_loaded),
        cmocka_unit_test(other_layouts_and_byte_orders_are_read_without_an_offset),
        cmocka_unit_test(other_kinds_of_datasets_are_refused),
        cmocka_unit_test(other_peoples_attributes_are_read_or_refused),
        cmocka_unit_test(files_that_are_none_are_refused_in_one_sentence),
        cmocka_unit_test(a_dataset_beyond_the_end_of_the_file_is_refused),
        cmocka_unit_test(a_full_disk_is_an_error_with_its_reason),
    };

    return cmocka_run_group_tests(tests, enter, leave);
}
