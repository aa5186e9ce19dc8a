/* SPDX-License-Identifier: MIT */
/* Texts: one that grows, characters of UTF-8, and the word that was meant. */
#include "base/text_internal.h"

#include "kd/memory.h"
#include "kd/options.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Longer words are not compared: they are no names of ours. */
#define WORD_SIZE 64

void kd_text_one_line(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c != '\0'; c++) {
        if (*c == '\n' || *c == '\r' || *c == '\t')
            *c = ' ';
        else if (*c < ' ' || *c == 0x7f)
            *c = '?';
    }
}

size_t kd_text_utf8(const char *text, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *byte = (const unsigned char *)text;
    size_t length = 0;

    if (byte[0] < 0x80)
        length = 1;
    else if (byte[0] >= 0xc2 && byte[0] < 0xe0)
        length = 2;
    else if (byte[0] >= 0xe0 && byte[0] < 0xf0)
        length = 3;
    else if (byte[0] >= 0xf0 && byte[0] < 0xf5)
        length = 4;
    else
        return 0;
    *code = length == 1 ? byte[0] : byte[0] & (0x7fU >> length);
    for (size_t i = 1; i < length; i++) {
        if ((byte[i] & 0xc0) != 0x80)
            return 0;
        *code = *code << 6 | (byte[i] & 0x3fU);
    }
    if (*code < least[length] || *code > 0x10ffff ||
        (*code >= 0xd800 && *code <= 0xdfff))
        return 0;
    return length;
}

void kd_text_add(struct kd_text *text, const char *bytes, size_t length)
{
    if (text->status != KD_OK)
        return;
    text->status = kd_grow(&text->bytes, &text->capacity, text->length + length + 1, 1);
    if (text->status != KD_OK)
        return;
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    text->bytes[text->length] = '\0';
}

void kd_text_put(struct kd_text *text, const char *string)
{
    kd_text_add(text, string, strlen(string));
}

void kd_text_format(struct kd_text *text, const char *format, ...)
{
    va_list arguments;
    int length = 0;

    if (text->status != KD_OK)
        return;
    va_start(arguments, format);
    length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0) {
        text->status = kd_fail(KD_EBUG, "cannot format a text");
        return;
    }
    text->status =
        kd_grow(&text->bytes, &text->capacity, text->length + (size_t)length + 1, 1);
    if (text->status != KD_OK)
        return;
    va_start(arguments, format);
    vsnprintf(text->bytes + text->length, (size_t)length + 1, format, arguments);
    va_end(arguments);
    text->length += (size_t)length;
}

enum kd_status kd_text_write(const struct kd_text *text, FILE *to)
{
    if (text->status != KD_OK)
        return text->status;
    if (text->length > 0 && fwrite(text->bytes, 1, text->length, to) != text->length)
        return kd_fail_errno(KD_EIO, "%s: cannot write",
                             to == stdout ? "standard output" : "output");
    return KD_OK;
}

static size_t least_of(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The Damerau-Levenshtein distance in which no part is edited twice ("optimal
 * string alignment"): insertions, deletions, substitutions, swapped neighbours.
 * Both words are shorter than WORD_SIZE. */
static size_t word_distance(const char *a, size_t a_length, const char *b,
                            size_t b_length)
{
    size_t cost[WORD_SIZE][WORD_SIZE]; /* [of a's first i] [of b's first j] */

    for (size_t i = 0; i <= a_length; i++)
        cost[i][0] = i;
    for (size_t j = 0; j <= b_length; j++)
        cost[0][j] = j;
    for (size_t i = 1; i <= a_length; i++)
        for (size_t j = 1; j <= b_length; j++) {
            size_t best = cost[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            best = least_of(best, cost[i - 1][j] + 1);
            best = least_of(best, cost[i][j - 1] + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = least_of(best, cost[i - 2][j - 2] + 1);
            cost[i][j] = best;
        }
    return cost[a_length][b_length];
}

const char *kd_nearest_word(const char *word, const char *const *words)
{
    size_t length = strlen(word);
    size_t best = length / 4 + 2; /* about one slip in three letters and no more */
    const char *nearest = NULL;

    if (length >= WORD_SIZE)
        return NULL;
    for (; *words != NULL; words++) {
        size_t other = strlen(*words);
        size_t distance = WORD_SIZE;
        if (other < WORD_SIZE)
            distance = word_distance(word, length, *words, other);
        if (distance < best && distance < other && distance < length) {
            best = distance;
            nearest = *words;
        }
    }
    return nearest;
}
