/* volume.c: the file that lines are mirrored to. */
#ifndef SIDETAIL_MIRROR_VOLUME_H
#define SIDETAIL_MIRROR_VOLUME_H

#include "sys.h"

struct volume {
    const char *path;
    uint64_t max_bytes; /* of each file */
    uint64_t max_files; /* the live one included */
};

/* Set before the writer starts. */
extern struct volume volume;

/* The writer's thread; it never returns. */
void *writer(void *unused);

#endif
