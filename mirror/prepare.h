/* prepare.c: the init containers' part. */
#ifndef SIDETAIL_MIRROR_PREPARE_H
#define SIDETAIL_MIRROR_PREPARE_H

int seed(const char *from, const char *to);
int init(char **argv);

#endif
