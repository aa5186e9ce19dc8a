/* SPDX-License-Identifier: MIT */
/* kd-convert: weights of a PyTorch network, into a network of this suite. */
#include "kd/dataset.h"
#include "kd/file.h"
#include "kd/memory.h"
#include "kd/model.h"
#include "kd/options.h"
#include "kd/version.h"
#include "kd/weights.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    char *from, *data, *rename;
    struct kd_yaml *network, *mean, *deviation;
    uint64_t classes;
} args;

static enum kd_status check_args(const struct kd_program *program)
{
    if (args.from == NULL)
        return kd_fail(KD_EUSAGE, "which weights? give --from FILE or a directory");
    if (args.network == NULL)
        return kd_fail(KD_EUSAGE, "of what network? give --network NET");
    if (args.data == NULL)
        return kd_fail(KD_EUSAGE, "for which samples? give --data DATASET");
    if ((args.mean == NULL) != (args.deviation == NULL))
        return kd_fail(KD_EUSAGE, "--mean and --deviation go together: give both");
    if (program->output == NULL)
        return kd_fail(KD_EUSAGE, "where to? give -o FILE.h5");
    return KD_OK;
}

/* A number for all channels, or a list of one each. */
static enum kd_status read_numbers(const struct kd_yaml *yaml, double min,
                                   size_t channels, double to[KD_MAX_NORMALIZE],
                                   size_t *count)
{
    const bool is_list = yaml->kind == KD_YAML_SEQUENCE;
    enum kd_status status = KD_OK;

    *count = is_list ? yaml->count : 1;
    if (is_list && (*count != channels || *count > KD_MAX_NORMALIZE))
        return kd_yaml_fail(yaml, "%zu numbers for %zu channels", *count, channels);
    for (size_t i = 0; i < *count && status == KD_OK; i++)
        status = kd_yaml_f64(is_list ? yaml->items[i] : yaml, min, FLT_MAX, &to[i]);
    return status;
}

static enum kd_status set_normalize(const struct kd_dataset *data,
                                    struct kd_model *model)
{
    enum kd_status status = KD_EBUG;
    struct kd_normalize normalize = {0};
    const size_t channels = model->sizes.channels;
    size_t count = 0;

    if (args.mean == NULL) {
        KD_TRY(kd_normalize_measure(data, &normalize));
    } else {
        KD_TRY(read_numbers(args.mean, -FLT_MAX, channels, normalize.mean, &count));
        KD_TRY(read_numbers(args.deviation, FLT_MIN, channels, normalize.deviation,
                            &normalize.count));
        if (count != normalize.count) {
            status = kd_fail(KD_EUSAGE, "--mean has %zu numbers, --deviation %zu",
                             count, normalize.count);
            goto out;
        }
    }
    model->num_normalize = normalize.count;
    memcpy(model->mean, normalize.mean, sizeof model->mean);
    memcpy(model->deviation, normalize.deviation, sizeof model->deviation);
    status = KD_OK;
out:
    return status;
}

/* What goes in and comes out, as the data say. */
static enum kd_status set_facts(const struct kd_dataset *data, struct kd_model *model)
{
    const struct kd_dataset_facts *facts = kd_dataset_facts(data);
    const uint32_t classes =
        args.classes > 0 ? (uint32_t)args.classes : facts->num_classes;
    enum kd_status status = KD_EBUG;

    if (classes == 0)
        return kd_fail(KD_EUSAGE, "%s has no labels: give --classes N", facts->name);
    model->sizes = (struct kd_sizes){facts->shape.channels, facts->shape.height,
                                     facts->shape.width, classes};
    model->class_map_digest = facts->class_map_digest;
    KD_TRY(kd_arch_parse(args.network, &model->arch));
    if (classes != facts->num_classes)
        KD_TRY(kd_class_map_digest(NULL, classes, &model->class_map_digest));
    status = set_normalize(data, model);
out:
    return status;
}

static enum kd_status save(const char *path, const struct kd_model *model,
                           const struct kd_graph *graph)
{
    char *history = kd_format("kd-convert %s\nweights of %s", kd_version(), args.from);
    struct kd_pending pending = {NULL, NULL};
    enum kd_status status = KD_EMEMORY;

    KD_TRY(history != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(kd_pending_open(&pending, path));
    KD_TRY(kd_model_save(pending.temporary, model, graph, history));
    KD_TRY(kd_pending_check(&pending));
    KD_TRY(kd_pending_commit(&pending));
    if (printf("%s\n", path) < 0)
        status = kd_fail_errno(KD_EIO, "stdout: cannot write");
out:
    kd_pending_abandon(&pending);
    free(history);
    return status;
}

static enum kd_status run(const struct kd_program *program)
{
    enum kd_status status = KD_EBUG;
    struct kd_dataset *data = NULL;
    struct kd_network *net = NULL;
    struct kd_model model = {0};

    KD_TRY(check_args(program));
    KD_TRY(kd_dataset_open(args.data, &data));
    KD_TRY(set_facts(data, &model));
    KD_TRY(kd_network_build(&model.arch, &model.sizes, 1, false, &net));
    KD_TRY(kd_weights_load(args.from, args.rename, net->graph));
    KD_TRY(save(program->output, &model, net->graph));
    status = KD_OK;
out:
    kd_network_free(net);
    kd_dataset_close(data);
    return status;
}

static const struct kd_option options[] = {
    {.name = "from",
     .type = KD_OPTION_STRING,
     .value = &args.from,
     .metavar = "PATH",
     .help = "the weights: .safetensors, HDF5 (FILE or FILE:/GROUP), or a directory "
             "of NAME.npy"},
    {.name = "network",
     .type = KD_OPTION_YAML,
     .value = &args.network,
     .metavar = "NET",
     .help = "whose they are: resnet20, vgg8, or {family: ...} in full"},
    {.name = "rename",
     .type = KD_OPTION_STRING,
     .value = &args.rename,
     .metavar = "FROM=TO,...",
     .help = "names that begin with FROM begin with TO; with nothing for TO they lose "
             "it"},
    KD_DATA_OPTION(
        args.data,
        "samples as the network takes them: their shape and classes are its"),
    {.name = "classes",
     .type = KD_OPTION_U64,
     .value = &args.classes,
     .min = 1,
     .max = KD_MAX_CLASSES,
     .metavar = "N",
     .help = "classes of the network; without it, the data's"},
    {.name = "mean",
     .type = KD_OPTION_YAML,
     .value = &args.mean,
     .metavar = "LIST",
     .help = "what the network's training took off pixels of 0 to 1, [0.5, 0.5, 0.4], "
             "one a channel or one for all; without it, the data's mean"},
    {.name = "deviation",
     .type = KD_OPTION_YAML,
     .value = &args.deviation,
     .metavar = "LIST",
     .help = "and what it divided by; without it, the data's deviation"},
    {0}};

static const char notes[] =
    "Arrays have the names and shapes of the PyTorch module's state_dict, in 16, 32\n"
    "or 64 bits. include/kd/weights.h says which modules the networks correspond to;\n"
    "--rename makes up for other names, whole parts between dots: linear=fc, or\n"
    "backbone= to lose that part. Classes must be in the order of the data's. A .pt\n"
    "file is a Python pickle, which is not read; in Python, save instead\n"
    "\n"
    "  with h5py.File('weights.h5', 'w') as file:\n"
    "      for name, value in network.state_dict().items():\n"
    "          file[name] = value.numpy()\n"
    "\n"
    "A file that is there already is left alone, unless it is the very same.\n"
    "\n" KD_DATASET_NOTES "\n"
    "Examples:\n"
    "  kd-convert --from resnet20.safetensors --network resnet20 \\\n"
    "             --data cifar100:train.bin --mean '[0.507, 0.487, 0.441]' \\\n"
    "             --deviation '[0.267, 0.256, 0.276]' -o teacher.h5\n"
    "  kd-convert --from weights.h5 --network wrn-40-2 --rename linear=fc \\\n"
    "             --data folder:photos,resize32x32 -o teacher.h5\n"
    "  kd-dump --teacher model:teacher.h5 --data cifar100:train.bin -o soft-labels\n";

int main(int argc, char **argv)
{
    struct kd_program program = {
        .name = "kd-convert",
        .summary = "Makes a network, to be a teacher for instance, of the weights that "
                   "PyTorch trained. Prints the path of the file it is saved in.",
        .operands = "",
        .notes = notes,
        .options = options,
        .common = KD_COMMON_CONFIG | KD_COMMON_THREADS | KD_COMMON_OUTPUT,
        .output_help = "the network file to write (needed)"};
    enum kd_status status = kd_program_parse(&program, argc, argv);

    if (status == KD_OK && !program.done)
        status = run(&program);
    return kd_program_finish(&program, status);
}
