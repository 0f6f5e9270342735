/* What the program says: short texts without a C library. */
#ifndef SIDETAIL_MIRROR_WORDS_H
#define SIDETAIL_MIRROR_WORDS_H

#include "sys.h"

struct text {
    size_t n;
    char bytes[1024];
};

static inline void add(struct text *t, const char *s)
{
    while (*s && t->n < sizeof t->bytes)
        t->bytes[t->n++] = *s++;
}

static inline void add_number(struct text *t, uint64_t number)
{
    char digits[21], *d = digits + sizeof digits - 1;
    for (*d = 0; d[0] == 0 || number; number /= 10)
        *--d = (char)('0' + number % 10);
    add(t, d);
}

/* A name in quotes; what a terminal could take for a command becomes '?'. */
static inline void add_name(struct text *t, const char *name)
{
    add(t, "'");
    for (char shown[2] = {0, 0}; *name; name++) {
        shown[0] = (unsigned char)*name < ' ' || *name == 127 ? '?' : *name;
        add(t, shown);
    }
    add(t, "'");
}

static inline void add_error(struct text *t, long error)
{
    static const struct {
        int number;
        const char *words;
    } known[] = {
        {ENOENT, "no such file or directory"},
        {EACCES, "permission denied"},
        {EPERM, "operation not permitted"},
        {ENOEXEC, "exec format error"},
        {ENOTDIR, "not a directory"},
        {EISDIR, "is a directory"},
        {ENOSPC, "no space left on device"},
        {EDQUOT, "disk quota exceeded"},
        {EROFS, "read-only file system"},
        {EIO, "input/output error"},
        {EFBIG, "file too large"},
        {ELOOP, "a symbolic link"},
        {ENAMETOOLONG, "file name too long"},
        {ENOMEM, "cannot allocate memory"},
        {EMFILE, "too many open files"},
        {EAGAIN, "resource temporarily unavailable"},
        {E2BIG, "argument list too long"},
        {ETXTBSY, "text file busy"},
        {ESTALE, "stale file handle"},
        {EEXIST, "file exists"},
    };
    error = error < 0 ? -error : error;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].number == error) {
            add(t, known[i].words);
            return;
        }
    add(t, "error ");
    add_number(t, (uint64_t)error);
}

/* One line of our own on stderr: what, about which name, why. A `name` of NULL and an `error` of 0 are left out. */
static inline void say(const char *what, const char *name, long error)
{
    struct text t = {0, {0}};
    add(&t, "sidetail-mirror: ");
    add(&t, what);
    if (name) {
        add(&t, " ");
        add_name(&t, name);
    }
    if (error) {
        add(&t, ": ");
        add_error(&t, error);
    }
    if (t.n == sizeof t.bytes)
        t.n--;
    t.bytes[t.n++] = '\n';
    sys_write(2, t.bytes, t.n);
}

static inline bool same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static inline size_t length(const char *s)
{
    size_t n = 0;
    while (s[n])
        n++;
    return n;
}

static inline bool holds(const char *s, char wanted)
{
    while (*s && *s != wanted)
        s++;
    return *s != 0;
}

#endif
