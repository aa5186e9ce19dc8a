/* SPDX-License-Identifier: MIT */
/* kd-info: what a cache, a shard or a network is. */
#include "kd/cache_report.h"
#include "kd/h5.h"
#include "kd/model.h"
#include "kd/monitor.h"
#include "kd/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct {
    bool statistics;
} args = {.statistics = true};

static const struct kd_option options[] = {
    {.name = "statistics",
     .type = KD_OPTION_FLAG,
     .value = &args.statistics,
     .help = "of caches: read and verify every row, for the figures over all of them"},
    {0}};

typedef enum kd_status report_call(const char *path, struct kd_json *json, FILE *to);

static enum kd_status report_cache(const char *path, struct kd_json *json, FILE *to)
{
    return kd_cache_report(path, args.statistics, json, to);
}

/* Who reports on a regular file, by its root attribute `format`. */
static enum kd_status choose_report(const char *path, report_call **call)
{
    enum kd_status status = KD_EBUG;
    struct kd_h5 *file = NULL;
    char *format = NULL;

    KD_TRY(kd_h5_open(path, &file));
    if (kd_h5_has_attribute(file, "format"))
        KD_TRY(kd_h5_get_string(file, "format", &format));
    if (format != NULL && strcmp(format, KD_MODEL_FORMAT) == 0)
        *call = kd_model_report;
    if (format != NULL && strcmp(format, KD_RECORD_FORMAT) == 0)
        *call = kd_record_report;
    status = KD_OK;
out:
    free(format);
    kd_h5_close(file);
    return status;
}

/* What says that it is a network, or has one in it, is one. */
static enum kd_status report(const char *what, struct kd_json *json)
{
    enum kd_status status = KD_EBUG;
    char *model = kd_model_path(what);
    report_call *call = report_cache;
    struct stat facts;

    KD_TRY(model != NULL ? KD_OK : KD_EMEMORY);
    if (strcmp(model, what) != 0) {
        status = kd_model_report(model, json, stdout);
        goto out;
    }
    if (strcmp(what, "-") != 0 && stat(what, &facts) == 0 && S_ISREG(facts.st_mode))
        KD_TRY(choose_report(what, &call));
    status = call(what, json, stdout);
out:
    free(model);
    return status;
}

static enum kd_status inform(const char *what, bool as_json)
{
    enum kd_status status = KD_EBUG;
    struct kd_json *json = NULL;

    if (!as_json)
        return report(what, NULL);
    KD_TRY(kd_json_new(&json));
    kd_json_begin(json, NULL, '{');
    KD_TRY(report(what, json));
    kd_json_end(json);
    KD_TRY(kd_json_write(json, stdout));
    status = KD_OK;
out:
    kd_json_free(json);
    return status;
}

int main(int argc, char **argv)
{
    struct kd_program program = {
        .name = "kd-info",
        .summary = "Says what a cache, a shard, a network or a monitor's record is: "
                   "identity, encoding, provenance, and figures over the rows.",
        .operands = "FILE...",
        .notes =
            "A FILE is a shard, a directory of shards, a pipe of shard paths, - for "
            "paths on\n"
            "stdin, a network, or the directory that kd-train left it in, or a\n"
            "monitor.h5. With --json, there is one object a line.\n",
        .min_operands = 1,
        .max_operands = SIZE_MAX,
        .options = options,
        .common = KD_COMMON_CONFIG | KD_COMMON_THREADS | KD_COMMON_JSON};
    enum kd_status status = kd_program_parse(&program, argc, argv);

    for (size_t i = 0; i < program.num_operands && status == KD_OK && !program.done;
         i++)
        status = inform(program.operand[i], program.json);
    return kd_program_finish(&program, status);
}
