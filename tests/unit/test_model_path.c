/* SPDX-License-Identifier: MIT */
/* What a user calls a network, and the file that is meant. */
#include "kd/file.h"
#include "kd/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[] = "/tmp/kd-test-model-path-XXXXXX";

static int enter(void **state)
{
    (void)state;
    return mkdtemp(directory) != NULL && chdir(directory) == 0 ? 0 : -1;
}

static int leave(void **state)
{
    (void)state;
    unlink("run/model.h5");
    rmdir("run");
    rmdir("empty");
    return chdir("/") == 0 && rmdir(directory) == 0 ? 0 : -1;
}

static void assert_means(const char *name, const char *file)
{
    char *path = kd_model_path(name);

    assert_string_equal(path, file);
    free(path);
}

static void a_name_means_a_file(void **state)
{
    (void)state;
    assert_int_equal(kd_make_directory("run"), KD_OK);
    assert_int_equal(kd_make_directory("empty"), KD_OK);
    assert_int_equal(kd_file_write("run/model.h5", "", 0), KD_OK);
    assert_means("run", "run/model.h5");
    assert_means("model:run", "run/model.h5");
    assert_means("./run/", "./run/model.h5");
    assert_means("run/model.h5", "run/model.h5");
    assert_means("model:run/model.h5", "run/model.h5");
    assert_means("model:none.h5", "none.h5");
    assert_means("none.h5", "none.h5");
    assert_means("empty", "empty");
    assert_means("-", "-");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_name_means_a_file)};

    return cmocka_run_group_tests(tests, enter, leave);
}
