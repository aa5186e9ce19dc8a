/* SPDX-License-Identifier: MIT */
/* Child processes as teachers: what they get and give, and what is refused. The child
 * is this program itself, run as "test_teacher_exec child ANSWER TYPE". */
#include "kd/teacher.h"

#include "data_fixture.h"
#include "kd/file.h"
#include "kd/half.h"
#include "kd/npy.h"
#include "kd/thread.h"

#include <math.h>
#include <time.h>

#define COUNT   40
#define CLASSES 5

static const struct kd_shape shape = {3, 6, 5};
static uint8_t *pixels; /* [COUNT][3][6][5] */
static char self[4096];

/* -- the child ------------------------------------------------------------ */

static void must(bool condition)
{
    if (!condition)
        exit(9);
}

/* Element i of a batch of either type. */
static double element(enum kd_type type, const unsigned char *data, size_t i)
{
    float value = 0;

    if (type == KD_U8)
        return data[i];
    memcpy(&value, data + 4 * i, sizeof value);
    return (double)value;
}

static void put_value(enum kd_type type, double value)
{
    const float single = (float)value;
    const uint16_t half = kd_half_from_float_one(single);
    const void *from = type == KD_F64
                           ? (const void *)&value
                           : (type == KD_F32 ? (const void *)&single : &half);

    must(fwrite(from, kd_type_size(type), 1, stdout) == 1);
}

/* Answers with the first elements of each sample; later batches sooner. */
static void answer_batch(const struct kd_array_info *info, enum kd_type type,
                         size_t number)
{
    const size_t rows = (size_t)info->shape[0], size = (size_t)info->count / rows;
    unsigned char *data = malloc((size_t)info->bytes);
    const struct timespec moment = {.tv_nsec = number % 3 == 0 ? 5000000 : 0};
    char header[256];

    must(fread(data, 1, (size_t)info->bytes, stdin) == info->bytes);
    nanosleep(&moment, NULL);
    must(fwrite(header, 1,
                kd_npy_header(type, 2, (const uint64_t[]){rows, CLASSES}, header),
                stdout) > 0);
    for (size_t i = 0; i < rows * CLASSES; i++)
        put_value(type, element(info->type, data, i / CLASSES * size + i % CLASSES));
    must(fflush(stdout) == 0);
    free(data);
}

static int be_child(const char *answer, const char *type_name)
{
    const enum kd_type type = strcmp(type_name, "f64") == 0   ? KD_F64
                              : strcmp(type_name, "f16") == 0 ? KD_F16
                                                              : KD_F32;
    FILE *file = fopen(answer, "r"), *heard = fopen("greeting.json", "w");
    struct kd_array_info info;
    char header[4096];
    int byte = 0;

    while ((byte = getchar()) != '\n' && byte != EOF)
        putc(byte, heard);
    fclose(heard);
    while ((byte = getc(file)) != EOF)
        putchar(byte);
    must(fflush(stdout) == 0);
    for (size_t n = 0; fread(header, KD_NPY_PREFIX, 1, stdin) == 1; n++) {
        size_t size = 0;
        must(kd_npy_header_size(header, "request", &size) == KD_OK);
        must(fread(header + KD_NPY_PREFIX, size - KD_NPY_PREFIX, 1, stdin) == 1);
        must(kd_npy_parse(header, size, "request", &info) == KD_OK && info.rank == 4);
        answer_batch(&info, type, n);
    }
    fputs("that was all\n", stderr);
    return 0;
}

/* -- opening -------------------------------------------------------------- */

static int make_data(void **state)
{
    if (enter_directory(state) != 0)
        return -1;
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    int32_t labels[COUNT];

    pixels = write_random_bytes("x.npy", COUNT, shape);
    for (int i = 0; i < COUNT; i++)
        labels[i] = i % CLASSES;
    assert_ok(kd_npy_write("y.npy", KD_I32, 1, (const uint64_t[]){COUNT}, labels));
    return length > 0 ? 0 : -1;
}

static int remove_data(void **state)
{
    free(pixels);
    return leave_directory(state);
}

static enum kd_status try_open(const char *answer, const char *type, size_t jobs,
                               const char *name, struct kd_dataset **data,
                               struct kd_teacher **teacher)
{
    const struct kd_teacher_options options = {.jobs = jobs, .timeout = 20};
    char command[8192];
    enum kd_status status = KD_EBUG;

    write_file("answer", answer, strlen(answer));
    snprintf(command, sizeof command, "exec:exec %s child answer %s 2>>talk", self,
             type);
    *data = open_dataset(name);
    status = kd_teacher_open_over(command, &options, data, teacher);
    return status;
}

static struct kd_teacher *open_child(const char *answer, const char *type, size_t jobs,
                                     const char *name, struct kd_dataset **data)
{
    struct kd_teacher *teacher = NULL;

    assert_ok(try_open(answer, type, jobs, name, data, &teacher));
    return teacher;
}

/* Fills a batch of `count` samples from the first on, as the teacher wants it. */
static void *fill(const struct kd_teacher *teacher, const struct kd_dataset *data,
                  size_t first, size_t count)
{
    const struct kd_teacher_facts *facts = kd_teacher_facts(teacher);
    struct kd_view_spec spec;
    struct kd_batch batch;
    void *input = calloc(count, facts->input_bytes);

    assert_ok(kd_view_parse("none", 0, &spec));
    assert_ok(kd_batch_init(&batch, data, count));
    batch.size = count;
    for (size_t i = 0; i < count; i++)
        batch.id[i] = first + i;
    assert_ok(kd_batch_fill_as(&batch, data, &spec, &facts->input, input));
    kd_batch_clear(&batch);
    return input;
}

static void close_all(struct kd_teacher *teacher, struct kd_dataset *data)
{
    kd_teacher_close(teacher);
    kd_dataset_close(data);
}

#define PLAIN "{\"kd_teacher\":1,\"num_classes\":5,\"values\":\"logits\""

/* -- what is agreed on ---------------------------------------------------- */

static void a_child_is_told_what_samples_are(void **state)
{
    struct kd_dataset *data = NULL;
    struct kd_teacher *teacher =
        open_child(PLAIN "}\n", "f32", 1, "npy:x.npy,y.npy", &data);
    const struct kd_teacher_facts *facts = kd_teacher_facts(teacher);
    char heard[4096] = "", digest[33];
    FILE *file = fopen("greeting.json", "r");

    (void)state;
    assert_non_null(file);
    assert_non_null(fgets(heard, sizeof heard, file));
    fclose(file);
    assert_string_equal(heard,
                        "{\"kd_teacher\":1,\"samples\":{\"dtype\":\"uint8\",\"shape\":"
                        "[3,6,5]},\"num_classes\":5,\"batch\":256}");
    assert_string_equal(facts->name, kd_path_base(self));
    assert_int_equal(facts->num_classes, 5);
    assert_int_equal(facts->batch, 256);
    assert_int_equal(facts->in_flight, 2);
    assert_int_equal(facts->input.type, KD_F32);
    assert_int_equal(facts->input_bytes, 90 * 4);
    assert_string_equal(facts->bn_mode, "none");
    assert_ok(kd_teacher_fits(teacher, kd_dataset_facts(data)));
    snprintf(digest, sizeof digest, "%s", facts->digest.hex);
    close_all(teacher, data);
    teacher = open_child(PLAIN ",\"digest\":\"x\"}\n", "f32", 3, "npy:x.npy", &data);
    facts = kd_teacher_facts(teacher);
    assert_int_equal(facts->in_flight, 6);
    assert_string_not_equal(facts->digest.hex, digest);
    close_all(teacher, data);
}

/* The digest changes with whatever rows depend on. */
static void a_digest_covers_the_preparation(void **state)
{
    static const char *const answers[] = {
        PLAIN ",\"digest\":\"d\"}\n",
        PLAIN ",\"digest\":\"e\"}\n",
        PLAIN ",\"digest\":\"d\",\"input\":{\"dtype\":\"uint8\"}}\n",
        PLAIN ",\"digest\":\"d\",\"input\":{\"layout\":\"nhwc\"}}\n",
        PLAIN ",\"digest\":\"d\",\"input\":{\"size\":[7,7]}}\n",
        PLAIN ",\"digest\":\"d\",\"input\":{\"mean\":[0.5],\"deviation\":[0.5]}}\n",
        "{\"kd_teacher\":1,\"num_classes\":5,\"values\":\"logprobs\",\"digest\":\"d\"}"
        "\n"};
    enum { N = sizeof answers / sizeof *answers };
    struct kd_digest digest[N];

    (void)state;
    for (size_t i = 0; i < N; i++) {
        struct kd_dataset *data = NULL;
        struct kd_teacher *teacher =
            open_child(answers[i], "f32", 1, "npy:x.npy", &data);

        digest[i] = kd_teacher_facts(teacher)->digest;
        for (size_t j = 0; j < i; j++)
            assert_false(kd_digest_equal(&digest[i], &digest[j]));
        close_all(teacher, data);
    }
}

static void names_of_classes_are_the_class_map(void **state)
{
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    struct kd_dataset *data = NULL;
    struct kd_teacher *teacher = open_child(
        PLAIN ",\"class_names\":[\"a\",\"b\",\"c\",\"d\",\"e\"],\"name\":\"N\","
              "\"batch\":7,\"deterministic\":false}\r\n",
        "f32", 1, "npy:x.npy,y.npy", &data);
    const struct kd_teacher_facts *facts = kd_teacher_facts(teacher);
    struct kd_digest map;

    (void)state;
    assert_string_equal(facts->name, "N");
    assert_int_equal(facts->batch, 7);
    assert_ok(kd_class_map_digest(names, 5, &map));
    assert_string_equal(facts->class_map_digest.hex, map.hex);
    assert_int_equal(kd_teacher_fits(teacher, kd_dataset_facts(data)), KD_EDATA);
    close_all(teacher, data);
}

static void assert_answer_refused(const char *answer, const char *words)
{
    struct kd_dataset *data = NULL;
    struct kd_teacher *teacher = NULL;

    assert_int_equal(try_open(answer, "f32", 1, "npy:x.npy", &data, &teacher),
                     KD_EDATA);
    assert_null(teacher);
    if (strstr(kd_error(), words) == NULL || strstr(kd_error(), "exec:exec ") == NULL)
        fail_msg("'%s' lacks '%s'", kd_error(), words);
    kd_dataset_close(data);
}

static void answers_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    assert_answer_refused("hello\n", "wrote 'hello' where one line of JSON is due");
    assert_answer_refused("[1]\n", "one line of JSON");
    assert_answer_refused(PLAIN "} x\n", "one line of JSON");
    assert_answer_refused("{}\n", "'kd_teacher' must be");
    assert_answer_refused("{\"kd_teacher\":2}\n", "version 2 of the protocol, not 1");
    assert_answer_refused("{\"kd_teacher\":1}\n",
                          "'num_classes' must be a whole number");
    assert_answer_refused("{\"kd_teacher\":1,\"num_classes\":2.5}\n", "'num_classes'");
    assert_answer_refused("{\"kd_teacher\":1,\"num_classes\":5}\n",
                          "'values' is missing");
    assert_answer_refused("{\"kd_teacher\":1,\"num_classes\":5,\"values\":\"x\"}\n",
                          "'values' must be 'logits', 'logprobs' or 'probs'");
    assert_answer_refused(PLAIN ",\"bacth\":3}\n",
                          "'bacth' is not known; is 'batch' meant?");
    assert_answer_refused(PLAIN ",\"batch\":0}\n", "'batch' must be");
    assert_answer_refused(PLAIN ",\"name\":3}\n", "'name' must be a text");
    assert_answer_refused(PLAIN ",\"deterministic\":1}\n", "must be true or false");
    assert_answer_refused(PLAIN ",\"class_names\":[\"a\"]}\n", "a list of 5 names");
    assert_answer_refused(PLAIN ",\"input\":{\"std\":[1]}}\n", "'std' is not known");
    assert_answer_refused(PLAIN ",\"input\":{\"mean\":[1,2]}}\n", "1 or 3 numbers");
    assert_answer_refused(PLAIN ",\"input\":{\"mean\":[0]}}\n", "as many numbers");
    assert_answer_refused(PLAIN ",\"input\":{\"mean\":[0],\"deviation\":[0]}}\n",
                          "above 0");
    assert_answer_refused(
        PLAIN ",\"input\":{\"dtype\":\"uint8\",\"mean\":[0],\"deviation\":[1]}}\n",
        "for float32, not uint8");
    assert_answer_refused(PLAIN ",\"input\":{\"dtype\":\"f4\"}}\n", "'dtype' must be");
    assert_answer_refused(PLAIN ",\"input\":{\"size\":3}}\n", "[height, width]");
    assert_answer_refused(PLAIN ",\"input\":{\"resize\":3}}\n", "without 'size'");
    assert_answer_refused(PLAIN ",\"input\":{\"size\":[9,9],\"resize\":[8,12]}}\n",
                          "a crop of 9 x 9");
    assert_answer_refused(PLAIN "}\nready\n",
                          "wrote 'ready' where nothing had been asked");
}

static void a_command_without_samples_is_refused(void **state)
{
    struct kd_teacher *teacher = NULL;

    (void)state;
    assert_int_equal(kd_teacher_open("exec:true", &teacher), KD_EUSAGE);
    assert_null(teacher);
}

static void a_command_that_is_none(void **state)
{
    struct kd_dataset *data = open_dataset("npy:x.npy");
    struct kd_teacher *teacher = NULL;

    (void)state;
    assert_int_equal(
        kd_teacher_open_over("exec:/nowhere/teacher", NULL, &data, &teacher), KD_EIO);
    assert_non_null(strstr(kd_error(), "exit code 127"));
    assert_non_null(strstr(kd_error(), "its last words: '"));
    assert_non_null(strstr(kd_error(), "not found"));
    kd_dataset_close(data);
}

/* -- what is sent --------------------------------------------------------- */

/* The first elements of samples as the child has got them, in its answers. */
static void check_sent(const char *input, const float *due, double tolerance)
{
    struct kd_dataset *data = NULL;
    char answer[512];
    float logits[3 * CLASSES];

    snprintf(answer, sizeof answer, PLAIN ",\"input\":%s}\n", input);
    struct kd_teacher *teacher = open_child(answer, "f64", 1, "npy:x.npy", &data);
    void *batch = fill(teacher, data, 2, 3);

    assert_ok(kd_teacher_run(teacher, batch, 3, logits));
    for (size_t i = 0; i < 3 * CLASSES; i++)
        assert_true(fabs((double)logits[i] - (double)due[i]) <= tolerance);
    free(batch);
    close_all(teacher, data);
}

static void samples_come_as_they_are_wanted(void **state)
{
    float due[3 * CLASSES];
    const struct kd_resize how = {.height = 12, .width = 9};
    uint8_t resized[3 * 12 * 9];

    (void)state;
    for (size_t i = 0; i < 3 * CLASSES; i++)
        due[i] = (float)pixels[(2 + i / CLASSES) * 90 + i % CLASSES];
    check_sent("{\"dtype\":\"uint8\"}", due, 0);
    check_sent("{\"dtype\":\"uint8\",\"size\":[6,5],\"resize\":100}", due, 0);
    for (size_t i = 0; i < 3 * CLASSES; i++)
        due[i] /= 255;
    check_sent("{}", due, 1e-7);
    for (size_t i = 0; i < 3 * CLASSES; i++)
        due[i] = (due[i] - 0.25f) / 0.5f;
    check_sent("{\"mean\":[0.25],\"deviation\":[0.5]}", due, 1e-6);
    for (size_t i = 0; i < 3 * CLASSES; i++) /* channel first, then column */
        due[i] =
            pixels[(2 + i / CLASSES) * 90 + i % CLASSES % 3 * 30 + i % CLASSES / 3];
    check_sent("{\"dtype\":\"uint8\",\"layout\":\"nhwc\"}", due, 0);
    for (size_t i = 0; i < 3 * CLASSES; i++) {
        const size_t c = i % CLASSES % 3;
        due[i] = (due[i] / 255 - 0.1f * (float)c) / (1 + (float)c);
    }
    check_sent("{\"layout\":\"nhwc\",\"mean\":[0,0.1,0.2],\"deviation\":[1,2,3]}", due,
               1e-6);
    for (size_t s = 0; s < 3; s++) {
        assert_ok(kd_resize_apply(&how, KD_U8, shape, pixels + (2 + s) * 90, resized));
        for (size_t c = 0; c < CLASSES; c++)
            due[s * CLASSES + c] = resized[c % 3 * 108 + c / 3];
    }
    check_sent("{\"dtype\":\"uint8\",\"size\":[12,9],\"layout\":\"nhwc\"}", due, 0);
}

/* Batches of several sizes through several children come back in order. */
static void batches_come_back_in_order(void **state)
{
    struct kd_dataset *data = NULL;
    struct kd_teacher *teacher =
        open_child(PLAIN ",\"batch\":5,\"input\":{\"dtype\":\"uint8\"}}\n", "f16", 3,
                   "npy:x.npy", &data);
    void *input[12];
    float logits[12][5 * CLASSES];
    size_t asked = 0, size = 0;

    (void)state;
    for (size_t n = 0; n < 12; n++) {
        while (asked < 12 && asked < n + kd_teacher_facts(teacher)->in_flight) {
            size = 1 + asked % 5;
            input[asked] = fill(teacher, data, asked * 3, size);
            assert_ok(kd_teacher_submit(teacher, input[asked], size, logits[asked]));
            asked++;
        }
        assert_ok(kd_teacher_collect(teacher));
        for (size_t i = 0; i < (1 + n % 5) * CLASSES; i++)
            assert_true(logits[n][i] ==
                        (float)pixels[(n * 3 + i / CLASSES) * 90 + i % CLASSES]);
        free(input[n]);
    }
    assert_int_equal(kd_teacher_collect(teacher), KD_EBUG);
    close_all(teacher, data);
}

static void too_many_at_a_time_are_a_bug(void **state)
{
    struct kd_dataset *data = NULL;
    struct kd_teacher *teacher =
        open_child(PLAIN ",\"batch\":2}\n", "f32", 1, "npy:x.npy", &data);
    void *input = fill(teacher, data, 0, 3);
    float logits[3][2 * CLASSES];

    (void)state;
    assert_int_equal(kd_teacher_submit(teacher, input, 3, logits[0]), KD_EBUG);
    assert_int_equal(kd_teacher_submit(teacher, input, 0, logits[0]), KD_EBUG);
    assert_ok(kd_teacher_submit(teacher, input, 2, logits[0]));
    assert_ok(kd_teacher_submit(teacher, input, 2, logits[1]));
    assert_int_equal(kd_teacher_submit(teacher, input, 2, logits[2]), KD_EBUG);
    close_all(teacher, data); /* with two of them in flight */
    free(input);
}

/* -- what the values mean ------------------------------------------------- */

/* Pixels over their sum are probabilities, but for the first sample of the dataset. */
static void probabilities_become_logits(void **state)
{
    static const float rows[2][CLASSES] = {{0.5f, 0.25f, 0.25f, 0, 0},
                                           {0.125f, 0.125f, 0.25f, 0.5f, 0.5f}};
    struct kd_dataset *data = NULL;
    struct kd_teacher *teacher = NULL;
    float logits[CLASSES];

    (void)state;
    assert_ok(kd_npy_write("p.npy", KD_F32, 2, (const uint64_t[]){2, CLASSES}, rows));
    teacher = open_child("{\"kd_teacher\":1,\"num_classes\":5,\"values\":\"probs\"}\n",
                         "f32", 1, "npy:p.npy", &data);
    assert_ok(kd_teacher_run(teacher, rows[0], 1, logits));
    assert_true(fabs((double)logits[0] - log(0.5)) < 1e-6);
    assert_true(fabs((double)logits[2] - log(0.25)) < 1e-6);
    assert_true(fabs((double)logits[4] - log(0x1p-149)) < 1e-4);
    assert_int_equal(kd_teacher_run(teacher, rows[1], 1, logits), KD_EDATA);
    assert_non_null(
        strstr(kd_error(), "row 0 of a batch of 1: its probabilities have the sum"));
    assert_int_equal(kd_teacher_run(teacher, rows[0], 1, logits), KD_EDATA);
    close_all(teacher, data);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_is_told_what_samples_are),
        cmocka_unit_test(a_digest_covers_the_preparation),
        cmocka_unit_test(names_of_classes_are_the_class_map),
        cmocka_unit_test(answers_that_make_no_sense_are_refused),
        cmocka_unit_test(a_command_without_samples_is_refused),
        cmocka_unit_test(a_command_that_is_none),
        cmocka_unit_test(samples_come_as_they_are_wanted),
        cmocka_unit_test(batches_come_back_in_order),
        cmocka_unit_test(too_many_at_a_time_are_a_bug),
        cmocka_unit_test(probabilities_become_logits),
    };

    if (argc == 4 && strcmp(argv[1], "child") == 0)
        return be_child(argv[2], argv[3]);
    kd_threads_set(1);
    return cmocka_run_group_tests(tests, make_data, remove_data);
}
