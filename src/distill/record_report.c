/* SPDX-License-Identifier: MIT */
/* What a record of samples says on the whole, in words or as JSON. */
#include "kd/h5.h"
#include "kd/monitor.h"

/* The samples that were compared, as rows (kd_monitor_add), and what a row has not. */
struct summary {
    struct kd_monitor_sums sums;
    uint64_t forgotten, epochs;
};

static void count(const struct kd_record *r, size_t i, struct summary *s)
{
    const struct kd_monitor_row row = {
        .flags = r->flags[i], .kl = (double)r->kl[i], .variation = (double)r->gap[i]};

    if (r->epoch[i] == 0)
        return;
    kd_monitor_add(&s->sums, &row);
    s->forgotten += r->forgotten[i] > 0;
    s->epochs = r->epoch[i] > s->epochs ? r->epoch[i] : s->epochs;
}

static double share(uint64_t part, uint64_t all)
{
    return (double)part / (double)all;
}

static void write_text(const char *path, const struct kd_record *r,
                       const struct summary *s, FILE *to)
{
    const struct kd_monitor_sums *all = &s->sums;
    const struct {
        const char *name;
        uint64_t part, all;
    } shares[] = {{"agreement", all->agreeing, all->rows},
                  {"both right", all->both_right, all->labelled},
                  {"behind", all->behind, all->labelled},
                  {"outgrown", all->outgrown, all->labelled},
                  {"both wrong", all->both_wrong, all->labelled},
                  {"ever forgotten", s->forgotten, all->labelled}};

    fprintf(to, "%s: a monitor's record, each sample when it was last compared\n",
            path);
    fprintf(to, "  %-18s ids %llu to %llu of %s\n", "samples",
            (unsigned long long)r->first, (unsigned long long)(r->first + r->count - 1),
            r->dataset.hex);
    fprintf(to, "  %-18s %llu, in epochs up to %llu\n", "compared",
            (unsigned long long)all->rows, (unsigned long long)s->epochs);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++)
        if (shares[i].all > 0)
            fprintf(to, "  %-18s %.2f %%\n", shares[i].name,
                    100 * share(shares[i].part, shares[i].all));
    if (all->rows > 0)
        fprintf(to, "  %-18s KL %.4g, total variation %.4g\n", "fidelity",
                all->kl / (double)all->rows, all->variation / (double)all->rows);
}

static void write_json(const char *path, const struct kd_record *r,
                       const struct summary *s, struct kd_json *json)
{
    kd_json_string(json, "format", KD_RECORD_FORMAT);
    kd_json_string(json, "name", path);
    kd_json_string(json, "dataset_digest", r->dataset.hex);
    kd_json_u64(json, "first_id", r->first);
    kd_json_u64(json, "num_samples", r->count);
    kd_json_u64(json, "compared", s->sums.rows);
    kd_json_u64(json, "labelled", s->sums.labelled);
    kd_json_u64(json, "last_epoch", s->epochs);
    kd_monitor_sums_json(&s->sums, json);
    if (s->sums.labelled > 0)
        kd_json_f64(json, "forgotten", share(s->forgotten, s->sums.labelled));
}

enum kd_status kd_record_report(const char *path, struct kd_json *json, FILE *to)
{
    struct summary s = {0};
    struct kd_record record;
    enum kd_status status = kd_record_load(path, &record);

    if (status != KD_OK)
        return status;
    for (size_t i = 0; i < record.count; i++)
        count(&record, i, &s);
    if (json != NULL)
        write_json(path, &record, &s, json);
    else
        write_text(path, &record, &s, to);
    status = kd_h5_tell_history(path, json, to);
    kd_record_clear(&record);
    return status;
}
