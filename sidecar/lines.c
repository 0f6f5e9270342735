/* Splits a block into lines, and undoes the heads of CRI lines.
 *
 * Loaded like encode.c; sidecar/transform/lines.py and cri.py say the same in Python.
 */
#include "times.h"

/* One call's work; sidecar/native.py fills it in. Columns have room for `count` lines. */
struct lines {
    int64_t length;    /* of the text */
    int64_t start;     /* offset of its first byte in its file */
    int64_t count;     /* lines in it */
    int64_t *begins;   /* all columns are written */
    int64_t *ends;
    int64_t *offsets;
    int64_t *seconds;  /* this and the next ones: CRI only */
    int64_t *nanos;
    int64_t *marks;
};

#ifdef HAVE_SSE2
/* Count newlines in sixteens of bytes, 255 at most: then a lane of the sum would be full. */
static int64_t count_in_sixteens(const byte *text, int64_t sixteens)
{
    const __m128i newline = _mm_set1_epi8('\n');
    __m128i sum = _mm_setzero_si128();

    for (; sixteens; sixteens--, text += 16)
        sum = _mm_sub_epi8(
            sum, _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(const void *)text), newline));
    sum = _mm_sad_epu8(sum, _mm_setzero_si128());
    return _mm_cvtsi128_si32(sum) + _mm_cvtsi128_si32(_mm_srli_si128(sum, 8));
}
#endif

/* Return how many newlines there are: CPython's bytes.count looks at one byte after the other. */
EXPORT int64_t sidetail_count_lines(const byte *text, int64_t length)
{
    const byte *end = text + length;
    int64_t count = 0;

#ifdef HAVE_SSE2
    while (end - text >= 16) {
        int64_t sixteens = (end - text) / 16;

        sixteens = sixteens < 255 ? sixteens : 255;
        count += count_in_sixteens(text, sixteens);
        text += 16 * sixteens;
    }
#endif
    for (; text < end; text++)
        count += *text == '\n';
    return count;
}

/* Return all the bits that are set anywhere in a column. */
EXPORT int64_t sidetail_bits(const int64_t *column, int64_t count)
{
    int64_t bits = 0;

    for (int64_t row = 0; row < count; row++)
        bits |= column[row];
    return bits;
}

/* Write messages side by side, a newline behind each; `columns` has their begins and ends, and
 * gets the places where they stand in `out`. Return how many bytes were written.
 */
EXPORT int64_t sidetail_gather(const byte *text, const int64_t *begins, const int64_t *ends,
                               int64_t count, byte *out, int64_t *places)
{
    byte *at = out;

    for (int64_t row = 0; row < count; row++) {
        places[row] = at - out;
        at = put(at, text + begins[row], ends[row] - begins[row]);
        *at++ = '\n';
    }
    return at - out;
}

/* Set bits in the rows that `mask` has a 1 for. */
EXPORT void sidetail_set_bits(const byte *mask, int64_t count, int64_t bits, int64_t *column)
{
    for (int64_t row = 0; row < count; row++)
        column[row] |= mask[row] ? bits : 0;
}

/* Write the numbers of the rows that `mask` has a 1 for; return how many. */
EXPORT int64_t sidetail_keep(const byte *mask, int64_t count, const int64_t *column, int64_t *kept)
{
    int64_t at = 0;

    for (int64_t row = 0; row < count; row++) {
        kept[at] = column[row];
        at += mask[row];
    }
    return at;
}

/* Write what is left out before each row that `mask` has a 1 for, and behind the last one; see
 * `leave_out` in sidecar/transform/filter.py. `lines` and `before` may be absent.
 */
EXPORT void sidetail_left_out(const byte *mask, int64_t count, const int64_t *lines,
                              const int64_t *before, int64_t unit, int64_t *left_out)
{
    int64_t gone = 0;

    for (int64_t row = 0; row < count; row++) {
        gone += before ? before[row] : 0;
        if (mask[row]) {
            *left_out++ = gone;
            gone = 0;
        } else {
            gone += unit * (lines ? lines[row] : 1);
        }
    }
    *left_out = gone;
}

/* Write the numbers of the messages whose first byte is in a set; return how many. An empty
 * message's is the newline behind it.
 */
EXPORT int64_t sidetail_first_bytes(const byte *text, const int64_t *begins, int64_t count,
                                    const byte *set, int64_t *rows)
{
    int64_t found = 0;

    for (int64_t row = 0; row < count; row++) {
        rows[found] = row;
        found += set[text[begins[row]]] != 0;
    }
    return found;
}

/* Set begin and end of line `row`, which begins at `line`; return the end with its CR. */
static const byte *set_line(struct lines *lines, const byte *text, const byte *line, int64_t row)
{
    const byte *text_end = text + lines->length;
    const byte *newline = memchr(line, '\n', (size_t)(text_end - line));
    const byte *end = newline ? newline : text_end;
    int has_return = newline && end > line && end[-1] == '\r';

    lines->begins[row] = line - text;
    lines->ends[row] = end - text - has_return;
    lines->offsets[row] = lines->start + (line - text);
    return end;
}

/* Split a text without NULs at the heads of its lines. */
EXPORT void sidetail_split_lines(const byte *text, struct lines *lines)
{
    const byte *line = text;

    for (int64_t row = 0; row < lines->count; row++)
        line = set_line(lines, text, line, row) + 1;
}

static const byte *find_space(const byte *in, const byte *end)
{
    const byte *space = memchr(in, ' ', (size_t)(end - in));

    return space ? space : end;
}

/* Read the head of a CRI line; return where its text begins, or `line` if it has none. */
static const byte *read_head(const byte *line, const byte *end, struct last_date *date,
                             struct moment *moment, int64_t *marks)
{
    const byte *space = find_space(line, end), *tag, *tag_end;
    int64_t stream;

    if (end - space < 9 || !read_rfc3339(line, space, date, moment))
        return line;
    if (!memcmp(space, " stdout ", 8))
        stream = 1 << IOSTREAM_SHIFT;
    else if (!memcmp(space, " stderr ", 8))
        stream = 2 << IOSTREAM_SHIFT;
    else
        return line;
    tag = space + 8;
    space = find_space(tag, end);
    tag_end = space == end && end[-1] == '\r' ? end - 1 : space;
    if (tag == tag_end || (*tag != 'P' && *tag != 'F') || (tag_end - tag > 1 && tag[1] != ':'))
        return line;
    *marks = stream | (*tag == 'P' ? PARTIAL : 0);
    return space < end ? space + 1 : end;
}

/* Split a text of CRI lines, without NULs at the heads of its lines. */
EXPORT void sidetail_split_cri(const byte *text, struct lines *lines)
{
    struct last_date date = {0};
    const byte *line = text;

    for (int64_t row = 0; row < lines->count; row++) {
        const byte *end = set_line(lines, text, line, row);
        struct moment moment = {NO_TIME, 0};
        int64_t marks = 0;

        lines->begins[row] = read_head(line, end, &date, &moment, &marks) - text;
        if (!marks)
            moment.second = NO_TIME; /* a time alone is no head */
        /* A part may end with a CR of its text; and a CR may be all there is behind a head. */
        if (marks & PARTIAL || lines->ends[row] < lines->begins[row])
            lines->ends[row] = end - text;
        lines->seconds[row] = moment.second;
        lines->nanos[row] = marks ? moment.nano : 0;
        lines->marks[row] = marks;
        line = end + 1;
    }
}
