/* SPDX-License-Identifier: MIT */
/* .safetensors: headers as other writers make them, what is refused, and writing. */
#include "kd/safetensors.h"

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

static char directory[] = "/tmp/kd-test-safetensors-XXXXXX";

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

/* A file: the header's length, the header, then bytes 0, 1, 2, ... Each is its own
 * allocation, so that a sanitizer sees a read beyond it. */
static uint8_t *wrap(const char *header, size_t data, size_t *size)
{
    size_t length = strlen(header);
    uint8_t *file = malloc(8 + length + data);

    assert_non_null(file);
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t)(length >> 8 * i);
    memcpy(file + 8, header, length);
    for (size_t i = 0; i < data; i++)
        file[8 + length + i] = (uint8_t)i;
    *size = 8 + length + data;
    return file;
}

static void assert_refused(const char *header, size_t data, const char *why)
{
    struct kd_safetensors *file = NULL;
    size_t size = 0;
    uint8_t *bytes = wrap(header, data, &size);

    assert_int_equal(kd_safetensors_parse(bytes, size, "x.st", &file), KD_EDATA);
    assert_null(file);
    if (strstr(kd_error(), "x.st: ") != kd_error() || strstr(kd_error(), why) == NULL)
        fail_msg("%s gives \"%s\"", header, kd_error());
    free(bytes);
}

static void tensors_are_found_by_name(void **state)
{
    static const char header[] =
        "{\"z\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[4,20]},"
        "\"__metadata__\":{\"format\":\"pt\"},"
        "\"a.b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]},"
        "\"none\":{\"dtype\":\"I64\",\"shape\":[0,7],\"data_offsets\":[20,20]},"
        "\"one\":{\"data_offsets\":[20,21],\"dtype\":\"BOOL\",\"shape\":[]}}   ";
    struct kd_safetensors *file = NULL;
    size_t size = 0;
    uint8_t *bytes = wrap(header, 21, &size);
    const struct kd_safetensor *z = NULL;

    (void)state;
    assert_int_equal(kd_safetensors_parse(bytes, size, "x", &file), KD_OK);
    assert_int_equal(kd_safetensors_count(file), 4);
    assert_string_equal(kd_safetensors_at(file, 0)->name, "a.b");
    assert_string_equal(kd_safetensors_at(file, 3)->name, "z");
    z = kd_safetensors_find(file, "z");
    assert_int_equal(z->info.type, KD_F32);
    assert_int_equal(z->info.rank, 2);
    assert_int_equal(z->info.shape[1], 2);
    assert_int_equal(z->info.bytes, 16);
    assert_int_equal(z->info.offset, strlen(header) + 8 + 4);
    assert_ptr_equal(z->data, bytes + z->info.offset);
    assert_int_equal(kd_safetensors_find(file, "a.b")->info.type, KD_BF16);
    assert_int_equal(kd_safetensors_find(file, "none")->info.count, 0);
    assert_int_equal(kd_safetensors_find(file, "one")->info.type, KD_U8);
    assert_int_equal(kd_safetensors_find(file, "one")->info.count, 1);
    assert_null(kd_safetensors_find(file, "b"));
    assert_string_equal(kd_safetensors_metadata(file, "format"), "pt");
    assert_null(kd_safetensors_metadata(file, "Format"));
    kd_safetensors_close(file);
    free(bytes);
}

static void a_file_without_tensors_is_fine(void **state)
{
    struct kd_safetensors *file = NULL;
    size_t size = 0;
    uint8_t *bytes = wrap("{}", 0, &size);

    (void)state;
    assert_int_equal(kd_safetensors_parse(bytes, size, "x", &file), KD_OK);
    assert_int_equal(kd_safetensors_count(file), 0);
    assert_null(kd_safetensors_find(file, "a"));
    assert_null(kd_safetensors_metadata(file, "a"));
    kd_safetensors_close(file);
    free(bytes);
}

#define ENTRY(dtype, shape, begin, end)                                                \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end  \
    "]}"

static void a_bad_header_is_refused(void **state)
{
    (void)state;
    assert_refused("", 0, "no JSON object");
    assert_refused("[]", 0, "no JSON object");
    assert_refused(" {}", 0, "no JSON object");
    assert_refused("{\"a\":", 0, "not JSON: at byte");
    assert_refused("{} x", 0, "something stands behind");
    assert_refused("{}", 3, "too long: its last 3 bytes");
    assert_refused("{\"a\":1}", 0, "'a': its entry is no object");
    assert_refused("{\"a\":{}}", 0, "'a': its dtype is missing");
    assert_refused("{\"a\":{\"dtype\":4}}", 0, "'a': its dtype is missing");
    assert_refused("{\"a\":{\"dtype\":\"F8_E4M3\"}}", 0,
                   "of type 'F8_E4M3', which are not read: save them as one of");
    assert_refused("{\"a\":{\"dtype\":\"F32\"}}", 0, "'a': its shape is missing");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 0, "its data_offsets");
    assert_refused("{\"__metadata__\":{\"a\":1}}", 0, "'a' in its __metadata__");
    assert_refused("{\"__metadata__\":1}", 0, "its __metadata__ is there twice, or no");
    assert_refused("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "there twice");
}

static void a_tensor_that_cannot_be_there_is_refused(void **state)
{
    (void)state;
    assert_refused("{\"a\":" ENTRY("F32", "[2]", 0, 9) "}", 8, "truncated: tensor 'a'");
    assert_refused("{\"a\":" ENTRY("F32", "[2]", 0, 4) "}", 8,
                   "takes 8 bytes by its shape, 4 by its data_offsets");
    assert_refused("{\"a\":" ENTRY("F32", "[2]", 8, 0) "}", 8, "data_offsets are not");
    assert_refused("{\"a\":" ENTRY("F32", "[2]", -8, 0) "}", 8, "data_offsets are not");
    assert_refused("{\"a\":" ENTRY("F32", "[2]", 0, 8.5) "}", 8,
                   "data_offsets are not");
    assert_refused("{\"a\":" ENTRY("F32", "[2]", 0, 1e30) "}", 8, "data_offsets");
    assert_refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1,2]}}",
                   1, "data_offsets are not");
    assert_refused("{\"a\":" ENTRY("F32", "[-2]", 0, 8) "}", 8, "no dimension");
    assert_refused("{\"a\":" ENTRY("F32", "[1.5]", 0, 8) "}", 8, "no dimension");
    assert_refused("{\"a\":" ENTRY("F32", "[\"2\"]", 0, 8) "}", 8, "no dimension");
    assert_refused("{\"a\":" ENTRY("U8", "[1,1,1,1,1,1,1,1,1]", 0, 1) "}", 1,
                   "more than 8 dimensions");
    assert_refused(
        "{\"a\":" ENTRY("F64", "[4503599627370496,4503599627370496]", 0, 8) "}", 8,
        "too large");
}

static void tensors_neither_overlap_nor_leave_gaps(void **state)
{
    (void)state;
    assert_refused(
        "{\"a\":" ENTRY("U8", "[4]", 0, 4) ",\"b\":" ENTRY("U8", "[4]", 3, 7) "}", 7,
        "'b': its data overlap");
    assert_refused(
        "{\"a\":" ENTRY("U8", "[4]", 0, 4) ",\"b\":" ENTRY("U8", "[4]", 5, 9) "}", 9,
        "'b': there are bytes in front of it");
    assert_refused("{\"a\":" ENTRY("U8", "[4]", 1, 5) "}", 5, "bytes in front of it");
    assert_refused(
        "{\"a\":" ENTRY("U8", "[2]", 0, 2) ",\"a\":" ENTRY("U8", "[2]", 2, 4) "}", 4,
        "'a': is there twice");
}

static void a_file_that_is_cut_anywhere_is_refused(void **state)
{
    struct kd_safetensors *file = NULL;
    size_t size = 0;
    uint8_t *bytes = wrap("{\"a\":" ENTRY("F32", "[2]", 0, 8) "}", 8, &size);

    (void)state;
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *part = malloc(cut > 0 ? cut : 1);

        assert_non_null(part);
        memcpy(part, bytes, cut);
        assert_int_equal(kd_safetensors_parse(part, cut, "x", &file), KD_EDATA);
        free(part);
    }
    memset(bytes, 0xff, 8);
    assert_int_equal(kd_safetensors_parse(bytes, size, "x", &file), KD_EDATA);
    assert_non_null(strstr(kd_error(), "a header of 18446744073709551615 bytes"));
    free(bytes);
}

static void mutated_files_do_no_harm(void **state)
{
    static const char header[] = "{\"a\":" ENTRY("F32", "[2]", 0, 8) ",\"b\":" ENTRY(
        "U8", "[3]", 8, 11) ",\"__metadata__\":{\"k\":\"v\"}}";
    struct kd_safetensors *file = NULL;
    size_t size = 0, sum = 0;
    uint8_t *bytes = wrap(header, 11, &size), *copy = malloc(size);
    uint32_t x = 12345;

    (void)state;
    assert_non_null(copy);
    for (int i = 0; i < 20000; i++) {
        memcpy(copy, bytes, size);
        for (int edits = 0; edits < 3; edits++) {
            x = x * 1664525 + 1013904223;
            copy[(x >> 8) % size] = (uint8_t)(x >> 24);
        }
        if (kd_safetensors_parse(copy, size, "x", &file) != KD_OK)
            continue;
        for (size_t t = 0; t < kd_safetensors_count(file); t++) {
            const struct kd_safetensor *tensor = kd_safetensors_at(file, t);
            const uint8_t *at = tensor->data;

            assert_true(tensor->info.offset + tensor->info.bytes <= size);
            for (size_t k = 0; k < tensor->info.bytes; k++)
                sum += at[k];
        }
        kd_safetensors_close(file);
    }
    assert_true(sum > 0);
    free(copy);
    free(bytes);
}

static const struct kd_safetensor two[] = {
    {.name = "b", .info = {.type = KD_U8, .rank = 1, .shape = {3}}},
    {.name = "a \"quoted\"", .info = {.type = KD_F32, .rank = 2, .shape = {2, 2}}}};
static const float values[] = {1, 2, 3, 4};

static void what_is_written_is_read_back(void **state)
{
    const char *const metadata[] = {"temperature", "4", "who", "me", NULL};
    struct kd_safetensors_writer *writer = NULL;
    struct kd_safetensors *file = NULL;
    const struct kd_safetensor *a = NULL;

    (void)state;
    assert_int_equal(kd_safetensors_create("x.st", two, 2, metadata, &writer), KD_OK);
    assert_int_equal(kd_safetensors_append(writer, 0, "xy", 2), KD_OK);
    assert_int_equal(kd_safetensors_append(writer, 1, values, 8), KD_OK);
    assert_int_equal(kd_safetensors_append(writer, 1, values + 2, 8), KD_OK);
    assert_int_equal(kd_safetensors_append(writer, 0, "z", 1), KD_OK);
    assert_int_equal(access("x.st", F_OK), -1);
    assert_int_equal(kd_safetensors_commit(writer), KD_OK);
    assert_int_equal(kd_safetensors_open("x.st", &file), KD_OK);
    a = kd_safetensors_find(file, "a \"quoted\"");
    assert_non_null(a);
    assert_int_equal(a->info.offset % 8, 0);
    assert_memory_equal(a->data, values, sizeof values);
    assert_memory_equal(kd_safetensors_find(file, "b")->data, "xyz", 3);
    assert_string_equal(kd_safetensors_metadata(file, "who"), "me");
    kd_safetensors_close(file);
    unlink("x.st");
}

/* The format's own words: what a reader written from its description sees. */
static void a_written_file_is_laid_out_as_described(void **state)
{
    static const char due[] =
        "{\"a \\\"quoted\\\"\":{\"dtype\":\"F32\",\"shape\":[2,2],"
        "\"data_offsets\":[0,16]},"
        "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[16,19]}}";
    struct kd_safetensors_writer *writer = NULL;
    char *bytes = NULL;
    size_t size = 0, header = 0;

    (void)state;
    assert_int_equal(kd_safetensors_create("x.st", two, 2, NULL, &writer), KD_OK);
    assert_int_equal(kd_safetensors_append(writer, 0, "xyz", 3), KD_OK);
    assert_int_equal(kd_safetensors_append(writer, 1, values, 16), KD_OK);
    assert_int_equal(kd_safetensors_commit(writer), KD_OK);
    assert_int_equal(kd_file_read("x.st", 4096, &bytes, &size), KD_OK);
    header = 8 + (uint8_t)bytes[0];
    assert_int_equal(size, header + 19);
    assert_memory_equal(bytes + 8, due, sizeof due - 1);
    for (size_t i = 8 + sizeof due - 1; i < header; i++)
        assert_int_equal(bytes[i], ' ');
    assert_int_equal(header % 8, 0);
    assert_memory_equal(bytes + header, values, 16);
    free(bytes);
    unlink("x.st");
}

static void a_file_that_is_not_full_gets_no_name(void **state)
{
    struct kd_safetensors_writer *writer = NULL;

    (void)state;
    assert_int_equal(kd_safetensors_create("x.st", two, 2, NULL, &writer), KD_OK);
    assert_int_equal(kd_safetensors_append(writer, 0, "wxyz", 4), KD_EBUG);
    assert_int_equal(kd_safetensors_append(writer, 0, "xyz", 3), KD_OK);
    assert_int_equal(kd_safetensors_commit(writer), KD_EBUG);
    assert_non_null(strstr(kd_error(), "0 bytes came of 16"));
    assert_int_equal(access("x.st", F_OK), -1);
    assert_int_equal(access("x.st.part", F_OK), -1);
    assert_int_equal(kd_safetensors_create("none/x.st", two, 2, NULL, &writer),
                     KD_ECREATE);
    kd_safetensors_abandon(NULL);
}

static void names_that_clash_are_refused(void **state)
{
    const struct kd_safetensor same[] = {two[0],
                                         {.name = "b", .info = {.type = KD_F32}}};
    const struct kd_safetensor meta[] = {
        {.name = "__metadata__", .info = {.type = KD_U8}}};
    struct kd_safetensors_writer *writer = NULL;

    (void)state;
    assert_int_equal(kd_safetensors_create("x.st", same, 2, NULL, &writer), KD_EUSAGE);
    assert_non_null(strstr(kd_error(), "'b' is there twice"));
    assert_int_equal(kd_safetensors_create("x.st", meta, 1, NULL, &writer), KD_EUSAGE);
    assert_int_equal(access("x.st.part", F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_found_by_name),
        cmocka_unit_test(a_file_without_tensors_is_fine),
        cmocka_unit_test(a_bad_header_is_refused),
        cmocka_unit_test(a_tensor_that_cannot_be_there_is_refused),
        cmocka_unit_test(tensors_neither_overlap_nor_leave_gaps),
        cmocka_unit_test(a_file_that_is_cut_anywhere_is_refused),
        cmocka_unit_test(mutated_files_do_no_harm),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(a_written_file_is_laid_out_as_described),
        cmocka_unit_test(a_file_that_is_not_full_gets_no_name),
        cmocka_unit_test(names_that_clash_are_refused),
    };

    return cmocka_run_group_tests(tests, enter, leave);
}
