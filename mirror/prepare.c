/* What init containers do with the volumes before the app starts.
 *
 *   sidetail-mirror --seed FROM TO [FROM TO]…
 *   sidetail-mirror --init [--mkdir DIR]… [--install PATH]…
 *
 * Both run again when the pod is started again, after the app has had the volumes: nothing that exists is changed, and
 * no link is followed.
 */
#include "prepare.h"
#include "words.h"

/* ---------------------------------------------------------------------------------------- 1 seed
 *
 * Copy what an image has under FROM into a new volume, TO. It runs before the app, as the app's user, and again when the
 * pod is started again: then TO holds what the app has made of it, so nothing that exists is changed and no link is
 * followed on either side. */

enum { DEEPEST = 64 };
static const char seed_temporary[] = ".sidetail-seed";

static struct {
    char bytes[PATH_MAX]; /* where we are, for messages */
    size_t n;
    size_t root; /* of which FROM is so much */
    struct stat to;
} seeding;

/* Returns the length to go back to. */
static size_t enter(const char *name)
{
    size_t before = seeding.n;
    if (seeding.n && seeding.bytes[seeding.n - 1] != '/' && seeding.n < sizeof seeding.bytes - 1)
        seeding.bytes[seeding.n++] = '/';
    while (*name && seeding.n < sizeof seeding.bytes - 1)
        seeding.bytes[seeding.n++] = *name++;
    seeding.bytes[seeding.n] = 0;
    return before;
}

static void leave(size_t before) { seeding.bytes[seeding.n = before] = 0; }

static long write_all(int fd, const char *bytes, size_t n)
{
    while (n) {
        long written = sys_write(fd, bytes, n);
        if (written == -EINTR)
            continue;
        if (written <= 0)
            return written ? written : -EIO;
        bytes += written;
        n -= (size_t)written;
    }
    return 0;
}

static long copy_bytes(int from, int to)
{
    static char buffer[64 * 1024];
    for (;;) {
        long n = sys_read(from, buffer, sizeof buffer);
        if (n == -EINTR)
            continue;
        if (n <= 0)
            return n;
        if ((n = write_all(to, buffer, (size_t)n)))
            return n;
    }
}

/* Owner (where we may), mode and time. Set-user-ID is not carried to another owner's file. */
static void like(int fd, const struct stat *is, unsigned mode)
{
    const struct __kernel_timespec times[2] = {{(int64_t)is->st_mtime, (int64_t)is->st_mtime_nsec},
                                               {(int64_t)is->st_mtime, (int64_t)is->st_mtime_nsec}};
    sys_fchown(fd, is->st_uid, is->st_gid);
    sys_fchmod(fd, mode);
    sys_futimens(fd, times);
}

/* Under another name first: a copy that was cut short must not look like a whole one. */
static long seed_file(int from, int to, const char *name, const struct stat *is)
{
    int in = sys_openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
    if (in < 0)
        return in;
    sys_unlinkat(to, seed_temporary);
    int out = sys_openat(to, seed_temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    long error = out < 0 ? out : copy_bytes(in, out);
    if (!error) {
        like(out, is, is->st_mode & 01777);
        error = sys_renameat2(to, seed_temporary, to, name, RENAME_NOREPLACE_);
        if (error == -EINVAL || error == -ENOSYS) /* not every file system knows the flag */
            error = sys_renameat(to, seed_temporary, to, name);
    }
    if (error && out >= 0)
        sys_unlinkat(to, seed_temporary);
    if (out >= 0)
        sys_close(out);
    sys_close(in);
    return error;
}

/* Does a link at `seeding.bytes` stay under FROM? By its text alone: nothing is followed. */
static bool stays_inside(const char *target)
{
    long depth = 0;
    if (*target == '/') {
        if (length(target) < seeding.root || memcmp(target, seeding.bytes, seeding.root) != 0)
            return false;
        target += seeding.root;
        if (*target && *target != '/')
            return false;
    } else {
        for (size_t i = seeding.root; i < seeding.n; i++) /* the folders between FROM and the link */
            depth += seeding.bytes[i] == '/';
        depth--;
    }
    while (*target && depth >= 0) {
        while (*target == '/')
            target++;
        size_t n = 0;
        while (target[n] && target[n] != '/')
            n++;
        bool here = n == 0 || (n == 1 && target[0] == '.');
        depth += n == 2 && target[0] == '.' && target[1] == '.' ? -1 : here ? 0 : 1;
        target += n;
    }
    return depth >= 0;
}

static const char *seed_link(int from, int to, const char *name, long *error)
{
    char target[PATH_MAX];
    long n = sys_readlinkat(from, name, target, sizeof target - 1);
    if (n < 0) {
        *error = n;
        return NULL;
    }
    target[n] = 0;
    if (!stays_inside(target))
        return "a link that leads out";
    *error = sys_symlinkat(target, to, name);
    return NULL;
}

static long seed_directory(int from, int to, int depth);

static long seed_subdirectory(int from, int to, const char *name, const struct stat *is, int depth)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    long error = sys_mkdirat(to, name, 0700);
    bool made = error == 0;
    if (error && error != -EEXIST)
        return error;
    int below = sys_openat(from, name, flags, 0), copy = sys_openat(to, name, flags, 0);
    error = below < 0 ? below : copy < 0 ? copy : seed_directory(below, copy, depth + 1);
    if (made && copy >= 0)
        like(copy, is, is->st_mode & 07777);
    if (below >= 0)
        sys_close(below);
    if (copy >= 0)
        sys_close(copy);
    return error;
}

static void seed_entry(int from, int to, const char *name, int depth)
{
    struct stat is, there;
    const char *reason = NULL;
    size_t before = enter(name);
    long error = sys_statat(from, name, &is, AT_SYMLINK_NOFOLLOW);
    bool exists = sys_statat(to, name, &there, AT_SYMLINK_NOFOLLOW) == 0;
    if (!error && same_file(&is, &seeding.to))
        reason = "the volume itself";
    else if (!error && is_directory(&is) && depth == DEEPEST)
        reason = "too deep";
    else if (!error && is_directory(&is))
        error = seed_subdirectory(from, to, name, &is, depth);
    else if (!error && is_file(&is))
        error = exists ? 0 : seed_file(from, to, name, &is);
    else if (!error && is_link(&is) && !exists)
        reason = seed_link(from, to, name, &error);
    else if (!error && !exists)
        reason = "neither file nor folder";
    if (reason) {
        struct text t = {0, {0}};
        add(&t, "left out, ");
        add(&t, reason);
        add(&t, ":");
        t.bytes[t.n] = 0;
        say(t.bytes, seeding.bytes, 0);
    } else if (error) {
        say("left out", seeding.bytes, error);
    }
    leave(before);
}

static long seed_directory(int from, int to, int depth)
{
    char buffer[4096] __attribute__((aligned(8)));
    long n;
    while ((n = sys_getdents(from, buffer, sizeof buffer)) > 0)
        for (long i = 0; i < n;) {
            struct directory_entry *entry = (struct directory_entry *)(void *)(buffer + i);
            i += entry->length;
            if (!same(entry->name, ".") && !same(entry->name, ".."))
                seed_entry(from, to, entry->name, depth);
        }
    return n;
}

static void seed_one(const char *from, const char *to)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    int source = sys_openat(AT_FDCWD, from, flags, 0), target = sys_openat(AT_FDCWD, to, flags, 0);
    leave(0);
    enter(from);
    while (seeding.n && seeding.bytes[seeding.n - 1] == '/')
        leave(seeding.n - 1);
    seeding.root = seeding.n;
    if (source < 0)
        say("nothing copied from", from, source);
    else if (target < 0 || sys_fstat(target, &seeding.to))
        say("nothing copied to", to, target);
    else if (seed_directory(source, target, 1) < 0)
        say("not all copied from", from, 0);
    if (source >= 0)
        sys_close(source);
    if (target >= 0)
        sys_close(target);
}

/* The pairs FROM TO, up to NULL. Always 0: an app that starts with an empty folder is better than one that does not
 * start. */
int seed(char **pairs)
{
    for (; *pairs; pairs += 2)
        seed_one(pairs[0], pairs[1]);
    return 0;
}

/* ---------------------------------------------------------------------------------------- 2 init
 *
 * What the init container does with the volumes before the app starts, and does again after the app has had them: it
 * changes nothing that exists and walks through no link. */

/* Copy this program to `to`, mode 0555: whole or not at all. */
static bool install(const char *to)
{
    struct text temporary = {0, {0}};
    add(&temporary, to);
    add(&temporary, ".new");
    if (length(to) + 5 > sizeof temporary.bytes) {
        say("cannot install", to, ENAMETOOLONG);
        return false;
    }
    int in = sys_openat(AT_FDCWD, "/proc/self/exe", O_RDONLY | O_CLOEXEC, 0);
    sys_unlinkat(AT_FDCWD, temporary.bytes);
    int out = sys_openat(AT_FDCWD, temporary.bytes, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    long error = in < 0 ? in : out < 0 ? out : copy_bytes(in, out);
    if (!error)
        error = sys_fchmod(out, 0555);
    if (out >= 0)
        sys_close(out); /* before the rename: a file open for writing cannot be run */
    if (!error)
        error = sys_renameat(AT_FDCWD, temporary.bytes, AT_FDCWD, to);
    if (error && out >= 0)
        sys_unlinkat(AT_FDCWD, temporary.bytes);
    if (in >= 0)
        sys_close(in);
    if (error)
        say("cannot install", to, error);
    return !error;
}

/* Open `name` in `dir`, made with mode 0777 if it is missing; `dir` is closed. */
static int step_into(int dir, const char *name)
{
    long made = sys_mkdirat(dir, name, 0777);
    int below = sys_openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    if (below < 0 && made < 0 && made != -EEXIST)
        below = (int)made;
    sys_close(dir);
    return below;
}

/* A folder that cannot be made is said and left: the app's own start will show whether it was needed. */
static void make_directory(const char *path)
{
    int dir = sys_openat(AT_FDCWD, *path == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    for (const char *p = path; dir >= 0 && *p;) {
        char name[NAME_MAX + 1];
        size_t n = 0;
        while (*p == '/')
            p++;
        while (p[n] && p[n] != '/')
            n++;
        if (n > NAME_MAX) {
            sys_close(dir);
            dir = -ENAMETOOLONG;
            break;
        }
        memcpy(name, p, n);
        name[n] = 0;
        p += n;
        if (same(name, "..")) {
            sys_close(dir);
            dir = -EPERM;
        } else if (n && !same(name, ".")) {
            dir = step_into(dir, name);
        }
    }
    if (dir < 0)
        say("cannot make", path, dir);
    else
        sys_close(dir);
}

int init(char **argv)
{
    bool installed = true;
    sys_umask(0); /* not chmod: what exists keeps its mode */
    for (; argv[0]; argv += 2) {
        bool is_install = same(argv[0], "--install");
        if (!argv[1] || !(is_install || same(argv[0], "--mkdir"))) {
            say("--init: expected --install PATH or --mkdir DIR, got", argv[0], 0);
            return 2;
        }
        if (is_install)
            installed &= install(argv[1]);
        else
            make_directory(argv[1]);
    }
    return installed ? 0 : 1;
}
