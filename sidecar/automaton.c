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
    int64_t is_literal;      /* the pattern is its needed text; there are no cells */
    int64_t reads_all;       /* the pattern speaks of bytes that only UTF-8 gives a meaning */
};

/* In a mask, beside 0 and 1. */
enum { NOT_UTF8 = 2 };

/* Return whether `text` stands anywhere between `in` and `end`. */
static int has_text(const byte *in, const byte *end, const byte *text, int64_t length)
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
                return 1;
    }
#endif
    return end - in >= length && memmem(in, (size_t)(end - in), text, (size_t)length) != NULL;
}

static int may_match(const byte *in, const byte *end, const struct automaton *automaton)
{
    return !automaton->needed_length || has_text(in, end, automaton->needed, automaton->needed_length);
}

static int has_match(const byte *in, const byte *end, const struct automaton *automaton)
{
    const uint16_t *cells = automaton->cells;
    const byte *classes = automaton->classes, *stays = automaton->stays;
    int64_t idle = automaton->idle, matched = automaton->matched;
    int64_t state = automaton->entries[256];

    while (in < end) {
        if (state == idle) {
            while (in < end && stays[*in])
                in++;
            if (in == end)
                break;
        }
        state = cells[state + classes[*in++]];
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

        if (automaton->reads_all && !is_utf8(in, end))
            mask[row] = NOT_UTF8;
        else if (!may_match(in, end, automaton))
            mask[row] = 0;
        else
            mask[row] = automaton->is_literal || has_match(in, end, automaton);
    }
}

/* Set a byte for each place of a message at which a match begins; return whether there is one. */
static int find_begins(const byte *in, const byte *end, const struct automaton *automaton,
                       byte *found)
{
    int64_t state = automaton->entries[256];
    int any = 0;

    for (const byte *at = end; at > in; at--) {
        state = automaton->cells[state + automaton->classes[at[-1]]];
        found[at - in] = state >= automaton->matched;
        any |= found[at - in];
    }
    found[0] = automaton->cells[state + automaton->end] >= automaton->matched;
    return any | found[0];
}

/* Return where the match ends that begins at `at`. */
static const byte *find_end(const byte *in, const byte *at, const byte *end,
                            const struct automaton *automaton)
{
    int64_t state = automaton->entries[at == in ? 256 : at[-1]];
    const byte *last = at;

    for (; at < end && state; at++) {
        state = automaton->cells[state + automaton->classes[*at]];
        if (state >= automaton->matched)
            last = at;
    }
    if (at == end && automaton->cells[state + automaton->end] >= automaton->matched)
        last = end;
    return last;
}

/* The matches of a pattern in messages: each is that which RE2 prefers, and begins behind the one
 * before; empty ones are none.
 */
struct matches {
    const struct automaton *begin; /* from a message's end to its begin: where matches begin */
    const struct automaton *end;
    byte *scratch; /* room for a byte more than the longest message has */
    int64_t *spans; /* out: (begin, end) in the text of each match */
    int64_t room;  /* matches that `spans` has room for */
    int64_t found; /* out: how many there are, with room or without */
};

static void find_in_one(const byte *text, const byte *in, const byte *end, struct matches *matches)
{
    const byte *at = in;

    while (at <= end) {
        const byte *begin = memchr(matches->scratch + (at - in), 1, (size_t)(end + 1 - at));

        if (!begin)
            return;
        begin = in + (begin - matches->scratch);
        at = find_end(in, begin, end, matches->end);
        if (at == begin) {
            at++;
            continue;
        }
        if (matches->found < matches->room) {
            matches->spans[2 * matches->found] = begin - text;
            matches->spans[2 * matches->found + 1] = at - text;
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

        if (may_match(in, end, matches->begin) &&
            find_begins(in, end, matches->begin, matches->scratch))
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

static int is_json_space(byte character)
{
    return character == ' ' || character == '\t' || character == '\r' || character == '\n';
}

/* Return the quote behind a string's place if the string is a value and no key, else NULL. */
static const byte *end_of_value(const byte *in, const byte *end)
{
    const byte *quote = memchr(in, '"', (size_t)(end - in));

    if (!quote)
        return NULL;
    for (in = quote + 1; in < end && is_json_space(*in); in++)
        ;
    return in < end && *in != ':' ? quote : NULL;
}

/* Set a byte of `crossing` for each message of which a span is not within one string that is a
 * value. The messages are JSON objects without a backslash: every quote begins a string or ends
 * one.
 */
EXPORT void sidetail_find_crossing(const byte *text, const int64_t *begins, const int64_t *ends,
                                   int64_t count, const int64_t *spans, int64_t span_count,
                                   byte *crossing)
{
    const int64_t *span = spans, *last = spans + 2 * span_count;

    for (int64_t row = 0; row < count; row++) {
        const byte *at = text + begins[row], *end = text + ends[row], *quote;
        int is_inside = 0;

        crossing[row] = 0;
        for (; span < last && span[0] < ends[row]; span += 2) {
            for (; (quote = memchr(at, '"', (size_t)(text + span[0] - at))); at = quote + 1)
                is_inside = !is_inside;
            at = text + span[0];
            quote = is_inside ? end_of_value(at, end) : NULL;
            if (!quote || quote < text + span[1])
                crossing[row] = 1;
        }
    }
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
