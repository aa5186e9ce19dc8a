/* SPDX-License-Identifier: MIT */
/* Architectures: reading them from YAML, and their canonical text. */
#include "nn/family_internal.h"

#include "kd/options.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* In the order of enum kd_family. */
static const struct kd_family_calls *const families[] = {
    &kd_family_mlp,          &kd_family_plain,    &kd_family_resnet,
    &kd_family_wrn,          &kd_family_vgg,      &kd_family_mobilenetv2,
    &kd_family_shufflenetv2, &kd_family_densenet, &kd_family_vit,
};
static const char *const family_names[] = {
    "mlp",         "plain",        "resnet",   "wrn", "vgg",
    "mobilenetv2", "shufflenetv2", "densenet", "vit", NULL};

const struct kd_family_calls *kd_family_of(const struct kd_arch *arch)
{
    return families[arch->family];
}

static enum kd_status check(const struct kd_family_calls *family,
                            const struct kd_yaml *node, const struct kd_arch *arch)
{
    return family->check != NULL ? family->check(node, arch) : KD_OK;
}

/* -- mappings ------------------------------------------------------------------ */

static size_t num_keys(const struct kd_family_calls *family)
{
    size_t count = 0;

    while (count < KD_MAX_KEYS && family->keys[count].name != NULL)
        count++;
    return count;
}

static enum kd_status read_key(const struct kd_yaml *node,
                               const struct kd_family_key *key, struct kd_arch *arch)
{
    void *to = (char *)arch + key->offset;
    enum kd_status status = KD_EBUG;
    uint64_t number = 0;

    if (key->real)
        return kd_yaml_f64(node, 0.01, (double)key->max, to);
    KD_TRY(kd_yaml_u64(node, key->min, key->max, &number));
    *(size_t *)to = (size_t)number;
    status = KD_OK;
out:
    return status;
}

static bool is_missing(const struct kd_family_key *key, const struct kd_arch *arch)
{
    const void *from = (const char *)arch + key->offset;

    return !key->real && !key->optional && *(const size_t *)from == 0;
}

static enum kd_status read_keys(const struct kd_yaml *node,
                                const struct kd_family_calls *family,
                                struct kd_arch *arch)
{
    const char *names[KD_MAX_KEYS + 2] = {"family"};
    const size_t count = num_keys(family);
    const struct kd_yaml *place = node;
    enum kd_status status = KD_EBUG;

    for (size_t i = 0; i < count; i++)
        names[i + 1] = family->keys[i].name;
    KD_TRY(kd_yaml_only_keys(node, names));
    for (size_t i = count; i-- > 0;) {
        const struct kd_yaml *value = kd_yaml_get(node, family->keys[i].name);
        if (value != NULL) {
            KD_TRY(read_key(value, &family->keys[i], arch));
            place = value;
        } else if (is_missing(&family->keys[i], arch)) {
            status = kd_yaml_fail(node, "a %s needs its %s", family->name,
                                  family->keys[i].name);
            goto out;
        }
    }
    status = check(family, place, arch);
out:
    return status;
}

static enum kd_status parse_map(const struct kd_yaml *node, struct kd_arch *arch)
{
    const struct kd_yaml *name = kd_yaml_get(node, "family");
    int family = 0;

    if (name == NULL)
        return kd_yaml_fail(node,
                            "a network needs its family: mlp, plain, resnet, wrn, "
                            "vgg, mobilenetv2, shufflenetv2, densenet or vit");
    const enum kd_status status = kd_yaml_choice(name, family_names, &family);
    if (status != KD_OK)
        return status;
    arch->family = (enum kd_family)family;
    families[family]->defaults(arch);
    return families[family]->from_map != NULL ? families[family]->from_map(node, arch)
                                              : read_keys(node, families[family], arch);
}

/* -- names --------------------------------------------------------------------- */

/* Whether text is the pattern with numbers for each #. */
static bool matches(const char *text, const char *pattern, uint64_t *numbers)
{
    char digits[16];

    for (; *pattern != '\0'; pattern++) {
        if (*pattern != '#') {
            if (*text++ != *pattern)
                return false;
            continue;
        }
        const size_t length = strspn(text, "0123456789");
        if (length == 0 || length >= sizeof digits)
            return false;
        memcpy(digits, text, length);
        digits[length] = '\0';
        if (!kd_parse_u64(digits, 1, 100000, numbers++))
            return false;
        text += length;
    }
    return *text == '\0';
}

/* The numbers of a name are those of the first keys. */
static enum kd_status from_numbers(const struct kd_yaml *node,
                                   const struct kd_family_calls *family,
                                   const char *pattern, const uint64_t *numbers,
                                   struct kd_arch *arch)
{
    for (size_t i = 0; (pattern = strchr(pattern, '#')) != NULL; i++, pattern++) {
        const struct kd_family_key *key = &family->keys[i];
        if (numbers[i] < key->min || numbers[i] > key->max)
            return kd_yaml_fail(node, "a %s's %s is %llu to %llu, not %llu",
                                family->name, key->name, (unsigned long long)key->min,
                                (unsigned long long)key->max,
                                (unsigned long long)numbers[i]);
        *(size_t *)(void *)((char *)arch + key->offset) = (size_t)numbers[i];
    }
    return KD_OK;
}

/* "resnet20": a family, and numbers as one of its patterns has them. */
static enum kd_status parse_name(const struct kd_yaml *node, struct kd_arch *arch)
{
    uint64_t numbers[4] = {0};

    for (size_t i = 0; family_names[i] != NULL; i++) {
        const struct kd_family_calls *f = families[i];
        if (strncmp(node->scalar, f->name, strlen(f->name)) != 0)
            continue;
        for (size_t k = 0; k < KD_MAX_PATTERNS && f->patterns[k] != NULL; k++) {
            if (!matches(node->scalar + strlen(f->name), f->patterns[k], numbers))
                continue;
            arch->family = (enum kd_family)i;
            f->defaults(arch);
            const enum kd_status status =
                f->from_numbers != NULL
                    ? f->from_numbers(node, k, numbers, arch)
                    : from_numbers(node, f, f->patterns[k], numbers, arch);
            return status == KD_OK ? check(f, node, arch) : status;
        }
    }
    return kd_yaml_fail(node,
                        "no network is called '%s': try resnet20, plain4, mlp or "
                        "{family: ...}",
                        node->scalar);
}

enum kd_status kd_arch_parse(const struct kd_yaml *node, struct kd_arch *arch)
{
    memset(arch, 0, sizeof *arch);
    if (node->kind == KD_YAML_SCALAR)
        return parse_name(node, arch);
    if (node->kind == KD_YAML_MAPPING)
        return parse_map(node, arch);
    return kd_yaml_fail(node, "a network is a name or a mapping");
}

void kd_arch_text(const struct kd_arch *arch, char text[256])
{
    const struct kd_family_calls *family = families[arch->family];
    int at;

    if (family->text != NULL) {
        family->text(arch, text);
        return;
    }
    at = snprintf(text, 256, "{family: %s", family->name);
    for (size_t i = 0; i < num_keys(family); i++) {
        const struct kd_family_key *key = &family->keys[i];
        const void *from = (const char *)arch + key->offset;
        const size_t left = 256 - (size_t)at;
        if (key->real)
            at +=
                snprintf(text + at, left, ", %s: %g", key->name, *(const double *)from);
        else if (*(const size_t *)from > 0) /* 0 stands for the usual */
            at += snprintf(text + at, left, ", %s: %zu", key->name,
                           *(const size_t *)from);
    }
    snprintf(text + at, 256 - (size_t)at, "}");
}
