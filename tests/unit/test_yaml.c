/* SPDX-License-Identifier: MIT */
/* YAML: trees with places, what is refused and in what words, and texts that read
 * back as the same tree. */
#include "kd/yaml.h"

#include "kd/memory.h"

#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct kd_yaml *parse(const char *text)
{
    struct kd_yaml *root = NULL;

    if (kd_yaml_parse(text, "r.yaml", &root) != KD_OK)
        fail_msg("%s", kd_error());
    return root;
}

static void assert_refused(const char *text, const char *message)
{
    struct kd_yaml *root = NULL;

    assert_int_equal(kd_yaml_parse(text, "r.yaml", &root), KD_ERECIPE);
    assert_null(root);
    if (strstr(kd_error(), message) == NULL)
        fail_msg("expected \"%s\" in \"%s\"", message, kd_error());
}

static void assert_same(const struct kd_yaml *a, const struct kd_yaml *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->count, b->count);
    if (a->kind == KD_YAML_SCALAR) {
        assert_string_equal(a->scalar, b->scalar);
        return;
    }
    for (size_t i = 0; i < a->count; i++) {
        if (a->kind == KD_YAML_MAPPING)
            assert_string_equal(a->keys[i], b->keys[i]);
        assert_same(a->items[i], b->items[i]);
    }
}

static char *write_block(const struct kd_yaml *node)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);

    assert_non_null(to);
    assert_int_equal(kd_yaml_write(node, to), KD_OK);
    fclose(to);
    return text;
}

static void every_node_knows_its_place(void **state)
{
    struct kd_yaml *root = parse("a: 1\nb:\n  - x\n  - {c: 2}\n");
    const struct kd_yaml *list = kd_yaml_get(root, "b");

    (void)state;
    assert_int_equal(root->kind, KD_YAML_MAPPING);
    assert_int_equal(root->count, 2);
    assert_int_equal(list->kind, KD_YAML_SEQUENCE);
    assert_int_equal(list->key_line, 2);
    assert_int_equal(list->key_column, 1);
    assert_int_equal(list->items[1]->line, 4);
    assert_int_equal(list->items[1]->column, 5);
    assert_string_equal(kd_yaml_get(list->items[1], "c")->scalar, "2");
    assert_int_equal(kd_yaml_fail(list->items[0], "no %s", "good"), KD_ERECIPE);
    assert_string_equal(kd_error(), "r.yaml:3:5: no good");
    kd_yaml_free(root);
    kd_yaml_free(NULL);
}

static void dotted_paths_are_followed(void **state)
{
    struct kd_yaml *root = parse("optimizer: {lr: 0.1, sub: {x: y}}\n");

    (void)state;
    assert_string_equal(kd_yaml_find(root, "optimizer.lr")->scalar, "0.1");
    assert_string_equal(kd_yaml_find(root, "optimizer.sub.x")->scalar, "y");
    assert_null(kd_yaml_find(root, "optimizer.l"));
    assert_null(kd_yaml_find(root, "optimizer.lr.x"));
    assert_null(kd_yaml_find(root, "optim.lr"));
    assert_null(kd_yaml_get(NULL, "a"));
    kd_yaml_free(root);
}

static void an_empty_text_is_an_empty_mapping(void **state)
{
    static const char *const texts[] = {"", "# nothing\n", "---\n", "---\n...\n", "{}"};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct kd_yaml *root = parse(texts[i]);
        assert_int_equal(root->kind, KD_YAML_MAPPING);
        assert_int_equal(root->count, 0);
        kd_yaml_free(root);
    }
}

static void what_is_no_plain_data_is_refused(void **state)
{
    (void)state;
    assert_refused("a: &x 1\n", "r.yaml:1:4: an anchor");
    assert_refused("a: [&x {b: 1}]\n", "an anchor");
    assert_refused("a: *x\n", "r.yaml:1:4: an alias");
    assert_refused("a: !!int 1\n", "r.yaml:1:4: a tag");
    assert_refused("!t {a: 1}\n", "a tag");
    assert_refused("a: 1\n---\nb: 2\n", "r.yaml:2:1: a second document");
    assert_refused("? [1]\n: 2\n", "a key that is no text");
    assert_refused("? &x a\n: 2\n", "an anchor");
    assert_refused("{? : 2}", "a value without a key");
    assert_refused("a: \"x\\0y\"\n", "zero byte");
    assert_refused("\"x\\0y\": 1\n", "zero byte");
}

static void broken_text_is_refused_with_its_place(void **state)
{
    (void)state;
    assert_refused("a: [1, 2\nb: 3\n", "r.yaml:2:");
    assert_refused("a: 'x\n", "r.yaml:");
    assert_refused("a: b: c\n", "r.yaml:1:5:");
    assert_refused("a: \xff\n", "not a text in UTF-8");
    assert_refused("a: \x01\n", "r.yaml:");
}

static void a_key_that_stands_twice_is_refused(void **state)
{
    (void)state;
    assert_refused("lr: 1\nepochs: 3\nlr: 2\n",
                   "r.yaml:3:1: key 'lr' stands twice: it is in line 1 already");
    assert_refused("a: {b: 1, c: 2, b: 3}", "r.yaml:1:17: key 'b'");
}

static char *repeat(const char *part, size_t times)
{
    size_t length = strlen(part);
    char *text = malloc(length * times + 1);

    assert_non_null(text);
    for (size_t i = 0; i < times; i++)
        memcpy(text + i * length, part, length);
    text[length * times] = '\0';
    return text;
}

static void depth_size_and_keys_are_bounded(void **state)
{
    char *deep = repeat("[", 100000), *wide = repeat("-\n", 200001),
         *key = repeat("k", 161);

    (void)state;
    assert_refused(deep, "r.yaml:1:65: nested too deep");
    assert_refused(wide, "too many values");
    char *mapping = kd_format("%s: 1\n", key);
    assert_refused(mapping, "too long");
    free(mapping);
    free(key);
    free(wide);
    free(deep);
    char *open = repeat("[", 63), *close = repeat("]", 63);
    char *just = kd_format("%s1%s", open, close);
    kd_yaml_free(parse(just));
    free(just);
    free(open);
    free(close);
}

static void numbers_are_read_within_bounds(void **state)
{
    struct kd_yaml *root =
        parse("[50000, 50_000, -1, 1.5, x, 1__0, 0x10, [], ~, "
              "18446744073709551615, 18446744073709551616, 1_, '7']");
    uint64_t value = 0;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(kd_yaml_u64(root->items[i], 1, 50000, &value), KD_OK);
        assert_int_equal(value, 50000);
    }
    assert_int_equal(kd_yaml_u64(root->items[9], 0, UINT64_MAX, &value), KD_OK);
    assert_true(value == UINT64_MAX);
    assert_int_equal(kd_yaml_u64(root->items[12], 0, 10, &value), KD_OK);
    value = 1;
    for (size_t i = 2; i < 12; i++)
        if (i != 9)
            assert_int_equal(kd_yaml_u64(root->items[i], 0, UINT64_MAX, &value),
                             KD_ERECIPE);
    assert_int_equal(value, 1);
    assert_int_equal(kd_yaml_u64(root->items[0], 1, 49999, &value), KD_ERECIPE);
    assert_string_equal(kd_error(),
                        "r.yaml:1:2: '50000': expected a whole number from 1 to 49999");
    assert_int_equal(kd_yaml_u64(root->items[7], 1, 9, &value), KD_ERECIPE);
    assert_non_null(strstr(kd_error(), "a list: expected a whole number"));
    assert_int_equal(kd_yaml_u64(root->items[8], 1, 9, &value), KD_ERECIPE);
    assert_non_null(strstr(kd_error(), "no value: expected"));
    kd_yaml_free(root);
}

static void floats_are_finite(void **state)
{
    struct kd_yaml *root =
        parse("[0.5, 1e-3, -2, +3., .nan, .inf, nan, inf, 1e999, 0x1p3, 1.5x, ' 1']");
    double value = 7;

    (void)state;
    assert_int_equal(kd_yaml_f64(root->items[0], 0.5, 0.5, &value), KD_OK);
    assert_true(value == 0.5);
    assert_int_equal(kd_yaml_f64(root->items[1], 0, 1, &value), KD_OK);
    assert_true(value == 1e-3);
    assert_int_equal(kd_yaml_f64(root->items[2], -DBL_MAX, DBL_MAX, &value), KD_OK);
    assert_int_equal(kd_yaml_f64(root->items[3], -DBL_MAX, DBL_MAX, &value), KD_OK);
    assert_true(value == 3);
    for (size_t i = 4; i < root->count; i++)
        assert_int_equal(kd_yaml_f64(root->items[i], -DBL_MAX, DBL_MAX, &value),
                         KD_ERECIPE);
    assert_true(value == 3);
    assert_non_null(strstr(kd_error(), "expected a number"));
    assert_int_equal(kd_yaml_f64(root->items[2], 0, 1, &value), KD_ERECIPE);
    assert_non_null(strstr(kd_error(), "'-2': expected a number from 0 to 1"));
    kd_yaml_free(root);
}

static void booleans_texts_and_choices_are_strict(void **state)
{
    static const char *const choices[] = {"kl", "ce", "mse", NULL};
    struct kd_yaml *root = parse("[true, false, yes, ce, null, 'null', '', {a: 1}]");
    const char *text = NULL;
    bool flag = false;
    int choice = -1;

    (void)state;
    assert_int_equal(kd_yaml_bool(root->items[0], &flag), KD_OK);
    assert_true(flag);
    assert_int_equal(kd_yaml_bool(root->items[1], &flag), KD_OK);
    assert_false(flag);
    assert_int_equal(kd_yaml_bool(root->items[2], &flag), KD_ERECIPE);
    assert_non_null(strstr(kd_error(), "'yes': expected true or false"));
    assert_int_equal(kd_yaml_choice(root->items[3], choices, &choice), KD_OK);
    assert_int_equal(choice, 1);
    assert_int_equal(kd_yaml_choice(root->items[2], choices, &choice), KD_ERECIPE);
    assert_non_null(strstr(kd_error(), "expected one of kl, ce, mse"));
    assert_int_equal(kd_yaml_choice(root->items[7], choices, &choice), KD_ERECIPE);
    assert_int_equal(kd_yaml_string(root->items[4], &text), KD_ERECIPE);
    assert_int_equal(kd_yaml_string(root->items[5], &text), KD_OK);
    assert_string_equal(text, "null");
    assert_int_equal(kd_yaml_string(root->items[6], &text), KD_OK);
    assert_string_equal(text, "");
    assert_int_equal(kd_yaml_string(root->items[7], &text), KD_ERECIPE);
    kd_yaml_free(root);
}

static void all_words_for_nothing_are_null(void **state)
{
    struct kd_yaml *root = parse("{a: , b: ~, c: null, d: NULL, e: 'null', f: nul}");

    (void)state;
    for (size_t i = 0; i < root->count; i++)
        assert_int_equal(kd_yaml_is_null(root->items[i]), i < 4);
    kd_yaml_free(root);
}

static void unknown_keys_are_refused_with_the_nearest(void **state)
{
    static const char *const keys[] = {"temperature", "policy", NULL};
    struct kd_yaml *root = parse("policy: mean\ntempreture: 4\n");
    struct kd_yaml *other = parse("xyzzy: 4\n"), *list = parse("[1]");

    (void)state;
    assert_int_equal(kd_yaml_only_keys(root, keys), KD_ERECIPE);
    assert_string_equal(
        kd_error(),
        "r.yaml:2:1: unknown key 'tempreture'; did you mean 'temperature'?");
    assert_int_equal(kd_yaml_only_keys(other, keys), KD_ERECIPE);
    assert_string_equal(kd_error(), "r.yaml:1:1: unknown key 'xyzzy'");
    assert_int_equal(kd_yaml_only_keys(list, keys), KD_ERECIPE);
    assert_non_null(strstr(kd_error(), "a list: expected a mapping"));
    kd_yaml_free(root);
    kd_yaml_free(other);
    kd_yaml_free(list);
}

static const char *const hard_texts[] = {"",
                                         " ",
                                         "a",
                                         "a b",
                                         " a",
                                         "a ",
                                         "-",
                                         "--",
                                         "---",
                                         "...",
                                         "-1",
                                         "-a",
                                         "- a",
                                         "-.5",
                                         "a: b",
                                         "a:",
                                         "a:b",
                                         ":a",
                                         ":",
                                         "a #b",
                                         "a#b",
                                         "#a",
                                         "'",
                                         "it's",
                                         "\"",
                                         "\\",
                                         "a\\nb",
                                         "a\nb",
                                         "\n",
                                         "a\n\n b",
                                         "\ta",
                                         "a\tb",
                                         "\r\n",
                                         "[a]",
                                         "{a}",
                                         "a,b",
                                         "a]",
                                         "?",
                                         "? a",
                                         "a?b",
                                         "!a",
                                         "&a",
                                         "*a",
                                         "|",
                                         ">",
                                         "%a",
                                         "@a",
                                         "`a",
                                         "~",
                                         "true",
                                         "null",
                                         "1e3",
                                         "0x1F",
                                         "12:30",
                                         "2026-01-01",
                                         "=",
                                         "<<",
                                         "caf\xc3\xa9",
                                         "\xc2\x85",
                                         "\xe2\x80\xa8x",
                                         "\xef\xbb\xbfx",
                                         "\xf0\x9f\x90\x98",
                                         "\x01\x1f\x7f",
                                         "a\xc2\xa0",
                                         "\xc2\x80",
                                         "idx:a,b@0:9",
                                         "exec:sh -c 'a | b' # x",
                                         "cifar10:/x/y.bin"};

static void any_text_reads_back_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hard_texts / sizeof *hard_texts; i++)
        for (int quoted = 0; quoted < 2; quoted++) {
            struct kd_yaml leaf = {.kind = KD_YAML_SCALAR,
                                   .file = "",
                                   .scalar = kd_copy_string(hard_texts[i]),
                                   .quoted = quoted != 0};
            struct kd_yaml *items[] = {&leaf, &leaf};
            char key[] = "k", last[] = "z";
            char *keys[] = {*leaf.scalar != '\0' ? leaf.scalar : key, last};
            struct kd_yaml map = {.kind = KD_YAML_MAPPING,
                                  .file = "",
                                  .count = 2,
                                  .items = items,
                                  .keys = keys};
            struct kd_yaml *nested[] = {&map, &leaf};
            struct kd_yaml list = {
                .kind = KD_YAML_SEQUENCE, .file = "", .count = 2, .items = nested};
            const struct kd_yaml *roots[] = {&leaf, &map, &list};
            /* a plain null at the root stands for an empty document */
            for (size_t r = strcmp(leaf.scalar, "null") == 0 && !quoted; r < 3; r++) {
                char *block = write_block(roots[r]), *flow = kd_yaml_text(roots[r]);
                struct kd_yaml *a = parse(block), *b = parse(flow);
                assert_null(strchr(flow, '\n'));
                assert_same(a, roots[r]);
                assert_same(b, roots[r]);
                kd_yaml_free(a);
                kd_yaml_free(b);
                free(block);
                free(flow);
            }
            free(leaf.scalar);
        }
}

static void a_tree_is_written_as_people_write_it(void **state)
{
    struct kd_yaml *root =
        parse("{policy: {kind: mean, weights: [1, 2]}, empty: {}, none: [], "
              "stages: [{epochs: 3, hard: 0.5}, [a, [b]], x], name: '5', n: }");
    char *block = write_block(root), *flow = kd_yaml_text(root);

    (void)state;
    assert_string_equal(block, "policy:\n"
                               "  kind: mean\n"
                               "  weights:\n"
                               "    - 1\n"
                               "    - 2\n"
                               "empty: {}\n"
                               "none: []\n"
                               "stages:\n"
                               "  - epochs: 3\n"
                               "    hard: 0.5\n"
                               "  - - a\n"
                               "    - - b\n"
                               "  - x\n"
                               "name: '5'\n"
                               "n: null\n");
    assert_string_equal(flow,
                        "{policy: {kind: mean, weights: [1, 2]}, empty: {}, "
                        "none: [], stages: [{epochs: 3, hard: 0.5}, [a, [b]], x], "
                        "name: '5', n: null}");
    struct kd_yaml *again = parse(block);
    assert_same(again, root);
    kd_yaml_free(again);
    kd_yaml_free(root);
    free(block);
    free(flow);
}

static void a_copy_outlives_its_origin(void **state)
{
    struct kd_yaml *root = parse("a: {b: [1, '2'], c: {}}\n"), *copy = NULL,
                   *part = NULL;

    (void)state;
    assert_int_equal(kd_yaml_copy(root, &copy), KD_OK);
    assert_int_equal(kd_yaml_copy(kd_yaml_find(root, "a.b"), &part), KD_OK);
    assert_same(copy, root);
    kd_yaml_free(root);
    assert_int_equal(part->items[1]->column, 12);
    assert_true(part->items[1]->quoted);
    (void)kd_yaml_fail(part->items[1], "x");
    assert_string_equal(kd_error(), "r.yaml:1:12: x");
    kd_yaml_free(part);
    assert_string_equal(kd_yaml_find(copy, "a.b")->items[0]->scalar, "1");
    kd_yaml_free(copy);
}

static void a_list_of_scalars_is_joined(void **state)
{
    static const char *const bad[][2] = {
        {"a: {b: 1}\n", "r.yaml:1:4: expected one value or a list of them"},
        {"a: []\n", "r.yaml:1:4: the list is empty"},
        {"a: [b, [c]]\n", "r.yaml:1:8: expected one value for each item"},
        {"a: [b, ~]\n", "r.yaml:1:8: expected one value for each item"},
        {"a: [b, 'c,d']\n", "r.yaml:1:8: 'c,d': an item of a list has no comma"}};
    struct kd_yaml *root = parse("a: [b, 'null', 0.1]\nc: d,e\nf: ['null']\n");

    (void)state;
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(kd_yaml_join(root->items[i]), KD_OK);
    assert_string_equal(root->items[0]->scalar, "b,null,0.1");
    assert_string_equal(root->items[1]->scalar, "d,e");
    assert_string_equal(root->items[2]->scalar, "null");
    assert_false(kd_yaml_is_null(root->items[2]));
    kd_yaml_free(root);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        root = parse(bad[i][0]);
        assert_int_equal(kd_yaml_join(root->items[0]), KD_ERECIPE);
        assert_non_null(strstr(kd_error(), bad[i][1]));
        kd_yaml_free(root);
    }
}

static void files_are_loaded_by_name(void **state)
{
    char path[] = "/tmp/kd-test-yaml-XXXXXX";
    struct kd_yaml *root = NULL;
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd,
                           "\xef\xbb\xbf"
                           "a: 1\n",
                           8),
                     8);
    close(fd);
    assert_int_equal(kd_yaml_load(path, &root), KD_OK);
    assert_string_equal(kd_yaml_get(root, "a")->scalar, "1");
    assert_string_equal(root->file, path);
    kd_yaml_free(root);
    unlink(path);
    assert_int_equal(kd_yaml_load(path, &root), KD_ENOINPUT);
    assert_non_null(strstr(kd_error(), path));
    assert_null(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_node_knows_its_place),
        cmocka_unit_test(dotted_paths_are_followed),
        cmocka_unit_test(an_empty_text_is_an_empty_mapping),
        cmocka_unit_test(what_is_no_plain_data_is_refused),
        cmocka_unit_test(broken_text_is_refused_with_its_place),
        cmocka_unit_test(a_key_that_stands_twice_is_refused),
        cmocka_unit_test(depth_size_and_keys_are_bounded),
        cmocka_unit_test(numbers_are_read_within_bounds),
        cmocka_unit_test(floats_are_finite),
        cmocka_unit_test(booleans_texts_and_choices_are_strict),
        cmocka_unit_test(all_words_for_nothing_are_null),
        cmocka_unit_test(unknown_keys_are_refused_with_the_nearest),
        cmocka_unit_test(any_text_reads_back_the_same),
        cmocka_unit_test(a_tree_is_written_as_people_write_it),
        cmocka_unit_test(a_copy_outlives_its_origin),
        cmocka_unit_test(a_list_of_scalars_is_joined),
        cmocka_unit_test(files_are_loaded_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
