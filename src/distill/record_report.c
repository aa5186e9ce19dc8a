/* SPDX-License-Identifier: MIT */
/* What a record of samples says on the whole, in words or as JSON. */
#include "kd/h5.h"
#include "kd/monitor.h"

struct summary {
    uint64_t compared, labelled, both_right, behind, outgrown, both_wrong;
    uint64_t agreeing, forgotten, epochs;
    double kl, gap;
};

static void count(const struct kd_record *r, size_t i, struct summary *s)
{
    const bool student = (r->flags[i] & KD_MONITOR_STUDENT_RIGHT) != 0;
    const bool teacher = (r->flags[i] & KD_MONITOR_TEACHER_RIGHT) != 0;

    if (r->epoch[i] == 0)
        return;
    s->compared++;
    s->agreeing += (r->flags[i] & KD_MONITOR_AGREES) != 0;
    s->forgotten += r->forgotten[i] > 0;
    s->epochs = r->epoch[i] > s->epochs ? r->epoch[i] : s->epochs;
    s->kl += (double)r->kl[i];
    s->gap += (double)r->gap[i];
    if ((r->flags[i] & KD_MONITOR_LABELLED) == 0)
        return;
    s->labelled++;
    s->both_right += student && teacher;
    s->behind += !student && teacher;
    s->outgrown += student && !teacher;
    s->both_wrong += !student && !teacher;
}

static double share(uint64_t part, uint64_t all)
{
    return (double)part / (double)all;
}

static double mean(double sum, uint64_t all)
{
    return sum / (double)all;
}

static void write_text(const char *path, const struct kd_record *r,
                       const struct summary *s, FILE *to)
{
    const struct {
        const char *name;
        uint64_t part, all;
    } shares[] = {{"agreement", s->agreeing, s->compared},
                  {"both right", s->both_right, s->labelled},
                  {"behind", s->behind, s->labelled},
                  {"outgrown", s->outgrown, s->labelled},
                  {"both wrong", s->both_wrong, s->labelled},
                  {"ever forgotten", s->forgotten, s->labelled}};

    fprintf(to, "%s: a monitor's record, each sample when it was last compared\n",
            path);
    fprintf(to, "  %-18s ids %llu to %llu of %s\n", "samples",
            (unsigned long long)r->first, (unsigned long long)(r->first + r->count - 1),
            r->dataset.hex);
    fprintf(to, "  %-18s %llu, in epochs up to %llu\n", "compared",
            (unsigned long long)s->compared, (unsigned long long)s->epochs);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++)
        if (shares[i].all > 0)
            fprintf(to, "  %-18s %.2f %%\n", shares[i].name,
                    100 * share(shares[i].part, shares[i].all));
    if (s->compared > 0)
        fprintf(to, "  %-18s KL %.4g, total variation %.4g\n", "fidelity",
                mean(s->kl, s->compared), mean(s->gap, s->compared));
}

static void write_json(const char *path, const struct kd_record *r,
                       const struct summary *s, struct kd_json *json)
{
    kd_json_string(json, "format", KD_RECORD_FORMAT);
    kd_json_string(json, "name", path);
    kd_json_string(json, "dataset_digest", r->dataset.hex);
    kd_json_u64(json, "first_id", r->first);
    kd_json_u64(json, "num_samples", r->count);
    kd_json_u64(json, "compared", s->compared);
    kd_json_u64(json, "labelled", s->labelled);
    kd_json_u64(json, "last_epoch", s->epochs);
    if (s->compared > 0) {
        kd_json_f64(json, "agreement", share(s->agreeing, s->compared));
        kd_json_f64(json, "fidelity_kl", mean(s->kl, s->compared));
        kd_json_f64(json, "fidelity_tv", mean(s->gap, s->compared));
    }
    if (s->labelled == 0)
        return;
    kd_json_f64(json, "both_right", share(s->both_right, s->labelled));
    kd_json_f64(json, "behind", share(s->behind, s->labelled));
    kd_json_f64(json, "outgrown", share(s->outgrown, s->labelled));
    kd_json_f64(json, "both_wrong", share(s->both_wrong, s->labelled));
    kd_json_f64(json, "forgotten", share(s->forgotten, s->labelled));
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
