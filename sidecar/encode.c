/* The encoder: lines or columns of records, and a template, become the bytes of a body.
 *
 * Loaded with ctypes by sidecar/native.py; sidecar/encode_wheels.py says the same in Python and
 * is what this file is tested against, byte by byte. No memory is allocated here, nothing is
 * kept between calls, and the interpreter's lock is not held: several workers may encode.
 *
 * Every write is covered by one check per record: `most_bytes` is never less than what the
 * record can take.
 */
#include "text.h"

/* Changes whenever a caller of another version could go wrong: see sidecar/native.py. */
enum { INTERFACE = 6 };

/* Operations of a template's program: see sidecar/wire.py for what they mean. */
enum {
    LITERAL, OFFSET, TIME, READ_AT, MESSAGE, RAW_MESSAGE, TRUNCATED, SEVERITY, IOSTREAM,
    PARSE_ERROR, PARSED, MAP_HEADER, PACKED_ID, OPERATIONS
};
enum { TEXT_JSON, TEXT_UTF8, TEXT_MSGPACK };
enum { NUMBER_DECIMAL, NUMBER_MSGPACK };
enum { CLOCK_RFC3339, CLOCK_MICROSECONDS, CLOCK_NANOSECONDS, CLOCK_EVENT_TIME };

/* Numbers that each operation is followed by. A literal is two: place and length. */
static const byte operands[OPERATIONS] = {2, 1, 1, 1, 1, 5, 5, 16, 8, 16, 4, 1, 2};

/* One call's work; sidecar/native.py fills it in as an array of 64-bit numbers. */
struct job {
    int64_t program_length;
    int64_t framed;
    int64_t increasing;
    int64_t text_length;
    int64_t count;           /* records, or lines of a plain block */
    int64_t must;            /* so many first records are written whatever `limit` says */
    int64_t start;           /* plain: offset of the text's first byte in its file */
    int64_t read_second;     /* when the block was read */
    int64_t read_nano;
    byte *out;
    int64_t size;            /* in and out: bytes of `out` that are written */
    int64_t limit;           /* of `size` */
    int64_t capacity;        /* of `out` */
    const int64_t *begins;   /* columns; all absent: the text is plain lines */
    const int64_t *ends;
    const int64_t *offsets;
    const int64_t *seconds;  /* this and the next ones may be absent */
    const int64_t *nanos;
    const int64_t *marks;
    const int64_t *truncated;
    const int64_t *parsed_begins;
    const int64_t *parsed_ends;
    int64_t *record_ends;    /* out, may be absent: `size` after each record */
    int64_t last_second;     /* in and out, for `increasing`: the time sent last */
    int64_t last_nano;
    int64_t done;            /* out: records written */
    int64_t needed;          /* out, with NEED_ROOM: the capacity that the next record needs */
};

/* What sidetail_encode returns. */
enum { ALL, LIMIT_REACHED, NEED_ROOM };

struct record {
    const byte *message;
    const byte *end;
    const byte *readable;  /* end of the memory that may be read, not before `end` */
    int64_t offset;
    int64_t second;
    int64_t nano;
    int64_t marks;
    int64_t truncated;
    const byte *parsed;
    int64_t parsed_length;
    int invalid;           /* is the message UTF-8? -1: nobody looked yet */
};

/* Most offsets in a row differ in their last four digits only. */
enum { LOW = 10000 };

struct offset {
    int64_t high;          /* the offset without them; 0: nothing is written yet */
    int64_t length;        /* of text */
    char text[32];         /* the digits of high; put_wide reads on */
};

/* The text of a second is the same for many lines in a row. */
struct second {
    int64_t at;
    char text[20];
};

/* Write a text of mostly a few bytes: sixteen at a time, so that up to fifteen more are read, and
 * written over afterwards (`fixed` has room for them). A call of memcpy costs as much as all of it.
 */
static inline byte *put_wide(byte *out, const void *text, int64_t length)
{
#ifdef HAVE_SSE2
    const byte *in = text;

    if (length <= 64) {
        for (int64_t at = 0; at < length; at += 16)
            _mm_storeu_si128((__m128i *)(void *)(out + at),
                             _mm_loadu_si128((const __m128i *)(const void *)(in + at)));
        return out + length;
    }
#endif
    return put(out, text, length);
}

/* ---- UTF-8 ---- */

static inline byte *put_character(byte *out, const byte **in, const byte *end, int *invalid)
{
    int valid, length = sequence(*in, end, &valid);

    if (valid) {
        out = put(out, *in, length);
    } else {
        out = put(out, "\xEF\xBF\xBD", 3);
        *invalid = 1;
    }
    *in += length;
    return out;
}

static byte *put_utf8(byte *out, struct record *record)
{
    const byte *in = record->message;

    if (record->invalid < 0)
        record->invalid = !is_utf8(in, record->end);
    if (!record->invalid)
        return put(out, in, record->end - in);
    while (in < record->end) {
        if (*in < 0x80)
            *out++ = *in++;
        else
            out = put_character(out, &in, record->end, &record->invalid);
    }
    return out;
}

/* ---- JSON strings ---- */

/* What orjson writes for the characters that cannot stand as they are. */
static inline byte *put_escape(byte *out, byte character)
{
    static const char hex[] = "0123456789abcdef";
    static const char letters[] = "btn\0fr"; /* for \b \t \n (VT) \f \r */

    *out++ = '\\';
    if (character == '"' || character == '\\') {
        *out++ = character;
    } else if (character >= 8 && character <= 13 && character != 11) {
        *out++ = (byte)letters[character - 8];
    } else {
        out = put(out, "u00", 3);
        *out++ = (byte)hex[character >> 4];
        *out++ = (byte)hex[character & 15];
    }
    return out;
}

#ifdef HAVE_SSE2
/* Write sixteen bytes of a message escaped, as far as they are ASCII; return how many were. May
 * write up to 16 bytes more than it says (`fixed` has room for them).
 */
static inline int64_t put_sixteen(byte **out, const byte *in)
{
    unsigned mask = special_of_sixteen(in);
    int64_t done = 0;

    for (; mask; mask &= mask - 1) {
        int64_t at = __builtin_ctz(mask);

        memcpy(*out, in + done, 16);
        *out += at - done;
        done = at;
        if (in[at] >= 0x80)
            return done;
        *out = put_escape(*out, in[at]);
        done++;
    }
    memcpy(*out, in + done, 16);
    *out += 16 - done;
    return 16;
}
#endif

static byte *put_json(byte *out, struct record *record)
{
    const byte *in = record->message, *end = record->end;
    int invalid = 0;

    while (in < end) {
#ifdef HAVE_SSE2
        /* Twice sixteen: behind what is done, sixteen bytes more are read. */
        while (end - in >= 16 && record->readable - in >= 32) {
            int64_t done = put_sixteen(&out, in);

            in += done;
            if (done < 16)
                break;
        }
#endif
        while (in < end && *in < 0x80) {
            const byte *simple = in;

            in = skip_simple(in, end, record->readable);
            out = put(out, simple, in - simple);
            if (in < end && *in < 0x80)
                out = put_escape(out, *in++);
        }
        while (in < end && *in >= 0x80)
            out = put_character(out, &in, end, &invalid);
    }
    record->invalid = invalid;
    return out;
}

/* ---- numbers, times, base64 ---- */

static const char pairs[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
    "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
    "8081828384858687888990919293949596979899";

/* Write a number's digits up to `end`; return where they begin. */
static inline char *digits_before(char *end, uint64_t number)
{
    for (; number >= 100; number /= 100)
        memcpy(end -= 2, pairs + 2 * (number % 100), 2);
    if (number >= 10)
        return memcpy(end - 2, pairs + 2 * number, 2);
    *--end = (char)('0' + number);
    return end;
}

static byte *put_decimal(byte *out, int64_t number)
{
    char digits[20], *end = digits + sizeof digits;
    char *begin = digits_before(end, number < 0 ? 0 - (uint64_t)number : (uint64_t)number);

    if (number < 0)
        *out++ = '-';
    return put(out, begin, end - begin);
}

static byte *put_big_endian(byte *out, uint64_t number, int length)
{
    while (length--)
        *out++ = (byte)(number >> (8 * length));
    return out;
}

static byte *put_number(byte *out, int64_t number, int64_t form)
{
    if (form == NUMBER_DECIMAL)
        return put_decimal(out, number);
    *out++ = 0xCF;
    return put_big_endian(out, (uint64_t)number, 8);
}

/* Write exactly `length` digits of a number that is not negative. */
static inline void put_digits(char *out, int64_t number, int length)
{
    for (; length > 1; number /= 100)
        memcpy(out + (length -= 2), pairs + 2 * (number % 100), 2);
    if (length)
        out[0] = (char)('0' + number % 10);
}

/* Days since 1970-01-01 as a date of the Gregorian calendar; `text` gets 2024-05-01.
 * Counted in eras of 400 years that begin on a 1 March.
 */
static void put_date(char *text, int64_t days)
{
    int64_t era, day, year, month;

    days += 719468;
    era = (days >= 0 ? days : days - 146096) / 146097;
    day = days - era * 146097;
    year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    day -= 365 * year + year / 4 - year / 100;
    month = (5 * day + 2) / 153;
    day -= (153 * month + 2) / 5;
    year += era * 400 + (month >= 10);
    month += month < 10 ? 3 : -9;
    put_digits(text, year, 4);
    text[4] = '-';
    put_digits(text + 5, month, 2);
    text[7] = '-';
    put_digits(text + 8, day + 1, 2);
}

static void make_second(struct second *second, int64_t at)
{
    int64_t days = at / 86400, rest = at % 86400;

    if (rest < 0) {
        rest += 86400;
        days--;
    }
    second->at = at;
    put_date(second->text, days);
    second->text[10] = 'T';
    put_digits(second->text + 11, rest / 3600, 2);
    second->text[13] = ':';
    put_digits(second->text + 14, rest / 60 % 60, 2);
    second->text[16] = ':';
    put_digits(second->text + 17, rest % 60, 2);
    second->text[19] = '.';
}

static byte *put_event_time(byte *out, int64_t at, int64_t nano)
{
    if (at < 0)
        at = nano = 0;
    if (at > UINT32_MAX)
        at = UINT32_MAX;
    out = put_big_endian(out, (uint64_t)at, 4);
    return put_big_endian(out, (uint64_t)nano, 4);
}

static byte *put_nanoseconds(byte *out, int64_t at, int64_t nano)
{
    if (at < 0)
        at = nano = 0;
    if (at > INT64_MAX / SECOND || (at == INT64_MAX / SECOND && nano > INT64_MAX % SECOND))
        return put_decimal(out, INT64_MAX);
    return put_decimal(out, at * SECOND + nano);
}

static byte *put_time(byte *out, int64_t at, int64_t nano, int64_t form, struct second *second)
{
    int digits = form == CLOCK_MICROSECONDS ? 6 : 9;

    if (form == CLOCK_NANOSECONDS)
        return put_nanoseconds(out, at, nano);
    if (form == CLOCK_EVENT_TIME)
        return put_event_time(out, at, nano);
    if (at != second->at)
        make_second(second, at);
    out = put(out, second->text, 20);
    put_digits((char *)out, digits == 6 ? nano / 1000 : nano, digits);
    out += digits;
    *out++ = 'Z';
    return out;
}

static byte *put_base64(byte *out, const byte *in, const byte *end)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (; in < end; in += 3) {
        int64_t left = end - in;
        uint32_t three = (uint32_t)in[0] << 16;

        if (left > 1)
            three |= (uint32_t)in[1] << 8;
        if (left > 2)
            three |= in[2];
        *out++ = (byte)alphabet[three >> 18];
        *out++ = (byte)alphabet[three >> 12 & 63];
        *out++ = left > 1 ? (byte)alphabet[three >> 6 & 63] : '=';
        *out++ = left > 2 ? (byte)alphabet[three & 63] : '=';
    }
    return out;
}

/* ---- one record ---- */

/* A template's program is looked through once in a call: what no record of it can write is
 * left out, and what all records write alike is joined into one literal.
 */
struct step {
    int64_t code;
    const byte *text;      /* LITERAL */
    int64_t length;
    int is_wide;           /* LITERAL: it stands in `scratch`, so put_wide may read on */
    const int64_t *at;     /* any other: its operands */
};

enum { MOST_STEPS = 64, SCRATCH = 4096 };

struct context {
    const byte *literals;
    const int64_t *program;
    const struct job *job;
    struct second second;
    struct offset offset;
    int64_t fixed;         /* most bytes of a record's literals, numbers, slack */
    int64_t each;          /* most bytes for one byte of its message */
    int64_t parsed_slots;
    int steps;
    struct step step[MOST_STEPS];
    int64_t scratch_used;
    byte scratch[SCRATCH + 16];
};

static inline byte *put_literal(byte *out, const byte *literals, const int64_t *literal)
{
    return put(out, literals + literal[0], literal[1]);
}

static int raw_is_sent(struct record *record)
{
    if (record->marks & REDACTED)
        return 0;
    if (record->invalid < 0)
        record->invalid = !is_utf8(record->message, record->end);
    return record->invalid;
}

static byte *put_message(byte *out, struct record *record, int64_t form)
{
    byte *begin = out;

    if (form == TEXT_JSON)
        return put_json(out, record);
    if (form == TEXT_UTF8)
        return put_utf8(out, record);
    out = put_utf8(out + 5, record);
    *begin = 0xDB;
    put_big_endian(begin + 1, (uint64_t)(out - begin - 5), 4);
    return out;
}

static byte *put_raw(byte *out, const struct record *record, int64_t form)
{
    byte *begin = out;

    if (form != TEXT_MSGPACK)
        return put_base64(out, record->message, record->end);
    out = put_base64(out + 5, record->message, record->end);
    *begin = 0xDB;
    put_big_endian(begin + 1, (uint64_t)(out - begin - 5), 4);
    return out;
}

static int64_t severity_of(const struct record *record)
{
    return record->marks & SEVERITY_MASK;
}

static int64_t stream_of(const struct record *record)
{
    return record->marks >> IOSTREAM_SHIFT & IOSTREAM_MASK;
}

static int64_t error_of(const struct record *record)
{
    return record->marks >> ERROR_SHIFT & ERROR_MASK;
}

/* Count the facts of a record that are present and have an operation in the program. */
static int64_t facts_present(const struct context *context, struct record *record)
{
    const int64_t *at = context->program, *end = at + context->job->program_length;
    int64_t present = 0;

    for (; at < end; at += 1 + operands[*at]) {
        switch (*at) {
        case SEVERITY:
            present += severity_of(record) % SEVERITY_MASK != 0;
            break;
        case IOSTREAM:
            present += stream_of(record) % IOSTREAM_MASK != 0;
            break;
        case RAW_MESSAGE:
            present += raw_is_sent(record);
            break;
        case TRUNCATED:
            present += record->truncated > 0;
            break;
        case PARSED:
            present += record->parsed_length > 0;
            break;
        case PARSE_ERROR:
            present += at[2 + 2 * error_of(record)] > 0;
            break;
        default:
            break;
        }
    }
    return present;
}

static byte *put_offset(byte *out, struct context *context, int64_t offset)
{
    struct offset *last = &context->offset;
    int64_t high = offset / LOW, low = offset % LOW;

    if (high <= 0)
        return put_decimal(out, offset);
    if (high != last->high) {
        last->high = high;
        last->length = put_decimal((byte *)last->text, high) - (byte *)last->text;
    }
    out = put_wide(out, last->text, last->length);
    memcpy(out, pairs + 2 * (low / 100), 2);
    memcpy(out + 2, pairs + 2 * (low % 100), 2);
    return out + 4;
}

/* A msgpack str 8, at most 255 bytes long: see PackedId in sidecar/wire.py. */
static byte *put_packed_id(byte *out, struct context *context, int64_t offset, const byte *file,
                           int64_t length)
{
    byte *begin = out;

    out = put_offset(put(out + 2, file, length), context, offset);
    begin[0] = 0xD9;
    begin[1] = (byte)(out - begin - 2);
    return out;
}

static byte *put_step(byte *out, struct context *context, const struct step *step,
                      struct record *record)
{
    const byte *literals = context->literals;
    const int64_t *at = step->at;

    switch (step->code) {
    case OFFSET:
        if (at[0] == NUMBER_DECIMAL)
            return put_offset(out, context, record->offset);
        return put_number(out, record->offset, at[0]);
    case TIME:
        return put_time(out, record->second, record->nano, at[0], &context->second);
    case READ_AT:
        return put_time(out, context->job->read_second, context->job->read_nano, at[0],
                        &context->second);
    case MESSAGE:
        return put_message(out, record, at[0]);
    case RAW_MESSAGE:
        if (!raw_is_sent(record))
            return out;
        out = put_literal(out, literals, at + 1);
        out = put_raw(out, record, at[0]);
        return put_literal(out, literals, at + 3);
    case TRUNCATED:
        if (record->truncated <= 0)
            return out;
        out = put_literal(out, literals, at + 1);
        out = put_number(out, record->truncated, at[0]);
        return put_literal(out, literals, at + 3);
    case SEVERITY:
        return put_literal(out, literals, at + 2 * severity_of(record));
    case IOSTREAM:
        return put_literal(out, literals, at + 2 * stream_of(record));
    case PARSE_ERROR:
        return put_literal(out, literals, at + 2 * error_of(record));
    case PARSED:
        if (record->parsed_length <= 0)
            return out;
        out = put_literal(out, literals, at);
        out = put(out, record->parsed, record->parsed_length);
        return put_literal(out, literals, at + 2);
    case MAP_HEADER:
        *out++ = 0xDE;
        return put_big_endian(out, (uint64_t)(at[0] + facts_present(context, record)), 2);
    case PACKED_ID:
        return put_packed_id(out, context, record->offset, literals + at[0], at[1]);
    default:
        return out;
    }
}

static inline byte *put_record(byte *out, struct context *context, struct record *record)
{
    const struct step *step = context->step, *end = step + context->steps;

    for (; step < end; step++) {
        if (step->code == LITERAL)
            out = step->is_wide ? put_wide(out, step->text, step->length)
                                : put(out, step->text, step->length);
        else
            out = put_step(out, context, step, record);
    }
    return out;
}

/* Put the record's length and a space before it, at `begin`. */
static byte *frame(byte *begin, byte *out)
{
    char digits[24];
    int64_t length = out - begin;
    byte *end = put_decimal((byte *)digits, length);

    *end++ = ' ';
    memmove(begin + (end - (byte *)digits), begin, (size_t)length);
    memcpy(begin, digits, (size_t)(end - (byte *)digits));
    return begin + (end - (byte *)digits) + length;
}

/* ---- all records ---- */

/* Add to the bounds what an operation can write at most. */
static void add_bounds(struct context *context, int64_t code, const int64_t *at)
{
    int64_t longest = 0;

    context->fixed += 32; /* a number, a time, a header */
    if (code == LITERAL || code == PACKED_ID) {
        context->fixed += at[1];
    } else if (code == MESSAGE) {
        context->each += 6; /* \u0000; the three bytes of U+FFFD for one are less */
    } else if (code == RAW_MESSAGE) {
        context->each += 2;
        context->fixed += at[2] + at[4];
    } else if (code == TRUNCATED) {
        context->fixed += at[2] + at[4];
    } else if (code == PARSED) {
        context->fixed += at[1] + at[3];
        context->parsed_slots++;
    } else if (code == SEVERITY || code == IOSTREAM || code == PARSE_ERROR) {
        for (int choice = 0; choice < operands[code] / 2; choice++)
            if (at[1 + 2 * choice] > longest)
                longest = at[1 + 2 * choice];
        context->fixed += longest;
    }
}

/* Append a literal, joined to the one before it. `text` outlives the call only if it is too
 * long for the scratch space.
 */
static void add_literal(struct context *context, const byte *text, int64_t length)
{
    struct step *last = context->steps ? &context->step[context->steps - 1] : NULL;
    int is_wide = 0;
    byte *copy = context->scratch + context->scratch_used;

    if (!length)
        return;
    if (length <= SCRATCH - context->scratch_used) {
        put(copy, text, length);
        context->scratch_used += length;
        text = copy;
        is_wide = 1;
    }
    if (last && last->code == LITERAL && last->text + last->length == text)
        last->length += length;
    else
        context->step[context->steps++] = (struct step){LITERAL, text, length, is_wide, NULL};
}

/* Append a time that all records share; return whether there was room for it. */
static int add_time(struct context *context, int64_t form)
{
    byte text[40];
    const struct job *job = context->job;
    byte *end = put_time(text, job->read_second, job->read_nano, form, &context->second);

    if (end - text > SCRATCH - context->scratch_used)
        return 0;
    add_literal(context, text, end - text);
    return 1;
}

/* Return whether the operation writes the same for all records of the job; if it does, add it. */
static int add_constant(struct context *context, int64_t code, const int64_t *at)
{
    const struct job *job = context->job;

    if (code == LITERAL) {
        add_literal(context, context->literals + at[0], at[1]);
        return 1;
    }
    if (code == SEVERITY || code == IOSTREAM || code == PARSE_ERROR) {
        if (job->marks)
            return 0;
        add_literal(context, context->literals + at[0], at[1]);
        return 1;
    }
    if (code == READ_AT || (code == TIME && !job->seconds && !job->increasing))
        return add_time(context, at[0]);
    return (code == TRUNCATED && !job->truncated) || (code == PARSED && !job->parsed_begins);
}

static void prepare(struct context *context)
{
    const int64_t *at = context->program, *end = at + context->job->program_length;

    context->fixed = 64; /* the frame's digits, and the slack of put_sixteen */
    for (; at < end && context->steps < MOST_STEPS; at += 1 + operands[*at]) {
        add_bounds(context, *at, at + 1);
        if (!add_constant(context, *at, at + 1))
            context->step[context->steps++] = (struct step){*at, NULL, 0, 0, at + 1};
    }
}

static int64_t most_bytes(const struct context *context, const struct record *record)
{
    int64_t total = context->fixed + context->each * (record->end - record->message);

    return record->parsed_length > 0 ? total + context->parsed_slots * record->parsed_length : total;
}

static void read_columns(const struct job *job, const byte *text, const byte *parsed,
                         int64_t index, struct record *record)
{
    record->message = text + job->begins[index];
    record->end = text + job->ends[index];
    record->offset = job->offsets[index];
    if (job->seconds && job->seconds[index] != NO_TIME) {
        record->second = job->seconds[index];
        record->nano = job->nanos[index];
    }
    record->marks = job->marks ? job->marks[index] : 0;
    record->truncated = job->truncated ? job->truncated[index] : 0;
    record->parsed_length = 0;
    if (job->parsed_begins) {
        record->parsed = record->marks & PARSED_APART ? parsed : text;
        record->parsed += job->parsed_begins[index];
        record->parsed_length = job->parsed_ends[index] - job->parsed_begins[index];
    }
}

/* Return where the line that begins at `line` ends, and set the message's end before it. */
static const byte *read_line(const byte *line, const byte *text_end, struct record *record)
{
    const byte *newline = memchr(line, '\n', (size_t)(text_end - line));

    record->message = line;
    record->end = newline ? newline : text_end;
    if (newline && newline > line && newline[-1] == '\r')
        record->end--;
    return newline ? newline + 1 : text_end;
}

/* Times of a file that go back a little (or stand still) are moved to a nanosecond after the
 * one before; one that goes back by a second and more is left as the line has it, or a single
 * line from the future would drag all others there.
 */
static void increase(struct record *record, const struct job *job)
{
    int64_t second = job->last_second, nano = job->last_nano;
    int64_t back = second - record->second; /* years 1 to 9999: it fits */

    if (back < 0 || (back == 0 && nano < record->nano) || back > 1 ||
        (back == 1 && nano >= record->nano))
        return;
    record->second = nano == SECOND - 1 ? second + 1 : second;
    record->nano = nano == SECOND - 1 ? 0 : nano + 1;
}

/* Encode records one after the other; see struct job for what goes in and out. */
EXPORT int64_t sidetail_encode(const byte *text, const byte *parsed, const byte *literals,
                               const int64_t *program, struct job *job)
{
    struct context context;
    struct record record = {.readable = text + job->text_length};
    const byte *line = text;

    context.literals = literals;
    context.program = program;
    context.job = job;
    context.second.at = INT64_MIN;
    context.offset.high = 0;
    context.steps = 0;
    context.each = context.parsed_slots = context.scratch_used = 0;
    prepare(&context);
    for (job->done = 0; job->done < job->count; job->done++) {
        byte *begin = job->out + job->size, *out;
        const byte *next = line;

        record.second = job->read_second;
        record.nano = job->read_nano;
        if (job->begins) {
            read_columns(job, text, parsed, job->done, &record);
        } else {
            next = read_line(line, record.readable, &record);
            record.offset = job->start + (line - text);
        }
        record.invalid = -1;
        job->needed = job->size + most_bytes(&context, &record);
        if (job->needed > job->capacity)
            return NEED_ROOM;
        if (job->increasing)
            increase(&record, job);
        out = put_record(begin, &context, &record);
        if (job->framed)
            out = frame(begin, out);
        if (out - job->out > job->limit && job->done >= job->must)
            return LIMIT_REACHED;
        job->size = out - job->out;
        job->last_second = record.second;
        job->last_nano = record.nano;
        line = next;
        if (job->record_ends)
            job->record_ends[job->done] = job->size;
    }
    return ALL;
}

EXPORT int64_t sidetail_interface(void)
{
    return INTERFACE;
}
