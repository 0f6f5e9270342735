/* What JSON, logfmt and Docker's lines say.
 *
 * Loaded like encode.c. sidecar/transform/parse.py says the same in Python, and is asked for
 * every line that is not plainly right: those are marked UNSURE here. So nothing below has to
 * know why a line is wrong, and where in doubt it gives up.
 */
#include "times.h"

enum { JSON, LOGFMT, AUTO, DOCKER };

enum {
    MOST_DEPTH = 64,   /* of objects and arrays in each other: as in objects.py */
    MOST_KEYS = 256,   /* of the objects that are open at the same time */
    MOST_DIGITS = 300, /* of a whole number, so that it is below 1e308 */
    SPELLING_BYTES = 16,
    NOT_AN_OBJECT = 1  /* of PARSE_ERRORS in records.py, counted from 1 */
};

/* One call's work; sidecar/native.py fills it in. */
struct objects {
    int64_t format;
    int64_t length;              /* of the text */
    int64_t count;               /* records */
    const int64_t *begins;       /* of their messages */
    const int64_t *ends;
    int64_t *seconds;            /* in and out: own times; a time in the object wins */
    int64_t *nanos;
    int64_t *marks;              /* in and out */
    int64_t *parsed_begins;      /* out; DOCKER: of the messages, in `out` */
    int64_t *parsed_ends;
    const byte *spellings;       /* of severities: see sidecar/native.py */
    byte *out;                   /* LOGFMT: the objects' text, at most 5 bytes for each of the
                                    text's and 8 a record. DOCKER: the messages, at most as
                                    many as the text has */
    int64_t out_size;            /* out: bytes written to it */
    int64_t unsure;              /* out: records that are left to Python */
    int64_t found;               /* out: records that say anything */
    int64_t timed;               /* out: records whose object says a time */
};

struct span {
    const byte *begin, *end;
};

enum { TIMES = 4, SEVERITIES = 2 };

/* The values at the keys that we read, and whether an object has to be left to Python. */
struct facts {
    struct span time[TIMES];
    struct span severity[SEVERITIES];
};

struct scanner {
    const byte *in, *end, *readable;
    int keys;
    uint64_t tag[MOST_KEYS];        /* of their names: mostly others for other names */
    const byte *name[MOST_KEYS];
    struct facts facts;
};

/* ---- facts ---- */

/* Return where the value of a key is to be kept, or NULL where nobody reads it. */
static inline struct span *place_of(struct facts *facts, const byte *name, int64_t length)
{
    switch (length) {
    case 2:
        return memcmp(name, "ts", 2) ? NULL : &facts->time[2];
    case 4:
        return memcmp(name, "time", 4) ? NULL : &facts->time[0];
    case 5:
        return memcmp(name, "level", 5) ? NULL : &facts->severity[0];
    case 8:
        return memcmp(name, "severity", 8) ? NULL : &facts->severity[1];
    case 9:
        return memcmp(name, "timestamp", 9) ? NULL : &facts->time[1];
    case 10:
        return memcmp(name, "@timestamp", 10) ? NULL : &facts->time[3];
    default:
        return NULL;
    }
}

static inline void forget_facts(struct facts *facts)
{
    for (int which = 0; which < TIMES; which++)
        facts->time[which].begin = NULL;
    for (int which = 0; which < SEVERITIES; which++)
        facts->severity[which].begin = NULL;
}

/* Return the bits of a severity. `spellings`: for each length a byte with how many spellings
 * there are, then each one with its bits behind it.
 */
static int64_t severity_bits(struct span said, const byte *spellings)
{
    byte lower[SPELLING_BYTES];
    int64_t length = said.end - said.begin;

    if (length < 1 || length >= SPELLING_BYTES)
        return 0;
    for (int64_t at = 0; at < length; at++) {
        byte character = said.begin[at];

        lower[at] = character >= 'A' && character <= 'Z' ? (byte)(character | 0x20) : character;
    }
    for (int64_t shorter = 1; shorter < length; shorter++)
        spellings += 1 + *spellings * (shorter + 1);
    for (int left = *spellings++; left; left--, spellings += length + 1)
        if (*spellings == *lower && !memcmp(spellings, lower, (size_t)length))
            return spellings[length];
    return 0;
}

static void read_facts(struct objects *objects, const struct facts *facts, int64_t row,
                       struct last_date *date)
{
    struct moment moment;

    for (int which = 0; which < TIMES; which++) {
        if (!facts->time[which].begin)
            continue;
        if (read_time(facts->time[which].begin, facts->time[which].end, date, &moment)) {
            objects->seconds[row] = moment.second;
            objects->nanos[row] = moment.nano;
            objects->timed++;
            break;
        }
    }
    for (int which = 0; which < SEVERITIES; which++) {
        int64_t bits = 0;

        if (facts->severity[which].begin)
            bits = severity_bits(facts->severity[which], objects->spellings);
        if (bits) {
            objects->marks[row] |= bits;
            return;
        }
    }
}

/* ---- keys ---- */

/* Return a number that holds a name's length, and differs for most others of that length. */
static inline uint64_t tag_of(const byte *name, int64_t length)
{
    if (!length)
        return 0;
    return (uint64_t)length << 24 | (uint64_t)name[0] << 16 | (uint64_t)name[length - 1] << 8 |
           name[length / 2];
}

/* Remember a key; return 0 where the same name is among the keys from `first` on, or where
 * there are too many.
 */
static inline int add_key(struct scanner *scanner, int first, const byte *name, int64_t length)
{
    uint64_t tag = tag_of(name, length);
    int keys = scanner->keys;

    if (keys == MOST_KEYS)
        return 0;
    for (int at = first; at < keys; at++)
        if (scanner->tag[at] == tag && !memcmp(scanner->name[at], name, (size_t)length))
            return 0;
    scanner->tag[keys] = tag;
    scanner->name[keys] = name;
    scanner->keys = keys + 1;
    return 1;
}

/* ---- JSON ---- */

static int is_space(byte character)
{
    return character == ' ' || character == '\t';
}

static inline void skip_space(struct scanner *scanner)
{
    while (scanner->in < scanner->end && is_space(*scanner->in))
        scanner->in++;
}

static int is_hex(byte character)
{
    byte lower = character | 0x20;

    return is_digit(character) || (lower >= 'a' && lower <= 'f');
}

/* Step over an escape; 0 for none, and for all that may be half of a surrogate pair. */
static int skip_escape(struct scanner *scanner)
{
    const byte *in = scanner->in + 1;

    if (in >= scanner->end)
        return 0;
    if (*in != 'u') {
        scanner->in = in + 1;
        return memchr("\"\\/bfnrt", *in, 8) != NULL;
    }
    if (scanner->end - in < 5)
        return 0;
    for (int at = 1; at <= 4; at++)
        if (!is_hex(in[at]))
            return 0;
    scanner->in = in + 5;
    return !((in[1] | 0x20) == 'd' && in[2] >= '8');
}

/* Step over a string; `*value` is what stands between its quotes, `*escaped` whether there is
 * an escape in it. 0 for one that is not plainly right.
 */
static inline int skip_string(struct scanner *scanner, struct span *value, int *escaped)
{
    *escaped = 0;
    value->begin = ++scanner->in;
    for (;;) {
        int valid;

        scanner->in = skip_simple(scanner->in, scanner->end, scanner->readable);
        if (scanner->in == scanner->end || *scanner->in < ' ')
            return 0;
        if (*scanner->in == '"') {
            value->end = scanner->in++;
            return 1;
        }
        if (*scanner->in == '\\') {
            *escaped = 1;
            if (!skip_escape(scanner))
                return 0;
        } else {
            scanner->in += sequence(scanner->in, scanner->end, &valid);
            if (!valid)
                return 0;
        }
    }
}

static int skip_digits(struct scanner *scanner)
{
    const byte *begin = scanner->in;

    while (scanner->in < scanner->end && is_digit(*scanner->in))
        scanner->in++;
    return scanner->in - begin > MOST_DIGITS ? 0 : (int)(scanner->in - begin);
}

/* Step over a number; 0 for one that is wrong, or perhaps out of the range of a double. */
static int skip_number(struct scanner *scanner, struct span *value)
{
    const byte *begin;
    int digits;

    value->begin = scanner->in;
    if (*scanner->in == '-')
        scanner->in++;
    begin = scanner->in;
    digits = skip_digits(scanner);
    if (!digits || (*begin == '0' && digits > 1))
        return 0;
    if (scanner->in < scanner->end && *scanner->in == '.') {
        scanner->in++;
        while (scanner->in < scanner->end && is_digit(*scanner->in))
            scanner->in++;
        if (!is_digit(scanner->in[-1]))
            return 0;
    }
    if (scanner->in < scanner->end && (*scanner->in | 0x20) == 'e') {
        scanner->in++;
        if (scanner->in < scanner->end && (*scanner->in == '+' || *scanner->in == '-'))
            scanner->in++;
        digits += 100; /* two digits of an exponent: less than 1e100 times as much */
        begin = scanner->in;
        if (!skip_digits(scanner) || scanner->in - begin > 2 || digits > MOST_DIGITS)
            return 0;
    }
    value->end = scanner->in;
    return 1;
}

static int skip_word(struct scanner *scanner)
{
    static const char *const words[] = {"true", "null", "false"};

    for (int which = 0; which < 3; which++) {
        int64_t length = which == 2 ? 5 : 4;

        if (scanner->end - scanner->in >= length &&
            !memcmp(scanner->in, words[which], (size_t)length)) {
            scanner->in += length;
            return 1;
        }
    }
    return 0;
}

/* Step over a value that is neither object nor array. `*kept` is where it is to be kept, if it
 * is a string or a number; one that has escapes is nothing that could be read here.
 */
static inline int skip_scalar(struct scanner *scanner, struct span *kept)
{
    struct span value;
    int escaped;

    if (*scanner->in == '"') {
        if (!skip_string(scanner, &value, &escaped) || (escaped && kept))
            return 0;
    } else if (*scanner->in == '-' || is_digit(*scanner->in)) {
        if (!skip_number(scanner, &value))
            return 0;
    } else {
        return skip_word(scanner);
    }
    if (kept)
        *kept = value;
    return 1;
}

/* Step over `"key":` of an object whose keys are those from `first` on. */
static inline int skip_key(struct scanner *scanner, int first, struct span *name)
{
    int escaped;

    skip_space(scanner);
    if (scanner->in == scanner->end || *scanner->in != '"' ||
        !skip_string(scanner, name, &escaped) || escaped ||
        !add_key(scanner, first, name->begin, name->end - name->begin))
        return 0;
    skip_space(scanner);
    if (scanner->in == scanner->end || *scanner->in != ':')
        return 0;
    scanner->in++;
    skip_space(scanner);
    return scanner->in < scanner->end;
}

struct level {
    int is_object;
    int first_key;
};

/* Step into the object or array that begins at `in`. Return 1 where its first value is next,
 * 2 where it is empty (and behind us), 0 for neither.
 */
static inline int enter(struct scanner *scanner, struct level *level, struct span *name)
{
    level->is_object = *scanner->in++ == '{';
    level->first_key = scanner->keys;
    skip_space(scanner);
    if (scanner->in == scanner->end)
        return 0;
    if (*scanner->in == (level->is_object ? '}' : ']')) {
        scanner->in++;
        return 2;
    }
    return level->is_object ? skip_key(scanner, level->first_key, name) : 1;
}

/* Go on behind a value. Return 1 where another value of the same level is next, 2 where the
 * level has ended (and is behind us), 0 for neither.
 */
static inline int leave_value(struct scanner *scanner, const struct level *level, struct span *name)
{
    skip_space(scanner);
    if (scanner->in == scanner->end)
        return 0;
    if (*scanner->in == (level->is_object ? '}' : ']')) {
        scanner->in++;
        scanner->keys = level->first_key;
        return 2;
    }
    if (*scanner->in++ != ',')
        return 0;
    if (level->is_object)
        return skip_key(scanner, level->first_key, name);
    skip_space(scanner);
    return scanner->in < scanner->end;
}

/* Step over an object that is plainly right, in one line, and keep what we read of it. */
static int skip_object(struct scanner *scanner)
{
    struct level levels[MOST_DEPTH];
    struct span name = {NULL, NULL};
    int depth = 0, state = enter(scanner, &levels[0], &name);

    while (state) {
        if (state == 2) { /* a value has ended that was an object or an array */
            if (depth-- == 0)
                return 1;
            state = leave_value(scanner, &levels[depth], &name);
        } else if (*scanner->in == '{' || *scanner->in == '[') {
            if (++depth == MOST_DEPTH)
                return 0;
            state = enter(scanner, &levels[depth], &name);
        } else {
            if (!skip_scalar(scanner, depth ? NULL : place_of(&scanner->facts, name.begin, name.end - name.begin)))
                return 0;
            state = leave_value(scanner, &levels[depth], &name);
        }
    }
    return 0;
}

static int read_json(struct objects *objects, struct scanner *scanner, int64_t row,
                     const byte *text, struct last_date *date)
{
    const byte *begin;

    skip_space(scanner);
    begin = scanner->in;
    if (begin == scanner->end || *begin != '{' || !skip_object(scanner))
        return 0;
    objects->parsed_begins[row] = begin - text;
    objects->parsed_ends[row] = scanner->in - text;
    skip_space(scanner);
    if (scanner->in != scanner->end)
        return 0;
    read_facts(objects, &scanner->facts, row, date);
    return 1;
}

/* ---- logfmt ---- */

/* Step over one `key`, `key=value` or `key="value"` and write it as a member of an object.
 * 0 for one that is not plainly right.
 */
static byte *put_pair(struct scanner *scanner, byte *out, int *has_pair)
{
    struct span name = {scanner->in, NULL}, value, *kept;
    const byte *in = scanner->in, *end = scanner->end;

    while (in < end && *in > ' ' && *in != '=' && *in != '"' && *in != '\\')
        in++;
    name.end = in;
    if (name.begin == name.end || !add_key(scanner, 0, name.begin, name.end - name.begin))
        return NULL;
    *out++ = '"';
    out = put(out, name.begin, name.end - name.begin);
    if (in == end || *in == ' ') {
        scanner->in = in;
        return put(out, "\":true", 6);
    }
    if (*in++ != '=')
        return NULL;
    *has_pair = 1;
    if (in < end && *in == '"') {
        value.begin = ++in;
        while (in < end && *in >= ' ' && *in != '"' && *in != '\\')
            in++;
        value.end = in;
        if (in == end || *in++ != '"')
            return NULL;
    } else {
        value.begin = in;
        while (in < end && *in > ' ' && *in != '"' && *in != '\\')
            in++;
        value.end = in;
    }
    if (in < end && *in != ' ')
        return NULL;
    scanner->in = in;
    kept = place_of(&scanner->facts, name.begin, name.end - name.begin);
    if (kept)
        *kept = value;
    out = put(out, "\":\"", 3);
    out = put(out, value.begin, value.end - value.begin);
    *out++ = '"';
    return out;
}

static int read_logfmt(struct objects *objects, struct scanner *scanner, int64_t row,
                       struct last_date *date)
{
    byte *begin = objects->out + objects->out_size, *out = begin;
    int has_pair = 0;

    if (!is_utf8(scanner->in, scanner->end))
        return 0;
    *out++ = '{';
    for (;;) {
        while (scanner->in < scanner->end && *scanner->in == ' ')
            scanner->in++;
        if (scanner->in == scanner->end)
            break;
        if (out - begin > 1)
            *out++ = ',';
        out = put_pair(scanner, out, &has_pair);
        if (!out)
            return 0;
    }
    *out++ = '}';
    if (!has_pair)
        return 1;
    objects->parsed_begins[row] = begin - objects->out;
    objects->parsed_ends[row] = out - objects->out;
    objects->marks[row] |= PARSED_APART;
    objects->out_size = out - objects->out;
    read_facts(objects, &scanner->facts, row, date);
    return 1;
}

/* ---- auto ---- */

/* Return the severity of klog's head, `E0102 03:04:05.678901 `, or 0. */
static int64_t read_klog(const byte *in, const byte *end)
{
    static const char shape[] = "L0000 00:00:00.000000 ";
    static const char letters[] = "IWEF"; /* 3 to 6 of a severity's bits */
    const char *letter;

    if (end - in < (int64_t)sizeof shape - 1 || !(letter = memchr(letters, *in, 4)))
        return 0;
    for (int at = 1; at < (int)sizeof shape - 1; at++)
        if (shape[at] == '0' ? !is_digit(in[at]) : in[at] != shape[at])
            return 0;
    return 3 + (letter - letters);
}

static int read_auto(struct objects *objects, struct scanner *scanner, int64_t row,
                     const byte *text, struct last_date *date)
{
    const byte *in = scanner->in;

    if (in < scanner->end && *in == '{')
        return read_json(objects, scanner, row, text, date);
    if (in < scanner->end && *in == 0xEF) /* perhaps a byte order mark */
        return 0;
    objects->marks[row] |= read_klog(in, scanner->end);
    return 1;
}

/* ---- Docker ---- */

static unsigned hex_value(byte character)
{
    return is_digit(character) ? character - 48U : (character | 0x20U) - 'a' + 10;
}

/* Write what the inside of a right JSON string says. */
static byte *put_unescaped(byte *out, struct span inside)
{
    static const char letters[] = "bfnrt", meant[] = "\b\f\n\r\t";

    while (inside.begin < inside.end) {
        const byte *backslash = memchr(inside.begin, '\\', (size_t)(inside.end - inside.begin));
        const char *letter;

        if (!backslash)
            return put(out, inside.begin, inside.end - inside.begin);
        out = put(out, inside.begin, backslash - inside.begin);
        inside.begin = backslash + 2;
        letter = memchr(letters, backslash[1], 5);
        if (backslash[1] == 'u') {
            unsigned code = 0;

            for (int at = 0; at < 4; at++)
                code = code << 4 | hex_value(*inside.begin++);
            out = put_code_point(out, code);
        } else {
            *out++ = letter ? (byte)meant[letter - letters] : backslash[1];
        }
    }
    return out;
}

/* Step over a constant; return whether it stands there. */
static int skip_text(struct scanner *scanner, const char *text, int64_t length)
{
    if (scanner->end - scanner->in < length || memcmp(scanner->in, text, (size_t)length))
        return 0;
    scanner->in += length;
    return 1;
}

static int64_t skip_stream(struct scanner *scanner)
{
    if (skip_text(scanner, "stdout\",\"time\":", 15))
        return 1 << IOSTREAM_SHIFT;
    return skip_text(scanner, "stderr\",\"time\":", 15) ? 2 << IOSTREAM_SHIFT : 0;
}

static int read_docker(struct objects *objects, struct scanner *scanner, int64_t row,
                       struct last_date *date)
{
    byte *begin = objects->out + objects->out_size, *out;
    struct span log, time;
    struct moment moment;
    int64_t marks;
    int escaped;

    if (!skip_text(scanner, "{\"log\":", 7) || scanner->in == scanner->end ||
        *scanner->in != '"' || !skip_string(scanner, &log, &escaped) ||
        !skip_text(scanner, ",\"stream\":\"", 11) || !(marks = skip_stream(scanner)) ||
        scanner->in == scanner->end || *scanner->in != '"' ||
        !skip_string(scanner, &time, &escaped) || escaped || !skip_text(scanner, "}", 1) ||
        scanner->in != scanner->end || !read_rfc3339(time.begin, time.end, date, &moment))
        return 0;
    out = put_unescaped(begin, log);
    objects->out_size = out - objects->out;
    if (out > begin && out[-1] == '\n') {
        out--;
        if (out > begin && out[-1] == '\r')
            out--;
    } else {
        marks |= PARTIAL;
    }
    objects->parsed_begins[row] = begin - objects->out;
    objects->parsed_ends[row] = out - objects->out;
    objects->seconds[row] = moment.second;
    objects->nanos[row] = moment.nano;
    objects->marks[row] = marks;
    objects->timed++;
    return 1;
}

/* ---- lines that are of another format ---- */

/* Return whether a line is no JSON object for the plain reason that it does not begin as one. A
 * number may be out of range instead, and brackets may be too deep: those are left to Python.
 */
static int is_surely_no_object(const byte *in, const byte *end)
{
    int64_t brackets = 0;

    if (end - in >= 3 && !memcmp(in, "\xEF\xBB\xBF", 3))
        in += 3;
    while (in < end && (*in == ' ' || *in == '\t' || *in == '\r' || *in == '\n'))
        in++;
    if (in < end && (*in == '{' || *in == '['))
        return 0;
    if (in < end && (*in == '-' || (*in >= '0' && *in <= '9'))) {
        const byte *number = in++;

        while (in < end && ((*in >= '0' && *in <= '9') || *in == '.'))
            in++;
        if (in - number > MOST_DIGITS || (in < end && (*in | 0x20) == 'e'))
            return 0;
    }
    for (; in < end; in++)
        brackets += *in == '{' || *in == '[';
    return brackets <= MOST_DEPTH;
}

/* Return whether a line that could not be read says nothing for a plain reason; mark it. */
static int settle_plainly(struct objects *objects, const byte *in, const byte *end, int64_t row,
                          int64_t before)
{
    if (objects->format == LOGFMT && !memchr(in, '=', (size_t)(end - in))) {
        objects->marks[row] = before;
        return 1;
    }
    if (objects->format == JSON && is_surely_no_object(in, end)) {
        objects->marks[row] = before | NOT_AN_OBJECT << ERROR_SHIFT;
        return 1;
    }
    return 0;
}

/* ---- all records ---- */

EXPORT void sidetail_read_objects(const byte *text, struct objects *objects)
{
    struct last_date date = {0};
    struct scanner scanner;

    scanner.readable = text + objects->length;
    objects->out_size = objects->unsure = objects->found = objects->timed = 0;
    for (int64_t row = 0; row < objects->count; row++) {
        int64_t before = objects->marks[row];
        int sure;

        scanner.in = text + objects->begins[row];
        scanner.end = text + objects->ends[row];
        scanner.keys = 0;
        forget_facts(&scanner.facts);
        objects->parsed_begins[row] = objects->parsed_ends[row] = 0;
        if (objects->format == JSON)
            sure = read_json(objects, &scanner, row, text, &date);
        else if (objects->format == LOGFMT)
            sure = read_logfmt(objects, &scanner, row, &date);
        else if (objects->format == DOCKER)
            sure = read_docker(objects, &scanner, row, &date);
        else
            sure = read_auto(objects, &scanner, row, text, &date);
        if (!sure) {
            objects->parsed_begins[row] = objects->parsed_ends[row] = 0;
            if (!settle_plainly(objects, text + objects->begins[row], text + objects->ends[row],
                                row, before)) {
                objects->marks[row] = before | UNSURE;
                objects->unsure++;
            }
        }
        objects->found += objects->marks[row] != before || objects->parsed_ends[row];
    }
}
