/* The floor of the mirror: Linux's system calls and the little of C that a program without a C library lacks.
 *
 * In: <linux/…> and <asm/…>, the kernel's own headers. Out: `sys_…` functions that return what the kernel returns (a
 * result, or minus the error number), and in the file that defines SYS_START an entry that calls `mirror_main`, and
 * `thread_start`. Without a C library the program is the same small file whatever built it, runs in an image that holds
 * nothing else, and touches a few pages of memory.
 *
 * -DHOSTED puts the same names on top of a C library, for sanitizers and for the harness that drives single parts
 * (tests/unit/mirror). x86-64 and arm64 only: elsewhere it does not compile.
 */
#ifndef SIDETAIL_MIRROR_SYS_H
#define SIDETAIL_MIRROR_SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <asm/ioctls.h>
#include <asm/poll.h>
#include <asm/resource.h>
#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/limits.h>
#include <linux/prctl.h>
#include <linux/signalfd.h>
#include <linux/stat.h>
#include <linux/time_types.h>
#include <linux/wait.h>

/* Numbers that the kernel's headers give only beside types that a C library has too. */
enum {
    CLOCK_REALTIME_ = 0,
    CLOCK_MONOTONIC_ = 1,
    SEEK_SET_ = 0,
    SIGKILL_ = 9,
    SIGCHLD_ = 17,
    SIGSTOP_ = 19,
    SIG_SETMASK_ = 2,
    SI_USER_ = 0,
    SI_QUEUE_ = -1,
    SI_KERNEL_ = 0x80,
    RENAME_NOREPLACE_ = 1,
    F_DUPFD_CLOEXEC_ = 1030,
};

/* The kernel's struct sigaction, the same on both machines. */
struct signal_action {
    uintptr_t handler;
    unsigned long flags;
    uintptr_t restorer;
    uint64_t mask;
};

/* The head of the kernel's struct siginfo, as far as rt_sigqueueinfo needs it: 128 bytes in all. */
struct signal_info {
    int32_t number, error, code, padding;
    int32_t sender_pid;
    uint32_t sender_uid;
    uint64_t value;
    char rest[96];
};

struct resource_limit {
    uint64_t soft, hard;
};

struct directory_entry { /* linux_dirent64 */
    uint64_t inode;
    int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[];
};

/* <linux/stat.h> keeps its S_IS… to itself where a C library's headers were seen. */
static inline bool is_file(const struct stat *is) { return (is->st_mode & 0170000) == 0100000; }
static inline bool is_directory(const struct stat *is) { return (is->st_mode & 0170000) == 0040000; }
static inline bool is_link(const struct stat *is) { return (is->st_mode & 0170000) == 0120000; }
static inline bool is_pipe(const struct stat *is) { return (is->st_mode & 0170000) == 0010000; }
static inline bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

/* Sixteen bytes anywhere; and what comparing them gives: two words, with 0xff for each byte that is equal. */
typedef uint8_t sixteen_bytes __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint64_t sixteen_equal __attribute__((vector_size(16)));

static inline sixteen_equal newlines_at(const char *at)
{
    return (sixteen_equal)(*(const sixteen_bytes *)(const void *)at == '\n');
}

int mirror_main(int argc, char **argv, char **environment);

void *memcpy(void *restrict to, const void *restrict from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int byte, size_t n);
int memcmp(const void *a, const void *b, size_t n);

#ifdef HOSTED /* ------------------------------------------------------------------------------- with a C library */

/* Declared here and not included: a C library's headers and the kernel's define the same structs. */
extern long syscall(long number, ...);
extern int *__errno_location(void);
extern int pthread_create(unsigned long *thread, const void *attributes, void *(*start)(void *), void *argument);

static inline long sys(long number, long a, long b, long c, long d, long e, long f)
{
    long result = syscall(number, a, b, c, d, e, f);
    return result == -1 ? -*__errno_location() : result;
}

#ifdef SYS_START
static long thread_start(void *(*start)(void *))
{
    unsigned long thread;
    return -pthread_create(&thread, NULL, start, NULL);
}

#ifndef HARNESS
int main(int argc, char **argv, char **environment);
int main(int argc, char **argv, char **environment) { return mirror_main(argc, argv, environment); }
#endif
#endif

#else /* ------------------------------------------------------------------------------- without a C library */

#if defined(__x86_64__)

static inline long sys(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#ifdef SYS_START
/* The new thread comes out of the system call on its own stack, where it finds the function to call. */
#define CLONE_ONTO(result, flags, top)                                                                                 \
    do {                                                                                                               \
        register long r10 __asm__("r10") = 0;                                                                          \
        register long r8 __asm__("r8") = 0;                                                                            \
        __asm__ volatile("syscall\n\t"                                                                                 \
                         "test %%rax, %%rax\n\t"                                                                       \
                         "jnz 1f\n\t"                                                                                  \
                         "xor %%ebp, %%ebp\n\t"                                                                        \
                         "mov (%%rsp), %%rax\n\t"                                                                      \
                         "call *%%rax\n\t"                                                                             \
                         "hlt\n"                                                                                       \
                         "1:"                                                                                          \
                         : "=a"(result)                                                                                \
                         : "a"((long)__NR_clone), "D"(flags), "S"(top), "d"(0L), "r"(r10), "r"(r8)                     \
                         : "rcx", "r11", "memory");                                                                    \
    } while (0)

/* The kernel leaves argc, argv and the environment on the stack. */
__asm__(".globl _start\n"
        "_start:\n\t"
        "xor %ebp, %ebp\n\t"
        "mov %rsp, %rdi\n\t"
        "and $-16, %rsp\n\t"
        "call entry\n");
#endif

#elif defined(__aarch64__)

static inline long sys(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}

#ifdef SYS_START
#define CLONE_ONTO(result, flags, top)                                                                                 \
    do {                                                                                                               \
        register long x8 __asm__("x8") = __NR_clone;                                                                   \
        register long x0 __asm__("x0") = (flags);                                                                      \
        register long x1 __asm__("x1") = (long)(top);                                                                  \
        register long x2 __asm__("x2") = 0;                                                                            \
        register long x3 __asm__("x3") = 0;                                                                            \
        register long x4 __asm__("x4") = 0;                                                                            \
        __asm__ volatile("svc #0\n\t"                                                                                  \
                         "cbnz x0, 1f\n\t"                                                                             \
                         "mov x29, #0\n\t"                                                                             \
                         "ldr x1, [sp]\n\t"                                                                            \
                         "blr x1\n\t"                                                                                  \
                         "brk #1\n"                                                                                    \
                         "1:"                                                                                          \
                         : "+r"(x0)                                                                                    \
                         : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)                                                 \
                         : "memory");                                                                                  \
        (result) = x0;                                                                                                 \
    } while (0)

__asm__(".globl _start\n"
        "_start:\n\t"
        "mov x29, #0\n\t"
        "mov x30, #0\n\t"
        "mov x0, sp\n\t"
        "bl entry\n\t"
        "brk #1\n");
#endif

#else
#error "the mirror is written for x86-64 and arm64"
#endif

#ifdef SYS_START
/* A compiler may call these four whatever it is told; they must not be turned into calls of themselves
 * (-fno-tree-loop-distribute-patterns in the Makefile). Sixteen bytes at a time, the last sixteen overlapping. */
void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if (n < 16) {
        while (n--)
            *t++ = *f++;
        return to;
    }
    for (size_t i = 0; i + 16 < n; i += 16)
        *(sixteen_bytes *)(t + i) = *(const sixteen_bytes *)(f + i);
    *(sixteen_bytes *)(t + n - 16) = *(const sixteen_bytes *)(f + n - 16);
    return to;
}

void *memmove(void *to, const void *from, size_t n)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if (t > f) {
        while (n--)
            t[n] = f[n];
        return to;
    }
    for (; n >= 16; n -= 16, t += 16, f += 16)
        *(sixteen_bytes *)t = *(const sixteen_bytes *)f;
    while (n--)
        *t++ = *f++;
    return to;
}

void *memset(void *to, int byte, size_t n)
{
    for (uint8_t *t = to; n--; t++)
        *t = (uint8_t)byte;
    return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a, *y = b;
    for (; n--; x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}

static char thread_stack[32 * 1024] __attribute__((aligned(16)));

/* Start the program's second and last thread; `start` never returns. */
static long thread_start(void *(*start)(void *))
{
    const long share_everything = 0x00000100 | 0x00000200 | 0x00000400 | 0x00000800 /* CLONE_VM FS FILES SIGHAND */
                                  | 0x00010000 | 0x00040000;                        /* CLONE_THREAD SYSVSEM */
    uintptr_t *top = (uintptr_t *)(void *)(thread_stack + sizeof thread_stack - 16);
    long result;
    *top = (uintptr_t)start;
    CLONE_ONTO(result, share_everything, top);
    return result < 0 ? result : 0;
}

__attribute__((noreturn, used)) static void entry(long *stack)
{
    int argc = (int)stack[0];
    char **argv = (char **)(stack + 1);
    sys(__NR_exit_group, mirror_main(argc, argv, argv + argc + 1), 0, 0, 0, 0, 0);
    __builtin_unreachable();
}
#endif

#endif /* ------------------------------------------------------------------------------- the same on both floors */

#define SYS1(n, a) sys(n, (long)(a), 0, 0, 0, 0, 0)
#define SYS2(n, a, b) sys(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define SYS3(n, a, b, c) sys(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define SYS4(n, a, b, c, d) sys(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define SYS5(n, a, b, c, d, e) sys(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

static inline long sys_read(int fd, void *to, size_t n) { return SYS3(__NR_read, fd, to, n); }
static inline long sys_write(int fd, const void *from, size_t n) { return SYS3(__NR_write, fd, from, n); }
static inline long sys_close(int fd) { return SYS1(__NR_close, fd); }
static inline long sys_pread(int fd, void *to, size_t n, uint64_t at) { return SYS4(__NR_pread64, fd, to, n, at); }
static inline int sys_openat(int dir, const char *path, int flags, unsigned mode)
{
    return (int)SYS4(__NR_openat, dir, path, flags, mode);
}
static inline long sys_fstat(int fd, struct stat *to) { return SYS2(__NR_fstat, fd, to); }
static inline long sys_statat(int dir, const char *path, struct stat *to, int flags)
{
    return SYS4(__NR_newfstatat, dir, path, to, flags);
}
static inline long sys_renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return SYS4(__NR_renameat, from_dir, from, to_dir, to);
}
static inline long sys_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    return SYS5(__NR_renameat2, from_dir, from, to_dir, to, flags);
}
static inline long sys_unlinkat(int dir, const char *path) { return SYS3(__NR_unlinkat, dir, path, 0); }
static inline long sys_mkdirat(int dir, const char *path, unsigned mode) { return SYS3(__NR_mkdirat, dir, path, mode); }
static inline long sys_symlinkat(const char *target, int dir, const char *path)
{
    return SYS3(__NR_symlinkat, target, dir, path);
}
static inline long sys_readlinkat(int dir, const char *path, char *to, size_t n)
{
    return SYS4(__NR_readlinkat, dir, path, to, n);
}
static inline long sys_fchmod(int fd, unsigned mode) { return SYS2(__NR_fchmod, fd, mode); }
static inline long sys_fchown(int fd, unsigned user, unsigned group) { return SYS3(__NR_fchown, fd, user, group); }
static inline long sys_futimens(int fd, const struct __kernel_timespec times[2])
{
    return SYS4(__NR_utimensat, fd, NULL, times, 0);
}
static inline long sys_getdents(int fd, void *to, size_t n) { return SYS3(__NR_getdents64, fd, to, n); }
static inline void sys_umask(unsigned mask) { SYS1(__NR_umask, mask); }
static inline int sys_fcntl(int fd, int what, long argument) { return (int)SYS3(__NR_fcntl, fd, what, argument); }
static inline long sys_ioctl(int fd, unsigned long what, void *argument)
{
    return SYS3(__NR_ioctl, fd, what, argument);
}
static inline long sys_dup3(int from, int to, int flags) { return SYS3(__NR_dup3, from, to, flags); }
static inline long sys_tee(int from, int to, size_t n)
{
    return SYS4(__NR_tee, from, to, n, 2 /* SPLICE_F_NONBLOCK */);
}
static inline long sys_pipe2(int fds[2], int flags) { return SYS2(__NR_pipe2, fds, flags); }
static inline int sys_eventfd(int flags) { return (int)SYS2(__NR_eventfd2, 0, flags); }
static inline int sys_signalfd(uint64_t mask, int flags)
{
    return (int)SYS4(__NR_signalfd4, -1, &mask, sizeof mask, flags);
}
static inline long sys_sigmask(const uint64_t *mask, uint64_t *old)
{
    return SYS4(__NR_rt_sigprocmask, SIG_SETMASK_, mask, old, sizeof *mask);
}
static inline long sys_sigaction(int number, const struct signal_action *action, struct signal_action *old)
{
    return SYS4(__NR_rt_sigaction, number, action, old, sizeof action->mask);
}
static inline long sys_kill(int pid, int number) { return SYS2(__NR_kill, pid, number); }
static inline long sys_sigqueue(int pid, int number, const struct signal_info *how)
{
    return SYS3(__NR_rt_sigqueueinfo, pid, number, how);
}
static inline long sys_getrlimit(int which, struct resource_limit *to)
{
    return SYS4(__NR_prlimit64, 0, which, NULL, to);
}
static inline int sys_wait(int pid, int *status, int flags) { return (int)SYS4(__NR_wait4, pid, status, flags, NULL); }
static inline int sys_fork(void) { return (int)SYS1(__NR_clone, SIGCHLD_); }
static inline long sys_execve(const char *path, char **argv, char **environment)
{
    return SYS3(__NR_execve, path, argv, environment);
}
static inline int sys_getpid(void) { return (int)SYS1(__NR_getpid, 0); }
static inline int sys_getppid(void) { return (int)SYS1(__NR_getppid, 0); }
static inline int sys_getsid(int pid) { return (int)SYS1(__NR_getsid, pid); }
static inline long sys_setsid(void) { return SYS1(__NR_setsid, 0); }
static inline long sys_prctl(int what, unsigned long argument) { return SYS2(__NR_prctl, what, argument); }
static inline _Noreturn void sys_exit(int code)
{
    SYS1(__NR_exit_group, code);
    __builtin_unreachable();
}

/* `nanoseconds` < 0 waits for ever. */
static inline long sys_poll(struct pollfd *polled, unsigned n, int64_t nanoseconds)
{
    struct __kernel_timespec wait = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    return SYS5(__NR_ppoll, polled, n, nanoseconds < 0 ? NULL : &wait, NULL, 8);
}

static inline struct __kernel_timespec sys_clock(int which)
{
    struct __kernel_timespec now = {0, 0};
    SYS2(__NR_clock_gettime, which, &now);
    return now;
}

#define MILLISECOND 1000000LL
#define SECOND 1000000000LL

/* A clock that is never set, in nanoseconds. */
static inline int64_t now(void)
{
    struct __kernel_timespec t = sys_clock(CLOCK_MONOTONIC_);
    return t.tv_sec * SECOND + t.tv_nsec;
}

/* A descriptor above the three standard ones: those are the app's, also while they are closed. */
static inline int above_standard(int fd)
{
    if (fd < 0 || fd > 2)
        return fd;
    int higher = sys_fcntl(fd, F_DUPFD_CLOEXEC_, 3);
    sys_close(fd);
    return higher;
}

#endif
