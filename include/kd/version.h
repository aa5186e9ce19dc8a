/* SPDX-License-Identifier: MIT */
/* Which build this is. */
#ifndef KD_VERSION_H
#define KD_VERSION_H

/* What `git describe` said when the library was built. */
const char *kd_version(void);

#endif
