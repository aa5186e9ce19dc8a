/* SPDX-License-Identifier: MIT */
/* Churn: pairs, means over pairs, and how they are told. */
#include "teach_fixture.h"

#include "kd/evaluate.h"

#include <cjson/cJSON.h>
#include <math.h>

/* Three retrains over 8 samples. Of 6 labelled ones they are right about 3, 4 and 5. */
static struct kd_predictor_metrics predictors[3];
static struct kd_pair_metrics pairs[9];

static struct kd_evaluation make_evaluation(void)
{
    static char names[3][4] = {"a", "b", "c"};
    const struct kd_pair_metrics between[3] = {{6, 0.8, 0}, {4, 2.0, 0}, {7, 0.2, 0}};
    size_t next = 0;

    for (size_t a = 0; a < 3; a++) {
        predictors[a] = (struct kd_predictor_metrics){
            .name = names[a],
            .metrics = {.samples = 8, .labelled = 6, .right = 3 + a, .num_bins = 1}};
        pairs[a * 3 + a].agreeing = 8;
        for (size_t b = a + 1; b < 3; b++)
            pairs[a * 3 + b] = pairs[b * 3 + a] = between[next++];
    }
    return (struct kd_evaluation){.count = 3,
                                  .predictors = predictors,
                                  .pairs = pairs,
                                  .samples = 8,
                                  .labelled = 6};
}

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-12;
}

static void pairs_and_their_mean_are_those_worked_out_by_hand(void **state)
{
    const struct kd_evaluation e = make_evaluation();
    const struct kd_churn ac = kd_churn_of_pair(&e, 0, 2), mean = kd_churn_mean(&e);

    (void)state;
    assert_true(near(ac.disagreement, 0.5) && near(ac.difference, 0.25));
    assert_true(near(mean.disagreement, 7.0 / 24) && near(mean.difference, 3.0 / 24));
    assert_true(near(kd_churn_of_pair(&e, 1, 1).disagreement, 0));
}

static void the_table_has_a_line_a_pair(void **state)
{
    const struct kd_evaluation e = make_evaluation();
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);

    (void)state;
    assert_non_null(to);
    assert_int_equal(kd_churn_write(&e, to), KD_OK);
    fclose(to);
    assert_string_equal(text, " 1 a\n 2 b\n 3 c\n"
                              "\npair         churn difference\n"
                              " 1,  2      0.2500     0.1000\n"
                              " 1,  3      0.5000     0.2500\n"
                              " 2,  3      0.1250     0.0250\n"
                              "mean        0.2917     0.1250\n"
                              "\n8 samples; accuracy 0.6667, deviation 0.1667\n");
    free(text);
}

static double number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItem(object, key);

    assert_true(cJSON_IsNumber(item));
    return item->valuedouble;
}

static void json_says_the_same(void **state)
{
    const struct kd_evaluation e = make_evaluation();
    struct kd_json *json = NULL;
    const char *text = NULL;

    (void)state;
    assert_int_equal(kd_json_new(&json), KD_OK);
    kd_churn_json(&e, json);
    assert_int_equal(kd_json_text(json, &text), KD_OK);
    cJSON *root = cJSON_Parse(text);
    assert_non_null(root);
    const cJSON *list = cJSON_GetObjectItem(root, "pairs");
    assert_int_equal(cJSON_GetArraySize(list), 3);
    assert_true(near(number(cJSON_GetArrayItem(list, 1), "churn"), 0.5));
    assert_true(near(number(cJSON_GetArrayItem(list, 1), "difference"), 0.25));
    assert_true(near(number(root, "churn_mean"), 7.0 / 24));
    assert_true(near(number(root, "difference_mean"), 0.125));
    assert_true(near(number(root, "accuracy_deviation"), 1.0 / 6));
    cJSON_Delete(root);
    kd_json_free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_and_their_mean_are_those_worked_out_by_hand),
        cmocka_unit_test(the_table_has_a_line_a_pair),
        cmocka_unit_test(json_says_the_same),
    };

    return cmocka_run_group_tests_name("churn", tests, NULL, NULL);
}
