/* SPDX-License-Identifier: MIT */
/* JSON out: checked against fixed texts, and read back by cJSON. */
#include "kd/json.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

static struct kd_json *new_json(void)
{
    struct kd_json *json = NULL;

    assert_int_equal(kd_json_new(&json), KD_OK);
    return json;
}

static void assert_text(struct kd_json *json, const char *expected)
{
    const char *text = NULL;

    assert_int_equal(kd_json_text(json, &text), KD_OK);
    assert_string_equal(text, expected);
    kd_json_free(json);
}

static void fill(struct kd_json *json)
{
    kd_json_begin(json, NULL, '{');
    kd_json_u64(json, "rows", UINT64_MAX);
    kd_json_begin(json, "shards", '[');
    kd_json_string(json, NULL, "a.h5");
    kd_json_i64(json, NULL, INT64_MIN);
    kd_json_begin(json, NULL, '{');
    kd_json_end(json);
    kd_json_begin(json, NULL, '[');
    kd_json_end(json);
    kd_json_end(json);
    kd_json_bool(json, "ok", true);
    kd_json_string(json, "name", NULL);
    kd_json_end(json);
}

static void values_are_written_in_one_line(void **state)
{
    struct kd_json *json = new_json();

    (void)state;
    fill(json);
    assert_text(json, "{\"rows\":18446744073709551615,\"shards\":[\"a.h5\","
                      "-9223372036854775808,{},[]],\"ok\":true,\"name\":null}");
}

static void values_are_indented_when_asked(void **state)
{
    struct kd_json *json = new_json();

    (void)state;
    kd_json_pretty(json);
    fill(json);
    assert_text(json, "{\n"
                      "  \"rows\": 18446744073709551615,\n"
                      "  \"shards\": [\n"
                      "    \"a.h5\",\n"
                      "    -9223372036854775808,\n"
                      "    {},\n"
                      "    []\n"
                      "  ],\n"
                      "  \"ok\": true,\n"
                      "  \"name\": null\n"
                      "}");
}

static void numbers_read_back_the_same_and_are_short(void **state)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0.1, "0.1"},
                 {40, "40"},
                 {1e6, "1000000"},
                 {-2.5, "-2.5"},
                 {0, "0"},
                 {1e300, "1e+300"},
                 {5e-324, "5e-324"},
                 {NAN, "null"},
                 {INFINITY, "null"},
                 {-INFINITY, "null"},
                 {1.0 / 3, "0.3333333333333333"}};
    static const double exact[] = {DBL_MAX, DBL_MIN, 0.1 + 0.2, 1e22,
                                   123456789.123456789};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kd_json *json = new_json();
        kd_json_f64(json, NULL, cases[i].value);
        assert_text(json, cases[i].text);
    }
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++) {
        struct kd_json *json = new_json();
        const char *text = NULL;
        kd_json_f64(json, NULL, exact[i]);
        assert_int_equal(kd_json_text(json, &text), KD_OK);
        assert_true(strtod(text, NULL) == exact[i]);
        kd_json_free(json);
    }
}

static void texts_are_escaped(void **state)
{
    struct kd_json *json = new_json();

    (void)state;
    kd_json_begin(json, NULL, '{');
    kd_json_string(json, "a\"b", "\\ \n \t \x01 \x7f \xc3\xa9 \xf0\x9f\x90\x98");
    kd_json_end(json);
    assert_text(json, "{\"a\\\"b\":\"\\\\ \\n \\t \\u0001 \\u007f \xc3\xa9 "
                      "\xf0\x9f\x90\x98\"}");
}

static void bytes_that_are_no_text_are_replaced(void **state)
{
    /* a stray byte, an overlong slash, a surrogate, a character cut short */
    static const char *const wrong[] = {"\xe9",     "\xc0\xaf",     "\xed\xa0\x80",
                                        "\xe2\x82", "\xe0\x80\xaf", "\xf4\x90\x80\x80"};

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct kd_json *json = new_json();
        const char *text = NULL;
        kd_json_string(json, NULL, wrong[i]);
        assert_int_equal(kd_json_text(json, &text), KD_OK);
        assert_memory_equal(text, "\"\xef\xbf\xbd", 4);
        for (const char *c = text; *c != '\0'; c++)
            assert_null(strchr("\xc0\xaf\xed\xa0\xe2\x82\xe9\xe0\x80\xf4\x90", *c));
        kd_json_free(json);
    }
}

static void another_reader_sees_the_same(void **state)
{
    struct kd_json *json = new_json();
    const char *text = NULL;

    (void)state;
    kd_json_begin(json, NULL, '{');
    kd_json_f64(json, "lr", 0.1);
    kd_json_string(json, "path", "a\"\\\n/\xc3\xa9");
    kd_json_end(json);
    assert_int_equal(kd_json_text(json, &text), KD_OK);
    cJSON *read = cJSON_Parse(text);
    assert_non_null(read);
    assert_true(cJSON_GetObjectItem(read, "lr")->valuedouble == 0.1);
    assert_string_equal(cJSON_GetObjectItem(read, "path")->valuestring,
                        "a\"\\\n/\xc3\xa9");
    cJSON_Delete(read);
    kd_json_free(json);
}

static void a_text_that_is_not_closed_is_not_given_out(void **state)
{
    struct kd_json *json = new_json();
    const char *text = "untouched";

    (void)state;
    assert_int_equal(kd_json_text(json, &text), KD_EBUG);
    kd_json_begin(json, NULL, '[');
    assert_int_equal(kd_json_text(json, &text), KD_EBUG);
    assert_null(text);
    assert_non_null(strstr(kd_error(), "not closed"));
    kd_json_free(json);
    kd_json_free(NULL);
}

static void it_is_written_with_a_line_end_or_fails(void **state)
{
    struct kd_json *json = new_json();
    char bytes[16] = "";
    FILE *to = fmemopen(bytes, sizeof bytes, "w");

    (void)state;
    assert_non_null(to);
    kd_json_u64(json, NULL, 7);
    assert_int_equal(kd_json_write(json, to), KD_OK);
    fclose(to);
    assert_string_equal(bytes, "7\n");
    to = fopen("/dev/full", "w");
    assert_non_null(to);
    setvbuf(to, NULL, _IONBF, 0);
    assert_int_equal(kd_json_write(json, to), KD_EIO);
    assert_non_null(strstr(kd_error(), "No space left"));
    fclose(to);
    kd_json_free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_written_in_one_line),
        cmocka_unit_test(values_are_indented_when_asked),
        cmocka_unit_test(numbers_read_back_the_same_and_are_short),
        cmocka_unit_test(texts_are_escaped),
        cmocka_unit_test(bytes_that_are_no_text_are_replaced),
        cmocka_unit_test(another_reader_sees_the_same),
        cmocka_unit_test(a_text_that_is_not_closed_is_not_given_out),
        cmocka_unit_test(it_is_written_with_a_line_end_or_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
