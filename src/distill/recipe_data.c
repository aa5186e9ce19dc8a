/* SPDX-License-Identifier: MIT */
/* A recipe and its data: whether they fit together, and what stands for their content.
 */
#include "kd/recipe.h"

#include "kd/memory.h"

#include <string.h>

enum kd_status kd_recipe_check_data(const struct kd_recipe *recipe,
                                    const struct kd_dataset *train,
                                    const struct kd_dataset *tested, size_t classes)
{
    const struct kd_dataset_facts *data = kd_dataset_facts(train);
    const struct kd_dataset_facts *test =
        tested != NULL ? kd_dataset_facts(tested) : NULL;

    if (classes < 2)
        return kd_fail(KD_EDATA, "%s: has fewer than two classes", data->name);
    for (size_t i = 0; i < recipe->num_stages; i++)
        if (recipe->stages[i].loss.hard > 0 && data->num_classes == 0)
            return kd_fail(KD_EDATA,
                           "%s: has no labels: set loss.hard to 0 to learn from "
                           "soft labels alone",
                           data->name);
    if (recipe->hold_out != NULL && data->num_classes == 0)
        return kd_fail(KD_EDATA, "%s: has no labels to judge what is held out by",
                       data->name);
    if (test != NULL && (memcmp(&test->shape, &data->shape, sizeof test->shape) != 0 ||
                         test->num_classes > classes))
        return kd_fail(KD_EDATA, "%s: its samples or classes are not those of %s",
                       test->name, data->name);
    return KD_OK;
}

char *kd_recipe_data_text(const struct kd_dataset *data)
{
    const struct kd_dataset_facts *facts;

    if (data == NULL)
        return kd_copy_string("none");
    facts = kd_dataset_facts(data);
    return kd_format("%s ids %llu to %llu", facts->digest.hex,
                     (unsigned long long)facts->first,
                     (unsigned long long)facts->end - 1);
}
