/* SPDX-License-Identifier: MIT */
/* Files: whole or not there, read whole, directories, names, locks and maps. */
#include "kd/file.h"

#include "kd/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[] = "/tmp/kd-test-file-XXXXXX";

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

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static void assert_holds(const char *path, const char *text)
{
    char *data = NULL;
    size_t size = 0;

    assert_int_equal(kd_file_read(path, 1000, &data, &size), KD_OK);
    assert_int_equal(size, strlen(text));
    assert_string_equal(data, text);
    free(data);
}

static void write_plain(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void the_final_name_stands_for_the_old_file_until_the_commit(void **state)
{
    struct kd_pending pending;

    (void)state;
    write_plain("a", "old");
    assert_int_equal(kd_pending_open(&pending, "a"), KD_OK);
    assert_string_equal(pending.temporary, "a.part");
    write_plain(pending.temporary, "new");
    assert_holds("a", "old");
    assert_int_equal(kd_pending_commit(&pending), KD_OK);
    assert_holds("a", "new");
    assert_false(exists("a.part"));
    assert_null(pending.path);
    kd_pending_abandon(&pending); /* committed: left alone */
    assert_holds("a", "new");
    unlink("a");
}

static void what_is_abandoned_is_gone_and_the_message_stays(void **state)
{
    struct kd_pending pending;

    (void)state;
    assert_int_equal(kd_pending_open(&pending, "a"), KD_OK);
    write_plain(pending.temporary, "new");
    assert_int_equal(kd_fail(KD_EIO, "the cause"), KD_EIO);
    kd_pending_abandon(&pending);
    assert_string_equal(kd_error(), "the cause");
    assert_false(exists("a"));
    assert_false(exists("a.part"));
    assert_null(pending.temporary);
}

static void a_commit_that_fails_leaves_nothing(void **state)
{
    struct kd_pending pending;

    (void)state;
    assert_int_equal(kd_pending_open(&pending, "d"), KD_OK);
    assert_int_equal(mkdir("d", 0777), 0); /* somebody else's, meanwhile */
    write_plain("d.part", "x");
    assert_int_equal(kd_pending_commit(&pending), KD_ECREATE);
    assert_non_null(strstr(kd_error(), "d: cannot rename d.part to it: "));
    assert_false(exists("d.part"));
    assert_null(pending.path);

    assert_int_equal(kd_pending_open(&pending, "d/never-written"), KD_OK);
    assert_int_equal(kd_pending_commit(&pending), KD_EIO);
    assert_non_null(strstr(kd_error(), "never-written.part"));
    rmdir("d");
}

static void a_small_file_is_written_whole_or_not(void **state)
{
    (void)state;
    assert_int_equal(kd_file_write("a", "text", 4), KD_OK);
    assert_holds("a", "text");
    assert_int_equal(kd_file_write("a", NULL, 0), KD_OK);
    assert_holds("a", "");
    assert_int_equal(kd_file_write("none/a", "text", 4), KD_ECREATE);
    assert_non_null(strstr(kd_error(), "none/a.part: cannot create: No such file"));
    unlink("a");
}

static void a_file_is_read_up_to_its_limit(void **state)
{
    char *data = NULL;
    size_t size = 0, length = 100000;
    char *text = kd_alloc(length, 1);

    (void)state;
    memset(text, 'x', length);
    assert_int_equal(kd_file_write("a", text, length), KD_OK);
    assert_int_equal(kd_file_read("a", length, &data, &size), KD_OK);
    assert_int_equal(size, length);
    assert_memory_equal(data, text, length);
    assert_int_equal(data[length], 0);
    free(data);
    assert_int_equal(kd_file_read("a", length - 1, &data, &size), KD_EDATA);
    assert_non_null(strstr(kd_error(), "a: too large: more than 99999 bytes"));
    assert_null(data);
    unlink("a");
    assert_int_equal(kd_file_read("a", 9, &data, &size), KD_ENOINPUT);
    assert_int_equal(kd_file_read(".", 9, &data, &size), KD_EIO);
    free(text);
}

static void directories_are_made_with_their_parents(void **state)
{
    (void)state;
    assert_int_equal(kd_make_directory("a//b/c/"), KD_OK);
    assert_true(exists("a/b/c"));
    assert_int_equal(kd_make_directory("a/b/c"), KD_OK);
    assert_int_equal(kd_make_directory("/"), KD_OK);
    write_plain("a/file", "");
    assert_int_equal(kd_make_directory("a/file"), KD_ECREATE);
    assert_non_null(
        strstr(kd_error(), "a/file: cannot make the directory: File exists"));
    assert_int_equal(kd_make_directory("a/file/d"), KD_ECREATE);
    unlink("a/file");
    rmdir("a/b/c");
    rmdir("a/b");
    rmdir("a");
}

static void assert_joined(const char *d, const char *name, const char *expected)
{
    char *path = kd_path_join(d, name);

    assert_string_equal(path, expected);
    free(path);
}

static void names_are_joined_and_parted(void **state)
{
    (void)state;
    assert_joined("d", "n", "d/n");
    assert_joined("d/", "n", "d/n");
    assert_joined("/", "n", "/n");
    assert_joined(".", "n", "n");
    assert_joined("", "n", "n");
    assert_joined(NULL, "n", "n");
    assert_string_equal(kd_path_base("a/b/c.h5"), "c.h5");
    assert_string_equal(kd_path_base("c.h5"), "c.h5");
    assert_string_equal(kd_path_base("a/"), "");
}

/* Runs in a child: 0 if it gets the lock, else the status; 99 for a message that
 * does not name this process. */
static int try_lock(void)
{
    struct kd_lock lock;
    enum kd_status status = kd_lock_open(&lock, ".");
    char *expected = kd_format(".: process %ld is writing there", (long)getppid());

    if (status == KD_ECREATE && strstr(kd_error(), expected) == NULL)
        status = 99;
    kd_lock_close(&lock);
    free(expected);
    return (int)status;
}

static int in_a_child(int (*call)(void))
{
    int status = 0;
    pid_t child = fork();

    if (child == 0)
        _exit(call());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void a_lock_keeps_others_out_and_names_its_holder(void **state)
{
    struct kd_lock lock;

    (void)state;
    assert_int_equal(kd_lock_open(&lock, "."), KD_OK);
    assert_true(exists(".lock"));
    assert_int_equal(in_a_child(try_lock), KD_ECREATE);
    assert_true(exists(".lock"));
    kd_lock_close(&lock);
    assert_false(exists(".lock"));
    assert_int_equal(in_a_child(try_lock), 0);
    kd_lock_close(&lock);

    assert_int_equal(kd_lock_open(&lock, "none"), KD_ECREATE);
    assert_non_null(strstr(kd_error(), "none/.lock: cannot open: No such file"));
}

static void a_lock_goes_with_a_killed_process(void **state)
{
    int ready[2];
    char byte = 0;
    pid_t child;
    struct kd_lock lock;

    (void)state;
    assert_int_equal(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        if (kd_lock_open(&lock, ".") == KD_OK && write(ready[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(kd_lock_open(&lock, "."), KD_ECREATE);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_true(exists(".lock"));
    assert_int_equal(kd_lock_open(&lock, "."), KD_OK);
    kd_lock_close(&lock);
    close(ready[0]);
    close(ready[1]);
}

static void a_map_shows_the_file(void **state)
{
    struct kd_map map;

    (void)state;
    write_plain("a", "some bytes");
    assert_int_equal(kd_map_open(&map, "a"), KD_OK);
    assert_int_equal(map.size, 10);
    assert_memory_equal(map.data, "some bytes", 10);
    kd_map_close(&map);
    assert_null(map.data);
    kd_map_close(&map);

    write_plain("a", "");
    assert_int_equal(kd_map_open(&map, "a"), KD_OK);
    assert_int_equal(map.size, 0);
    assert_null(map.data);
    kd_map_close(&map);
    unlink("a");
    assert_int_equal(kd_map_open(&map, "a"), KD_ENOINPUT);
    assert_int_equal(kd_map_open(&map, "."), KD_EDATA);
    assert_int_equal(mkfifo("a", 0666), 0);
    assert_int_equal(kd_map_open(&map, "a"), KD_EDATA); /* and does not wait */
    assert_non_null(strstr(kd_error(), "a: not a regular file"));
    unlink("a");
}

static void what_is_no_regular_file_is_never_replaced(void **state)
{
    struct kd_pending pending;

    (void)state;
    assert_int_equal(kd_pending_open(&pending, "/dev/null"), KD_ECREATE);
    assert_non_null(strstr(kd_error(), "/dev/null"));
    assert_int_equal(kd_pending_open(&pending, "/tmp"), KD_ECREATE);
    assert_null(pending.path);
}

/* What the outputs of programs come to that were there before. */
static enum kd_status check_output(const char *path, const char *text)
{
    struct kd_pending pending;
    enum kd_status status = KD_EBUG;

    assert_int_equal(kd_pending_open(&pending, path), KD_OK);
    write_plain(pending.temporary, text);
    status = kd_pending_check(&pending);
    kd_pending_abandon(&pending);
    return status;
}

static void an_output_takes_no_other_files_place(void **state)
{
    (void)state;
    assert_int_equal(check_output("out", "new"), KD_OK);
    write_plain("out", "new");
    assert_int_equal(check_output("out", "new"), KD_OK);
    assert_int_equal(check_output("out", "net"), KD_EUSAGE);
    assert_string_equal(kd_error(), "out: is there already, made otherwise: remove it "
                                    "or say another -o");
    assert_int_equal(check_output("out", "new one"), KD_EUSAGE);
    assert_int_equal(check_output("out", ""), KD_EUSAGE);
    write_plain("out", "");
    assert_int_equal(check_output("out", ""), KD_OK);
    assert_int_equal(check_output("out", "new"), KD_EUSAGE);
    assert_holds("out", "");
    unlink("out");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_regular_file_is_never_replaced),
        cmocka_unit_test(the_final_name_stands_for_the_old_file_until_the_commit),
        cmocka_unit_test(what_is_abandoned_is_gone_and_the_message_stays),
        cmocka_unit_test(a_commit_that_fails_leaves_nothing),
        cmocka_unit_test(an_output_takes_no_other_files_place),
        cmocka_unit_test(a_small_file_is_written_whole_or_not),
        cmocka_unit_test(a_file_is_read_up_to_its_limit),
        cmocka_unit_test(directories_are_made_with_their_parents),
        cmocka_unit_test(names_are_joined_and_parted),
        cmocka_unit_test(a_lock_keeps_others_out_and_names_its_holder),
        cmocka_unit_test(a_lock_goes_with_a_killed_process),
        cmocka_unit_test(a_map_shows_the_file),
    };

    return cmocka_run_group_tests(tests, enter, leave);
}
