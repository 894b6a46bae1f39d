/* glam_documents.h - a stream of documents from files: lines of JSON with a field "text", or plain
   text, cut at blank lines or not at all.  A name that ends in .jsonl is always the first; of
   others --documents says, or else the first byte.  A part of glam.c.

   Files may be larger than memory: a batch of documents is held at a time.  A document keeps the
   line it came in, so that it can be passed on byte for byte. */

#ifndef GLAM_DOCUMENTS_H
#define GLAM_DOCUMENTS_H

enum { BATCH_BYTES = 8 << 20, BATCH_DOCUMENTS = 4096 };
typedef enum cutting { BY_NAME, AT_LINES, AT_BLANKS, AT_FILES } cutting;

// Where a document is in its batch's pool: its text; its line of JSON (bytes 0: plain text), and
// the place in that for one field more.
typedef struct document_place {
    size_t   text, bytes, line, line_bytes;
    size_t   cut, resume;                        // the line without its old field
    int      old;                                // there is one
    uint64_t number;                             // line of the file where it begins
} document_place;

typedef struct document_stream {
    char          **paths;
    int             count, file;                 // files; the one that is open, from 1
    cutting         ask, cut;                    // asked for; of this file
    const char     *field;                       // to be added to lines; NULL: none
    FILE           *copy;                        // of standard input, for a second reading
    jsonl           in;
    int             open;
    char           *pool;                        // of this batch
    size_t          used, room;
    document_place *places;
    glam_document  *documents;
    int             held;
    uint64_t        given, given_bytes, read, all; // documents and their bytes; bytes of files
    time_t          shown;
    double          began;
} document_stream;

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int has_ending(const char *path, const char *ending)
{
    size_t a = strlen(path), b = strlen(ending);
    return a >= b && strcmp(path + a - b, ending) == 0;
}

static int read_cutting(const char *word, cutting *out)
{
    static const char *const names[] = { "", "lines", "blank", "file" };
    for (int i = 1; word && i < 4; i++)
        if (strcmp(word, names[i]) == 0) {
            *out = (cutting)i;
            return DONE;
        }
    *out = BY_NAME;
    if (word && strcmp(word, "rows") == 0)
        return complain(USAGE, "--documents rows is for train alone");
    return word ? complain(USAGE, "--documents %s: lines (of JSON), blank or file is wanted, or rows in train", word)
                : DONE;
}

static void documents_begin(document_stream *d, char **paths, int count, cutting ask)
{
    memset(d, 0, sizeof *d);
    d->paths = paths;
    d->count = count;
    d->ask = ask;
    d->places = (document_place *)need(BATCH_DOCUMENTS * sizeof *d->places);
    d->documents = (glam_document *)need(BATCH_DOCUMENTS * sizeof *d->documents);
    d->began = now_seconds();
    for (int i = 0; i < count; i++) {
        struct stat at;
        if (stat(paths[i], &at) == 0 && (at.st_mode & S_IFMT) == S_IFREG)
            d->all += (uint64_t)at.st_size;
    }
}

static void documents_end(document_stream *d)
{
    if (d->open) jsonl_close(&d->in);
    free(d->pool);
    free(d->places);
    free(d->documents);
    memset(d, 0, sizeof *d);
}

// Standard input can be read once: what has to be read twice is copied to a nameless file first.
static int documents_keep_input(document_stream *d)
{
    size_t got, bytes = (size_t)1 << 20;
    int found = 0;
    for (int i = 0; i < d->count; i++) found |= strcmp(d->paths[i], "-") == 0;
    if (!found) return DONE;
    char *block = (char *)need(bytes);
    d->copy = tmpfile();
    if (!d->copy) {
        free(block);
        return complain(FAILED, "standard input is read twice, and there is no room for a copy of "
                        "it: %s", strerror(errno));
    }
    int bad = 0;
    while (!bad && (got = fread(block, 1, bytes, stdin)) > 0) {
        bad = fwrite(block, 1, got, d->copy) != got;
        d->all += got;
    }
    bad |= fflush(d->copy) != 0;
    free(block);
    return bad ? complain(FAILED, "standard input is read twice, and its copy cannot be written: "
                          "%s", strerror(errno)) : DONE;
}

// The next file; 0: there are no more, -1: it cannot be opened, which is told.
static int documents_open(document_stream *d)
{
    if (d->open) {
        d->read += d->in.in.read;
        jsonl_close(&d->in);
    }
    d->open = 0;
    if (d->file == d->count) return 0;
    const char *path = d->paths[d->file++];
    if (strcmp(path, "-") == 0 && d->copy) {
        rewind(d->copy);
        memset(&d->in, 0, sizeof d->in);
        if (lines_use(&d->in.in, "standard input", fdopen(dup(fileno(d->copy)), "rb"))) return -1;
    } else if (jsonl_open(&d->in, path)) return -1;
    d->open = 1;
    d->cut = has_ending(path, ".jsonl") ? AT_LINES : d->ask;
    if (d->cut == BY_NAME) {
        const lines *l = &d->in.in;
        if (lines_fill(&d->in.in) < 0) return -1;
        size_t at = 0;
        while (at < l->end && strchr(" \t\r\n", l->block[at])) at++;
        d->cut = at < l->end && l->block[at] == '{' ? AT_LINES : AT_BLANKS;
    }
    return 1;
}

static size_t pool_put(document_stream *d, const char *bytes, size_t count)
{
    size_t at = d->used;
    if (at + count + 1 > d->room) {
        d->room = 2 * d->room + count + 1;
        char *larger = (char *)need(d->room);
        if (at) memcpy(larger, d->pool, at);
        free(d->pool);
        d->pool = larger;
    }
    if (count) memcpy(d->pool + at, bytes, count);
    d->pool[at + count] = 0;
    d->used = at + count;
    return at;
}

// A line of JSON as a document.  1, 0: the file is over, -1: wrong, which is told.
static int documents_line(document_stream *d, document_place *p)
{
    json_text text;
    int got = jsonl_next(&d->in);
    if (got < 1) return got;
    got = json_string(&d->in, "text", &text);
    if (got == 0) got = jsonl_wrong(&d->in, "there is no field \"text\"");
    if (got < 1) return -1;
    p->text = pool_put(d, text.text, text.length);
    p->bytes = text.length;
    p->line = pool_put(d, d->in.in.text, d->in.in.length);
    p->line_bytes = d->in.in.length;
    p->number = d->in.in.number;
    if (!d->field) return 1;
    json_place_of(&d->in, d->field, &p->cut, &p->resume);
    p->old = p->resume > p->cut;
    return 1;
}

static int is_blank(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) if (!strchr(" \t\r", text[i]) || !text[i]) return 0;
    return 1;
}

// Plain lines up to a blank one, or all of them.
static int documents_lines(document_stream *d, document_place *p)
{
    lines *l = &d->in.in;
    int got, some = 0;
    p->text = d->used;
    p->line = p->line_bytes = 0;
    while ((got = lines_next(l)) > 0) {
        int blank = d->cut == AT_BLANKS && is_blank(l->text, l->length);
        if (blank && some) break;
        if (blank) continue;
        if (!some) p->number = l->number;
        if (some) pool_put(d, "\n", 1);
        some = 1;
        pool_put(d, l->text, l->length);
    }
    if (got < 0) return -1;
    p->bytes = d->used - p->text;
    return some;
}

// Every few seconds where it is: on a terminal in place.
static void documents_show(document_stream *d, const char *what, int last)
{
    static int width = 0;
    int terminal = 0;
    time_t now = time(NULL);
#ifdef HAVE_UNISTD
    terminal = isatty(2);
#endif
    if (!d->shown) d->shown = now;
    if (last && width) fprintf(stderr, "\r%*s\r", width, "");
    if (last) width = 0;
    if (last || now - d->shown < (terminal ? 1 : 8)) return;
    d->shown = now;
    uint64_t read = d->read + (d->open ? d->in.in.read : 0);
    double seconds = now_seconds() - d->began;
    char line[200];
    snprintf(line, sizeof line, "%s: %s of %s, %s documents, %s/s", what,
             show_bytes((double)read), d->all ? show_bytes((double)d->all) : "a pipe",
             show_commas(d->given), show_bytes((double)read / (seconds > 0 ? seconds : 1)));
    if (!terminal) fprintf(stderr, "%s\n", line);
    else width = fprintf(stderr, "\r%-*s", width, line) - 1;
    fflush(stderr);
}

// The next batch: how many documents; 0: there are no more, -1: something is wrong, which is told.
static int documents_next(document_stream *d)
{
    d->held = 0;
    d->used = 0;
    while (d->held < BATCH_DOCUMENTS && d->used < BATCH_BYTES) {
        document_place *p = &d->places[d->held];
        int got = !d->open ? 0 : d->cut == AT_LINES ? documents_line(d, p) : documents_lines(d, p);
        if (got < 0) return -1;
        d->held += got;
        if (got) continue;
        got = documents_open(d);
        if (got < 0) return -1;
        if (got == 0) break;
    }
    for (int i = 0; i < d->held; i++) {
        d->documents[i].text = d->pool + d->places[i].text;
        d->documents[i].bytes = d->places[i].bytes;
        d->given_bytes += d->places[i].bytes;
    }
    d->given += (uint64_t)d->held;
    return d->held;
}

// Document i of the batch: as lines of JSON (value NULL: nothing is added), or as plain text with
// a blank line behind it.
static void document_put(json_out *o, const document_stream *d, int i, int as_json,
                         const char *value)
{
    const document_place *p = &d->places[i];
    const char *line = d->pool + p->line;
    if (!as_json) {
        json_put(o, d->pool + p->text, p->bytes);
        json_put(o, "\n\n", 2);
        return;
    }
    if (p->line_bytes && value) {
        json_put(o, line, p->cut);
        if (!p->old) json_printf(o, ",\"%s\":", d->field);
        json_put(o, value, strlen(value));
        json_put(o, line + p->resume, p->line_bytes - p->resume);
    } else if (p->line_bytes) {
        json_put(o, line, p->line_bytes);
    } else {
        json_put(o, "{\"text\":", 8);
        json_put_text(o, d->pool + p->text, p->bytes);
        if (value) json_printf(o, ",\"%s\":%s", d->field, value);
        json_put(o, "}", 1);
    }
    json_put(o, "\n", 1);
}

#endif
