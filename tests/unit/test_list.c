/* SPDX-License-Identifier: MIT */
/* Names with commas between them. */
#include "kd/list.h"

#include "data_fixture.h"

static void assert_list(char **list, size_t count, const char *const *due)
{
    for (size_t i = 0; i < count; i++)
        assert_string_equal(list[i], due[i]);
    assert_null(list[count]);
    kd_list_free(list);
}

static void names_are_split_at_commas(void **state)
{
    char **list = NULL;
    size_t count = 0;

    (void)state;
    assert_ok(kd_list_split("a,-,b c", "names", &list, &count));
    assert_int_equal(count, 3);
    assert_list(list, count, (const char *const[]){"a", "-", "b c"});
    assert_ok(kd_list_split("one", "names", &list, &count));
    assert_int_equal(count, 1);
    assert_list(list, count, (const char *const[]){"one"});
    kd_list_free(NULL);
}

static void an_empty_name_is_refused(void **state)
{
    static const char *const texts[] = {"", ",", "a,", ",a", "a,,b"};
    char **list = NULL;
    size_t count = 0;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(kd_list_split(texts[i], "teachers", &list, &count), KD_EDATA);
        assert_non_null(strstr(kd_error(), "teachers: a name between its commas"));
        assert_null(list);
    }
}

static void the_path_of_something_is_not_split(void **state)
{
    char **list = NULL;
    size_t count = 0;

    (void)state;
    write_file("a,b", "x", 1);
    assert_ok(kd_list_paths("a,b", "teachers", &list, &count));
    assert_int_equal(count, 1);
    assert_list(list, count, (const char *const[]){"a,b"});
    assert_ok(kd_list_paths("a,c", "teachers", &list, &count));
    assert_int_equal(count, 2);
    assert_list(list, count, (const char *const[]){"a", "c"});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_split_at_commas),
        cmocka_unit_test(an_empty_name_is_refused),
        cmocka_unit_test(the_path_of_something_is_not_split),
    };

    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
