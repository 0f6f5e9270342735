/* Drives single parts of the mirror step by step: no child, no second thread,
 * no clock to wait for.
 *
 * `harness dates` reads days since 1970, one a line, and prints their dates.
 * `harness lines` reads cases, each a run of commands (all numbers are 32 bits,
 * little-endian): 'C' stream n bytes[n]   the app writes them, and the mirror
 * reads until the pipe is empty or the ring is full 'D' n take at most n bytes
 * of lines out of the ring 'W' n                   move lines to the file, n
 * times 'E' errno               what the volume answered last 'P' 0 or 1 have
 * patience with a volume that does not answer 'F' n bytes[n] max      the file
 * of this case, and its --max-bytes; kept are 1000 files 'X' the app ends; the
 * ring is emptied; the bytes taken by 'D' are printed after their length
 */
#define HARNESS
#include "../../../mirror/mirror.c"
#include "../../../mirror/volume.c"

static char taken[64 * 1024 * 1024];
static size_t taken_bytes;
static int ends[2][2];

static void must(bool holds, const char *what) {
  if (holds)
    return;
  say(what, NULL, 0);
  sys_exit(3);
}

static bool read_all(void *to, size_t n) {
  size_t got = 0;
  while (got < n) {
    long more = sys_read(0, (char *)to + got, n - got);
    if (more <= 0)
      return false;
    got += (size_t)more;
  }
  return true;
}

static bool write_all_out(const void *from, size_t n) {
  size_t sent = 0;
  while (sent < n) {
    long more = sys_write(1, (const char *)from + sent, n - sent);
    if (more <= 0)
      return false;
    sent += (size_t)more;
  }
  return true;
}

static uint32_t read_u32(void) {
  uint32_t value = 0;
  must(read_all(&value, 4), "the input ends in a command");
  return value;
}

static void begin_case(void) {
  memset(&ring, 0, sizeof ring);
  memset(streams, 0, sizeof streams);
  memset(&left_out, 0, sizeof left_out);
  patience = PATIENCE;
  waiting_since = 0;
  taken_bytes = 0;
  ring.writer_wake = ring.main_wake = -1;
  for (int i = 0; i < 2; i++) {
    must(sys_pipe2(ends[i], O_CLOEXEC | O_NONBLOCK) == 0, "no pipe");
    streams[i].from = ends[i][0];
    streams[i].to = -1;
  }
  volume.path = NULL;
  file.fd = -1;
  file.torn = false;
}

static void drain(size_t n) {
  const char *at;
  size_t waiting;
  while (n && (waiting = ring_waiting(&at))) {
    size_t some = waiting < n ? waiting : n;
    some = whole_lines(at, some);
    if (!some)
      return;
    must(taken_bytes + some <= sizeof taken, "too much for this harness");
    memcpy(taken + taken_bytes, at, some);
    taken_bytes += some;
    ring_take(some);
    n -= some;
  }
}

static void write_out(size_t times) {
  const char *at;
  size_t waiting;
  while (times-- && (waiting = ring_waiting(&at)))
    must(write_some(at, waiting) == 0, "the file cannot be written");
}

static void empty(void) {
  if (volume.path)
    write_out((size_t)-1);
  else
    drain((size_t)-1);
}

static void chunk(struct stream *s, size_t n) {
  static char bytes[1 << 20];
  must(n <= sizeof bytes && read_all(bytes, n), "a chunk is too large or cut");
  for (size_t sent = 0; sent < n;) {
    long some = sys_write(ends[s - streams][1], bytes + sent, n - sent);
    sent += some > 0 ? (size_t)some : 0;
    pump(s, true);
    if (s->blocked)
      empty();
  }
}

static void end_case(void) {
  ring.error = 0;
  EACH_STREAM(s) {
    sys_close(ends[s - streams][1]);
    while (!done(s)) {
      pump(s, true);
      empty();
    }
  }
  while (!say_what_was_left_out())
    empty();
  empty();
  if (file.fd >= 0)
    sys_close(file.fd);
  uint32_t n = (uint32_t)taken_bytes;
  must(write_all_out(&n, 4) && write_all_out(taken, taken_bytes),
       "the output is gone");
}

static int lines(void) {
  static char path[PATH_MAX];
  char what;
  begin_case();
  while (read_all(&what, 1)) {
    if (what == 'C') {
      uint32_t stream = read_u32();
      chunk(streams + stream % 2, read_u32());
    } else if (what == 'D') {
      drain(read_u32());
    } else if (what == 'W') {
      write_out(read_u32());
    } else if (what == 'E') {
      ring.error = (int)read_u32();
    } else if (what == 'P') {
      patience = read_u32() ? PATIENCE : 0;
    } else if (what == 'F') {
      uint32_t n = read_u32();
      must(n < sizeof path && read_all(path, n), "no path");
      path[n] = 0;
      volume.path = path;
      volume.max_bytes = read_u32();
      volume.max_files = 1000;
    } else if (what == 'X') {
      end_case();
      begin_case();
    }
  }
  return 0;
}

static int dates(void) {
  char digit, date[] = "0000-00-00\n";
  uint64_t day = 0;
  while (read_all(&digit, 1)) {
    if (digit == '\n') {
      put_date(date, day);
      must(write_all_out(date, sizeof date - 1), "the output is gone");
      day = 0;
    } else {
      day = day * 10 + (uint64_t)(digit - '0');
    }
  }
  return 0;
}

int main(int argc, char **argv);
int main(int argc, char **argv) {
  return argc > 1 && same(argv[1], "dates") ? dates() : lines();
}
