/* SPDX-License-Identifier: MIT */
/* YAML: what is read is written, and reads as the same again. */
#include "fuzz.h"

#include "kd/yaml.h"

#include <stdlib.h>
#include <string.h>

static const char *const texts[] = {
    "a: 1\nb: [x, 'y', \"z\\n\"]\nc:\n  d: {e: ~, f: 0.5}\n",
    "loss: {hard: 0.1, soft: 0.9, temperature: 4}\nstages:\n- epochs: 3\n- epochs: 4\n",
    "# nothing\n",
    "text: |\n  two\n  lines\nfolded: >-\n  one\n  line\n",
    "{a: {b: {c: {d: [1, 2, [3, [4]]]}}}}",
    "&anchor a: *anchor\n",
    "'': null\n\"\\u00e9\": true\n"};

void kd_fuzz_seeds(void)
{
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        kd_fuzz_seed(texts[i], strlen(texts[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kd_yaml *root = NULL, *again = NULL;
    char *text = malloc(size + 1), *flow = NULL, *flow_again = NULL;

    kd_fuzz_expect(text != NULL, "memory");
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    if (kd_yaml_parse(text, "input", &root) == KD_OK) {
        flow = kd_yaml_text(root);
        kd_fuzz_expect(flow != NULL, kd_error());
        kd_fuzz_expect(kd_yaml_parse(flow, "again", &again) == KD_OK, kd_error());
        flow_again = kd_yaml_text(again);
        kd_fuzz_expect(flow_again != NULL && strcmp(flow, flow_again) == 0,
                       "the same text again");
    }
    kd_yaml_free(root);
    kd_yaml_free(again);
    free(text);
    free(flow);
    free(flow_again);
    return 0;
}
