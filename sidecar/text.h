/* What the C files share: bytes, and which of them are UTF-8. */
#ifndef SIDETAIL_TEXT_H
#define SIDETAIL_TEXT_H

#include <stdint.h>
#include <string.h>

#if defined(__SSE2__) && !defined(SIDETAIL_PORTABLE)
#include <emmintrin.h>
#define HAVE_SSE2 1
#endif

#define EXPORT __attribute__((visibility("default")))

typedef uint8_t byte;

/* Bits of `marks`: see sidecar/transform/records.py. */
enum {
    SEVERITY_MASK = 7,
    IOSTREAM_SHIFT = 3,
    IOSTREAM_MASK = 3,
    ERROR_SHIFT = 5,
    ERROR_MASK = 7,
    PARSED_APART = 1 << 8,
    REDACTED = 1 << 9,
    PARTIAL = 1 << 10,
    UNSURE = 1 << 11
};
#define NO_TIME INT64_MIN
enum { SECOND = 1000000000 };

/* Return how many bytes at `in` belong to one character, or to the piece of one that CPython's
 * decoder replaces by a single U+FFFD (the longest valid beginning of a sequence, or one byte).
 * `*valid` says which. `*in` is not ASCII. Source: Unicode 15, 3.9, table 3-7.
 */
static inline int sequence(const byte *in, const byte *end, int *valid)
{
    byte lead = in[0], low = 0x80, high = 0xBF;
    int length;

    *valid = 0;
    if (lead >= 0xC2 && lead <= 0xDF) {
        length = 2;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        length = 3;
        if (lead == 0xE0)
            low = 0xA0;
        if (lead == 0xED)
            high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        length = 4;
        if (lead == 0xF0)
            low = 0x90;
        if (lead == 0xF4)
            high = 0x8F;
    } else {
        return 1;
    }
    if (end - in < 2 || in[1] < low || in[1] > high)
        return 1;
    for (int at = 2; at < length; at++)
        if (end - in <= at || (in[at] & 0xC0) != 0x80)
            return at;
    *valid = 1;
    return length;
}

static inline int is_utf8(const byte *in, const byte *end)
{
    while (in < end) {
        uint64_t eight;
        int valid;

        if (end - in >= 8) {
            memcpy(&eight, in, 8);
            if (!(eight & UINT64_C(0x8080808080808080))) {
                in += 8;
                continue;
            }
        }
        if (*in < 0x80) {
            in++;
            continue;
        }
        in += sequence(in, end, &valid);
        if (!valid)
            return 0;
    }
    return 1;
}

static inline byte *put(byte *out, const void *bytes, int64_t length)
{
    memcpy(out, bytes, (size_t)length);
    return out + length;
}

/* Write a code point, which is no surrogate of its own, in UTF-8. */
static inline byte *put_code_point(byte *out, int64_t code)
{
    int behind = (code >= 0x80) + (code >= 0x800) + (code >= 0x10000);
    static const byte leads[] = {0, 0xC0, 0xE0, 0xF0};

    *out++ = (byte)(leads[behind] | code >> 6 * behind);
    while (behind--)
        *out++ = (byte)(0x80 | (code >> 6 * behind & 0x3F));
    return out;
}

/* Special in a JSON string: what cannot stand as it is, or has to be looked at. */
static inline int is_special(byte character)
{
    return character < 0x20 || character == '"' || character == '\\' || character >= 0x80;
}

#ifdef HAVE_SSE2
/* Return which of sixteen bytes are special, one bit each. */
static inline unsigned special_of_sixteen(const byte *in)
{
    __m128i sixteen = _mm_loadu_si128((const __m128i *)(const void *)in);
    /* Signed: less than a space are the control characters and all bytes from 0x80 on. */
    __m128i special = _mm_cmplt_epi8(sixteen, _mm_set1_epi8(' '));

    special = _mm_or_si128(special, _mm_cmpeq_epi8(sixteen, _mm_set1_epi8('"')));
    special = _mm_or_si128(special, _mm_cmpeq_epi8(sixteen, _mm_set1_epi8('\\')));
    return (unsigned)_mm_movemask_epi8(special);
}
#else
static inline int special_in_eight(const byte *in)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
    uint64_t eight, quote, backslash;

    memcpy(&eight, in, 8);
    quote = eight ^ (ones * '"');
    backslash = eight ^ (ones * '\\');
    return ((eight | (eight - ones * ' ') | (quote - ones) | (backslash - ones)) & tops) != 0;
}
#endif

/* Return the first special byte from `in` on, or `end`. Bytes before `readable` may be read. */
static inline const byte *skip_simple(const byte *in, const byte *end, const byte *readable)
{
#ifdef HAVE_SSE2
    while (in < end && readable - in >= 16) {
        unsigned mask = special_of_sixteen(in);

        if (!mask) {
            in += 16;
            continue;
        }
        in += __builtin_ctz(mask);
        return in < end ? in : end;
    }
#else
    (void)readable;
    while (end - in >= 8 && !special_in_eight(in))
        in += 8;
#endif
    while (in < end && !is_special(*in))
        in++;
    return in < end ? in : end;
}

#endif
