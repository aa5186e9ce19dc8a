/* SPDX-License-Identifier: MIT */
/* What policies are told: parsed, checked, put into words; tables of routes. */
#include "policy_fixture.h"

static void weights_are_parsed_and_scaled(void **state)
{
    struct kd_merge_plan plan = {.teachers = 3};

    (void)state;
    assert_int_equal(kd_merge_parse_numbers("weights", "1,2.5,0.5", 3, plan.weights),
                     KD_OK);
    assert_int_equal(kd_merge_plan_check(&plan), KD_OK);
    assert_true(plan.weights[0] == 0.25 && plan.weights[1] == 0.625 &&
                plan.weights[2] == 0.125);
    memset(plan.weights, 0, sizeof plan.weights);
    assert_int_equal(kd_merge_plan_check(&plan), KD_OK);
    assert_true(plan.weights[0] == 1.0 / 3 && plan.weights[2] == 1.0 / 3);
}

static void wrong_numbers_are_refused(void **state)
{
    static const char *const wrong[] = {"1,2",   "1,2,3,4", "1,2,x",   "1,-2,3",
                                        "1,,3",  "1,2,nan", "1,2,inf", "",
                                        "0,0,0", "1,2,3,"};
    struct kd_merge_plan plan = {.teachers = 3};

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (kd_merge_parse_numbers("weights", wrong[i], 3, plan.weights) != KD_EUSAGE)
            fail_msg("'%s' was not refused", wrong[i]);
        assert_says("--weights");
    }
    plan = (struct kd_merge_plan){.teachers = 2, .weights = {1, NAN}};
    assert_int_equal(kd_merge_plan_check(&plan), KD_EUSAGE);
    plan = (struct kd_merge_plan){.teachers = 2, .weights = {1, -1}};
    assert_int_equal(kd_merge_plan_check(&plan), KD_EUSAGE);
    plan = (struct kd_merge_plan){.teachers = 0};
    assert_int_equal(kd_merge_plan_check(&plan), KD_EUSAGE);
    plan = (struct kd_merge_plan){.teachers = KD_MAX_TEACHERS + 1};
    assert_int_equal(kd_merge_plan_check(&plan), KD_EUSAGE);
}

/* -- from options ------------------------------------------------------------------ */

static enum kd_status make(struct kd_policy_args args, struct kd_merge_plan *plan)
{
    return kd_merge_plan_from_args(&args, 3, plan);
}

static void options_of_other_policies_are_refused(void **state)
{
    static const struct {
        struct kd_policy_args args;
        const char *says;
    } wrong[] = {
        {{.policy = KD_POLICY_MEDIAN, .weights = (char *)"1,2,3"}, "--weights: median"},
        {{.policy = KD_POLICY_STACKED,
          .weights = (char *)"1,2,3",
          .holdout = (char *)"0:9"},
         "--weights: stacked takes none"},
        {{.weigh_at = 2}, "--weigh-at: --policy mean-prob does not take it"},
        {{.confidence = KD_CONFIDENCE_MARGIN}, "--confidence"},
        {{.agree = KD_AGREE_JS}, "--agree"},
        {{.threshold = 0.5}, "--threshold"},
        {{.policy = KD_POLICY_AGREEMENT}, "--threshold is 0"},
        {{.policy = KD_POLICY_AGREEMENT, .threshold = 1.5}, "at most 1"},
        {{.policy = KD_POLICY_AGREEMENT, .agree = KD_AGREE_JS, .threshold = 1.1},
         "at most 1.09861"},
        {{.fallback = KD_FALLBACK_UNIFORM}, "--fallback"},
        {{.trim = 1}, "--trim"},
        {{.policy = KD_POLICY_TRIMMED_MEAN, .trim = 2}, "leaves none of 3"},
        {{.seed = 1}, "--seed"},
        {{.policy = KD_POLICY_NOISY_VOTE}, "--noise-scale"},
        {{.noise_scale = 1}, "--noise-scale"},
        {{.noise = KD_NOISE_GNMAX}, "--noise:"},
        {{.check_scale = 1}, "--check-scale"},
        {{.delta = 0.1}, "--delta"},
        {{.policy = KD_POLICY_NOISY_VOTE, .noise_scale = 1, .threshold = 2}, "lnmax"},
        {{.policy = KD_POLICY_NOISY_VOTE, .noise_scale = 1, .weights = (char *)"1,2,3"},
         "--weights"},
        {{.rounds = 5}, "--rounds"},
        {{.policy = KD_POLICY_ROUTE}, "give --route FILE"},
        {{.accuracies = (char *)"1,1,1"}, "--accuracies: only"},
        {{.policy = KD_POLICY_BEST_OVERALL, .accuracies = (char *)"0.5,2,0.1"},
         "cache 2"},
        {{.policy = KD_POLICY_BEST_OVERALL}, "--holdout A:B or --accuracies"},
        {{.policy = KD_POLICY_GREEDY}, "greedy is fitted"},
        {{.calibrate = true}, "--calibrate is fitted"},
        {{.holdout = (char *)"0:10"}, "nothing is fitted"},
        {{.calibrate = true, .holdout = (char *)"10:10"}, "'10:10' is no range"},
        {{.calibrate = true, .holdout = (char *)"10"}, "is no range"},
        {{.calibrate = true, .holdout = (char *)"a:b"}, "is no range"},
        {{.policy = KD_POLICY_LEAVE_ONE_OUT, .weights = (char *)"1,0,0"},
         "without teacher 1"},
    };
    struct kd_merge_plan plan;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (make(wrong[i].args, &plan) != KD_EUSAGE)
            fail_msg("%zu: '%s' was not refused", i, wrong[i].says);
        assert_says(wrong[i].says);
    }
}

/* The parameters of a plan made of options. */
static const char *words(struct kd_policy_args args)
{
    static char text[2048];
    struct kd_merge_plan plan;

    assert_int_equal(make(args, &plan), KD_OK);
    plan.temperature = 4;
    assert_int_equal(kd_merge_plan_text(&plan, 1000, C, text, sizeof text), KD_OK);
    kd_merge_plan_clear(&plan);
    return text;
}

static void plans_are_put_into_words(void **state)
{
    (void)state;
    assert_string_equal(words((struct kd_policy_args){.weights = (char *)"2,1,1"}),
                        "weights=0.5,0.25,0.25");
    assert_string_equal(words((struct kd_policy_args){.policy = KD_POLICY_MEDIAN}), "");
    assert_string_equal(
        words((struct kd_policy_args){.policy = KD_POLICY_TRIMMED_MEAN}), "trim=1");
    assert_string_equal(words((struct kd_policy_args){.policy = KD_POLICY_CONFIDENCE,
                                                      .weights = (char *)"2,1,1",
                                                      .confidence = 1}),
                        "weights=0.5,0.25,0.25 weigh-at=4 confidence=margin");
    assert_string_equal(
        words((struct kd_policy_args){.policy = KD_POLICY_BEST_BY_LABEL}),
        "weigh-at=1");
    assert_string_equal(
        words((struct kd_policy_args){.policy = KD_POLICY_BEST_OVERALL,
                                      .accuracies = (char *)"0.5,0.75,0.7"}),
        "accuracies=0.5,0.75,0.7");
    assert_string_equal(
        words((struct kd_policy_args){.policy = KD_POLICY_AGREEMENT,
                                      .weights = (char *)"2,1,1",
                                      .agree = KD_AGREE_JS,
                                      .threshold = 0.25,
                                      .fallback = KD_FALLBACK_UNIFORM}),
        "weights=0.5,0.25,0.25 agree=js threshold=0.25 fallback=uniform");
    assert_string_equal(words((struct kd_policy_args){.policy = KD_POLICY_RANDOM,
                                                      .weights = (char *)"2,1,1",
                                                      .seed = 7}),
                        "weights=0.5,0.25,0.25 seed=7");
    assert_string_equal(words((struct kd_policy_args){.policy = KD_POLICY_NOISY_VOTE,
                                                      .noise = KD_NOISE_GNMAX,
                                                      .noise_scale = 40,
                                                      .seed = 9}),
                        "noise=gnmax noise-scale=40 questions=1000 epsilon=5.989916 "
                        "delta=1e-05 fallback=label seed=9");
    assert_string_equal(words((struct kd_policy_args){.policy = KD_POLICY_LEAVE_ONE_OUT,
                                                      .weights = (char *)"2,1,1"}),
                        "weights=0.5,0.25,0.25 left-out=1");
}

static void what_was_fitted_is_put_into_words(void **state)
{
    struct kd_merge_plan plan = plan_of(KD_POLICY_CLASS_WEIGHTS, 2);
    char text[2048], other[2048];

    (void)state;
    plan.calibrate = true;
    plan.calibration[1] = 1.25;
    plan.holdout_begin = 45000;
    plan.holdout_end = 50000;
    assert_int_equal(kd_merge_plan_text(&plan, 9, C, text, sizeof text), KD_OK);
    assert_non_null(strstr(text, "calibration=1,1.25 holdout=45000:50000"));
    plan.class_weights[5] += 1e-9;
    assert_int_equal(kd_merge_plan_text(&plan, 9, C, other, sizeof other), KD_OK);
    assert_string_not_equal(text, other);
    assert_int_equal(kd_merge_plan_text(&plan, 9, C, text, strlen(other)), KD_EUSAGE);
    assert_int_equal(kd_merge_plan_text(&plan, 9, C, text, strlen(other) + 1), KD_OK);
    assert_string_equal(text, other);
    kd_merge_plan_clear(&plan);
}

static void options_are_written_as_they_were_given(void **state)
{
    const struct kd_policy_args args = {.policy = KD_POLICY_NOISY_VOTE,
                                        .noise = KD_NOISE_CONFIDENT_GNMAX,
                                        .noise_scale = 4,
                                        .check_scale = 2.5,
                                        .threshold = 3,
                                        .seed = 8,
                                        .calibrate = true,
                                        .holdout = (char *)"3:4"};
    char *text = kd_policy_args_text(&args);

    (void)state;
    assert_string_equal(text, "--policy noisy-vote --threshold 3 --seed 8 --noise "
                              "confident-gnmax --noise-scale 4 --check-scale 2.5 "
                              "--holdout 3:4 --calibrate");
    free(text);
}

/* -- tables of routes ---------------------------------------------------- */

static void routes_are_found(void **state)
{
    const char *path = fixture_text(
        "a.csv", "id,teacher\n10:20,2\n5,1\n18446744073709551614,3\n20:30,1");
    struct kd_route *route = NULL;

    (void)state;
    assert_int_equal(kd_route_load(path, 3, &route), KD_OK);
    assert_false(kd_route_by_label(route));
    assert_true(kd_route_find(route, 4) == SIZE_MAX);
    assert_int_equal(kd_route_find(route, 5), 0);
    assert_true(kd_route_find(route, 6) == SIZE_MAX);
    assert_int_equal(kd_route_find(route, 10), 1);
    assert_int_equal(kd_route_find(route, 19), 1);
    assert_int_equal(kd_route_find(route, 20), 0);
    assert_true(kd_route_find(route, 30) == SIZE_MAX);
    assert_int_equal(kd_route_find(route, UINT64_MAX - 1), 2);
    kd_route_free(route);
}

static void wrong_tables_are_refused(void **state)
{
    static const struct {
        const char *text, *says;
    } wrong[] = {
        {"", "is empty"},
        {"# nothing\n\n", "is empty"},
        {"5,1\n", "line 1: must begin with"},
        {"id,teacher\n5\n", "line 2: '5' is no key and teacher"},
        {"id,teacher\n\n5,0\n", "line 3: '0' is no teacher: they are 1 to 3"},
        {"id,teacher\n5,4\n", "'4' is no teacher"},
        {"id,teacher\n5,a\n", "'a' is no teacher"},
        {"id,teacher\nx,1\n", "'x' is no number"},
        {"id,teacher\n9:9,1\n", "'9:9' is no number"},
        {"id,teacher\n*,1\n*,2\n", "line 3: * is there twice"},
        {"id,teacher\n5:9,1\n3:6,2\n", "id 5 is there twice"},
        {"label,teacher\n4,1\n4,1\n", "label 4 is there twice"},
    };
    struct kd_route *route = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const char *path = fixture_text("wrong.csv", wrong[i].text);

        if (kd_route_load(path, 3, &route) != KD_EDATA)
            fail_msg("'%s' was not refused", wrong[i].text);
        assert_says("wrong.csv: ");
        assert_says(wrong[i].says);
    }
    assert_int_equal(kd_file_write(fixture_path("0.csv"), "id,teacher\0", 11), KD_OK);
    assert_int_equal(kd_route_load(fixture_path("0.csv"), 3, &route), KD_EDATA);
    assert_int_equal(kd_route_load(fixture_path("none.csv"), 3, &route), KD_ENOINPUT);
    assert_null(route);
}

/* The same table written in another way has the same words, another one does not. */
static void tables_are_told_apart(void **state)
{
    static const char *const texts[] = {
        "label,teacher\n1,2\n*,1\n2,2\n", "#\nlabel,teacher\n*,1\n2,2\n1,2\n",
        "id,teacher\n1,2\n*,1\n2,2\n", "label,teacher\n1,2\n*,1\n2,1\n"};
    char said[4][2048];

    (void)state;
    for (size_t i = 0; i < 4; i++)
        snprintf(said[i], sizeof said[i], "%s",
                 words((struct kd_policy_args){
                     .policy = KD_POLICY_ROUTE,
                     .route = (char *)fixture_text("told.csv", texts[i])}));
    assert_string_equal(said[0], said[1]);
    assert_string_not_equal(said[0], said[2]);
    assert_string_not_equal(said[0], said[3]);
    assert_memory_equal(said[0], "by=label route=", 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_parsed_and_scaled),
        cmocka_unit_test(wrong_numbers_are_refused),
        cmocka_unit_test(options_of_other_policies_are_refused),
        cmocka_unit_test(plans_are_put_into_words),
        cmocka_unit_test(what_was_fitted_is_put_into_words),
        cmocka_unit_test(options_are_written_as_they_were_given),
        cmocka_unit_test(routes_are_found),
        cmocka_unit_test(wrong_tables_are_refused),
        cmocka_unit_test(tables_are_told_apart),
    };

    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
