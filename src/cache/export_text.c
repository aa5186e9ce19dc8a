/* SPDX-License-Identifier: MIT */
/* Exports as CSV. */
#include "cache/export_internal.h"

#include "kd/memory.h"

#include <stdlib.h>

struct csv {
    const struct kd_export_plan *plan;
    struct kd_out out;
};

static void csv_close(void *inside)
{
    struct csv *csv = inside;

    kd_out_close(&csv->out);
    free(csv);
}

/* The fewest digits, from 6 on, that read back as the same float32. */
static int float_text(float value, char text[32])
{
    int length = 0;

    for (int digits = 6; digits <= 9; digits++) {
        length = snprintf(text, 32, ",%.*g", digits, (double)value);
        if (strtof(text + 1, NULL) == value)
            break;
    }
    return length;
}

static enum kd_status csv_add(void *inside, const struct kd_export_rows *rows)
{
    enum kd_status status = KD_EBUG;
    struct csv *csv = inside;
    const size_t classes = csv->plan->classes;
    char text[96];
    int length = 0;

    for (size_t i = 0; i < rows->count; i++) {
        length =
            snprintf(text, sizeof text, "%llu,%u,%d", (unsigned long long)rows->id[i],
                     (unsigned)rows->view[i], (int)rows->label[i]);
        KD_TRY(kd_out_write(&csv->out, text, (size_t)length));
        for (size_t c = 0; c < classes; c++) {
            length = float_text(rows->values[i * classes + c], text);
            KD_TRY(kd_out_write(&csv->out, text, (size_t)length));
        }
        KD_TRY(kd_out_write(&csv->out, "\n", 1));
    }
    status = KD_OK;
out:
    return status;
}

static enum kd_status csv_commit(void *inside, char **made)
{
    struct csv *csv = inside;
    const enum kd_status status = kd_out_commit(&csv->out);

    if (status != KD_OK)
        return status;
    *made = kd_copy_string(csv->plan->to);
    return *made != NULL ? KD_OK : KD_EMEMORY;
}

enum kd_status kd_export_to_csv(const struct kd_export_plan *plan, struct kd_sink *sink)
{
    enum kd_status status = KD_EBUG;
    struct csv *csv = NULL;
    char name[32];
    int length = 0;

    KD_TRY(KD_NEW(csv, 1));
    csv->plan = plan;
    *sink = (struct kd_sink){csv, csv_add, csv_commit, csv_close};
    KD_TRY(kd_out_open(&csv->out, NULL, plan->to));
    KD_TRY(kd_out_write(&csv->out, "id,view,label", 13));
    for (size_t c = 0; c < plan->classes; c++) {
        length = snprintf(name, sizeof name, ",c%zu", c);
        KD_TRY(kd_out_write(&csv->out, name, (size_t)length));
    }
    KD_TRY(kd_out_write(&csv->out, "\n", 1));
out:
    return status;
}
