/* SPDX-License-Identifier: MIT */
/* Teachers: what a name opens, what it says of itself, and what it says of samples. */
#include "teach_fixture.h"

#include "kd/thread.h"

#include <math.h>

static const char small[] = "{family: mlp, hidden: [16]}";

static struct kd_teacher *open_teacher(const char *name)
{
    struct kd_teacher *teacher = NULL;

    if (kd_teacher_open(name, &teacher) != KD_OK)
        fail_msg("%s: %s", name, kd_error());
    return teacher;
}

static void assert_refused(const char *name, enum kd_status status, const char *words)
{
    struct kd_teacher *teacher = NULL;

    assert_int_equal(kd_teacher_open(name, &teacher), status);
    assert_null(teacher);
    assert_says(words);
}

static void names_that_are_no_teacher_are_refused_with_the_remedy(void **state)
{
    (void)state;
    assert_refused("a.h5", KD_EUSAGE, "'a.h5': not a teacher: write model:FILE");
    assert_refused("model:", KD_EUSAGE, "model:FILE");
    assert_refused("models:a.h5", KD_EUSAGE, "model:FILE");
    assert_refused("mode:a.h5", KD_EUSAGE, "model:FILE");
    assert_refused("", KD_EUSAGE, "model:FILE");
}

static void files_that_are_no_network_are_refused(void **state)
{
    char name[8192];

    (void)state;
    assert_refused("model:/nowhere/a.h5", KD_ENOINPUT, "/nowhere/a.h5");
    assert_int_equal(kd_file_write(fixture_path("text.h5"), "text", 4), KD_OK);
    snprintf(name, sizeof name, "model:%s", fixture_path("text.h5"));
    assert_refused(name, KD_EDATA, "text.h5");
}

static void facts_are_those_of_the_file(void **state)
{
    struct kd_teacher *teacher =
        open_teacher(fixture_model("facts.h5", small, FIXTURE_CLASSES, 1));
    const struct kd_teacher_facts *facts = kd_teacher_facts(teacher);
    struct kd_digest digest;

    (void)state;
    assert_string_equal(facts->name, "facts.h5");
    assert_int_equal(facts->shape.channels, FIXTURE_CHANNELS);
    assert_int_equal(facts->shape.height, FIXTURE_SIDE);
    assert_int_equal(facts->shape.width, FIXTURE_SIDE);
    assert_int_equal(facts->num_classes, FIXTURE_CLASSES);
    assert_int_equal(facts->input.normalize.count, 3);
    assert_true(facts->input.normalize.mean[2] == fixture_mean[2]);
    assert_true(facts->input.normalize.deviation[1] == fixture_deviation[1]);
    assert_string_equal(facts->bn_mode, "eval");
    assert_int_equal(kd_hash_file(fixture_path("facts.h5"), &digest, NULL), KD_OK);
    assert_string_equal(facts->digest.hex, digest.hex);
    assert_int_equal(kd_class_map_digest(NULL, FIXTURE_CLASSES, &digest), KD_OK);
    assert_string_equal(facts->class_map_digest.hex, digest.hex);
    kd_teacher_close(teacher);
}

static void draw_input(float *input, size_t samples)
{
    struct kd_random r = kd_random_at(5, KD_RANDOM_TEST, 0, 0);

    for (size_t i = 0; i < samples * FIXTURE_SAMPLE; i++)
        input[i] = (float)kd_random_between(&r, -2, 2);
}

/* The same network, built for another batch and run by hand. */
static void check_logits(const char *arch)
{
    struct kd_teacher *teacher =
        open_teacher(fixture_model("logits.h5", arch, FIXTURE_CLASSES, 3));
    struct kd_network *network = fixture_build(arch, FIXTURE_CLASSES, 3, 5);
    float input[5 * FIXTURE_SAMPLE], said[5 * FIXTURE_CLASSES],
        wanted[5 * FIXTURE_CLASSES];

    draw_input(input, 5);
    assert_int_equal(kd_teacher_run(teacher, input, 5, said), KD_OK);
    kd_tensor_set(network->input, input, 5);
    assert_int_equal(kd_graph_forward(network->graph), KD_OK);
    kd_tensor_get(network->logits, wanted, 5);
    for (size_t i = 0; i < 5 * FIXTURE_CLASSES; i++)
        assert_true(fabs((double)said[i] - (double)wanted[i]) < 1e-4);
    kd_network_free(network);
    kd_teacher_close(teacher);
}

static void logits_are_the_networks(void **state)
{
    (void)state;
    check_logits(small);
    check_logits("resnet8");
}

/* One sample among others, at the end of them, and alone: the same bits. */
static void check_rows(const char *arch)
{
    struct kd_teacher *teacher =
        open_teacher(fixture_model("rows.h5", arch, FIXTURE_CLASSES, 4));
    const size_t batch = kd_teacher_facts(teacher)->batch;
    float *input = calloc(batch * FIXTURE_SAMPLE, sizeof *input);
    float *all = calloc(batch * FIXTURE_CLASSES, sizeof *all);
    float few[3 * FIXTURE_CLASSES];

    draw_input(input, batch);
    assert_int_equal(kd_teacher_run(teacher, input, batch, all), KD_OK);
    assert_int_equal(kd_teacher_run(teacher, input, 3, few), KD_OK);
    assert_memory_equal(few, all, sizeof few);
    assert_int_equal(kd_teacher_run(teacher, input, 1, few), KD_OK);
    assert_memory_equal(few, all, FIXTURE_CLASSES * sizeof *few);
    free(input);
    free(all);
    kd_teacher_close(teacher);
}

static void a_row_does_not_depend_on_its_neighbours(void **state)
{
    (void)state;
    check_rows(small);
    check_rows("resnet8");
}

static void more_samples_than_a_batch_are_refused(void **state)
{
    struct kd_teacher *teacher =
        open_teacher(fixture_model("batch.h5", small, FIXTURE_CLASSES, 4));
    const size_t batch = kd_teacher_facts(teacher)->batch;
    float *input = calloc((batch + 1) * FIXTURE_SAMPLE, sizeof *input);
    float *logits = calloc((batch + 1) * FIXTURE_CLASSES, sizeof *logits);

    (void)state;
    assert_int_equal(kd_teacher_run(teacher, input, batch + 1, logits), KD_EBUG);
    free(input);
    free(logits);
    kd_teacher_close(teacher);
}

static void samples_and_classes_must_be_the_teachers(void **state)
{
    struct kd_teacher *teacher =
        open_teacher(fixture_model("fits.h5", small, FIXTURE_CLASSES, 1));
    static const char *const names[FIXTURE_CLASSES] = {"zero", "one"};
    struct kd_dataset_facts data = {.name = "there",
                                    .shape = {3, 8, 8},
                                    .num_classes = FIXTURE_CLASSES,
                                    .class_map_digest =
                                        kd_teacher_facts(teacher)->class_map_digest};

    (void)state;
    assert_int_equal(kd_teacher_fits(teacher, &data), KD_OK);
    data.class_map_digest.hex[0] ^= 1;
    data.class_names = names;
    assert_int_equal(kd_teacher_fits(teacher, &data), KD_EDATA);
    assert_says("fits.h5: its classes");
    assert_says("not those of there");
    data.num_classes = FIXTURE_CLASSES + 1;
    assert_int_equal(kd_teacher_fits(teacher, &data), KD_EDATA);
    assert_says("fits.h5: has 8 classes, there has 9");
    data.num_classes = 0; /* no labels, so no classes to differ */
    assert_int_equal(kd_teacher_fits(teacher, &data), KD_OK);
    data.shape.width = 9;
    assert_int_equal(kd_teacher_fits(teacher, &data), KD_EDATA);
    assert_says("fits.h5: takes samples of 3 x 8 x 8");
    assert_says("those of there are 3 x 8 x 9");
    kd_teacher_close(teacher);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_that_are_no_teacher_are_refused_with_the_remedy),
        cmocka_unit_test(files_that_are_no_network_are_refused),
        cmocka_unit_test(facts_are_those_of_the_file),
        cmocka_unit_test(logits_are_the_networks),
        cmocka_unit_test(a_row_does_not_depend_on_its_neighbours),
        cmocka_unit_test(more_samples_than_a_batch_are_refused),
        cmocka_unit_test(samples_and_classes_must_be_the_teachers),
    };

    kd_threads_set(1); /* small work: threads would wait for each other */
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
