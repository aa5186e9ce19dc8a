/* SPDX-License-Identifier: MIT */
/*
 * Models: a trained network in a file.
 *
 * One HDF5 file holds everything that is needed to run it: the architecture, the
 * sizes, how its input is normalised, its class map's digest, and the parameters and
 * buffers under /state_dict with PyTorch's names and shapes, float32:
 *
 *     {k: torch.tensor(v[()]) for k, v in h5py.File(path)["state_dict"].items()}
 *
 * is what load_state_dict takes. Root attributes: `format` "kdcache-network",
 * `format_version` 1, `architecture` (kd_arch_text), `channels`, `height`, `width`,
 * `num_classes`, `class_map_digest`, `normalize_mean`, `normalize_deviation`, `epoch`,
 * `history`. The digest of the file is the network's identity: the same training
 * gives the same bytes.
 *
 *     struct kd_model model;
 *     KD_TRY(kd_model_open("a.h5", &model));
 *     KD_TRY(kd_network_build(&model.arch, &model.sizes, 256, false, &net));
 *     KD_TRY(kd_model_load("a.h5", net->graph));
 */
#ifndef KD_MODEL_H
#define KD_MODEL_H

#include "kd/h5.h"
#include "kd/hash.h"
#include "kd/json.h"
#include "kd/network.h"
#include "kd/status.h"

#include <stdio.h>

#define KD_MODEL_FORMAT  "kdcache-network"
#define KD_MAX_NORMALIZE 16

struct kd_model {
    struct kd_arch arch;
    struct kd_sizes sizes;
    struct kd_digest class_map_digest;
    size_t num_normalize; /* means and deviations: 0, 1 or one a channel */
    double mean[KD_MAX_NORMALIZE];
    double deviation[KD_MAX_NORMALIZE];
    uint64_t epoch;          /* epochs trained */
    struct kd_digest digest; /* of the file; set by kd_model_open */
};

/* The file that a user means by `name`, on the heap: FILE, model:FILE or, where DIR has
 * the model.h5 that kd-train and kd-peers leave, model:DIR or DIR. NULL: no memory. */
char *kd_model_path(const char *name) KD_CHECKED;

/* Writes `graph`'s parameters and the facts to `path`, whole or not at all. */
enum kd_status kd_model_save(const char *path, const struct kd_model *model,
                             const struct kd_graph *graph,
                             const char *history) KD_CHECKED;

/* Reads and checks the facts. KD_EDATA where it is no network of ours. */
enum kd_status kd_model_open(const char *path, struct kd_model *model) KD_CHECKED;

/* Reads the parameters by name into a graph; one that is missing, of another shape
 * or not finite is KD_EDATA naming it. */
enum kd_status kd_model_load(const char *path, struct kd_graph *graph) KD_CHECKED;

/* Says what a saved network is, as kd-info prints it: lines of text to `to`, or if
 * `json` is not NULL the members of an object that the caller has begun. Reads and
 * checks all of its parameters. */
enum kd_status kd_model_report(const char *path, struct kd_json *json,
                               FILE *to) KD_CHECKED;

/* Parameters into and from a file that is open, below `group` ("state_dict"), for
 * checkpoints. */
enum kd_status kd_model_write_parameters(struct kd_h5 *file, const char *group,
                                         const struct kd_graph *graph) KD_CHECKED;
enum kd_status kd_model_read_parameters(struct kd_h5 *file, const char *group,
                                        struct kd_graph *graph) KD_CHECKED;

#endif
