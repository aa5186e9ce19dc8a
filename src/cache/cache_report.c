/* SPDX-License-Identifier: MIT */
/* What a cache is, in words or as JSON. */
#include "kd/cache_report.h"

#include "kd/cache.h"
#include "kd/h5.h"

struct report {
    const struct kd_cache *cache;
    const struct kd_identity *identity;
    struct kd_digest digest;
    uint64_t promised; /* rows, by the identity */
    bool statistics;
    struct kd_cache_stats stats;
};

static void write_identity(const struct kd_identity *identity, FILE *to)
{
    char text[KD_FIELD_SIZE];
    const char *name = NULL;

    for (size_t i = 0; (name = kd_identity_field(identity, i, text)) != NULL; i++)
        if (text[0] != '\0')
            fprintf(to, "  %-18s %s\n", name, text);
}

static void write_stats(const struct kd_cache_stats *stats, FILE *to)
{
    const double rows = (double)stats->rows;

    fprintf(to, "  %-18s %llu\n", "bytes", (unsigned long long)stats->bytes);
    fprintf(to, "  %-18s %.1f\n", "bytes a row", (double)stats->bytes / rows);
    fprintf(to, "  %-18s %.2f\n", "values a row", (double)stats->values / rows);
    fprintf(to, "  %-18s %.6f\n", "mean kept mass", stats->kept_mass);
    fprintf(to, "  %-18s %.4f\n", "mean max-prob", stats->max_prob);
    fprintf(to, "  %-18s %.4f nats\n", "mean entropy", stats->entropy);
    if (stats->labelled == 0)
        fprintf(to, "  %-18s none\n", "labels");
    else
        fprintf(to, "  %-18s %.4f of %llu labelled rows\n", "argmax == label",
                (double)stats->agreeing / (double)stats->labelled,
                (unsigned long long)stats->labelled);
}

/* What merging sparse rows may have cost; false where not all shards say. */
static bool find_bound(const struct kd_cache *cache, struct kd_bound *all)
{
    double sum = 0;

    all->max = 0;
    for (size_t i = 0; i < kd_cache_num_shards(cache); i++) {
        const struct kd_shard *shard = kd_cache_shard(cache, i);
        const struct kd_bound *one = kd_shard_bound(shard);

        if (one == NULL)
            return false;
        sum += one->mean * (double)kd_shard_rows(shard);
        all->max = one->max > all->max ? one->max : all->max;
    }
    all->mean = sum / (double)kd_cache_rows(cache);
    return true;
}

static void write_shards(const struct kd_cache *cache, FILE *to)
{
    for (size_t i = 0; i < kd_cache_num_shards(cache); i++) {
        const struct kd_shard *shard = kd_cache_shard(cache, i);
        const uint64_t rows = kd_shard_rows(shard);

        fprintf(to, "  %-18s %s: samples %llu to %llu, %llu rows\n", "shard",
                kd_shard_path(shard), (unsigned long long)kd_shard_ids(shard)[0],
                (unsigned long long)kd_shard_ids(shard)[rows - 1],
                (unsigned long long)rows);
    }
}

static void write_text(const struct report *report, FILE *to)
{
    const uint64_t rows = kd_cache_rows(report->cache);
    struct kd_bound bound;

    fprintf(to, "%s: soft labels\n", kd_cache_name(report->cache));
    write_identity(report->identity, to);
    fprintf(to, "  %-18s %s\n", "identity_digest", report->digest.hex);
    fprintf(to, "  %-18s %llu of %llu%s\n", "rows", (unsigned long long)rows,
            (unsigned long long)report->promised,
            rows < report->promised ? ": a part of the cache" : "");
    if (find_bound(report->cache, &bound))
        fprintf(to, "  %-18s mean %.6g, at most %.6g in total variation\n", "bound",
                bound.mean, bound.max);
    if (report->statistics)
        write_stats(&report->stats, to);
    write_shards(report->cache, to);
}

static void shards_json(const struct kd_cache *cache, struct kd_json *json)
{
    kd_json_begin(json, "shards", '[');
    for (size_t i = 0; i < kd_cache_num_shards(cache); i++) {
        const struct kd_shard *shard = kd_cache_shard(cache, i);
        const uint64_t rows = kd_shard_rows(shard);

        kd_json_begin(json, NULL, '{');
        kd_json_u64(json, "first_id", kd_shard_ids(shard)[0]);
        kd_json_u64(json, "last_id", kd_shard_ids(shard)[rows - 1]);
        kd_json_string(json, "path", kd_shard_path(shard));
        kd_json_u64(json, "rows", rows);
        kd_json_end(json);
    }
    kd_json_end(json);
}

/* A share of no rows is null. */
static void stats_json(const struct kd_cache_stats *stats, struct kd_json *json)
{
    kd_json_begin(json, "statistics", '{');
    kd_json_f64(json, "argmax_is_label",
                (double)stats->agreeing / (double)stats->labelled);
    kd_json_u64(json, "bytes", stats->bytes);
    kd_json_f64(json, "bytes_a_row", (double)stats->bytes / (double)stats->rows);
    kd_json_f64(json, "entropy", stats->entropy);
    kd_json_f64(json, "kept_mass", stats->kept_mass);
    kd_json_u64(json, "labelled", stats->labelled);
    kd_json_f64(json, "max_prob", stats->max_prob);
    kd_json_f64(json, "values_a_row", (double)stats->values / (double)stats->rows);
    kd_json_end(json);
}

static void write_json(const struct report *report, struct kd_json *json)
{
    struct kd_bound bound;

    if (find_bound(report->cache, &bound)) {
        kd_json_begin(json, "bound", '{');
        kd_json_f64(json, "max", bound.max);
        kd_json_f64(json, "mean", bound.mean);
        kd_json_end(json);
    }
    kd_json_string(json, "format", "kdcache");
    kd_json_begin(json, "identity", '{');
    kd_identity_json(report->identity, json);
    kd_json_end(json);
    kd_json_string(json, "identity_digest", report->digest.hex);
    kd_json_string(json, "name", kd_cache_name(report->cache));
    kd_json_u64(json, "rows", kd_cache_rows(report->cache));
    kd_json_u64(json, "rows_promised", report->promised);
    shards_json(report->cache, json);
    if (report->statistics)
        stats_json(&report->stats, json);
}

enum kd_status kd_cache_report(const char *where, bool statistics, struct kd_json *json,
                               FILE *to)
{
    enum kd_status status = KD_EBUG;
    struct kd_cache *cache = NULL;
    struct report report = {.statistics = statistics};

    KD_TRY(kd_cache_open(where, &cache));
    report.cache = cache;
    report.identity = kd_cache_identity(cache);
    report.promised = report.identity->num_samples * report.identity->views;
    KD_TRY(kd_identity_digest(report.identity, &report.digest));
    if (statistics)
        KD_TRY(kd_cache_measure(cache, &report.stats));
    if (json != NULL)
        write_json(&report, json);
    else
        write_text(&report, to);
    status = kd_h5_tell_history(kd_shard_path(kd_cache_shard(cache, 0)), json, to);
out:
    kd_cache_close(cache);
    return status;
}
