/* Feeds the sidecar's C files hostile input, to be built with sanitizers:
 *
 *     native_fuzz SEED ROUNDS SPELLINGS
 *
 * Every buffer is an allocation of exactly the size that was promised, so that one byte too far
 * ends the process. What must hold of all answers is checked with `must`.
 */
#define _GNU_SOURCE /* automaton.c: memmem */
#include <stdio.h>
#include <stdlib.h>

#include "../../sidecar/automaton.c"
#include "../../sidecar/encode.c"
#include "../../sidecar/lines.c"
#include "../../sidecar/objects.c"
#include "../../sidecar/record_batch.c"

static uint64_t state;
static byte *spellings;

static uint64_t any(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return below ? (state >> 11) % below : 0;
}

#define must(holds)                                                                  \
    do {                                                                             \
        if (!(holds)) {                                                              \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #holds);              \
            abort();                                                                 \
        }                                                                            \
    } while (0)

/* Nothing in here is zeroed: what is read must have been written. */
static void *exactly(int64_t size)
{
    void *memory = malloc(size ? (size_t)size : 1);

    must(memory);
    return memory;
}

static int64_t *column(int64_t count)
{
    return exactly(8 * count);
}

static const char *const pieces[] = {
    "plain text that is longer than a vector", "a", "\"", "\\", "\\n", "\\u00e9", "\\ud800", "\n",
    "\r", "\r\n", "\n\n", "\t", " ", "=", "a=", "m=\"", "{", "}", "[", "]", ":", ",", "{\"a\":1}",
    "{\"level\":\"warn\",\"ts\":1714564800.25}", "\"time\":\"2024-05-01T12:00:00Z\"", "\"a\":",
    "\"severity\":", "\"ts\":", "null", "true", "fals", "-", "0", "1e9", "1e999", "0.5", "12345678",
    "2024-05-01T12:00:00.123456789Z", "2024-05-01T12:00:00+02:00", "9999-12-31T23:59:60Z",
    " stdout F ", " stderr P ", " stdout F:x", "E0102 03:04:05.678901 ", "\x7f", "\xc2\x80",
    "\xc3\xa9", "\xe2\x80\xa8", "\xf0\x9f\x98\x80", "\xff", "\xc3", "\xe2\x82", "\xed\xa0\x80",
    "\xf4\x90\x80\x80", "{\"log\":\"", "\\n\",\"stream\":\"stdout\",\"time\":\"",
    "2024-05-01T00:00:00.5Z\"}", "\xef\xbb\xbf{", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
};

enum { MOST_TEXT = 64 * 1024 };

static byte building[MOST_TEXT + 4096];
static int64_t built;

static void add(const char *piece)
{
    int64_t size = (int64_t)strlen(piece);

    if (built < MOST_TEXT)
        memcpy(building + built, piece, (size_t)size);
    built += built < MOST_TEXT ? size : 0;
}

static void add_piece(void)
{
    if (any(30))
        add(pieces[any(sizeof pieces / sizeof *pieces)]);
    else
        building[built++] = (byte)any(256);
}

static void add_string(void)
{
    static const char *const inside[] = {
        "a", "k", "time", "level", "long enough to be more than sixteen bytes", "\\n", "\\u0041",
        "\\u00e9", "\\u20ac", "\\\"", "\\\\", "\\/", "\xc3\xa9", " ", "\\ud83d\\ude00", "warn", "10",
        "2024-02-29T23:59:60.5-01:30", "1714564800.5", "\\r\\n",
    };

    add("\"");
    for (uint64_t left = any(4); left; left--)
        add(inside[any(sizeof inside / sizeof *inside)]);
    add("\"");
}

static void add_number(void)
{
    static const char *const numbers[] = {
        "0", "-0", "1", "30", "1714564800", "1714564800.123456789", "1714564800123", "-12.50", "1e5",
        "1E+05", "2.5e-99", "1e100", "99999999999999999999", "0.", "00", "-", "1e", "1e-",
    };

    add(numbers[any(sizeof numbers / sizeof *numbers)]);
}

static void add_value(int depth);

static void add_inside(int depth, int is_object)
{
    static const char *const keys[] = {"time", "ts", "@timestamp", "timestamp", "level", "severity"};

    for (uint64_t left = any(4), which = 0; left; left--, which++) {
        char key[20];

        if (which)
            add(any(20) ? "," : " ,\t");
        if (is_object) {
            snprintf(key, sizeof key, "\"k%d\"", (int)any(30));
            if (!any(3))
                snprintf(key, sizeof key, "\"%s\"", keys[any(6)]);
            add(key);
            add(any(20) ? ":" : " : ");
        }
        add_value(depth + 1);
    }
}

static void add_value(int depth)
{
    uint64_t kind = any(depth > 4 && any(40) ? 5 : 8);

    if (kind < 2) {
        add_string();
    } else if (kind < 4) {
        add_number();
    } else if (kind < 5) {
        add(any(3) ? "true" : any(2) ? "false" : "null");
    } else {
        add(kind == 5 ? "[" : "{");
        add_inside(depth, kind != 5);
        add(kind == 5 ? "]" : "}");
    }
}

static void add_nested(void)
{
    int depth = (int)any(90);

    add("{\"deep\":");
    for (int at = 0; at < depth; at++)
        add(any(2) ? "[" : "[");
    for (int at = 0; at < depth; at++)
        add("]");
    add("}");
}

static void add_docker(void)
{
    add("{\"log\":");
    add_string();
    if (any(2)) {
        built--;
        add("\\r\\n\"");
    }
    add(any(2) ? ",\"stream\":\"stdout\"" : ",\"stream\":\"stderr\"");
    add(any(9) ? ",\"time\":\"2024-05-01T00:00:00.5Z\"}" : ",\"time\":\"\"}");
}

static void add_logfmt(void)
{
    for (uint64_t left = any(6); left; left--) {
        char pair[40];

        snprintf(pair, sizeof pair, any(3) ? "k%d=v%d" : any(2) ? "key%d=\"a b %d\"" : "b%d",
                 (int)any(40), (int)any(9));
        add(any(4) ? pair : any(2) ? "level=error" : "time=2024-05-01T00:00:00Z");
        add(" ");
    }
}

static void add_line(void)
{
    if (!any(3))
        add(any(2) ? "2024-05-01T12:00:00.123456789Z stdout F " : "2024-12-31T12:00:00Z stderr P ");
    switch (any(7)) {
    case 0:
        add_docker();
        break;
    case 1:
        add_logfmt();
        break;
    case 2:
        add_nested();
        break;
    case 3:
    case 4:
        add("{");
        add_inside(0, 1);
        add("}");
        break;
    default:
        for (uint64_t left = any(20); left; left--)
            add_piece();
    }
    add(any(8) ? "\n" : "\r\n");
}

/* Lines of all kinds; sometimes a byte of them is changed, or the end is missing. */
static byte *text_of(int64_t *length)
{
    byte *text;

    built = 0;
    for (uint64_t left = any(any(10) ? 8 : 400); left; left--)
        add_line();
    for (uint64_t left = any(2) ? any(4) : 0; left && built; left--)
        building[any((uint64_t)built)] = (byte)any(256);
    if (built && !any(3))
        built -= (int64_t)any((uint64_t)(built < 40 ? built : 40));
    text = exactly(built);
    memcpy(text, building, (size_t)built);
    *length = built;
    return text;
}

static int64_t lines_in(const byte *text, int64_t length)
{
    int64_t count = sidetail_count_lines(text, length);

    return count + (length && text[length - 1] != '\n');
}

static void check_spans(const int64_t *begins, const int64_t *ends, int64_t count, int64_t length)
{
    for (int64_t row = 0; row < count; row++)
        must(begins[row] >= 0 && begins[row] <= ends[row] && ends[row] <= length);
}

static void split(const byte *text, int64_t length, struct lines *lines, int is_cri)
{
    int64_t count = lines_in(text, length);

    *lines = (struct lines){.length = length, .start = (int64_t)any(1 << 30), .count = count};
    lines->begins = column(count);
    lines->ends = column(count);
    lines->offsets = column(count);
    lines->seconds = column(count);
    lines->nanos = column(count);
    lines->marks = column(count);
    if (is_cri) {
        sidetail_split_cri(text, lines);
    } else {
        sidetail_split_lines(text, lines);
        for (int64_t row = 0; row < count; row++) {
            lines->seconds[row] = NO_TIME;
            lines->nanos[row] = lines->marks[row] = 0;
        }
    }
    check_spans(lines->begins, lines->ends, count, length);
    for (int64_t row = 0; row < count; row++) {
        must(lines->nanos[row] >= 0 && lines->nanos[row] < SECOND);
        must(lines->offsets[row] >= lines->start && lines->offsets[row] < lines->start + length);
    }
    sidetail_bits(lines->marks, count);
}

static void free_lines(struct lines *lines)
{
    free(lines->begins);
    free(lines->ends);
    free(lines->offsets);
    free(lines->seconds);
    free(lines->nanos);
    free(lines->marks);
}

static byte *gather(const byte *text, const struct lines *lines, int64_t *size)
{
    int64_t *places = column(lines->count);
    byte *out;

    *size = lines->count;
    for (int64_t row = 0; row < lines->count; row++)
        *size += lines->ends[row] - lines->begins[row];
    out = exactly(*size);
    must(sidetail_gather(text, lines->begins, lines->ends, lines->count, out, places) == *size);
    free(places);
    return out;
}

enum { MOST_STATES = 6, MOST_CLASSES = 5 };

/* An automaton that means nothing, but leads from state to state. */
static struct automaton *make_automaton(void)
{
    int64_t states = 1 + (int64_t)any(MOST_STATES), classes = 1 + (int64_t)any(MOST_CLASSES);
    int64_t width = classes + 1;
    struct automaton *automaton = exactly(sizeof *automaton);
    uint16_t *cells = exactly(2 * states * width), *entries = exactly(2 * 257);
    byte *of_bytes = exactly(256), *stays = exactly(256), *needed = exactly(3);

    for (int64_t at = 0; at < states * width; at++)
        cells[at] = (uint16_t)(at < width ? 0 : (int64_t)any((uint64_t)states) * width);
    for (int at = 0; at < 257; at++)
        entries[at] = (uint16_t)((int64_t)any((uint64_t)states) * width);
    for (int at = 0; at < 256; at++) {
        of_bytes[at] = (byte)any((uint64_t)classes);
        stays[at] = (byte)any(2);
    }
    memcpy(needed, any(2) ? "a\"\\" : "=:a", 3);
    *automaton = (struct automaton){
        .cells = cells, .classes = of_bytes, .entries = entries, .stays = stays, .needed = needed};
    automaton->idle = any(2) ? -1 : (int64_t)any((uint64_t)states) * width;
    automaton->matched = (1 + (int64_t)any((uint64_t)states)) * width;
    automaton->end = classes;
    automaton->needed_length = any(2) ? 0 : 1 + (int64_t)any(3);
    automaton->is_literal = automaton->needed_length && !any(4);
    automaton->begins_needed = (int64_t)any(2);
    automaton->reads_all = (int64_t)any(2);
    return automaton;
}

static void free_automaton(struct automaton *automaton)
{
    free((void *)(uintptr_t)automaton->cells);
    free((void *)(uintptr_t)automaton->classes);
    free((void *)(uintptr_t)automaton->entries);
    free((void *)(uintptr_t)automaton->stays);
    free((void *)(uintptr_t)automaton->needed);
    free(automaton);
}

static void find(const byte *text, const struct lines *lines)
{
    struct automaton *automaton = make_automaton();
    byte *mask = exactly(lines->count), *scratch;
    int64_t longest = 0;

    for (int64_t row = 0; row < lines->count; row++)
        if (lines->ends[row] - lines->begins[row] > longest)
            longest = lines->ends[row] - lines->begins[row];
    scratch = exactly(longest);
    sidetail_find_escaped(text, lines->begins, lines->ends, lines->count, automaton, scratch, mask);
    for (int64_t row = 0; row < lines->count; row++)
        must(mask[row] <= 1);
    free(scratch);
    sidetail_find(text, lines->begins, lines->ends, lines->count, automaton, mask);
    for (int64_t row = 0; row < lines->count; row++)
        must(mask[row] <= NOT_UTF8 && (automaton->reads_all || mask[row] != NOT_UTF8));
    free(mask);
    free_automaton(automaton);
}

static void check_matches(const struct lines *lines, const int64_t *spans, int64_t found)
{
    int64_t row = 0;

    for (int64_t at = 0; at < found; at++) {
        must(spans[2 * at] < spans[2 * at + 1]);
        must(!at || spans[2 * at - 1] <= spans[2 * at]);
        while (lines->ends[row] <= spans[2 * at])
            row++;
        must(row < lines->count && lines->begins[row] <= spans[2 * at]);
        must(spans[2 * at + 1] <= lines->ends[row]);
    }
}

/* Find all matches, at first with too little room. */
static int64_t *find_all(const byte *text, const struct lines *lines, int64_t *found)
{
    struct matches matches = {.begin = make_automaton(), .end = make_automaton()};

    matches.room = (int64_t)any(4);
    for (int turn = 0; turn < 2; turn++) {
        matches.spans = exactly(16 * matches.room);
        sidetail_find_all(text, lines->begins, lines->ends, lines->count, &matches);
        check_matches(lines, matches.spans,
                      matches.found < matches.room ? matches.found : matches.room);
        if (!turn) {
            free(matches.spans);
            matches.room = matches.found;
        }
    }
    must(matches.found == matches.room);
    free_automaton((struct automaton *)(uintptr_t)matches.begin);
    free_automaton((struct automaton *)(uintptr_t)matches.end);
    *found = matches.found;
    return matches.spans;
}

static void redact(const byte *text, const struct lines *lines)
{
    struct redaction redaction = {.mark = (const byte *)"[redacted]", .mark_length = 10};
    byte *crossing = exactly(lines->count);
    int64_t *begins = column(lines->count), *ends = column(lines->count), size = lines->count;
    int64_t *marks = column(lines->count);

    redaction.spans = find_all(text, lines, &redaction.span_count);
    for (int64_t row = 0; row < lines->count; row++)
        size += lines->ends[row] - lines->begins[row];
    for (int64_t at = 0; at < redaction.span_count; at++)
        size += 10 - (redaction.spans[2 * at + 1] - redaction.spans[2 * at]);
    redaction.out = exactly(size);
    redaction.begins = column(lines->count);
    redaction.ends = column(lines->count);
    redaction.changed = exactly(lines->count);
    must(sidetail_redact(text, lines->begins, lines->ends, lines->count, &redaction) == size);
    check_spans(redaction.begins, redaction.ends, lines->count, size);
    sidetail_find_crossing_pairs(text, lines->begins, lines->ends, lines->count, redaction.spans,
                                 redaction.span_count, crossing);
    for (int64_t row = 0; row < lines->count; row++)
        must(crossing[row] <= redaction.changed[row]);
    sidetail_find_crossing(text, lines->begins, lines->ends, lines->count, redaction.spans,
                           redaction.span_count, crossing);
    for (int64_t row = 0; row < lines->count; row++) {
        must(redaction.changed[row] <= 1 && crossing[row] <= redaction.changed[row]);
        must(redaction.out[redaction.ends[row]] == '\n');
        marks[row] = any(3) ? 0 : PARSED_APART;
        begins[row] = lines->begins[row];
        ends[row] = any(3) ? lines->ends[row] : begins[row];
    }
    sidetail_move_objects(lines->count, lines->begins, lines->ends, redaction.begins,
                          redaction.ends, marks, begins, ends);
    for (int64_t row = 0; row < lines->count; row++)
        if (!marks[row] && begins[row] < ends[row])
            must(begins[row] == redaction.begins[row] && ends[row] == redaction.ends[row]);
    free((void *)(uintptr_t)redaction.spans);
    free(redaction.out);
    free(redaction.begins);
    free(redaction.ends);
    free(redaction.changed);
    free(crossing);
    free(begins);
    free(ends);
    free(marks);
}

/* Read objects; the columns of `lines` are changed as the transform changes them. */
static void read_objects(const byte *text, int64_t length, struct lines *lines, int64_t format,
                         struct objects *objects)
{
    int64_t room = format == LOGFMT ? 5 * length + 8 * lines->count : format == DOCKER ? length : 0;

    *objects = (struct objects){.format = format, .length = length, .count = lines->count};
    objects->begins = lines->begins;
    objects->ends = lines->ends;
    objects->seconds = lines->seconds;
    objects->nanos = lines->nanos;
    objects->marks = lines->marks;
    objects->parsed_begins = column(lines->count);
    objects->parsed_ends = column(lines->count);
    objects->spellings = spellings;
    objects->out = exactly(room);
    sidetail_read_objects(text, objects);
    must(objects->out_size <= room);
    for (int64_t row = 0; row < lines->count; row++) {
        int64_t most = format == DOCKER || lines->marks[row] & PARSED_APART ? room : length;

        check_spans(objects->parsed_begins + row, objects->parsed_ends + row, 1, most);
        must(lines->nanos[row] >= 0 && lines->nanos[row] < SECOND);
        lines->marks[row] &= ~(int64_t)(UNSURE | PARTIAL);
    }
}

static int64_t add_text(int64_t *program, int64_t at, byte *literals, int64_t *used)
{
    int64_t length = any(3) ? (int64_t)any(12) : (int64_t)any(2500);

    for (int64_t place = 0; place < length; place++)
        literals[*used + place] = (byte)any(256);
    program[at++] = *used;
    program[at++] = length;
    *used += length;
    return at;
}

/* Make a program of a few operations; return its length. */
static int64_t make_program(int64_t *program, byte *literals, int64_t *used)
{
    int64_t length = 0;

    *used = 0;
    for (uint64_t left = any(7); left; left--) {
        int64_t code = (int64_t)any(OPERATIONS), numbers = operands[code];

        program[length++] = code;
        if (code == OFFSET || code == MAP_HEADER)
            program[length++] = (int64_t)any(2);
        else if (code == TIME || code == READ_AT)
            program[length++] = (int64_t)any(4);
        else if (code == MESSAGE)
            program[length++] = (int64_t)any(3);
        else {
            if (numbers % 2)
                program[length++] = (int64_t)any(code == RAW_MESSAGE ? 3 : 2);
            for (int64_t text = 0; text < numbers / 2; text++)
                length = add_text(program, length, literals, used);
        }
    }
    return length;
}

static int64_t any_second(void)
{
    return (int64_t)any(UINT64_C(62135596800) + UINT64_C(253402300800)) + FIRST_SECOND;
}

static int64_t *maybe(int64_t *all)
{
    return any(3) ? all : NULL;
}

static void encode(const byte *text, int64_t length, const struct lines *lines,
                   const struct objects *objects)
{
    int64_t program[256], used, *truncated = column(lines->count);
    byte *scratch_literals = exactly(300000), *literals;
    struct job job = {.text_length = length, .count = lines->count, .start = (int64_t)any(1 << 30)};
    int64_t *ends = column(lines->count), begun;

    job.program_length = make_program(program, scratch_literals, &used);
    literals = exactly(used);
    memcpy(literals, scratch_literals, (size_t)used);
    free(scratch_literals);
    for (int64_t row = 0; row < lines->count; row++)
        truncated[row] = (int64_t)any(3) * (1 << 20);
    if (!any(3))
        for (int64_t row = 0; row < lines->count; row++)
            lines->seconds[row] = any(4) ? any_second() : NO_TIME;
    job.framed = (int64_t)any(2);
    job.increasing = (int64_t)any(2);
    job.must = (int64_t)any(3);
    job.read_second = (int64_t)any(1ULL << 33);
    job.read_nano = (int64_t)any(SECOND);
    job.last_second = job.read_second + (int64_t)any(3) - 1;
    job.last_nano = any(4) ? (int64_t)any(SECOND) : SECOND - 1;
    job.limit = any(2) ? (int64_t)any(5000) : INT64_MAX;
    job.capacity = (int64_t)any(3000);
    job.size = begun = (int64_t)any(10) > job.capacity ? 0 : (int64_t)any((uint64_t)job.capacity + 1);
    if (any(3)) {
        job.begins = lines->begins;
        job.ends = lines->ends;
        job.offsets = lines->offsets;
        job.seconds = maybe(lines->seconds);
        job.nanos = lines->nanos;
        job.marks = maybe(lines->marks);
        job.truncated = maybe(truncated);
        if (job.marks && objects->format != DOCKER) {
            job.parsed_begins = maybe(objects->parsed_begins);
            job.parsed_ends = objects->parsed_ends;
        }
    }
    job.record_ends = maybe(ends);
    for (;;) {
        int64_t outcome;

        job.size = begun;
        job.out = exactly(job.capacity);
        outcome = sidetail_encode(text, objects->out, literals, program, &job);
        must(job.size <= job.capacity && job.done >= 0 && job.done <= job.count);
        must(outcome != ALL || job.done == job.count);
        must(outcome != LIMIT_REACHED || job.done >= job.must);
        free(job.out);
        if (outcome != NEED_ROOM)
            break;
        must(job.needed > job.capacity);
        job.capacity = job.needed;
    }
    free(literals);
    free(truncated);
    free(ends);
}

static void make_records(const byte *text, int64_t length)
{
    int64_t key_length = (int64_t)any(200), begun = (int64_t)any(100), most, made = 0;
    byte *key = exactly(key_length), *exact = exactly(length);
    struct records records = {.text = exact, .length = length, .key = key};

    memset(key, 'k', (size_t)key_length);
    memcpy(exact, text, (size_t)length);
    records.key_length = key_length;
    records.limit = any(2) ? (int64_t)any(1000) : INT64_MAX;
    most = sidetail_count_lines(exact, length) + 1;
    while (records.length) {
        records.out = exactly(begun + records.length + most * (24 + key_length));
        records.size = begun;
        records.count = 0;
        sidetail_make_records(&records);
        must(records.count > 0 && records.taken > 0 && records.taken <= records.length);
        must(records.size <= records.limit || records.count == 1);
        made += records.count;
        records.text += records.taken;
        records.length -= records.taken;
        free(records.out);
    }
    must(made == most - (length == 0 || exact[length - 1] == '\n'));
    free(exact);
    free(key);
}

static void one_round(void)
{
    int64_t length, size;
    byte *text = text_of(&length), *side_by_side;
    struct objects objects;
    struct lines lines;

    split(text, length, &lines, (int)any(2));
    side_by_side = gather(text, &lines, &size);
    find(text, &lines);
    redact(text, &lines);
    read_objects(text, length, &lines, (int64_t)any(4), &objects);
    encode(text, length, &lines, &objects);
    make_records(text, length);
    must(lines_in(side_by_side, size) >= lines.count);
    free(objects.parsed_begins);
    free(objects.parsed_ends);
    free(objects.out);
    free_lines(&lines);
    free(side_by_side);
    free(text);
}

int main(int count, char **arguments)
{
    FILE *file = count == 4 ? fopen(arguments[3], "rb") : NULL;
    long rounds = count == 4 ? atol(arguments[2]) : 0;
    byte whole[4096];
    size_t size = file ? fread(whole, 1, sizeof whole, file) : 0;

    must(size && rounds > 0);
    fclose(file);
    spellings = exactly((int64_t)size);
    memcpy(spellings, whole, size);
    state = strtoull(arguments[1], NULL, 10) * 2 + 1;
    for (long round = 0; round < rounds; round++)
        one_round();
    free(spellings);
    printf("%ld rounds\n", rounds);
    return 0;
}
