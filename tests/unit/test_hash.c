/* SPDX-License-Identifier: MIT */
/* Hashes: known answers of XXH3, pieces, rows, files. */
#include "kd/hash.h"

#include "kd/file.h"
#include "kd/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIZE = 5000 };
static unsigned char bytes[SIZE];

static int fill(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (unsigned char)(i * 7 + i / 256);
    return 0;
}

static struct kd_digest digest_of(const void *data, size_t size)
{
    struct kd_hash *h = NULL;
    struct kd_digest digest;

    assert_int_equal(kd_hash_new(&h), KD_OK);
    kd_hash_add(h, data, size);
    kd_hash_digest(h, &digest);
    kd_hash_free(h);
    return digest;
}

/* Of seed 0; any program that knows XXH3 gives them. */
static void known_texts_have_their_known_hashes(void **state)
{
    (void)state;
    assert_string_equal(digest_of("", 0).hex, "99aa06d3014798d86001c324468d497f");
    assert_string_equal(digest_of("abc", 3).hex, "06b05ab6733a618578af5f94892f3950");
    assert_true(kd_hash_u64("abc", 3) == UINT64_C(0x78af5f94892f3950));
    assert_true(kd_hash_u64(NULL, 0) == UINT64_C(0x2d06800538d394c2));
}

static void pieces_make_the_hash_of_the_whole(void **state)
{
    struct kd_digest whole = digest_of(bytes, SIZE), mine;
    struct kd_hash *h = NULL;

    (void)state;
    assert_int_equal(kd_hash_new(&h), KD_OK);
    for (size_t step = 1; step < 700; step = step * 2 + 1) {
        kd_hash_reset(h);
        for (size_t at = 0; at < SIZE; at += step)
            kd_hash_add(h, bytes + at, step < SIZE - at ? step : SIZE - at);
        kd_hash_digest(h, &mine);
        assert_true(kd_digest_equal(&whole, &mine));
        assert_int_equal(kd_hash_check(h), (uint32_t)kd_hash_u64(bytes, SIZE));
    }
    kd_hash_free(h);
    kd_hash_free(NULL);
}

/* Rows as they are: short, long, with empty parts, and around the limit between
 * the two ways in which they are hashed. */
static void parts_have_the_check_of_their_bytes_in_a_row(void **state)
{
    static const size_t limits[] = {0,    1,    3,    17,   240, 241,
                                    1023, 1024, 1025, 2000, SIZE};

    (void)state;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        for (size_t cut = 0; cut <= limits[i]; cut += 1 + cut / 3) {
            const void *parts[] = {bytes, NULL, bytes + cut};
            size_t sizes[] = {cut, 0, limits[i] - cut};
            assert_int_equal(kd_hash_check_parts(parts, sizes, 3),
                             (uint32_t)kd_hash_u64(bytes, limits[i]));
        }
    assert_int_equal(kd_hash_check_parts(NULL, NULL, 0),
                     (uint32_t)kd_hash_u64(NULL, 0));
}

static void strings_and_numbers_are_added_with_their_ends(void **state)
{
    static const unsigned char expected[] = {'a', 'b', 0,    'c',  0,    8,   7,
                                             6,   5,   0x14, 0x13, 0x12, 0x11};
    struct kd_digest mine, plain = digest_of(expected, sizeof expected);
    struct kd_hash *h = NULL;

    (void)state;
    assert_int_equal(kd_hash_new(&h), KD_OK);
    kd_hash_add_string(h, "ab");
    kd_hash_add_string(h, "c");
    kd_hash_add_u64(h, UINT64_C(0x1112131405060708));
    kd_hash_digest(h, &mine);
    kd_hash_free(h);
    assert_string_equal(mine.hex, plain.hex);
}

static void one_changed_bit_is_noticed(void **state)
{
    struct kd_digest whole = digest_of(bytes, SIZE), other;

    (void)state;
    for (size_t i = 0; i < SIZE; i += 97) {
        bytes[i] ^= 1;
        other = digest_of(bytes, SIZE);
        bytes[i] ^= 1;
        assert_false(kd_digest_equal(&whole, &other));
    }
}

static void a_file_has_the_hash_of_its_bytes(void **state)
{
    char directory[] = "/tmp/kd-test-hash-XXXXXX";
    struct kd_digest whole = digest_of(bytes, SIZE), mine;
    uint64_t size = 0;

    (void)state;
    assert_non_null(mkdtemp(directory));
    char *path = kd_path_join(directory, "x");
    assert_int_equal(kd_file_write(path, bytes, SIZE), KD_OK);
    assert_int_equal(kd_hash_file(path, &mine, &size), KD_OK);
    assert_true(kd_digest_equal(&whole, &mine));
    assert_int_equal(size, SIZE);
    assert_int_equal(kd_hash_file(path, &mine, NULL), KD_OK);

    unlink(path);
    assert_int_equal(kd_hash_file(path, &mine, NULL), KD_ENOINPUT);
    assert_non_null(strstr(kd_error(), "/x: cannot open: No such file"));
    assert_int_equal(kd_hash_file(directory, &mine, NULL), KD_EIO);
    assert_non_null(strstr(kd_error(), "cannot read"));
    rmdir(directory);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_texts_have_their_known_hashes),
        cmocka_unit_test(pieces_make_the_hash_of_the_whole),
        cmocka_unit_test(parts_have_the_check_of_their_bytes_in_a_row),
        cmocka_unit_test(strings_and_numbers_are_added_with_their_ends),
        cmocka_unit_test(one_changed_bit_is_noticed),
        cmocka_unit_test(a_file_has_the_hash_of_its_bytes),
    };

    return cmocka_run_group_tests(tests, fill, NULL);
}
