/* SPDX-License-Identifier: MIT */
/* kd-check: is a cache whole and unaltered; repairs one that is not. */
#include "kd/cache_check.h"
#include "kd/options.h"

#include <stdio.h>

static struct kd_check_options args;

static const struct kd_option options[] = {
    {.name = "quick",
     .type = KD_OPTION_FLAG,
     .value = &args.quick,
     .help = "neither hash the files nor read the rows"},
    {.name = "repair",
     .type = KD_OPTION_FLAG,
     .value = &args.repair,
     .help = "put damaged shards aside, so that their program makes them again"},
    {0}};

static const char notes[] =
    "A CACHE is a directory of shards, a shard, a pipe of shard paths, or - for paths\n"
    "on stdin. On stdout there is a line for each thing that is wrong, or one line if\n"
    "all is well; with --json, an array of one object a CACHE.\n"
    "\n"
    "Repair loses nothing: a damaged shard gets .damaged behind its name. Where\n"
    "rows are missing then, cache.json is removed, and the kd-dump or kd-merge\n"
    "command that made the cache, run again, makes just those.\n";

/* Checks one cache; one that is found wanting counts in *wanting. */
static enum kd_status check(const char *where, struct kd_json *json, size_t *wanting)
{
    struct kd_check_report report;
    enum kd_status status = kd_cache_check(where, &args, &report);

    if (status == KD_OK || status == KD_WANTING) {
        *wanting += status == KD_WANTING;
        status = KD_OK;
        if (json != NULL) {
            kd_json_begin(json, NULL, '{');
            kd_check_report_json(&report, json);
            kd_json_end(json);
        } else {
            kd_check_report_write(&report, stdout);
        }
    }
    kd_check_report_clear(&report);
    return status;
}

static enum kd_status run(const struct kd_program *program)
{
    enum kd_status status = KD_EBUG;
    struct kd_json *json = NULL;
    size_t wanting = 0;

    if (program->json) {
        KD_TRY(kd_json_new(&json));
        kd_json_begin(json, NULL, '[');
    }
    for (size_t i = 0; i < program->num_operands; i++)
        KD_TRY(check(program->operand[i], json, &wanting));
    if (json != NULL) {
        kd_json_end(json);
        KD_TRY(kd_json_write(json, stdout));
    }
    if (wanting > 0)
        status = kd_fail(KD_WANTING, "%zu of %zu caches found wanting", wanting,
                         program->num_operands);
    else
        status = KD_OK;
out:
    kd_json_free(json);
    return status;
}

int main(int argc, char **argv)
{
    struct kd_program program = {
        .name = "kd-check",
        .summary = "Checks that caches are whole and unaltered: every file, every row, "
                   "and that none is missing.",
        .operands = "CACHE...",
        .notes = notes,
        .min_operands = 1,
        .max_operands = SIZE_MAX,
        .options = options,
        .common = KD_COMMON_CONFIG | KD_COMMON_THREADS | KD_COMMON_JSON};
    enum kd_status status = kd_program_parse(&program, argc, argv);

    if (status == KD_OK && !program.done)
        status = run(&program);
    return kd_program_finish(&program, status);
}
