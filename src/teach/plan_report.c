/* SPDX-License-Identifier: MIT */
/* Plans in words or as JSON. */
#include "kd/json.h"
#include "kd/plan.h"

/* "1.5 h" and the like. */
static void time_text(double seconds, char text[32])
{
    if (seconds < 120)
        snprintf(text, 32, "%.1f s", seconds);
    else if (seconds < 7200)
        snprintf(text, 32, "%.1f min", seconds / 60);
    else
        snprintf(text, 32, "%.1f h", seconds / 3600);
}

static void bytes_text(double bytes, char text[32])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t unit = 0;

    for (; bytes >= 1024 && unit < 5; bytes /= 1024)
        unit++;
    snprintf(text, 32, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

/* Seconds that all teachers together take for a row. */
static double seconds_a_row(const struct kd_outlook *o)
{
    double seconds = 0;

    for (size_t i = 0; i < o->teachers; i++)
        seconds += 1 / o->speed[i].rows_a_second;
    return seconds;
}

/* Seconds of teachers' time that the runs save, less those of the dumps. */
static double seconds_saved(const struct kd_outlook *o)
{
    const double passes = (double)o->runs * (double)o->epochs - (double)o->views;

    return passes * (double)o->samples * seconds_a_row(o);
}

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

static void write_bytes(const struct kd_outlook *o, FILE *to)
{
    const char *about = o->plan.exact ? "" : o->teachers > 0 ? "about " : "at most ";
    char bytes[32];

    bytes_text((double)o->plan.bytes, bytes);
    fprintf(to, "%-12s %llu: %llu sample%s, %llu view%s each\n", "rows",
            (unsigned long long)o->plan.rows, (unsigned long long)o->samples,
            plural(o->samples), (unsigned long long)o->views, plural(o->views));
    fprintf(to, "%-12s %s%.1f\n", "bytes a row", about,
            (double)o->plan.bytes / (double)o->plan.rows);
    fprintf(to, "%-12s %s%llu bytes (%s) in %llu shard%s%s\n", "a cache", about,
            (unsigned long long)o->plan.bytes, bytes,
            (unsigned long long)o->plan.shards, plural(o->plan.shards),
            o->teachers > 1 ? ", for each teacher and for the merged one" : "");
}

static void write_times(const struct kd_outlook *o, FILE *to)
{
    char text[32];

    for (size_t i = 0; i < o->teachers; i++) {
        time_text((double)o->plan.rows / o->speed[i].rows_a_second, text);
        fprintf(to, "%-12s %s at %.0f rows/s: %s\n", "dumping", text,
                o->speed[i].rows_a_second, o->name[i]);
    }
}

static void write_saving(const struct kd_outlook *o, FILE *to)
{
    char text[32];

    fprintf(to, "%-12s after %llu student epoch%s: %.2f of a run of %llu\n", "has paid",
            (unsigned long long)o->views, plural(o->views),
            (double)o->views / (double)o->epochs, (unsigned long long)o->epochs);
    if (o->teachers == 0)
        return;
    time_text(seconds_saved(o), text);
    fprintf(to, "%-12s %s of teachers' time in %llu run%s\n", "saves", text,
            (unsigned long long)o->runs, plural(o->runs));
}

static void teachers_json(const struct kd_outlook *o, struct kd_json *json)
{
    kd_json_begin(json, "teachers", '[');
    for (size_t i = 0; i < o->teachers; i++) {
        kd_json_begin(json, NULL, '{');
        kd_json_string(json, "name", o->name[i]);
        kd_json_f64(json, "rows_a_second", o->speed[i].rows_a_second);
        kd_json_f64(json, "seconds", (double)o->plan.rows / o->speed[i].rows_a_second);
        kd_json_u64(json, "tried_rows", o->speed[i].rows);
        kd_json_f64(json, "values_a_row", o->speed[i].kept);
        kd_json_end(json);
    }
    kd_json_end(json);
}

static void write_json(const struct kd_outlook *o, struct kd_json *json)
{
    kd_json_u64(json, "break_even_epochs", o->views);
    kd_json_f64(json, "break_even_runs", (double)o->views / (double)o->epochs);
    kd_json_u64(json, "bytes", o->plan.bytes);
    kd_json_f64(json, "bytes_a_row", (double)o->plan.bytes / (double)o->plan.rows);
    kd_json_bool(json, "exact", o->plan.exact);
    kd_json_u64(json, "rows", o->plan.rows);
    if (o->teachers > 0)
        kd_json_f64(json, "seconds_saved", seconds_saved(o));
    kd_json_u64(json, "shards", o->plan.shards);
    teachers_json(o, json);
}

void kd_plan_report(const struct kd_outlook *outlook, struct kd_json *json, FILE *to)
{
    if (json != NULL) {
        write_json(outlook, json);
        return;
    }
    write_bytes(outlook, to);
    write_times(outlook, to);
    write_saving(outlook, to);
}
