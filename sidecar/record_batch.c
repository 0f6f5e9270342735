/* Makes Kafka's records of lines.
 *
 * Loaded like encode.c; sidecar/backends/kafka_records.py says the same in Python.
 * Source: Kafka's documentation, "Message Format".
 */
#include "text.h"

/* One call's work; sidecar/backends/kafka_records.py fills it in. */
struct records {
    const byte *text;  /* lines, each with its newline; the last one may lack it */
    int64_t length;    /* of the text */
    const byte *key;   /* of every record */
    int64_t key_length;
    byte *out;         /* room for all lines: each takes its bytes, the key's and 24 at most */
    int64_t size;      /* in and out: bytes of the batch so far */
    int64_t limit;     /* of `size`; the first record of a batch may go beyond it */
    int64_t count;     /* in and out: records of the batch so far */
    int64_t taken;     /* out: bytes of `text` that are records now */
};

/* All numbers are at least 0 here: the zigzag of one is its double. */
static inline byte *put_varint(byte *out, int64_t number)
{
    uint64_t rest = 2 * (uint64_t)number;

    for (; rest > 127; rest >>= 7)
        *out++ = (byte)(rest | 128);
    *out++ = (byte)rest;
    return out;
}

static inline int64_t varint_size(int64_t number)
{
    int64_t size = 1;

    for (uint64_t rest = 2 * (uint64_t)number; rest > 127; rest >>= 7)
        size++;
    return size;
}

/* Make records of the lines of `text`, as many as the limit allows. */
EXPORT void sidetail_make_records(struct records *records)
{
    const byte *line = records->text, *end = line + records->length;
    int64_t key_size = varint_size(records->key_length) + records->key_length;
    byte *begin = records->out, *out = begin + records->size;

    while (line < end) {
        const byte *newline = memchr(line, '\n', (size_t)(end - line));
        int64_t value = (newline ? newline : end) - line;
        /* Attributes, difference of time and number of headers: three bytes, all zero. */
        int64_t length = 3 + varint_size(records->count) + key_size + varint_size(value) + value;

        if (records->count && out - begin + varint_size(length) + length > records->limit)
            break;
        out = put_varint(out, length);
        *out++ = 0;
        *out++ = 0;
        out = put_varint(out, records->count++);
        out = put_varint(out, records->key_length);
        memcpy(out, records->key, (size_t)records->key_length);
        out = put_varint(out + records->key_length, value);
        memcpy(out, line, (size_t)value);
        out += value;
        *out++ = 0;
        line += newline ? value + 1 : value;
    }
    records->taken = line - records->text;
    records->size = out - begin;
}
