/* The writer: the thread that moves finished lines from the ring to PATH, and the only one that touches the volume.
 *
 * By whole lines; rotated by rename; a file that was taken away is made again. A volume that refuses is asked again
 * after RETRY, with what it refused: nothing is thrown away here but the rest of a line whose head is gone.
 */
#include "volume.h"
#include "ring.h"
#include "words.h"

enum {
    WRITE_BYTES = 128 * 1024,   /* one write: the main thread gets room in such pieces */
    RESERVE_BYTES = 256 * 1024, /* parts of a line up to this length stay in one file */
};

#define RETRY (250 * MILLISECOND)
#define LOOK_AGAIN SECOND /* is the file still where its name says? */

struct volume volume = {.max_bytes = 10 * 1024 * 1024, .max_files = 3};

static struct {
    int fd;
    uint64_t size;
    struct stat identity;
    int64_t looked_at;
    bool torn;     /* of the line at the tail, the head is already in a file */
    bool mid_line; /* the last line in this file is a P */
} file = {.fd = -1};

/* PATH, PATH.1, PATH.2, … */
static const char *numbered(struct text *t, uint64_t number)
{
    t->n = 0;
    add(t, volume.path);
    if (number) {
        add(t, ".");
        add_number(t, number);
    }
    t->bytes[t->n] = 0;
    return t->bytes;
}

/* Files beyond --max-files: an earlier run was allowed more of them. */
static void remove_surplus(void)
{
    struct text name;
    for (uint64_t k = volume.max_files; sys_unlinkat(AT_FDCWD, numbered(&name, k)) == 0; k++)
        ;
}

/* The live file becomes PATH.1; 0, or minus the error. Each step can be done again when a later one fails. */
static long rotate(void)
{
    struct text from, to;
    long error;
    for (uint64_t k = volume.max_files - 1; k > 0; k--) {
        error = sys_renameat(AT_FDCWD, numbered(&from, k - 1), AT_FDCWD, numbered(&to, k));
        if (error && error != -ENOENT)
            return error;
    }
    if (volume.max_files == 1 && (error = sys_unlinkat(AT_FDCWD, volume.path)) && error != -ENOENT)
        return error;
    remove_surplus();
    sys_close(file.fd);
    file.fd = -1;
    return 0;
}

/* A last line without its end, from a process that was killed: what follows must not become part of it.
 * Returns the bytes written, or minus the error. */
static long end_torn_line(int fd, uint64_t size)
{
    char last = '\n';
    if (size && sys_pread(fd, &last, 1, size - 1) < 0)
        return -EIO;
    return last == '\n' ? 0 : sys_write(fd, "\n", 1);
}

/* 0, or minus the error. Only a regular file is written to, and no link is followed. */
static long open_file(void)
{
    const int flags = O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
    int fd = above_standard(sys_openat(AT_FDCWD, volume.path, flags | O_CREAT | O_EXCL, 0644));
    if (fd >= 0)
        sys_fchmod(fd, 0644); /* whatever the umask: the sidecar may run as another user */
    else if (fd == -EEXIST)
        fd = above_standard(sys_openat(AT_FDCWD, volume.path, flags, 0));
    if (fd < 0)
        return fd;
    long added = sys_fstat(fd, &file.identity);
    if (!added)
        added = is_file(&file.identity) ? end_torn_line(fd, (uint64_t)file.identity.st_size) : -EPERM;
    if (added < 0) {
        sys_close(fd);
        return added;
    }
    file.fd = fd;
    file.size = (uint64_t)(file.identity.st_size + added);
    file.looked_at = now();
    file.mid_line = false;
    return 0;
}

/* Somebody may have renamed, removed or truncated the file, or unmounted the volume: whoever looks for its name must
 * find what we write. */
static void look_again(void)
{
    struct stat there;
    int64_t at = now();
    if (file.fd < 0 || at - file.looked_at < LOOK_AGAIN)
        return;
    file.looked_at = at;
    if (sys_statat(AT_FDCWD, volume.path, &there, AT_SYMLINK_NOFOLLOW) == 0 && same_file(&there, &file.identity)) {
        file.size = (uint64_t)there.st_size;
        return;
    }
    sys_close(file.fd);
    file.fd = -1;
}

static size_t first_line(const char *at, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (at[i] == '\n')
            return i + 1;
    return n;
}

/* `n` bytes less what follows their last newline. */
static size_t whole_lines(const char *at, size_t n)
{
    for (sixteen_equal found; n >= 16; n -= 16) {
        found = newlines_at(at + n - 16);
        if (found[0] | found[1])
            break;
    }
    while (n && at[n - 1] != '\n')
        n--;
    return n;
}

/* The tag of the line that ends before at[end]. */
static char last_tag(const char *at, size_t end) { return at[whole_lines(at, end - 1) + TAG_AT]; }

/* How many of the `n` bytes of lines at `at` go into this file now; 0: none, it must be rotated first. The parts of a
 * line (P, P, F) stay in one file if they are shorter than `reserve`: near its end, none is begun. */
static size_t fitting(const char *at, size_t n)
{
    uint64_t room = file.size < volume.max_bytes ? volume.max_bytes - file.size : 0;
    uint64_t reserve = volume.max_bytes / 8 < RESERVE_BYTES ? volume.max_bytes / 8 : RESERVE_BYTES;
    size_t limit = room < WRITE_BYTES ? (size_t)room : WRITE_BYTES;
    if (file.torn)
        return first_line(at, n);
    size_t fits = whole_lines(at, n < limit ? n : limit), end = fits;
    if (fits && room - fits >= reserve)
        return fits;
    while (end && last_tag(at, end) != 'F')
        end = whole_lines(at, end - 1);
    if (end || (fits && file.mid_line))
        return end ? end : fits;
    if (file.size)
        return 0;
    return fits ? fits : first_line(at, n); /* longer than --max-bytes: it gets a file of its own */
}

/* Of a torn line the head is in a file that is gone or full: the rest means nothing in another one. */
static void skip_torn_line(const char *at, size_t n, int why)
{
    size_t rest = first_line(at, n);
    STORE(ring.cut_error, why);
    __atomic_add_fetch(&ring.cut_bytes, rest, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&ring.cut_lines, 1, __ATOMIC_SEQ_CST);
    file.torn = false;
    ring_take(rest);
}

/* Move some of the `n` bytes at `at` to the file: 0, or minus the error. */
static long write_some(const char *at, size_t n)
{
    look_again();
    if (file.fd < 0) {
        long error = open_file();
        if (error)
            return error;
        if (file.torn) {
            skip_torn_line(at, n, ENOENT);
            return 0;
        }
    }
    size_t fits = fitting(at, n);
    if (!fits)
        return rotate();
    long written = sys_write(file.fd, at, fits);
    if (written == -EFBIG && file.size) { /* `ulimit -f`, and a line that is longer */
        if (file.torn)
            skip_torn_line(at, n, EFBIG);
        return rotate();
    }
    if (written <= 0)
        return written ? written : -EIO;
    file.size += (size_t)written;
    file.mid_line = !file.torn && last_tag(at, fits) == 'P';
    file.torn = at[written - 1] != '\n';
    ring_take((size_t)written);
    return 0;
}

static void writer_sleep(int seen_stage, bool failed)
{
    struct pollfd data = {ring.writer_wake, POLLIN, 0};
    const char *at;
    STORE(ring.writer_waits, 1);
    if (LOAD(ring.stage) == seen_stage && (failed || !ring_waiting(&at)))
        sys_poll(&data, 1, failed ? RETRY : -1);
    if (data.revents)
        quieten(ring.writer_wake);
    STORE(ring.writer_waits, 0);
}

void *writer(void *unused)
{
    (void)unused;
    remove_surplus();
    open_file();
    for (;;) {
        /* The stage first: an attempt that began before we were told to finish was not the last one. */
        int stage = LOAD(ring.stage);
        const char *at;
        size_t n = ring_waiting(&at);
        if (!n && stage == NOTHING_MORE && !LOAD(ring.cut_lines)) /* or there is a line to come that says so */
            break;
        long error = n ? write_some(at, n) : 0;
        STORE(ring.error, (int)-error);
        if (error && stage != MIRRORING)
            break;
        if (error || !n)
            writer_sleep(stage, error != 0);
    }
    STORE(ring.finished, 1);
    wake(&ring.main_waits, ring.main_wake);
    for (;;)
        sys_poll(NULL, 0, -1);
    return NULL;
}
