/* prepare.c: the init containers' part. */
#ifndef SIDETAIL_MIRROR_PREPARE_H
#define SIDETAIL_MIRROR_PREPARE_H

int seed(char **pairs);
int init(char **argv);

#endif
