/* SPDX-License-Identifier: MIT */
/* CSV of logits, as kd-import reads it: every row that it says there is can be read. */
#include "fuzz.h"

#include "teach/import_internal.h"

#include <stdlib.h>
#include <string.h>

static const char *const texts[] = {
    "id,view,label,c0,c1,c2\n0,0,1,0.5,-1e3,2\n0,1,1,1,2,3\n7,0,-1,-0.0,inf,nan\n",
    "id\tcat\tdog\r\n0\t1.5\t-2.25\r\n1\t1e-300\t3\r\n", "id,c0,c1\n5,1,2",
    "id,c0\n18446744073709551615,0x1p-3\n", "\"id\",c0\n"};

void kd_fuzz_seeds(void)
{
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        kd_fuzz_seed(texts[i], strlen(texts[i]));
}

static void read_all(struct kd_import_source *source)
{
    double *values = malloc((source->classes + 1) * sizeof *values);
    uint64_t next = 0;
    char text[KD_IMPORT_PLACE];

    kd_fuzz_expect(values != NULL, "memory");
    for (uint64_t place = source->begin; place < source->end; place = next) {
        struct kd_import_key key;

        if (source->walk(source, place, &key, &next) != KD_OK)
            break;
        kd_fuzz_expect(next > place && next <= source->end, "the next place");
        (void)!source->read(source, place, values, NULL);
        source->describe(source, place, text, sizeof text);
    }
    free(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kd_import_source source = {0};

    if (kd_import_parse_csv((const char *)data, size, &source) == KD_OK)
        read_all(&source);
    kd_import_close(&source);
    return 0;
}
