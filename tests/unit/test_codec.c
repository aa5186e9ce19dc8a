/* SPDX-License-Identifier: MIT */
/* Codecs: which are refused, and that options, texts and fields agree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kd/codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void assert_says(const char *words)
{
    if (strstr(kd_error(), words) == NULL)
        fail_msg("'%s' does not say '%s'", kd_error(), words);
}

static void counts_are_filled_in(void **state)
{
    struct kd_codec dense = {.dtype = KD_F32};
    struct kd_codec top_p = {.encoding = KD_TOP_P, .dtype = KD_F16, .mass = 0.9};

    (void)state;
    assert_int_equal(kd_codec_check(&dense, 100), KD_OK);
    assert_int_equal(dense.k, 100);
    assert_int_equal(kd_codec_check(&dense, 100), KD_OK);
    assert_int_equal(kd_codec_check(&dense, 101), KD_EUSAGE);
    assert_int_equal(kd_codec_check(&top_p, 100), KD_OK);
    assert_int_equal(top_p.k, 99);
}

static void fields_out_of_range_are_refused(void **state)
{
    static const struct {
        struct kd_codec codec;
        uint32_t classes;
        const char *words; /* NULL: it is fine */
    } cases[] = {
        {{KD_TOP_K, KD_F16, 1, 0, ""}, 2, NULL},
        {{KD_TOP_K, KD_F16, 2, 0, ""}, 2, "k is 2: must be 1 to 1"},
        {{KD_TOP_K, KD_BF16, 99, 0, ""}, 100, NULL},
        {{KD_TOP_K, KD_F16, 0, 0, ""}, 100, "k is 0"},
        {{KD_TOP_K, KD_F16, 100, 0, ""}, 100, "k is 100"},
        {{KD_TOP_P, KD_F16, 100, 0.5, ""}, 100, "k is 100"},
        {{KD_SAMPLED, KD_F16, 0, 0, ""}, 100, "k is 0"},
        {{KD_SAMPLED, KD_F16, 65535, 0, ""}, 100, NULL},
        {{KD_SAMPLED, KD_F16, 65536, 0, ""}, 100000, "k is 65536"},
        {{KD_DENSE, KD_F64, 0, 0, ""}, 100, "dtype must be"},
        {{KD_DENSE, KD_U8, 0, 0, ""}, 100, "dtype must be"},
        {{(enum kd_encoding)4, KD_F16, 0, 0, ""}, 100, "encoding is none"},
        {{KD_TOP_P, KD_F16, 0, 0, ""}, 100, "mass is 0"},
        {{KD_TOP_P, KD_F16, 0, 1, ""}, 100, "mass is 1"},
        {{KD_TOP_P, KD_F16, 0, -0.5, ""}, 100, "mass is -0.5"},
        {{KD_TOP_K, KD_F16, 3, 0.5, ""}, 100, "mass is 0.5: must be 0"},
        {{KD_DENSE, KD_F16, 0, 0, "1"}, 100, "every temperature"},
        {{KD_TOP_K, KD_F16, 3, 0, "1,2,8"}, 100, NULL},
        {{KD_TOP_K, KD_F16, 3, 0, "0.001,2.5,1000000"}, 100, NULL},
        {{KD_TOP_K, KD_F16, 3, 0, "1,2,3,4,5,6,7,8"}, 100, NULL},
        {{KD_TOP_K, KD_F16, 3, 0, "1,2,3,4,5,6,7,8,9"}, 100, "at most 8 numbers"},
        {{KD_TOP_K, KD_F16, 3, 0, "2,1"}, 100, "ascending"},
        {{KD_TOP_K, KD_F16, 3, 0, "1,1"}, 100, "ascending"},
        {{KD_TOP_K, KD_F16, 3, 0, "1.0"}, 100, "also_temperatures is '1.0'"},
        {{KD_TOP_K, KD_F16, 3, 0, "1,"}, 100, "also_temperatures"},
        {{KD_TOP_K, KD_F16, 3, 0, ","}, 100, "also_temperatures"},
        {{KD_TOP_K, KD_F16, 3, 0, " 1"}, 100, "also_temperatures"},
        {{KD_TOP_K, KD_F16, 3, 0, "0"}, 100, "also_temperatures"},
        {{KD_TOP_K, KD_F16, 3, 0, "-1"}, 100, "also_temperatures"},
        {{KD_TOP_K, KD_F16, 3, 0, "nan"}, 100, "also_temperatures"},
        {{KD_TOP_K, KD_F16, 3, 0, "2000000"}, 100, "also_temperatures"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kd_codec codec = cases[i].codec;
        const enum kd_status status = kd_codec_check(&codec, cases[i].classes);

        if ((status == KD_OK) != (cases[i].words == NULL))
            fail_msg("case %zu: %d '%s'", i, status, kd_error());
        if (status != KD_OK) {
            assert_int_equal(status, KD_EUSAGE);
            assert_says(cases[i].words);
        }
    }
}

static void a_text_without_end_is_refused(void **state)
{
    struct kd_codec codec = {.encoding = KD_TOP_K, .dtype = KD_F16, .k = 1};

    (void)state;
    memset(codec.also_temperatures, '1', sizeof codec.also_temperatures);
    assert_int_equal(kd_codec_check(&codec, 100), KD_EUSAGE);
}

static void class_numbers_are_as_narrow_as_they_can_be(void **state)
{
    (void)state;
    assert_int_equal(kd_codec_index_type(2), KD_U8);
    assert_int_equal(kd_codec_index_type(256), KD_U8);
    assert_int_equal(kd_codec_index_type(257), KD_U16);
    assert_int_equal(kd_codec_index_type(65536), KD_U16);
    assert_int_equal(kd_codec_index_type(65537), KD_U32);
    assert_int_equal(kd_codec_index_type(INT32_MAX), KD_U32);
}

static void options_become_a_codec_and_a_codec_options(void **state)
{
    static char unsorted[] = "8,1.0,2.50", once[] = "3";
    static const struct {
        struct kd_codec_args args;
        const char *text;
    } cases[] = {
        {{0}, "--encoding dense --dtype f16"},
        {{.dtype = 1}, "--encoding dense --dtype bf16"},
        {{.encoding = KD_TOP_K, .dtype = 2, .k = 10, .also = unsorted},
         "--encoding top-k --k 10 --dtype f32 --also-temperature 1,2.5,8"},
        {{.encoding = KD_TOP_P, .mass = 0.95},
         "--encoding top-p --k 99 --mass 0.95 --dtype f16"},
        {{.encoding = KD_TOP_P, .mass = 0.5, .k = 20},
         "--encoding top-p --k 20 --mass 0.5 --dtype f16"},
        {{.encoding = KD_SAMPLED, .k = 500, .also = once},
         "--encoding sampled --k 500 --dtype f16 --also-temperature 3"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kd_codec codec;
        char *text = NULL;

        if (kd_codec_from_args(&cases[i].args, 100, &codec) != KD_OK)
            fail_msg("case %zu: %s", i, kd_error());
        text = kd_codec_text(&codec);
        assert_string_equal(text, cases[i].text);
        free(text);
    }
}

static void options_that_contradict_each_other_are_refused(void **state)
{
    static char one[] = "1", twice[] = "1,1.0", word[] = "warm", none[] = "",
                too_many[] = "1,2,3,4,5,6,7,8,9", cold[] = "0.0001";
    static const struct {
        struct kd_codec_args args;
        const char *words;
    } cases[] = {
        {{.k = 10}, "--k 10: only with --encoding top-k, top-p or sampled"},
        {{.mass = 0.5}, "--mass 0.5: only with --encoding top-p"},
        {{.also = one}, "--also-temperature 1: only with"},
        {{.encoding = KD_TOP_K}, "--encoding top-k: of how many classes? give --k K"},
        {{.encoding = KD_SAMPLED}, "how many draws? give --k K"},
        {{.encoding = KD_TOP_P}, "give --mass P"},
        {{.encoding = KD_TOP_P, .mass = 1}, "mass is 1"},
        {{.encoding = KD_TOP_K, .k = 5, .mass = 0.5}, "--mass 0.5: only"},
        {{.encoding = KD_TOP_K, .k = 100}, "k is 100: must be 1 to 99"},
        {{.encoding = KD_TOP_K, .k = 5, .also = twice}, "1 is there twice"},
        {{.encoding = KD_TOP_K, .k = 5, .also = word}, "'warm' is no list"},
        {{.encoding = KD_TOP_K, .k = 5, .also = none}, "'' is no list"},
        {{.encoding = KD_TOP_K, .k = 5, .also = too_many}, "is no list of at most 8"},
        {{.encoding = KD_TOP_K, .k = 5, .also = cold}, "is no list"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kd_codec codec;

        if (kd_codec_from_args(&cases[i].args, 100, &codec) != KD_EUSAGE)
            fail_msg("case %zu was taken", i);
        assert_says(cases[i].words);
    }
}

/* Before the classes are known only what belongs together can be checked. */
static void classes_may_be_unknown_at_first(void **state)
{
    const struct kd_codec_args args = {.encoding = KD_TOP_P, .mass = 0.5};
    struct kd_codec codec;
    char *text = NULL;

    (void)state;
    assert_int_equal(kd_codec_from_args(&args, 0, &codec), KD_OK);
    text = kd_codec_text(&codec);
    assert_string_equal(text, "--encoding top-p --mass 0.5 --dtype f16");
    free(text);
    assert_int_equal(kd_codec_check(&codec, 10), KD_OK);
    assert_int_equal(codec.k, 9);
}

static void further_temperatures_are_parsed(void **state)
{
    struct kd_codec codec = {.encoding = KD_TOP_K,
                             .dtype = KD_F16,
                             .k = 1,
                             .also_temperatures = "0.5,1,2.25,1000"};
    double also[KD_MAX_ALSO];

    (void)state;
    assert_int_equal(kd_codec_check(&codec, 3), KD_OK);
    assert_int_equal(kd_codec_also(&codec, also), 4);
    assert_true(also[0] == 0.5 && also[1] == 1 && also[2] == 2.25 && also[3] == 1000);
    codec.also_temperatures[0] = '\0';
    assert_int_equal(kd_codec_also(&codec, also), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_filled_in),
        cmocka_unit_test(fields_out_of_range_are_refused),
        cmocka_unit_test(a_text_without_end_is_refused),
        cmocka_unit_test(class_numbers_are_as_narrow_as_they_can_be),
        cmocka_unit_test(options_become_a_codec_and_a_codec_options),
        cmocka_unit_test(options_that_contradict_each_other_are_refused),
        cmocka_unit_test(classes_may_be_unknown_at_first),
        cmocka_unit_test(further_temperatures_are_parsed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
