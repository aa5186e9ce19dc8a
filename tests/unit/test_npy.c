/* SPDX-License-Identifier: MIT */
/* .npy: headers that NumPy writes, and all that is refused. */
#include "kd/npy.h"

#include "kd/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[] = "/tmp/kd-test-npy-XXXXXX";

static int enter(void **state)
{
    (void)state;
    return mkdtemp(directory) != NULL && chdir(directory) == 0 ? 0 : -1;
}

static int leave(void **state)
{
    (void)state;
    return chdir("/") == 0 && rmdir(directory) == 0 ? 0 : -1;
}

/* A header of that version around a dictionary, as it is; its length. */
static size_t wrap(unsigned char out[600], int version, const char *dictionary)
{
    size_t length = strlen(dictionary), prefix = version == 1 ? 10 : 12;

    memcpy(out, "\x93NUMPY", 6);
    out[6] = (unsigned char)version;
    out[7] = 0;
    memset(out + 8, 0, 4);
    out[8] = (unsigned char)(length & 0xff);
    out[9] = (unsigned char)(length >> 8);
    memcpy(out + prefix, dictionary, length);
    return prefix + length;
}

static enum kd_status parse(const char *dictionary, struct kd_array_info *info)
{
    unsigned char header[600];
    size_t size = wrap(header, 1, dictionary);

    return kd_npy_parse(header, size, "x.npy", info);
}

static void assert_refused(const char *dictionary, const char *why)
{
    struct kd_array_info info;

    assert_int_equal(parse(dictionary, &info), KD_EDATA);
    if (strstr(kd_error(), "x.npy: ") != kd_error() || strstr(kd_error(), why) == NULL)
        fail_msg("%s gives \"%s\"", dictionary, kd_error());
}

static void headers_of_all_versions_are_read(void **state)
{
    unsigned char header[600];
    struct kd_array_info info;
    size_t size = 0;

    (void)state;
    for (int version = 1; version <= 3; version++) {
        size_t length = wrap(
            header, version,
            "{'descr': '<f2', 'fortran_order': False, 'shape': (3, 4, 5), }    \n");
        assert_int_equal(kd_npy_header_size(header, "x", &size), KD_OK);
        assert_int_equal(size, length);
        assert_int_equal(kd_npy_parse(header, length, "x", &info), KD_OK);
        assert_int_equal(info.type, KD_F16);
        assert_int_equal(info.rank, 3);
        assert_int_equal(info.shape[2], 5);
        assert_int_equal(info.count, 60);
        assert_int_equal(info.bytes, 120);
        assert_int_equal(info.offset, length);
    }
}

static void other_writers_headers_are_read(void **state)
{
    struct kd_array_info info;

    (void)state;
    assert_int_equal(
        parse("{\"shape\":(7L,),\"fortran_order\":False,\"descr\":\"|u1\"}", &info),
        KD_OK);
    assert_int_equal(info.type, KD_U8);
    assert_int_equal(info.rank, 1);
    assert_int_equal(info.shape[0], 7);
    assert_int_equal(parse("{'descr':'<i8','fortran_order':False,'shape':()}", &info),
                     KD_OK);
    assert_int_equal(info.rank, 0);
    assert_int_equal(info.count, 1);
    assert_int_equal(
        parse("{'descr':'<i8','fortran_order':False,'shape':(0, 9)}", &info), KD_OK);
    assert_int_equal(info.count, 0);
}

#define REST   ", 'fortran_order': False, 'shape': (3,), }"
#define SHAPED "{'descr': '<f4', 'fortran_order': False, 'shape': "

static void what_is_no_plain_array_is_refused_with_the_remedy(void **state)
{
    (void)state;
    assert_refused("{'descr': '|O'" REST, "Python objects");
    assert_refused("{'descr': '>f4'" REST, "big-endian ('>f4'): save x.astype(");
    assert_refused("{'descr': [('a', '<f4')]" REST, "structured array");
    assert_refused("{'descr': '<c8'" REST, "type '<c8': save it as one of");
    assert_refused("{'descr': '|f4'" REST, "type '|f4'");
    assert_refused("{'descr': ''" REST, "type ''");
    assert_refused("{'descr': '<f4', 'fortran_order': True, 'shape': (3,), }",
                   "numpy.ascontiguousarray");
}

static void a_bad_dictionary_is_refused(void **state)
{
    (void)state;
    assert_refused("  ", "no dictionary");
    assert_refused("{}", "is missing");
    assert_refused("{'descr': '<f4', 'fortran_order': False}", "shape is missing");
    assert_refused("{'descr': '<f4', 'descr': '<f4'" REST,
                   "'descr' is unknown or there");
    assert_refused("{'color': '<f4'" REST, "'color' is unknown");
    assert_refused("{'descr' '<f4'" REST, "colon");
    assert_refused("{'descr': <f4" REST, "string is missing");
    assert_refused("{'descr': '<f4", "no end");
    assert_refused("{'descr': '\x1b[2J'" REST, "not plain");
    assert_refused("{'descr': '0123456789012345678901234567890123'" REST, "too long");
    assert_refused("{'descr': '<f4', 'fortran_order': 0, 'shape': ()}", "neither True");
    assert_refused(SHAPED "(3,)", "comma or its end");
    assert_refused(SHAPED "(3,)} more", "behind the dictionary");
    assert_refused(SHAPED "3}", "no tuple");
    assert_refused(SHAPED "(3 4)}", "shape has no end");
    assert_refused(SHAPED "(-3,)}", "no dimension");
    assert_refused(SHAPED "(,)}", "no dimension");
    assert_refused(SHAPED "(1,1,1,1,1,1,1,1,1)}", "more than 8 dimensions");
    assert_refused(SHAPED "(18446744073709551616,)}", "too large");
    assert_refused(SHAPED "(4294967296, 4294967296)}", "too large");
    assert_refused(SHAPED "(0, 4294967296, 4294967296)}", "too large");
}

/* Each cut is its own allocation, so that a sanitizer sees a read beyond it. */
static void a_header_that_is_cut_anywhere_is_refused(void **state)
{
    unsigned char header[600];
    struct kd_array_info info;
    size_t size = wrap(header, 2, SHAPED "(3, 4), }\n");

    (void)state;
    for (size_t cut = 0; cut < size; cut++) {
        unsigned char *part = malloc(cut + 1);
        assert_non_null(part);
        memcpy(part, header, cut);
        part = realloc(part, cut > 0 ? cut : 1);
        assert_int_equal(kd_npy_parse(part, cut, "x", &info), KD_EDATA);
        free(part);
    }
    assert_int_equal(kd_npy_parse(header, size, "x", &info), KD_OK);
}

static void foreign_magic_and_versions_are_refused(void **state)
{
    unsigned char header[600];
    struct kd_array_info info;
    size_t size = wrap(header, 1, SHAPED "(3,)}");

    (void)state;
    header[6] = 4;
    assert_int_equal(kd_npy_parse(header, size, "x", &info), KD_EDATA);
    assert_non_null(strstr(kd_error(), "version 4.0"));
    header[6] = 2;
    memset(header + 8, 0xff, 4);
    assert_int_equal(kd_npy_parse(header, size, "x", &info), KD_EDATA);
    assert_non_null(strstr(kd_error(), "header of 4294967295 bytes"));
    header[1] = 'n';
    assert_int_equal(kd_npy_parse(header, size, "x", &info), KD_EDATA);
    assert_non_null(strstr(kd_error(), "not an .npy file"));
}

static void mutated_headers_do_no_harm(void **state)
{
    unsigned char header[600], *copy = malloc(600);
    struct kd_array_info info;
    size_t size = wrap(header, 1, SHAPED "(3, 4), }        \n");
    uint32_t x = 12345;

    (void)state;
    assert_non_null(copy);
    for (int i = 0; i < 20000; i++) {
        memcpy(copy, header, size);
        for (int edits = 0; edits < 3; edits++) {
            x = x * 1664525 + 1013904223;
            copy[(x >> 8) % size] = (unsigned char)(x >> 24);
        }
        if (kd_npy_parse(copy, size, "x", &info) == KD_OK)
            assert_true(info.rank <= KD_MAX_RANK && info.offset <= size);
    }
    free(copy);
}

static void every_written_header_is_read_back(void **state)
{
    const uint64_t shape[KD_MAX_RANK] = {3, 1, 4, 1, 5, 9, 2, 6};
    struct kd_array_info info;
    char header[256];

    (void)state;
    for (int type = 0; type < KD_TYPE_COUNT; type++)
        for (size_t rank = 0; rank <= KD_MAX_RANK && type != KD_BF16; rank++) {
            size_t size = kd_npy_header((enum kd_type)type, rank, shape, header);
            assert_int_equal(size % 64, 0);
            assert_int_equal(kd_npy_parse(header, size, "x", &info), KD_OK);
            assert_int_equal(info.type, type);
            assert_int_equal(info.rank, rank);
            assert_memory_equal(info.shape, shape, rank * sizeof *shape);
            assert_int_equal(info.offset, size);
        }
}

static void the_longest_header_fits(void **state)
{
    uint64_t shape[KD_MAX_RANK];
    char header[256];

    (void)state;
    memset(shape, 0xff, sizeof shape);
    assert_int_equal(kd_npy_header(KD_F32, KD_MAX_RANK, shape, header), 256);
    assert_int_equal(header[255], '\n');
}

static void a_written_header_is_what_numpy_reads(void **state)
{
    const uint64_t shape[] = {3, 4};
    char header[256];

    (void)state;
    assert_int_equal(kd_npy_header(KD_F16, 2, shape, header), 128);
    assert_memory_equal(header, "\x93NUMPY\x01\x00\x76\x00", 10);
    assert_memory_equal(
        header + 10, "{'descr': '<f2', 'fortran_order': False, 'shape': (3, 4), }", 59);
    kd_npy_header(KD_U8, 1, shape, header);
    assert_memory_equal(
        header + 10, "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }", 57);
}

static void a_file_is_written_and_read(void **state)
{
    const uint64_t shape[] = {2, 3};
    const float values[] = {1, 2, 3, 4, 5, 6};
    struct kd_array_info info;
    struct kd_map map;

    (void)state;
    assert_int_equal(kd_npy_write("a.npy", KD_F32, 2, shape, values), KD_OK);
    assert_int_equal(access("a.npy.part", F_OK), -1);
    assert_int_equal(kd_npy_info("a.npy", &info), KD_OK);
    assert_int_equal(info.type, KD_F32);
    assert_int_equal(info.bytes, sizeof values);
    assert_int_equal(kd_map_open(&map, "a.npy"), KD_OK);
    assert_memory_equal(map.data + info.offset, values, sizeof values);
    kd_map_close(&map);

    assert_int_equal(truncate("a.npy", (off_t)(info.offset + 23)), 0);
    assert_int_equal(kd_npy_info("a.npy", &info), KD_EDATA);
    assert_non_null(strstr(kd_error(), "a.npy: truncated: 23 bytes behind the header"));
    assert_int_equal(truncate("a.npy", (off_t)(128 + 25)), 0);
    assert_int_equal(kd_npy_info("a.npy", &info), KD_EDATA);
    assert_non_null(strstr(kd_error(), "a.npy: too long: 25 bytes"));
    assert_int_equal(truncate("a.npy", 0), 0);
    assert_int_equal(kd_npy_info("a.npy", &info), KD_EDATA);
    assert_non_null(strstr(kd_error(), "too short"));
    unlink("a.npy");
    assert_int_equal(kd_npy_info("a.npy", &info), KD_ENOINPUT);
    assert_int_equal(kd_npy_write("none/a.npy", KD_F32, 2, shape, values), KD_ECREATE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_of_all_versions_are_read),
        cmocka_unit_test(other_writers_headers_are_read),
        cmocka_unit_test(what_is_no_plain_array_is_refused_with_the_remedy),
        cmocka_unit_test(a_bad_dictionary_is_refused),
        cmocka_unit_test(a_header_that_is_cut_anywhere_is_refused),
        cmocka_unit_test(foreign_magic_and_versions_are_refused),
        cmocka_unit_test(mutated_headers_do_no_harm),
        cmocka_unit_test(every_written_header_is_read_back),
        cmocka_unit_test(the_longest_header_fits),
        cmocka_unit_test(a_written_header_is_what_numpy_reads),
        cmocka_unit_test(a_file_is_written_and_read),
    };

    return cmocka_run_group_tests(tests, enter, leave);
}
