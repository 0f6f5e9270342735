/* Runs patterns over messages: tables that sidecar/transform/automaton.py makes.
 *
 * Loaded like encode.c. Messages are UTF-8 where a table asks for it: what is not is reported,
 * since such a message is matched as it is sent, with U+FFFD.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem */
#endif
#include "text.h"

/* A state is the place in `cells` where its row begins; 0 leads nowhere. */
struct automaton {
    const uint16_t *cells;   /* a row: the next state for each class of bytes, and for the end */
    const byte *classes;     /* the class of each byte */
    const uint16_t *entries; /* where to begin behind each byte; [256]: where nothing is before */
    const byte *stays;       /* the bytes that lead from `idle` to `idle` */
    int64_t idle;            /* the state in which nothing has begun, or -1 */
    int64_t matched;         /* from here on a match has ended before the last byte */
    int64_t end;             /* the class of the end */
    const byte *needed;      /* a text that stands in every match */
    int64_t needed_length;   /* 0: none is known */
    int64_t begins_needed;   /* every match begins with it */
    int64_t is_literal;      /* the pattern is its needed text; there are no cells */
    int64_t reads_all;       /* the pattern speaks of bytes that only UTF-8 gives a meaning */
};

/* In a mask, beside 0 and 1. */
enum { NOT_UTF8 = 2 };

/* Return where `text` first stands between `in` and `end`, or NULL. */
static const byte *find_text(const byte *in, const byte *end, const byte *text, int64_t length)
{
#ifdef HAVE_SSE2
    /* Its first and its last byte are looked for at sixteen places at once. */
    const __m128i first = _mm_set1_epi8((char)text[0]);
    const __m128i last = _mm_set1_epi8((char)text[length - 1]);

    for (; end - in >= length + 15; in += 16) {
        __m128i begins = _mm_loadu_si128((const __m128i *)(const void *)in);
        __m128i ends = _mm_loadu_si128((const __m128i *)(const void *)(in + length - 1));
        __m128i both = _mm_and_si128(_mm_cmpeq_epi8(begins, first), _mm_cmpeq_epi8(ends, last));
        unsigned mask = (unsigned)_mm_movemask_epi8(both);

        for (; mask; mask &= mask - 1)
            if (!memcmp(in + __builtin_ctz(mask), text, (size_t)length))
                return in + __builtin_ctz(mask);
    }
#endif
    return end - in < length ? NULL : memmem(in, (size_t)(end - in), text, (size_t)length);
}

/* Return from where on there may be a match that begins at `in` or behind it, or NULL. */
static const byte *next_place(const byte *in, const byte *end, const struct automaton *automaton)
{
    const byte *needed = in;

    if (automaton->needed_length)
        needed = find_text(in, end, automaton->needed, automaton->needed_length);
    return automaton->begins_needed || !needed ? needed : in;
}

static int is_in(const byte *in, const byte *end, const struct automaton *automaton)
{
    const uint16_t *cells = automaton->cells;
    const byte *classes = automaton->classes, *stays = automaton->stays;
    const byte *at = next_place(in, end, automaton);
    int64_t idle = automaton->idle, matched = automaton->matched, state;

    if (!at || automaton->is_literal)
        return at != NULL;
    state = automaton->entries[at == in ? 256 : at[-1]];
    while (at < end) {
        if (state == idle) {
            while (at < end && stays[*at])
                at++;
            if (at == end)
                break;
        }
        state = cells[state + classes[*at++]];
        if (state >= matched)
            return 1;
        if (!state)
            return 0;
    }
    return cells[state + automaton->end] >= matched;
}

/* Set a byte of `mask` for each message: 1 if the pattern is anywhere in it. */
EXPORT void sidetail_find(const byte *text, const int64_t *begins, const int64_t *ends,
                          int64_t count, const struct automaton *automaton, byte *mask)
{
    for (int64_t row = 0; row < count; row++) {
        const byte *in = text + begins[row], *end = text + ends[row];

        mask[row] = automaton->reads_all && !is_utf8(in, end) ? NOT_UTF8 : is_in(in, end, automaton);
    }
}

/* Return where the first match ends that begins at `at` or behind it; NULL for none. */
static const byte *find_end(const byte *in, const byte *at, const byte *end,
                            const struct automaton *automaton)
{
    const uint16_t *cells = automaton->cells;
    const byte *classes = automaton->classes, *stays = automaton->stays, *found = NULL;
    int64_t idle = automaton->idle, matched = automaton->matched;
    int64_t state = automaton->entries[at == in ? 256 : at[-1]];

    for (; at < end && state; at++) {
        if (state == idle) {
            while (at < end && stays[*at])
                at++;
            if (at == end)
                break;
        }
        state = cells[state + classes[*at]];
        if (state >= matched)
            found = at;
    }
    return at == end && cells[state + automaton->end] >= matched ? end : found;
}

/* Return where the match begins that ends at `at`, but not before `least`. */
static const byte *find_begin(const byte *in, const byte *least, const byte *at, const byte *end,
                              const struct automaton *automaton)
{
    const byte *found = at;
    int64_t state = automaton->entries[at == end ? 256 : *at];

    for (; at > in && at >= least && state; at--) {
        state = automaton->cells[state + automaton->classes[at[-1]]];
        if (state >= automaton->matched)
            found = at;
    }
    if (least == in && at == in && automaton->cells[state + automaton->end] >= automaton->matched)
        found = in;
    return found;
}

/* The matches of a pattern in messages: each is the one that RE2 prefers of those that begin
 * first behind the match before; empty ones are none.
 */
struct matches {
    const struct automaton *end;   /* finds where a match ends */
    const struct automaton *begin; /* reads back from there to where it begins */
    int64_t *spans;                /* out: (begin, end) in the text of each match */
    int64_t room;                  /* matches that `spans` has room for */
    int64_t found;                 /* out: how many there are, with room or without */
};

static void find_in_one(const byte *text, const byte *in, const byte *end, struct matches *matches)
{
    const byte *at = in, *stop;

    while (at <= end && (at = next_place(at, end, matches->end)) &&
           (stop = find_end(in, at, end, matches->end))) {
        const byte *begin = find_begin(in, at, stop, end, matches->begin);

        at = begin == stop ? stop + 1 : stop;
        if (begin == stop)
            continue;
        if (matches->found < matches->room) {
            matches->spans[2 * matches->found] = begin - text;
            matches->spans[2 * matches->found + 1] = stop - text;
        }
        matches->found++;
    }
}

/* Find all matches in messages that are UTF-8. */
EXPORT void sidetail_find_all(const byte *text, const int64_t *begins, const int64_t *ends,
                              int64_t count, struct matches *matches)
{
    matches->found = 0;
    for (int64_t row = 0; row < count; row++) {
        const byte *in = text + begins[row], *end = text + ends[row];

        find_in_one(text, in, end, matches);
    }
}

/* Messages of which spans become a mark; what is written is returned: see sidecar/transform/redact.py. */
struct redaction {
    const int64_t *spans; /* in the text, ascending, each within a message */
    int64_t span_count;
    const byte *mark;
    int64_t mark_length;
    byte *out;        /* has room for what it becomes */
    int64_t *begins;  /* out: where each message begins in `out` */
    int64_t *ends;    /* out: where it ends; a newline stands behind it */
    byte *changed;    /* out: 1 for each message that has a span */
};

EXPORT int64_t sidetail_redact(const byte *text, const int64_t *begins, const int64_t *ends,
                               int64_t count, struct redaction *redaction)
{
    const int64_t *span = redaction->spans, *last = span + 2 * redaction->span_count;
    byte *out = redaction->out;

    for (int64_t row = 0; row < count; row++) {
        int64_t at = begins[row];

        redaction->begins[row] = out - redaction->out;
        redaction->changed[row] = span < last && span[0] < ends[row];
        for (; span < last && span[0] < ends[row]; span += 2) {
            out = put(out, text + at, span[0] - at);
            out = put(out, redaction->mark, redaction->mark_length);
            at = span[1];
        }
        out = put(out, text + at, ends[row] - at);
        redaction->ends[row] = out - redaction->out;
        *out++ = '\n';
    }
    return out - redaction->out;
}

/* A string of a JSON object. */
struct string {
    const byte *begin;
    const byte *end; /* its last quote */
    int is_escaped;  /* there is a backslash in it */
};

/* Find the first string from `in` on that begins before `least`; return whether there is one. */
static int next_string(const byte *in, const byte *least, const byte *end, struct string *string)
{
    const byte *at = memchr(in, '"', (size_t)(least - in)), *backslash;

    if (!at)
        return 0;
    string->begin = ++at;
    string->is_escaped = 0;
    while ((string->end = memchr(at, '"', (size_t)(end - at))) &&
           (backslash = memchr(at, '\\', (size_t)(string->end - at)))) {
        string->is_escaped = 1;
        if (end - backslash < 2)
            return 0;
        at = backslash + 2;
    }
    return string->end != NULL;
}

/* Return whether a string is a value and no key. */
static int is_value(const struct string *string, const byte *end)
{
    const byte *in = string->end + 1;

    while (in < end && (*in == ' ' || *in == '\t' || *in == '\r' || *in == '\n'))
        in++;
    return in < end && *in != ':';
}

/* Set a byte of `crossing` for each message of which a span is not within one string that is a
 * value and has no escapes. The messages are JSON objects; of others nothing is said.
 */
EXPORT void sidetail_find_crossing(const byte *text, const int64_t *begins, const int64_t *ends,
                                   int64_t count, const int64_t *spans, int64_t span_count,
                                   byte *crossing)
{
    const int64_t *span = spans, *last = spans + 2 * span_count;

    for (int64_t row = 0; row < count; row++) {
        const byte *at = text + begins[row], *end = text + ends[row];
        struct string string = {at, at, 0};

        crossing[row] = 0;
        for (; span < last && span[0] < ends[row]; span += 2) {
            const byte *begin = text + span[0], *stop = text + span[1];

            for (; !crossing[row] && string.end < begin; at = string.end + 1)
                if (!next_string(at, begin, end, &string)) {
                    crossing[row] = 1;
                    break;
                }
            if (!crossing[row])
                crossing[row] = stop > string.end || string.is_escaped || !is_value(&string, end);
        }
    }
}

/* A pair of a logfmt line, or a key alone: then its value is empty. */
struct pair {
    const byte *value;
    const byte *value_end;
    const byte *end; /* with the quote behind a quoted value */
};

/* Read the pair at `in`; return whether it is one of the plain kind: `key`, `key=value` or
 * `key="value"` without escapes, and a space or the end behind it.
 */
static int read_pair(const byte *in, const byte *end, struct pair *pair)
{
    const byte *key = in, *quote;

    while (in < end && *in > ' ' && *in != '=' && *in != '"')
        in++;
    *pair = (struct pair){in, in, in};
    if (in == key || in == end || *in != '=')
        return in > key && (in == end || *in <= ' ');
    pair->value = ++in;
    if (in < end && *in == '"') {
        in++;
        quote = memchr(in, '"', (size_t)(end - in));
        if (!quote || memchr(in, '\\', (size_t)(quote - in)))
            return 0;
        *pair = (struct pair){in, quote, quote + 1};
    } else {
        while (in < end && *in > ' ' && *in != '"')
            in++;
        pair->value_end = pair->end = in;
    }
    return pair->end == end || *pair->end <= ' ';
}

/* The same as sidetail_find_crossing for logfmt lines. */
EXPORT void sidetail_find_crossing_pairs(const byte *text, const int64_t *begins,
                                         const int64_t *ends, int64_t count,
                                         const int64_t *spans, int64_t span_count,
                                         byte *crossing)
{
    const int64_t *span = spans, *last = spans + 2 * span_count;

    for (int64_t row = 0; row < count; row++) {
        const byte *end = text + ends[row];
        struct pair pair = {text + begins[row], text + begins[row], text + begins[row]};

        crossing[row] = 0;
        for (; span < last && span[0] < ends[row]; span += 2) {
            const byte *begin = text + span[0], *stop = text + span[1];

            while (!crossing[row] && pair.end <= begin) {
                const byte *at = pair.end;

                while (at < begin && *at <= ' ')
                    at++;
                crossing[row] = !read_pair(at, end, &pair);
            }
            if (begin < pair.value || stop > pair.value_end)
                crossing[row] = 1;
        }
    }
}

static int64_t read_hex(const byte *in, const byte *end)
{
    int64_t number = 0;

    if (end - in < 4)
        return -1;
    for (int at = 0; at < 4; at++) {
        byte digit = in[at], letter = digit | 0x20;

        if (digit >= '0' && digit <= '9')
            number = 16 * number + (digit - '0');
        else if (letter >= 'a' && letter <= 'f')
            number = 16 * number + (letter - 'a' + 10);
        else
            return -1;
    }
    return number;
}

/* Read the code point behind a backslash and `u`, two of them for one beyond 16 bits; -1 for none. */
static int64_t read_code_point(const byte **in, const byte *end)
{
    int64_t high = read_hex(*in, end), low;

    *in += 4;
    if (high < 0xD800 || high > 0xDFFF)
        return high;
    if (end - *in < 2 || (*in)[0] != '\\' || (*in)[1] != 'u')
        return -1;
    low = read_hex(*in + 2, end);
    *in += 6;
    if (high > 0xDBFF || low < 0xDC00 || low > 0xDFFF)
        return -1;
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
}

/* Write what a string says, which is never longer than it is; NULL for one that is not right. */
static byte *unescape(const struct string *string, byte *out)
{
    static const char letters[] = "bfnrt", meant[] = "\b\f\n\r\t";
    const byte *in = string->begin;

    while (in < string->end) {
        const char *letter;
        int64_t code;

        if (*in != '\\') {
            *out++ = *in++;
            continue;
        }
        letter = memchr(letters, in[1], 5);
        in += 2;
        if (in[-1] == 'u') {
            if ((code = read_code_point(&in, string->end)) < 0)
                return NULL;
            out = put_code_point(out, code);
        } else {
            *out++ = letter ? (byte)meant[letter - letters] : in[-1];
        }
    }
    return out;
}

static int is_in_escaped(const byte *in, const byte *end, const struct automaton *automaton,
                         byte *scratch)
{
    struct string string;

    while (memchr(in, '\\', (size_t)(end - in)) && next_string(in, end, end, &string)) {
        in = string.end + 1;
        if (string.is_escaped) {
            byte *stop = unescape(&string, scratch);

            if (!stop || is_in(scratch, stop, automaton))
                return 1;
        }
    }
    return 0;
}

/* Set a byte of `mask` for each message: 1 if the pattern may be in a string that has escapes, as
 * it reads without them. The messages are JSON objects, of others nothing is said; `scratch` has
 * room for the longest.
 */
EXPORT void sidetail_find_escaped(const byte *text, const int64_t *begins, const int64_t *ends,
                                  int64_t count, const struct automaton *automaton,
                                  byte *scratch, byte *mask)
{
    for (int64_t row = 0; row < count; row++)
        mask[row] = is_in_escaped(text + begins[row], text + ends[row], automaton, scratch) != 0;
}

/* Move the spans of objects with their messages, of which only strings have changed. Those that
 * stand apart, and empty ones, stay.
 */
EXPORT void sidetail_move_objects(int64_t count, const int64_t *begins, const int64_t *ends,
                                  const int64_t *new_begins, const int64_t *new_ends,
                                  const int64_t *marks, int64_t *parsed_begins,
                                  int64_t *parsed_ends)
{
    for (int64_t row = 0; row < count; row++) {
        if (marks[row] & PARSED_APART || parsed_begins[row] == parsed_ends[row])
            continue;
        parsed_begins[row] += new_begins[row] - begins[row];
        parsed_ends[row] += new_ends[row] - ends[row];
    }
}
