/* The ring: finished CRI lines on their way from the main thread to the writer.
 *
 * Each line lies in one piece. The main thread alone moves `head` (and `filled`, its own place ahead of it), the writer
 * alone moves `tail`; `end` is where lines stop when head has gone round. Empty: head == tail. Who finds nothing to do
 * says so (`…_waits`), looks once more, and sleeps on its eventfd.
 */
#ifndef SIDETAIL_MIRROR_RING_H
#define SIDETAIL_MIRROR_RING_H

#include "sys.h"

#define LOAD(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define STORE(x, value) __atomic_store_n(&(x), (value), __ATOMIC_SEQ_CST)
#define SWAP(x, value) __atomic_exchange_n(&(x), (value), __ATOMIC_SEQ_CST)

enum {
    HEAD_BYTES = 40,         /* "2006-01-02T15:04:05.000000000Z stdout F " */
    TAG_AT = 38,             /* where F or P stands in it */
    RING_BYTES = 512 * 1024, /* what the volume may lag behind before lines are left out */
};

enum stage { MIRRORING, LAST_ATTEMPT, NOTHING_MORE };

struct ring {
    char bytes[RING_BYTES];
    size_t filled, head, tail, end;
    int writer_waits, main_waits;
    int writer_wake, main_wake;  /* eventfds */
    int error;                   /* what the volume answered last; 0: it works */
    int stage;                   /* enum stage, set by the main thread */
    int finished;                /* the writer will do nothing more */
    size_t cut_lines, cut_bytes; /* left out by the writer; the main thread takes them over */
    int cut_error;
};

extern struct ring ring;

static inline void wake(int *waits, int eventfd)
{
    const uint64_t one = 1;
    if (SWAP(*waits, 0))
        sys_write(eventfd, &one, sizeof one);
}

static inline void quieten(int eventfd)
{
    uint64_t count;
    sys_read(eventfd, &count, sizeof count);
}

/* Where `n` bytes may be put in one piece, or NULL. */
static inline char *ring_room(size_t n)
{
    size_t tail = LOAD(ring.tail);
    if (ring.filled < tail)
        return tail - ring.filled > n ? ring.bytes + ring.filled : NULL;
    if (RING_BYTES - ring.filled >= n)
        return ring.bytes + ring.filled;
    return tail > n ? ring.bytes : NULL;
}

static inline void ring_fill(const char *at, size_t n)
{
    size_t begin = (size_t)(at - ring.bytes);
    if (begin != ring.filled)
        ring.end = ring.filled; /* seen by the writer not before the new head is */
    ring.filled = begin + n;
}

static inline void ring_publish(void)
{
    if (ring.head == ring.filled)
        return;
    STORE(ring.head, ring.filled);
    wake(&ring.writer_waits, ring.writer_wake);
}

static inline size_t ring_used(void)
{
    size_t tail = LOAD(ring.tail);
    return ring.filled >= tail ? ring.filled - tail : ring.end - tail + ring.filled;
}

/* How many bytes of lines wait in one piece, from `*at`. */
static inline size_t ring_waiting(const char **at)
{
    size_t head = LOAD(ring.head), tail = ring.tail;
    if (head < tail && tail == ring.end)
        STORE(ring.tail, tail = 0);
    *at = ring.bytes + tail;
    return (head >= tail ? head : ring.end) - tail;
}

static inline void ring_take(size_t n)
{
    STORE(ring.tail, ring.tail + n);
    wake(&ring.main_waits, ring.main_wake);
}

#endif
