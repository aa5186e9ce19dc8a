/* SPDX-License-Identifier: MIT */
/* Version: what the Makefile found out, by `-include build/version.h`. */
#include "kd/version.h"

#ifndef KD_VERSION
#define KD_VERSION "unknown"
#endif

const char *kd_version(void)
{
    return KD_VERSION;
}
