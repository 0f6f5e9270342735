/* What a machine may do to a process, by LD_PRELOAD: set the wall clock, and kill at one call.
 *
 * FAKE_CLOCK=FILE   the file holds a double: seconds that are added to CLOCK_REALTIME.
 * FAKE_KILL=WHEN:CALL:PART:N
 *                   SIGKILL this process before or after (WHEN) the Nth CALL that concerns a
 *                   file whose path contains PART. CALL is write (also pwrite), fsync (also
 *                   fdatasync) or rename.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static volatile double *clock_shift;
static char kill_when[16], kill_call[16], kill_part[256];
static long kill_number;
static atomic_long calls;

__attribute__((constructor)) static void set_up(void) {
    const char *file = getenv("FAKE_CLOCK"), *rule = getenv("FAKE_KILL");
    if (file != NULL) {
        int descriptor = open(file, O_RDONLY | O_CLOEXEC);
        void *page = mmap(NULL, sizeof(double), PROT_READ, MAP_SHARED, descriptor, 0);
        if (page != MAP_FAILED)
            clock_shift = page;
        close(descriptor);
    }
    if (rule != NULL)
        sscanf(rule, "%15[^:]:%15[^:]:%255[^:]:%ld", kill_when, kill_call, kill_part, &kill_number);
}

/* The next definition of NAME, looked up once. */
#define NEXT(name)                                                                                \
    static __typeof__(name) *next;                                                                \
    if (next == NULL)                                                                             \
        next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int is_due(const char *call, const char *path) {
    return kill_number > 0 && strcmp(call, kill_call) == 0 && strstr(path, kill_part) != NULL &&
           atomic_fetch_add(&calls, 1) + 1 == kill_number;
}

/* Write the path that DESCRIPTOR leads to into PATH; return 0 where that cannot be told. */
static int path_of(int descriptor, char path[4096]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, 4095);
    path[size < 0 ? 0 : size] = 0;
    return size >= 0;
}

static int is_due_of(const char *call, int descriptor) {
    char path[4096];
    return kill_number > 0 && path_of(descriptor, path) && is_due(call, path);
}

static int is_due_at(int folder, const char *name) {
    char path[4096], whole[8300];
    if (kill_number <= 0 || (folder != AT_FDCWD && !path_of(folder, path)))
        return 0;
    snprintf(whole, sizeof whole, "%s/%s", folder == AT_FDCWD ? "" : path, name);
    return is_due("rename", whole);
}

static void end(void) {
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Run CALL, with the kill before or after it where it is due. */
#define AROUND(due, result_type, call)                                                            \
    do {                                                                                          \
        int last = (due);                                                                         \
        if (last && strcmp(kill_when, "before") == 0)                                             \
            end();                                                                                \
        result_type result = (call);                                                              \
        if (last)                                                                                 \
            end();                                                                                \
        return result;                                                                            \
    } while (0)

ssize_t write(int descriptor, const void *content, size_t size) {
    NEXT(write);
    AROUND(is_due_of("write", descriptor), ssize_t, next(descriptor, content, size));
}

ssize_t pwrite(int descriptor, const void *content, size_t size, off_t offset) {
    NEXT(pwrite);
    AROUND(is_due_of("write", descriptor), ssize_t, next(descriptor, content, size, offset));
}

ssize_t pwrite64(int descriptor, const void *content, size_t size, off64_t offset) {
    NEXT(pwrite64);
    AROUND(is_due_of("write", descriptor), ssize_t, next(descriptor, content, size, offset));
}

int fsync(int descriptor) {
    NEXT(fsync);
    AROUND(is_due_of("fsync", descriptor), int, next(descriptor));
}

int fdatasync(int descriptor) {
    NEXT(fdatasync);
    AROUND(is_due_of("fsync", descriptor), int, next(descriptor));
}

int rename(const char *from, const char *to) {
    NEXT(rename);
    AROUND(is_due("rename", to), int, next(from, to));
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    NEXT(renameat);
    AROUND(is_due_at(to_folder, to), int, next(from_folder, from, to_folder, to));
}

int clock_gettime(clockid_t id, struct timespec *now) {
    NEXT(clock_gettime);
    int result = next(id, now);
    if (result == 0 && clock_shift != NULL && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        now->tv_sec += (time_t)*clock_shift;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    NEXT(gettimeofday);
    int result = next(now, zone);
    if (result == 0 && clock_shift != NULL)
        now->tv_sec += (time_t)*clock_shift;
    return result;
}

time_t time(time_t *to) {
    NEXT(time);
    time_t now = next(NULL) + (clock_shift != NULL ? (time_t)*clock_shift : 0);
    if (to != NULL)
        *to = now;
    return now;
}
