/* SPDX-License-Identifier: MIT */
/* Folders of images: PNG and JPEG of all kinds, and all that is refused. */
#include "kd/dataset.h"

#include "data_fixture.h"
#include "kd/resize.h"

#include <png.h>
#include <sys/stat.h>

#include <jpeglib.h>

/* -- files ---------------------------------------------------------------- */

/* A PNG whose samples are `bits` wide and run over 0, 1, 2, ... (in each byte). */
static void write_png(const char *path, uint32_t width, uint32_t height, int color,
                      int bits, int interlace)
{
    FILE *file = fopen(path, "wb");
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    uint8_t rows[16][256], *pointers[16];
    png_color palette[256];

    assert_non_null(file);
    assert_true(height <= 16 && width <= 32);
    for (int i = 0; i < 256; i++)
        palette[i] = (png_color){(png_byte)i, (png_byte)(i + 1), (png_byte)(i + 2)};
    for (int y = 0; y < 16; y++) {
        pointers[y] = rows[y];
        for (int i = 0; i < 256; i++)
            rows[y][i] = (uint8_t)(10 * y + i);
    }
    png_init_io(png, file);
    png_set_IHDR(png, info, width, height, bits, color, interlace,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (color == PNG_COLOR_TYPE_PALETTE)
        png_set_PLTE(png, info, palette, 256);
    png_set_rows(png, info, pointers);
    png_write_png(png, info, PNG_TRANSFORM_IDENTITY, NULL);
    png_destroy_write_struct(&png, &info);
    assert_int_equal(fclose(file), 0);
}

/* A JPEG of one colour. */
static void write_jpeg(const char *path, uint32_t width, uint32_t height,
                       int components, J_COLOR_SPACE space, const uint8_t *color)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    FILE *file = fopen(path, "wb");
    uint8_t row[4 * 256], *pointer = row;

    assert_non_null(file);
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_stdio_dest(&jpeg, file);
    jpeg.image_width = width;
    jpeg.image_height = height;
    jpeg.input_components = components;
    jpeg.in_color_space = space;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, 100, TRUE);
    jpeg_start_compress(&jpeg, TRUE);
    for (uint32_t i = 0; i < width * (uint32_t)components; i++)
        row[i] = color[i % (uint32_t)components];
    for (uint32_t y = 0; y < height; y++)
        jpeg_write_scanlines(&jpeg, &pointer, 1);
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    assert_int_equal(fclose(file), 0);
}

/* An empty folder `root` with one class "a". */
static void make_root(const char *root)
{
    char path[64];

    assert_int_equal(mkdir(root, 0777), 0);
    snprintf(path, sizeof path, "%s/a", root);
    assert_int_equal(mkdir(path, 0777), 0);
}

static size_t read_whole(const char *path, uint8_t *bytes, size_t capacity)
{
    FILE *file = fopen(path, "rb");

    assert_non_null(file);
    size_t size = fread(bytes, 1, capacity, file);
    assert_int_equal(fclose(file), 0);
    return size;
}

/* -- what is read --------------------------------------------------------- */

static void classes_and_files_are_sorted(void **state)
{
    static const uint8_t red[3] = {200, 10, 10};
    uint8_t pixels[3 * 16];
    int32_t label = -1;

    (void)state;
    make_root("sorted");
    assert_int_equal(mkdir("sorted/B", 0777), 0);
    assert_int_equal(mkdir("sorted/.hidden", 0777), 0);
    write_png("sorted/a/2.png", 4, 4, PNG_COLOR_TYPE_RGB, 8, 0);
    write_jpeg("sorted/a/10.JPEG", 4, 4, 3, JCS_RGB, red);
    write_png("sorted/B/x.PNG", 4, 4, PNG_COLOR_TYPE_GRAY, 8, 0);
    write_file("sorted/a/notes.txt", "no image", 8);
    write_file("sorted/readme.png", "not in a class", 14);
    assert_int_equal(mkdir("sorted/a/deep.png", 0777), 0);
    struct kd_dataset *data = open_dataset("folder:sorted");
    const struct kd_dataset_facts *facts = kd_dataset_facts(data);
    assert_int_equal(facts->total, 3);
    assert_int_equal(facts->num_classes, 2);
    assert_string_equal(facts->class_names[0], "B");
    assert_string_equal(facts->class_names[1], "a");
    assert_int_equal(facts->shape.channels, 3);
    assert_int_equal(facts->shape.height, 4);
    assert_int_equal(facts->type, KD_U8);
    assert_ok(kd_dataset_read(data, 0, pixels, &label));
    assert_int_equal(label, 0);
    assert_int_equal(pixels[5], 11);
    assert_ok(kd_dataset_read(data, 1, pixels, &label));
    assert_int_equal(label, 1);
    assert_in_range(pixels[0], 196, 204); /* a/10.JPEG comes before a/2.png */
    assert_in_range(pixels[16], 6, 14);
    assert_ok(kd_dataset_read(data, 2, pixels, &label));
    assert_int_equal(pixels[16 + 5], 10 + 3 + 1);
    kd_dataset_close(data);
}

/* Reads the one image of a folder into planes of 4 x 3. */
static void read_one(const char *path, uint8_t planes[36])
{
    char name[64];

    snprintf(name, sizeof name, "folder:%.*s", (int)strcspn(path, "/"), path);
    struct kd_dataset *data = open_dataset(name);
    assert_int_equal(kd_dataset_facts(data)->shape.height, 3);
    assert_int_equal(kd_dataset_facts(data)->shape.width, 4);
    assert_ok(kd_dataset_read(data, 0, planes, NULL));
    kd_dataset_close(data);
    assert_int_equal(unlink(path), 0);
}

static void every_kind_of_png_becomes_rgb(void **state)
{
    uint8_t p[36];

    (void)state;
    make_root("kinds");
    for (int interlace = 0; interlace < 2; interlace++) {
        write_png("kinds/a/1.png", 4, 3, PNG_COLOR_TYPE_RGB, 8, interlace);
        read_one("kinds/a/1.png", p);
        for (int i = 0; i < 36; i++)
            assert_int_equal(p[i], i / 12 + 10 * (i % 12 / 4) + 3 * (i % 4));
        write_png("kinds/a/1.png", 4, 3, PNG_COLOR_TYPE_RGB_ALPHA, 8, interlace);
        read_one("kinds/a/1.png", p);
        for (int i = 0; i < 36; i++)
            assert_int_equal(p[i], i / 12 + 10 * (i % 12 / 4) + 4 * (i % 4));
        write_png("kinds/a/1.png", 4, 3, PNG_COLOR_TYPE_GRAY, 8, interlace);
        read_one("kinds/a/1.png", p);
        for (int i = 0; i < 36; i++)
            assert_int_equal(p[i], 10 * (i % 12 / 4) + i % 4);
        write_png("kinds/a/1.png", 4, 3, PNG_COLOR_TYPE_PALETTE, 8, interlace);
        read_one("kinds/a/1.png", p);
        for (int i = 0; i < 36; i++)
            assert_int_equal(p[i], i / 12 + 10 * (i % 12 / 4) + i % 4);
        write_png("kinds/a/1.png", 4, 3, PNG_COLOR_TYPE_GRAY, 1, interlace);
        read_one("kinds/a/1.png", p); /* rows 0, 10 and 20: 0000, 0000, 0001 */
        for (int i = 0; i < 36; i++)
            assert_int_equal(p[i], i % 12 == 11 ? 255 : 0);
        write_png("kinds/a/1.png", 4, 3, PNG_COLOR_TYPE_GRAY_ALPHA, 16, interlace);
        read_one("kinds/a/1.png", p); /* the high byte, rounded */
        for (int i = 0; i < 36; i++)
            assert_in_range(p[i], 10 * (i % 12 / 4) + 4 * (i % 4),
                            10 * (i % 12 / 4) + 4 * (i % 4) + 1);
    }
}

static void gray_jpegs_become_rgb_and_cmyk_is_refused(void **state)
{
    static const uint8_t gray[1] = {77}, ink[4] = {1, 2, 3, 4};
    uint8_t p[36];

    (void)state;
    make_root("jpegs");
    write_jpeg("jpegs/a/1.jpg", 4, 3, 1, JCS_GRAYSCALE, gray);
    read_one("jpegs/a/1.jpg", p);
    for (int i = 0; i < 36; i++)
        assert_in_range(p[i], 76, 78);
    write_jpeg("jpegs/a/1.jpg", 4, 3, 4, JCS_CMYK, ink);
    assert_refused("folder:jpegs", KD_EDATA, "jpegs/a/1.jpg: a CMYK image",
                   "convert it to RGB");
}

static void files_are_known_by_content_not_by_name(void **state)
{
    uint8_t p[36];

    (void)state;
    make_root("misnamed");
    write_png("misnamed/a/1.jpg", 4, 3, PNG_COLOR_TYPE_RGB, 8, 0);
    read_one("misnamed/a/1.jpg", p);
    assert_int_equal(p[1], 3);
}

static void the_digest_follows_names_and_content(void **state)
{
    struct kd_digest digest[3];

    (void)state;
    make_root("digest");
    write_png("digest/a/1.png", 4, 3, PNG_COLOR_TYPE_RGB, 8, 0);
    for (int i = 0; i < 3; i++) {
        struct kd_dataset *data = open_dataset("folder:digest");
        digest[i] = kd_dataset_facts(data)->digest;
        kd_dataset_close(data);
        if (i == 0)
            write_png("digest/a/1.png", 4, 3, PNG_COLOR_TYPE_GRAY, 8, 0);
        if (i == 1)
            assert_int_equal(rename("digest/a/1.png", "digest/a/2.png"), 0);
    }
    assert_false(kd_digest_equal(&digest[0], &digest[1]));
    assert_false(kd_digest_equal(&digest[1], &digest[2]));
}

/* -- what is refused ------------------------------------------------------ */

static void folders_without_images_are_refused(void **state)
{
    (void)state;
    assert_refused("folder:nowhere", KD_ENOINPUT, "nowhere", "cannot open");
    assert_int_equal(mkdir("flat", 0777), 0);
    write_png("flat/1.png", 4, 3, PNG_COLOR_TYPE_RGB, 8, 0);
    assert_refused("folder:flat", KD_EDATA, "flat: no class folders", "DIR/CLASS");
    make_root("hollow");
    assert_int_equal(mkdir("hollow/b", 0777), 0);
    write_png("hollow/a/1.png", 4, 3, PNG_COLOR_TYPE_RGB, 8, 0);
    write_file("hollow/b/1.gif", "GIF89a", 6);
    assert_refused("folder:hollow", KD_EDATA, "hollow/b: a class without images", "");
}

static void images_of_other_sizes_are_refused_when_read(void **state)
{
    static const uint8_t color[3] = {1, 2, 3};
    uint8_t pixels[36];

    (void)state;
    make_root("sizes");
    write_png("sizes/a/1.png", 4, 3, PNG_COLOR_TYPE_RGB, 8, 0);
    write_png("sizes/a/2.png", 5, 3, PNG_COLOR_TYPE_RGB, 8, 0);
    write_jpeg("sizes/a/3.jpg", 200, 100, 3, JCS_RGB, color);
    struct kd_dataset *data = open_dataset("folder:sizes");
    assert_ok(kd_dataset_read(data, 0, pixels, NULL));
    assert_int_equal(kd_dataset_read(data, 1, pixels, NULL), KD_EDATA);
    assert_non_null(strstr(kd_error(), "sizes/a/2.png: 5 x 3"));
    assert_non_null(strstr(kd_error(), "sizes/a/1.png has 4 x 3"));
    assert_non_null(strstr(kd_error(), "resize"));
    assert_int_equal(kd_dataset_read(data, 2, pixels, NULL), KD_EDATA);
    assert_non_null(strstr(kd_error(), "sizes/a/3.jpg: 200 x 100"));
    kd_dataset_close(data);
}

static void images_of_any_size_are_resized(void **state)
{
    const struct kd_resize how = {.side = 4, .crop_height = 3, .crop_width = 4};
    const struct kd_shape large = {3, 12, 16}, wide = {3, 7, 20};
    uint8_t image[3 * 12 * 16], due[36], pixels[36];
    bool differ = false;

    (void)state;
    make_root("any");
    write_png("any/a/1.png", 16, 12, PNG_COLOR_TYPE_RGB, 8, 0);
    write_png("any/a/2.png", 20, 7, PNG_COLOR_TYPE_RGB, 8, 0);
    struct kd_dataset *data = open_dataset("folder:any");
    assert_ok(kd_dataset_sizes_differ(data, &differ));
    assert_true(differ);
    assert_ok(kd_dataset_read(data, 0, image, NULL));
    kd_dataset_close(data);
    data = open_dataset("folder:any,resize4,crop3x4@0:2");
    assert_ok(kd_dataset_sizes_differ(data, &differ));
    assert_false(differ);
    assert_int_equal(kd_dataset_facts(data)->shape.height, 3);
    assert_int_equal(kd_dataset_facts(data)->shape.width, 4);
    assert_ok(kd_resize_apply(&how, KD_U8, large, image, due));
    assert_ok(kd_dataset_read(data, 0, pixels, NULL));
    assert_memory_equal(pixels, due, sizeof due);
    for (size_t i = 0; i < 3 * 7 * 20; i++)
        image[i] = (uint8_t)(i / 140 + 10 * (i % 140 / 20) + 3 * (i % 20));
    assert_ok(kd_resize_apply(&how, KD_U8, wide, image, due));
    assert_ok(kd_dataset_read(data, 1, pixels, NULL));
    assert_memory_equal(pixels, due, sizeof due);
    kd_dataset_close(data);
}

static void a_size_is_part_of_the_digest(void **state)
{
    static const char *const names[] = {
        "folder:sized", "folder:sized,resize8", "folder:sized,resize8,crop8",
        "folder:sized,resize8x8", "folder:sized,unlabeled"};
    enum { N = sizeof names / sizeof *names };
    const struct kd_resize how = {.side = 8};
    struct kd_dataset *data[N], *same = NULL;

    (void)state;
    make_root("sized");
    write_png("sized/a/1.png", 8, 8, PNG_COLOR_TYPE_RGB, 8, 0);
    for (size_t i = 0; i < N; i++) {
        data[i] = open_dataset(names[i]);
        for (size_t j = 0; j < i; j++)
            assert_false(kd_digest_equal(&kd_dataset_facts(data[i])->digest,
                                         &kd_dataset_facts(data[j])->digest));
    }
    assert_ok(kd_dataset_open_sized(data[0], &how, &same));
    assert_string_equal(kd_dataset_facts(same)->name, names[1]);
    assert_true(kd_digest_equal(&kd_dataset_facts(same)->digest,
                                &kd_dataset_facts(data[1])->digest));
    kd_dataset_close(same);
    for (size_t i = 0; i < N; i++)
        kd_dataset_close(data[i]);
    data[0] = open_dataset("folder:sized@0:1");
    assert_ok(kd_dataset_open_sized(data[0], &how, &same));
    assert_string_equal(kd_dataset_facts(same)->name, "folder:sized,resize8@0:1");
    kd_dataset_close(same);
    kd_dataset_close(data[0]);
}

static void images_without_classes(void **state)
{
    uint8_t pixels[36];
    int32_t label = 0;

    (void)state;
    make_root("plain");
    assert_int_equal(mkdir("plain/empty", 0777), 0);
    assert_refused("folder:plain,unlabeled", KD_EDATA, "plain: no .png", "");
    write_png("plain/2.png", 4, 3, PNG_COLOR_TYPE_RGB, 8, 0);
    write_png("plain/a/1.png", 4, 3, PNG_COLOR_TYPE_GRAY, 8, 0);
    struct kd_dataset *data = open_dataset("folder:plain,unlabeled");
    assert_int_equal(kd_dataset_facts(data)->total, 2);
    assert_int_equal(kd_dataset_facts(data)->num_classes, 0);
    assert_null(kd_dataset_facts(data)->class_names);
    assert_ok(kd_dataset_read(data, 0, pixels, &label));
    assert_int_equal(label, -1);
    assert_int_equal(pixels[1], 3); /* that of the folder itself comes first */
    assert_ok(kd_dataset_read(data, 1, pixels, &label));
    assert_int_equal(pixels[1], 1);
    kd_dataset_close(data);
}

static void words_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    make_root("words");
    write_png("words/a/1.png", 4, 3, PNG_COLOR_TYPE_RGB, 8, 0);
    assert_refused("folder:words,resize0", KD_EUSAGE,
                   "folder:words,resize0: ", "resize224");
    assert_refused("folder:words,crop2,crop3", KD_EUSAGE, "'crop2'", "another one");
    assert_refused("folder:words,crop5", KD_EDATA, "words/a/1.png: a crop of 5 x 5",
                   "3 x 4");
    assert_refused("folder:words,resized", KD_ENOINPUT, "words,resized", "cannot open");
    assert_refused("folder:,crop5", KD_EUSAGE, "folder:DIR", "");
}

/* Every shorter version of an image is an error, in its head or in its pixels;
 * but for the end mark, which tells nothing. */
static void assert_cuts_refused(const char *whole, size_t spare)
{
    static uint8_t bytes[1 << 16];
    uint8_t pixels[36];
    size_t size = read_whole(whole, bytes, sizeof bytes);

    make_root("cut");
    for (size_t cut = 0; cut + spare < size; cut++) {
        write_file("cut/a/1.jpg", bytes, cut);
        struct kd_dataset *data = NULL;
        enum kd_status status = kd_dataset_open("folder:cut", &data);
        if (status == KD_OK)
            status = kd_dataset_read(data, 0, pixels, NULL);
        if (status != KD_EDATA || strstr(kd_error(), "cut/a/1.jpg: ") == NULL)
            fail_msg("%zu of %zu bytes: %d %s", cut, size, (int)status, kd_error());
        kd_dataset_close(data);
    }
    assert_int_equal(unlink("cut/a/1.jpg"), 0);
    assert_int_equal(rmdir("cut/a"), 0);
    assert_int_equal(rmdir("cut"), 0);
}

static void truncated_images_are_refused(void **state)
{
    static const uint8_t color[3] = {100, 20, 30};

    (void)state;
    write_png("whole.png", 4, 3, PNG_COLOR_TYPE_RGB, 8, 0);
    assert_cuts_refused("whole.png", 0);
    write_jpeg("whole.jpg", 4, 3, 3, JCS_RGB, color);
    assert_cuts_refused("whole.jpg", 2);
}

static void damaged_images_are_refused(void **state)
{
    uint8_t bytes[4096], pixels[36];
    struct kd_dataset *data = NULL;

    (void)state;
    make_root("damaged");
    write_file("damaged/a/1.png", "plain text, in truth", 20);
    assert_refused("folder:damaged", KD_EDATA, "damaged/a/1.png", "neither PNG nor");
    write_png("damaged/a/1.png", 4, 3, PNG_COLOR_TYPE_RGB, 8, 0);
    size_t size = read_whole("damaged/a/1.png", bytes, sizeof bytes);
    bytes[size - 20] ^= 0x55; /* in the pixels */
    write_file("damaged/a/1.png", bytes, size);
    data = open_dataset("folder:damaged");
    assert_int_equal(kd_dataset_read(data, 0, pixels, NULL), KD_EDATA);
    assert_non_null(strstr(kd_error(), "damaged/a/1.png: damaged PNG: "));
    kd_dataset_close(data);
}

static void huge_images_are_refused(void **state)
{
    static const uint8_t color[3] = {1, 2, 3};
    uint8_t bytes[4096];

    (void)state;
    make_root("huge");
    write_jpeg("huge/a/1.jpg", 4, 3, 3, JCS_RGB, color);
    size_t size = read_whole("huge/a/1.jpg", bytes, sizeof bytes);
    for (size_t i = 0; i + 9 < size; i++)
        if (bytes[i] == 0xff && bytes[i + 1] == 0xc0) { /* the frame's header */
            bytes[i + 5] = 0x40;
            bytes[i + 6] = 1;
        }
    write_file("huge/a/1.jpg", bytes, size);
    assert_refused("folder:huge", KD_EDATA, "huge/a/1.jpg", "over 16384 a side");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_and_files_are_sorted),
        cmocka_unit_test(every_kind_of_png_becomes_rgb),
        cmocka_unit_test(gray_jpegs_become_rgb_and_cmyk_is_refused),
        cmocka_unit_test(files_are_known_by_content_not_by_name),
        cmocka_unit_test(the_digest_follows_names_and_content),
        cmocka_unit_test(folders_without_images_are_refused),
        cmocka_unit_test(images_of_any_size_are_resized),
        cmocka_unit_test(a_size_is_part_of_the_digest),
        cmocka_unit_test(images_without_classes),
        cmocka_unit_test(words_that_make_no_sense_are_refused),
        cmocka_unit_test(images_of_other_sizes_are_refused_when_read),
        cmocka_unit_test(truncated_images_are_refused),
        cmocka_unit_test(damaged_images_are_refused),
        cmocka_unit_test(huge_images_are_refused),
    };

    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
