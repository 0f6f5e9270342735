/* sidetail-mirror: what a container prints goes where it went before, and to a file as well.
 *
 *   sidetail-mirror --file PATH [--max-bytes N] [--max-files N] -- COMMAND ARG…
 *   sidetail-mirror --seed FROM TO [FROM TO]…
 *   sidetail-mirror --init [--mkdir DIR]… [--install PATH]…
 *
 * In: the command line; what COMMAND writes to its descriptors 1 and 2; signals.
 * Out: the same bytes on our own stdout and stderr; CRI lines (`time stream F|P bytes`) in PATH; COMMAND's exit code.
 *
 *      COMMAND ── pipe ── stream.bytes ─┬─ stdout, stderr   a reader that is slow holds the app up, as without us
 *                                       └─ ring ── PATH     a volume that is slow or full does not: lines are left out,
 *                                                           counted, and the file says so when it can again
 *
 * Two threads. The main one is this file: it waits for everything in one place (the pipes, the real outputs, signals,
 * room in the ring) and never touches the volume. The writer (volume.c) touches nothing else, so that only it can hang.
 *
 * In reading order: 1 lines · 2 streams · 3 command and signals · 4 run · 5 options. Between the threads: ring.h.
 * Beside them: prepare.c (--seed, --init), words.h (our messages), sys.h (what a C library would give).
 * docs/mirror.md says what is promised.
 */
#define SYS_START
#include "sys.h"

#include "prepare.h"
#include "ring.h"
#include "volume.h"
#include "words.h"

enum {
    LINE_BYTES = 16 * 1024, /* the longest text of one CRI line: where container runtimes cut */
    READ_BYTES = 64 * 1024, /* one read: all that a pipe holds unless it was made larger */
    PIPE_ATOMIC = 4096,     /* what a pipe that has room takes without waiting */
};

/* How long the app may wait for the volume. A container runtime writes the same lines to the same kind of disk and is
 * hardly faster than this: up to here the app would have waited without us too. Beyond it there is one second of
 * patience, which comes back only with lines that were written. */
#define NANOSECONDS_A_BYTE 60 /* 16 MiB a second */
#define PATIENCE SECOND
#define SHORTEST_WAIT (10 * MILLISECOND)

#define ASK_AGAIN (250 * MILLISECOND) /* whether the account can be filed */
#define LINGER (2 * SECOND)           /* for grandchildren that hold the pipes open */
#define LAST_WAIT (2 * SECOND)        /* for a volume that hangs, at the end */

struct ring ring;

/* ---------------------------------------------------------------------------------------- 1 lines
 *
 * From what was read to CRI lines in the ring, and the account of what could not be put there. */

struct stream {
    int from;     /* reading end of the pipe that the app writes to; -1: it has ended */
    int to;       /* the real stdout or stderr; -1: nobody reads it */
    bool by_tee;  /* `to` is a pipe: the kernel can hand pages on */
    bool much;    /* the last read found much: hand on the next */
    bool full;    /* … and `to` has no room */
    bool careful; /* `to` may block: ask before each write, and write little */
    bool hung_up; /* nobody reads `to` any more: end `from` when nothing is owed */
    size_t owed;  /* bytes in the pipe that must be read before it may be closed */

    /* bytes[0..filled) was read; [0..sent) is on `to`, [0..filed) in the ring. */
    size_t filled, sent, filed;
    bool blocked; /* there is a line for the ring, and no room */

    bool open;    /* the last thing in the ring of this stream was a P */
    bool torn;    /* … and what belongs behind it was left out */
    bool cutting; /* the rest of the line is left out */
    char head[HEAD_BYTES];
    char bytes[2 * LINE_BYTES + READ_BYTES];
};

static struct stream streams[2]; /* stdout and stderr */

#define EACH_STREAM(s) for (struct stream *s = streams; s < streams + 2; s++)

static struct {
    uint64_t lines, bytes; /* not yet said in the file */
    int error;             /* why; 0: the volume was too slow */
} left_out;

static int64_t patience = PATIENCE;
static int64_t waiting_since; /* for room in the ring; 0: not waiting */

static void put_digits(char *to, int n, uint64_t number)
{
    for (; n--; number /= 10)
        to[n] = (char)('0' + number % 10);
}

static bool is_leap(uint64_t year) { return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0); }

/* The date of a day since 1970 as `2006-01-02`. */
static void put_date(char *to, uint64_t day)
{
    static const uint8_t month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    uint64_t year = 1970, month = 0, days;
    for (; day >= (days = 365 + is_leap(year)); year++)
        day -= days;
    for (; day >= (days = month_days[month] + (month == 1 && is_leap(year))); month++)
        day -= days;
    put_digits(to, 4, year);
    put_digits(to + 5, 2, month + 1);
    put_digits(to + 8, 2, day + 1);
}

/* The time of a line is that of the read in which its end came: one look at the clock, however many lines. */
static void stamp(struct stream *s)
{
    static char text[31] = "2006-01-02T15:04:05.000000000Z";
    static uint64_t shown = ~0ULL;
    struct __kernel_timespec time = sys_clock(CLOCK_REALTIME_);
    uint64_t second = (uint64_t)time.tv_sec;
    if (second != shown) {
        put_date(text, second / 86400);
        put_digits(text + 11, 2, second / 3600 % 24);
        put_digits(text + 14, 2, second / 60 % 60);
        put_digits(text + 17, 2, second % 60);
        shown = second;
    }
    put_digits(text + 20, 9, (uint64_t)time.tv_nsec);
    memcpy(s->head, text, 30);
    memcpy(s->head + 30, s == streams ? " stdout F " : " stderr F ", 10);
}

static void put_line(struct stream *s, char *at, char tag, const char *bytes, size_t n)
{
    memcpy(at, s->head, HEAD_BYTES);
    at[TAG_AT] = tag;
    memcpy(at + HEAD_BYTES, bytes, n);
    at[HEAD_BYTES + n] = '\n';
    ring_fill(at, HEAD_BYTES + n + 1);
    s->open = tag == 'P';
}

static void leave_out(struct stream *s, char tag, size_t taken)
{
    if (!left_out.bytes)
        left_out.error = LOAD(ring.error);
    s->torn |= s->open;
    s->cutting = tag == 'P';
    left_out.bytes += taken;
    left_out.lines += tag == 'F'; /* a line counts when its end has come */
}

/* The account as a line of the file; nothing is filed before it. It waits until half the ring is free, so that there
 * is one such line for a hole and not one for each line of it. */
static bool say_what_was_left_out(void)
{
    if (LOAD(ring.cut_lines)) {
        left_out.error = left_out.bytes ? left_out.error : LOAD(ring.cut_error);
        left_out.lines += SWAP(ring.cut_lines, 0);
        left_out.bytes += SWAP(ring.cut_bytes, 0);
    }
    if (!left_out.lines)
        return true;
    if (ring_used() > RING_BYTES / 2)
        return false;
    EACH_STREAM (s)
        if (s->torn) { /* end it: the next line must not be taken for its continuation */
            stamp(s);
            put_line(s, ring_room(HEAD_BYTES + 1), 'F', "", 0);
            s->torn = false;
        }
    struct stream *free_one = streams[1].open ? streams : streams + 1;
    struct text t = {0, {0}};
    add(&t, "sidetail-mirror: ");
    add_number(&t, left_out.lines);
    add(&t, left_out.lines == 1 ? " line (" : " lines (");
    add_number(&t, left_out.bytes);
    add(&t, " bytes) left out here: ");
    if (left_out.error)
        add_error(&t, left_out.error);
    else
        add(&t, "the volume was too slow");
    bool was_open = free_one->open;
    stamp(free_one);
    put_line(free_one, ring_room(HEAD_BYTES + sizeof t.bytes + 1), 'F', t.bytes, t.n);
    free_one->open = was_open;
    left_out.lines = left_out.bytes = 0;
    ring_publish();
    return true;
}

/* The ring is full: is the volume worth holding the app up for? */
static bool worth_waiting(void)
{
    bool hopeless = LOAD(ring.error) || left_out.lines || patience < SHORTEST_WAIT;
    if (!hopeless && !waiting_since)
        waiting_since = now();
    if (!hopeless && now() - waiting_since < patience)
        return true;
    if (!hopeless)
        patience = 0;
    waiting_since = 0;
    return false;
}

static void waited(size_t bytes)
{
    if (waiting_since) {
        patience -= now() - waiting_since;
        waiting_since = 0;
    }
    patience += (int64_t)bytes * NANOSECONDS_A_BYTE;
    if (patience > PATIENCE)
        patience = PATIENCE;
}

/* File one line, or a part of one, or leave it out; false: wait. `taken` counts its newline too. */
static bool file_line(struct stream *s, char tag, size_t n, size_t taken)
{
    size_t size = HEAD_BYTES + n + 1;
    char *at = !s->cutting && say_what_was_left_out() ? ring_room(size) : NULL;
    if (at) {
        put_line(s, at, tag, s->bytes + s->filed, n);
        waited(size);
    } else if (!s->cutting && worth_waiting()) {
        return false;
    } else {
        leave_out(s, tag, taken);
    }
    s->filed += taken;
    return true;
}

/* The place of the first newline in `n` bytes; `n`: there is none. */
static size_t find_newline(const char *at, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        sixteen_equal found = newlines_at(at + i);
        if (found[0])
            return i + (size_t)__builtin_ctzll(found[0]) / 8;
        if (found[1])
            return i + 8 + (size_t)__builtin_ctzll(found[1]) / 8;
    }
    while (i < n && at[i] != '\n')
        i++;
    return i;
}

/* File all whole lines that were read, cut where container runtimes cut; at the end of the stream the rest as well. */
static void file_lines(struct stream *s)
{
    bool went_on = true;
    while (went_on && s->filed < s->filled) {
        size_t n = s->filled - s->filed;
        size_t seen = n > LINE_BYTES ? LINE_BYTES + 1 : n;
        size_t line = find_newline(s->bytes + s->filed, seen);
        if (line < seen)
            went_on = file_line(s, 'F', line, line + 1);
        else if (seen > LINE_BYTES)
            went_on = file_line(s, 'P', LINE_BYTES, LINE_BYTES);
        else if (s->from < 0)
            went_on = file_line(s, 'F', n, n);
        else
            break;
    }
    s->blocked = !went_on;
    if (s->from < 0 && s->filed == s->filled && s->cutting) { /* a line without end, of which the rest was left out */
        s->cutting = false;
        left_out.lines++;
    }
    ring_publish();
}

/* ---------------------------------------------------------------------------------------- 2 streams */

static bool writable(int fd)
{
    struct pollfd p = {fd, POLLOUT, 0};
    return sys_poll(&p, 1, 0) == 1;
}

/* Both streams end in one pipe or file (`2>&1`): then a piece of one is finished before the other goes on. */
static bool outputs_are_one;
static struct stream *half_sent;

/* What is in the pipe now was written: it will be read whatever happens. */
static void count_owed(struct stream *s)
{
    int waiting = 0;
    if (s->from >= 0 && sys_ioctl(s->from, FIONREAD, &waiting) == 0)
        s->owed = (size_t)waiting;
}

/* The app is to see what it would see without us: we read what it has written (for the file) and no more, and its next
 * write fails with EPIPE. */
static void hang_up(struct stream *s)
{
    sys_close(s->to);
    s->to = -1;
    s->hung_up = true;
    count_owed(s);
}

/* Send on what was read, as far as that goes without waiting. */
static void send_on(struct stream *s)
{
    if (outputs_are_one && half_sent && half_sent != s)
        return;
    while (s->to >= 0 && s->sent < s->filled) {
        size_t n = s->filled - s->sent;
        if (s->careful && n > PIPE_ATOMIC)
            n = PIPE_ATOMIC;
        long sent = s->careful && !writable(s->to) ? -EAGAIN : sys_write(s->to, s->bytes + s->sent, n);
        if (sent == -EAGAIN) {
            half_sent = s;
            return;
        }
        if (sent == -EPIPE)
            hang_up(s);
        else if (sent != -EINTR)
            s->sent += sent > 0 ? (size_t)sent : n; /* another error: the app's own write would have been lost */
    }
    s->sent = s->filled;
    half_sent = NULL;
}

static void end_stream(struct stream *s)
{
    if (s->from >= 0)
        sys_close(s->from);
    s->from = -1;
    s->owed = 0;
    s->full = false;
}

static bool ready_to_read(const struct stream *s) { return s->from >= 0 && s->sent == s->filled && !s->blocked; }

/* Hand what is in the pipe on to the real one, without waiting and without copying. Returns how many bytes may now be
 * read (0: the end) or minus the error; -EAGAIN: no room, as something is there to be read. Only done when there is
 * much: small writes that the kernel would put together in one page would each take one of the sixteen that a pipe has,
 * and fill a pipe that is not read sooner than without us. */
static long hand_on(struct stream *s)
{
    long n = sys_tee(s->from, s->to, READ_BYTES);
    s->full = n == -EAGAIN;
    if (n == -EPIPE)
        hang_up(s);
    else if (n < 0 && !s->full)
        s->by_tee = false; /* not every sandbox has it */
    return n;
}

/* Read once. What has not been filed is the beginning of one line, at most LINE_BYTES long. */
static void receive(struct stream *s)
{
    size_t most = READ_BYTES;
    bool handed_on = false;
    if (s->hung_up && !s->owed) {
        end_stream(s);
        return;
    }
    if (s->by_tee && s->much && s->to >= 0) {
        long n = hand_on(s);
        if (s->full)
            return;
        handed_on = n >= 0;
        most = handed_on ? (size_t)n : most;
    }
    size_t kept = s->filled - s->filed;
    if (sizeof s->bytes - s->filled < READ_BYTES || !kept) {
        memmove(s->bytes, s->bytes + s->filed, kept);
        s->filed = 0;
        s->filled = s->sent = kept;
    }
    long n = sys_read(s->from, s->bytes + s->filled, most);
    if (n == -EINTR || n == -EAGAIN)
        return;
    if (n <= 0) {
        end_stream(s);
        return;
    }
    stamp(s);
    s->filled += (size_t)n;
    s->sent += handed_on ? (size_t)n : 0;
    s->much = n >= READ_BYTES / 2;
    s->owed -= (size_t)n < s->owed ? (size_t)n : s->owed;
}

/* stdout first, the file second: `kubectl logs` is as prompt as without us. */
static void pump(struct stream *s, bool readable)
{
    send_on(s);
    file_lines(s);
    if (!ready_to_read(s) || !(readable || s->hung_up))
        return;
    receive(s);
    send_on(s);
    file_lines(s);
}

static bool done(const struct stream *s) { return s->from < 0 && s->sent == s->filled && s->filed == s->filled; }

/* Put a pipe in the place of descriptor `fd` (1 or 2), and the real one out of the way: 0, or minus the error.
 * The writing end stays in our own table too, for those who open /proc/1/fd/1. A closed one stays closed. */
static long set_up(struct stream *s, int fd)
{
    struct stat is;
    int ends[2];
    long error;
    if (sys_fcntl(fd, F_GETFD, 0) < 0)
        return 0;
    s->to = sys_fcntl(fd, F_DUPFD_CLOEXEC_, 3);
    if (s->to < 0)
        return s->to;
    if ((error = sys_pipe2(ends, O_CLOEXEC)) || (s->from = above_standard(ends[0])) < 0)
        return error ? error : s->from;
    sys_fcntl(s->from, F_SETFL, O_NONBLOCK); /* of our end alone */
    error = sys_dup3(ends[1], fd, 0);
    sys_close(ends[1]);
    if (error < 0 || (error = sys_fstat(s->to, &is)))
        return error;
    s->by_tee = is_pipe(&is);
    s->careful = !is_file(&is); /* O_NONBLOCK would be seen by all who share it */
    return 0;
}

/* Undo `set_up`, for the app to run without us. */
static void take_back(struct stream *s, int fd)
{
    if (s->to >= 0)
        sys_dup3(s->to, fd, 0);
}

/* ---------------------------------------------------------------------------------------- 3 command and signals */

static struct {
    int pid;
    int status; /* as wait4 gives it */
    bool ended;
    bool own_session;
    int signals; /* a signalfd: nothing interrupts us, nothing is missed */
    uint64_t mask;
    struct signal_action on_child;
} command;

/* The value of `NAME=`, or NULL. */
static const char *variable(char **environment, const char *name)
{
    for (; *environment; environment++) {
        size_t n = 0;
        while (name[n] && (*environment)[n] == name[n])
            n++;
        if (!name[n])
            return *environment + n;
    }
    return NULL;
}

/* execvp without its shell: a script without `#!` fails, as it would have for the container runtime. Returns minus
 * the error of the last attempt that says more than "not here". */
static long search(char **argv, char **environment, const char *path)
{
    long why = -ENOENT;
    for (;; path++) {
        char file_name[PATH_MAX];
        size_t n = 0, name = length(argv[0]);
        while (*path && *path != ':' && n < sizeof file_name - 2)
            file_name[n++] = *path++;
        if (n)
            file_name[n++] = '/'; /* an empty entry is the working directory */
        if (n + name < sizeof file_name) {
            memcpy(file_name + n, argv[0], name + 1);
            long error = sys_execve(file_name, argv, environment);
            if (error == -EACCES)
                why = error;
            else if (error != -ENOENT && error != -ENOTDIR && error != -ELOOP && error != -ENAMETOOLONG)
                return error;
        }
        while (*path && *path != ':')
            path++;
        if (!*path)
            return why;
    }
}

/* Become COMMAND; if that fails, say why and return the shell's code for it: 127 not found, 126 not to be run. */
static int execute(char **argv, char **environment)
{
    const char *path = variable(environment, "PATH=");
    long why = -ENOENT;
    if (holds(argv[0], '/'))
        why = sys_execve(argv[0], argv, environment);
    else if (*argv[0]) /* without PATH: what the container runtimes set */
        why = search(argv, environment, path ? path : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    say("cannot run", argv[0], why);
    return why == -ENOENT || why == -ENOTDIR || why == -ELOOP || why == -ENAMETOOLONG ? 127 : 126;
}

/* Signals wait in a descriptor, for all of them are blocked, in the writer too: SIGPIPE and SIGXFSZ, which our own
 * writes may cause, do nothing but wait. 0, or minus the error. */
static long catch_signals(void)
{
    const uint64_t all = ~0ULL;
    const struct signal_action standard = {0, 0, 0, 0};
    sys_sigmask(&all, &command.mask);
    sys_sigaction(SIGCHLD_, &standard, &command.on_child); /* ignored, it would take the exit code away */
    command.signals = above_standard(sys_signalfd(all, O_CLOEXEC | O_NONBLOCK));
    return command.signals < 0 ? command.signals : 0;
}

static void release_signals(void)
{
    sys_sigaction(SIGCHLD_, &command.on_child, NULL);
    sys_sigmask(&command.mask, NULL);
}

/* A container's first process leads its session, and so does the app: `kill(0, …)` must not reach us. At a terminal
 * the app stays in our process group, which the terminal sends its signals to. */
static bool leads_session(void)
{
    char terminal[64];
    return sys_getsid(0) == sys_getpid() && sys_ioctl(0, TCGETS, terminal) != 0;
}

/* Run COMMAND as our child: 0, or minus the error. */
static long start(char **argv, char **environment)
{
    int parent = sys_getpid();
    command.own_session = leads_session();
    sys_prctl(PR_SET_CHILD_SUBREAPER, 1); /* orphans come to us also where we are not the first process */
    command.pid = sys_fork();
    if (command.pid < 0)
        sys_prctl(PR_SET_CHILD_SUBREAPER, 0);
    if (command.pid)
        return command.pid < 0 ? command.pid : 0;
    if (command.own_session)
        sys_setsid();
    sys_prctl(PR_SET_PDEATHSIG, SIGKILL_); /* SIGKILL is forwarded too */
    if (sys_getppid() != parent)
        sys_kill(sys_getpid(), SIGKILL_);
    release_signals();
    sys_exit(execute(argv, environment));
}

/* Our own writing ends would keep the pipes open. */
static void on_end(int status)
{
    command.ended = true;
    command.status = status;
    EACH_STREAM (s)
        count_owed(s);
    sys_close(1);
    sys_close(2);
}

/* Orphans come to us, as to every first process of a container. A child that a terminal stopped stops us too, so that
 * the shell sees a stopped job; never in a container, where nobody would wake us. */
static void reap(void)
{
    int status, pid;
    while ((pid = sys_wait(-1, &status, WNOHANG | (command.own_session ? 0 : WUNTRACED))) > 0) {
        bool stopped = (status & 0xff) == 0x7f;
        if (pid == command.pid && !stopped)
            on_end(status);
        else if (pid == command.pid && status >> 8 != SIGSTOP_)
            sys_kill(sys_getpid(), SIGSTOP_);
    }
}

/* Every signal that somebody sent us goes to the app. Not what the kernel sent: a terminal has sent it to the app as
 * well, a limit is our own affair, and so is the SIGPIPE of our own write. */
static void forward(const struct signalfd_siginfo *got)
{
    int number = (int)got->ssi_signo, own = sys_getpid();
    if (number == SIGCHLD_ && got->ssi_code > 0)
        return;
    if (command.ended || got->ssi_code == SI_KERNEL_ || (int)got->ssi_pid == own)
        return;
    struct signal_info queued = {.number = number,
                                 .code = SI_QUEUE_,
                                 .sender_pid = (int)got->ssi_pid,
                                 .sender_uid = got->ssi_uid,
                                 .value = got->ssi_ptr};
    if (got->ssi_code == SI_QUEUE_ && sys_sigqueue(command.pid, number, &queued) == 0)
        return;
    sys_kill(command.pid, number);
}

static void on_signals(void)
{
    struct signalfd_siginfo got[8];
    long n;
    while ((n = sys_read(command.signals, got, sizeof got)) > 0)
        for (long i = 0; i < n / (long)sizeof *got; i++)
            forward(got + i);
    reap();
}

static int exit_code(void)
{
    int signal = command.status & 0x7f;
    return signal ? 128 + signal : command.status >> 8 & 0xff;
}

/* ---------------------------------------------------------------------------------------- 4 run */

/* When the child has ended and what it wrote has been sent on, those who still hold the pipes get LINGER. */
static int64_t linger_until;

static void end_lingering(void)
{
    bool settled = command.ended;
    EACH_STREAM (s)
        settled = settled && !s->owed && s->sent == s->filled;
    if (!settled)
        return;
    if (!linger_until)
        linger_until = now() + LINGER;
    if (now() >= linger_until)
        EACH_STREAM (s)
            end_stream(s);
}

static void sooner(int64_t *wait, int64_t at)
{
    int64_t left = at - now();
    left = left < 0 ? 0 : left;
    if (*wait < 0 || left < *wait)
        *wait = left;
}

/* How long nothing may happen, in nanoseconds; -1: for ever. */
static int64_t longest_wait(void)
{
    int64_t wait = left_out.lines ? ASK_AGAIN : -1;
    if (waiting_since)
        sooner(&wait, waiting_since + patience);
    if (linger_until)
        sooner(&wait, linger_until);
    return wait;
}

/* Wait until one of the streams may go on, then let both. */
static void turn(void)
{
    struct pollfd polled[6] = {{command.signals, POLLIN, 0}, {ring.main_wake, POLLIN, 0}};
    EACH_STREAM (s) {
        struct pollfd *mine = polled + 2 + 2 * (s - streams);
        bool may_read = ready_to_read(s);
        mine[0] = (struct pollfd){may_read && !s->full ? s->from : -1, POLLIN, 0};
        mine[1] = (struct pollfd){s->sent < s->filled || (may_read && s->full) ? s->to : -1, POLLOUT, 0};
    }
    /* Room may have come between the last attempt and this promise to sleep. */
    bool blocked = streams[0].blocked || streams[1].blocked;
    STORE(ring.main_waits, blocked);
    sys_poll(polled, 6, blocked && ring_room(HEAD_BYTES + LINE_BYTES + 1) ? 0 : longest_wait());
    if (polled[0].revents)
        on_signals();
    if (polled[1].revents)
        quieten(ring.main_wake);
    EACH_STREAM (s)
        pump(s, polled[2 + 2 * (s - streams)].revents || polled[3 + 2 * (s - streams)].revents);
    say_what_was_left_out();
    end_lingering();
}

/* Both streams have ended: the file gets what is still in the ring, and the account of what is not. A volume that
 * refuses is asked once more; one that hangs does not keep the container from ending. */
static void finish(void)
{
    struct pollfd progress = {ring.main_wake, POLLIN, 0};
    for (;;) {
        size_t before = LOAD(ring.tail);
        STORE(ring.main_waits, 1);
        STORE(ring.stage, say_what_was_left_out() ? NOTHING_MORE : LAST_ATTEMPT);
        wake(&ring.writer_waits, ring.writer_wake);
        if (LOAD(ring.finished))
            return;
        sys_poll(&progress, 1, LAST_WAIT);
        if (progress.revents)
            quieten(ring.main_wake);
        else if (before == LOAD(ring.tail))
            return;
    }
}

/* All that must be had before the app is started: 0, or minus the error. */
static long prepare(void)
{
    struct stat a, b;
    struct resource_limit file_size;
    EACH_STREAM (s)
        s->from = s->to = -1;
    if (sys_getrlimit(RLIMIT_FSIZE, &file_size) == 0 && file_size.soft < volume.max_bytes)
        volume.max_bytes = file_size.soft;
    long error = catch_signals();
    ring.writer_wake = above_standard(sys_eventfd(O_CLOEXEC | O_NONBLOCK));
    ring.main_wake = above_standard(sys_eventfd(O_CLOEXEC | O_NONBLOCK));
    if (!error)
        error = ring.writer_wake < 0 ? ring.writer_wake : ring.main_wake < 0 ? ring.main_wake : 0;
    if (!error)
        error = set_up(streams, 1);
    if (!error)
        error = set_up(streams + 1, 2);
    if (!error)
        error = thread_start(writer);
    outputs_are_one = !sys_fstat(streams[0].to, &a) && !sys_fstat(streams[1].to, &b) && same_file(&a, &b);
    EACH_STREAM (s)
        s->by_tee &= !outputs_are_one;
    return error;
}

/* Logs are never worth a failed start: what cannot be mirrored is run all the same, in our place. */
static int run_unmirrored(char **argv, char **environment, long why)
{
    take_back(streams, 1);
    take_back(streams + 1, 2);
    release_signals();
    say("the output is not mirrored", NULL, why);
    return execute(argv, environment);
}

static int run(char **argv, char **environment)
{
    long error = prepare();
    if (!error)
        error = start(argv, environment);
    if (error)
        return run_unmirrored(argv, environment, error);
    while (!command.ended || !done(streams) || !done(streams + 1))
        turn();
    finish();
    return exit_code();
}

/* ---------------------------------------------------------------------------------------- 5 options */

static const char usage[] = "usage: sidetail-mirror --file PATH [--max-bytes N] [--max-files N] -- COMMAND [ARG]...\n"
                            "       sidetail-mirror --seed FROM TO [FROM TO]...\n"
                            "       sidetail-mirror --init [--mkdir DIR]... [--install PATH]...\n";

/* A whole number from 1; anything else is said, and the default holds. */
static void read_number(const char *text, uint64_t *to, uint64_t most)
{
    uint64_t number = 0;
    for (const char *p = text; *p; p++) {
        if (*p < '0' || *p > '9' || number > most) {
            number = 0;
            break;
        }
        number = number * 10 + (uint64_t)(*p - '0');
    }
    if (number && number <= most)
        *to = number;
    else
        say("expected a whole number from 1, got", text, 0);
}

/* The options before `--`. One that is wrong does not keep the app from starting. Returns where COMMAND begins. */
static char **read_options(char **argv)
{
    for (; *argv && !same(*argv, "--"); argv++) {
        const char *value = argv[1] && !same(argv[1], "--") ? argv[1] : NULL;
        if (!value) {
            say("not understood:", *argv, 0);
            continue;
        }
        if (same(*argv, "--file"))
            volume.path = value;
        else if (same(*argv, "--max-bytes"))
            read_number(value, &volume.max_bytes, 1ULL << 50);
        else if (same(*argv, "--max-files"))
            read_number(value, &volume.max_files, 1000);
        else {
            say("not understood:", *argv, 0);
            continue;
        }
        argv++;
    }
    return *argv ? argv + 1 : argv;
}

int mirror_main(int argc, char **argv, char **environment)
{
    if (argc > 1 && same(argv[1], "--seed")) {
        if (argc > 3 && argc % 2 == 0)
            return seed(argv + 2);
        sys_write(2, usage, sizeof usage - 1);
        return 0;
    }
    if (argc > 1 && same(argv[1], "--init"))
        return init(argv + 2);
    bool has_command = false;
    for (int i = 1; i + 1 < argc; i++)
        has_command |= same(argv[i], "--");
    if (!has_command) {
        sys_write(2, usage, sizeof usage - 1);
        return 2;
    }
    argv = read_options(argv + 1);
    if (volume.path && length(volume.path) < sizeof((struct text *)0)->bytes - 8)
        return run(argv, environment);
    say("the output is not mirrored: --file is missing or too long", NULL, 0);
    return execute(argv, environment);
}
