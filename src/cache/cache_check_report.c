/* SPDX-License-Identifier: MIT */
/* What a check has found, in words or as JSON. */
#include "kd/cache_check.h"

#include <stdlib.h>

/* A finding is one line, whatever the names of files have in them. */
static void write_text(const char *text, FILE *to)
{
    for (; *text != '\0'; text++)
        fputc((unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text, to);
}

static void write_findings(const struct kd_findings *findings, FILE *to)
{
    for (size_t i = 0; i < findings->count; i++) {
        write_text(findings->all[i].path, to);
        fputs(": ", to);
        write_text(findings->all[i].what, to);
        fputc('\n', to);
    }
}

static void write_summary(const struct kd_check_report *report, FILE *to)
{
    write_text(report->where, to);
    fprintf(to, ": all is well: %llu", (unsigned long long)report->rows);
    if (report->rows < report->promised)
        fprintf(to, " of %llu", (unsigned long long)report->promised);
    fprintf(to, " rows in %zu shard%s, %llu bytes; ", report->shards,
            report->shards == 1 ? "" : "s", (unsigned long long)report->bytes);
    if (report->quick)
        fprintf(to, "neither hashed nor read\n");
    else if (report->archived > 0)
        fprintf(to, "archived: hashed, and not read\n");
    else if (report->labelled == 0)
        fprintf(to, "no labels\n");
    else
        fprintf(to, "the most probable class is the label in %.2f %% of %llu rows\n",
                100 * (double)report->agreeing / (double)report->labelled,
                (unsigned long long)report->labelled);
}

void kd_check_report_write(const struct kd_check_report *report, FILE *to)
{
    write_findings(&report->findings, to);
    write_findings(&report->repairs, to);
    if (report->findings.count == 0)
        write_summary(report, to);
}

static void findings_json(const char *key, const struct kd_findings *findings,
                          struct kd_json *json)
{
    kd_json_begin(json, key, '[');
    for (size_t i = 0; i < findings->count; i++) {
        kd_json_begin(json, NULL, '{');
        kd_json_string(json, "path", findings->all[i].path);
        kd_json_string(json, "what", findings->all[i].what);
        kd_json_end(json);
    }
    kd_json_end(json);
}

/* A share of no rows is null. */
void kd_check_report_json(const struct kd_check_report *report, struct kd_json *json)
{
    kd_json_u64(json, "archived", report->archived);
    kd_json_f64(json, "argmax_is_label",
                (double)report->agreeing / (double)report->labelled);
    kd_json_u64(json, "bytes", report->bytes);
    findings_json("findings", &report->findings, json);
    kd_json_u64(json, "labelled", report->labelled);
    kd_json_string(json, "name", report->where);
    kd_json_bool(json, "quick", report->quick);
    findings_json("repairs", &report->repairs, json);
    kd_json_u64(json, "rows", report->rows);
    kd_json_u64(json, "rows_promised", report->promised);
    kd_json_u64(json, "shards", report->shards);
}

static void clear(struct kd_findings *findings)
{
    for (size_t i = 0; i < findings->count; i++) {
        free(findings->all[i].path);
        free(findings->all[i].what);
    }
    free(findings->all);
}

void kd_check_report_clear(struct kd_check_report *report)
{
    clear(&report->findings);
    clear(&report->repairs);
    free(report->where);
    *report = (struct kd_check_report){0};
}
