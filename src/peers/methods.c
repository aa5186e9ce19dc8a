/* SPDX-License-Identifier: MIT */
/* The methods: to add one, a file and a line in each of these two lists. */
#include "peers/method_internal.h"

extern const struct kd_method kd_method_dml;
extern const struct kd_method kd_method_one;
extern const struct kd_method kd_method_cl_ilr;
extern const struct kd_method kd_method_okddip;
extern const struct kd_method kd_method_ffl;
extern const struct kd_method kd_method_afd;
extern const struct kd_method kd_method_prokt;
extern const struct kd_method kd_method_codistill;
extern const struct kd_method kd_method_hinton;

const struct kd_method *const kd_methods[KD_MAX_METHODS + 1] = {
    &kd_method_dml,    &kd_method_one,       &kd_method_cl_ilr,
    &kd_method_okddip, &kd_method_ffl,       &kd_method_afd,
    &kd_method_prokt,  &kd_method_codistill, &kd_method_hinton,
};
