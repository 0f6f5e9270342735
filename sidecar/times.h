/* Times that lines say; sidecar/transform/times.py says the same in Python, and why. */
#ifndef SIDETAIL_TIMES_H
#define SIDETAIL_TIMES_H

#include "text.h"

struct moment {
    int64_t second; /* since the epoch */
    int64_t nano;
};

/* The date of a line is mostly that of the line before. */
struct last_date {
    int known;
    byte text[10];
    int64_t second;
};

static const int64_t FIRST_SECOND = INT64_C(-62135596800); /* of year 1 */
static const int64_t LAST_SECOND = INT64_C(253402300799);  /* of year 9999 */

static inline int is_digit(byte character)
{
    return character >= '0' && character <= '9';
}

/* Read exactly `count` digits; -1 if there are others among them. */
static inline int64_t read_digits(const byte *in, int count)
{
    int64_t number = 0;

    for (int at = 0; at < count; at++) {
        if (!is_digit(in[at]))
            return -1;
        number = 10 * number + (in[at] - '0');
    }
    return number;
}

/* Read all digits behind a decimal point as nanoseconds of a second; set `*in` behind them. */
static inline int64_t read_fraction(const byte **in, const byte *end)
{
    int64_t nano = 0, weight = SECOND / 10;

    for (; *in < end && is_digit(**in); ++*in) {
        nano += weight * (**in - '0');
        weight /= 10;
    }
    return nano;
}

/* Read YYYY-MM-DD as the first second of that day in UTC; return whether there is such a day. */
static inline int read_date(const byte *in, struct last_date *last)
{
    static const byte lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t year, month, day, era, of_era, length;

    if (last->known && !memcmp(in, last->text, sizeof last->text))
        return 1;
    year = read_digits(in, 4);
    month = read_digits(in + 5, 2);
    day = read_digits(in + 8, 2);
    if (in[4] != '-' || in[7] != '-' || year < 1 || month < 1 || month > 12 || day < 1)
        return 0;
    length = lengths[month - 1] + (month == 2 && year % 4 == 0 && (year % 100 || year % 400 == 0));
    if (day > length)
        return 0;
    memcpy(last->text, in, sizeof last->text);
    last->known = 1;
    year -= month <= 2; /* years that begin on a 1 March, in eras of 400 */
    era = (year >= 0 ? year : year - 399) / 400;
    of_era = year - era * 400;
    day += (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 - 1;
    day += of_era * 365 + of_era / 4 - of_era / 100;
    last->second = (era * 146097 + day - 719468) * 86400;
    return 1;
}

/* Read Z or an offset from UTC, which must be all that is left; in seconds, -1 for neither.
 * Offsets are multiples of a minute, so that -1 is none.
 */
static inline int64_t read_offset(const byte *in, const byte *end)
{
    int64_t hours, minutes = 0;

    if (end - in == 1 && (*in == 'Z' || *in == 'z'))
        return 0;
    if (end - in < 3 || (*in != '+' && *in != '-'))
        return -1;
    hours = read_digits(in + 1, 2);
    if (end - in == 6 && in[3] == ':')
        minutes = read_digits(in + 4, 2);
    else if (end - in == 5)
        minutes = read_digits(in + 3, 2);
    else if (end - in != 3)
        return -1;
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
        return -1;
    return (*in == '-' ? -60 : 60) * (60 * hours + minutes);
}

static inline int read_rfc3339(const byte *in, const byte *end, struct last_date *date,
                               struct moment *moment)
{
    int64_t hour, minute, second, nano = 0, offset;

    if (end - in < 20 || !read_date(in, date) || (in[10] != 'T' && in[10] != 't' && in[10] != ' '))
        return 0;
    hour = read_digits(in + 11, 2);
    minute = read_digits(in + 14, 2);
    second = read_digits(in + 17, 2);
    if (in[13] != ':' || in[16] != ':' || hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
        second < 0 || second > 60)
        return 0;
    in += 19;
    if (*in == '.' || *in == ',') {
        if (++in == end || !is_digit(*in))
            return 0;
        nano = read_fraction(&in, end);
    }
    offset = read_offset(in, end);
    if (offset == -1)
        return 0;
    second += date->second + 3600 * hour + 60 * minute - offset;
    if (second < FIRST_SECOND || second > LAST_SECOND)
        return 0;
    moment->second = second;
    moment->nano = nano;
    return 1;
}

/* Read a number since the epoch; its size says its unit. */
static inline int read_epoch(const byte *in, const byte *end, struct moment *moment)
{
    uint64_t whole = 0, each = 1;
    const byte *begin = in;
    int64_t nano = 0, unit = SECOND;

    for (; in < end && in - begin < 20 && is_digit(*in); in++)
        whole = 10 * whole + (uint64_t)(*in - '0');
    if (in - begin < 9 || in - begin > 19 || whole < 100000000)
        return 0;
    if (in < end) {
        if (*in != '.' || ++in == end || !is_digit(*in))
            return 0;
        nano = read_fraction(&in, end);
        if (in < end)
            return 0;
    }
    for (uint64_t limit = UINT64_C(100000000000); each < SECOND && whole >= limit; limit *= 1000) {
        each *= 1000;
        unit /= 1000;
    }
    moment->second = (int64_t)(whole / each);
    moment->nano = (int64_t)(whole % each) * unit + nano / (int64_t)each;
    return 1;
}

static inline int read_time(const byte *in, const byte *end, struct last_date *date,
                            struct moment *moment)
{
    if (end - in > 4 && in[4] == '-')
        return read_rfc3339(in, end, date, moment);
    return read_epoch(in, end, moment);
}

#endif
