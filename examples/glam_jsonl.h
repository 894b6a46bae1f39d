/* glam_jsonl.h - lines of JSON in and out, and any other file that is read line by line: lines of
   any length, from a file or from standard input (-); files written whole or not at all.
   A part of glam.c.

       jsonl in;
       if (jsonl_open(&in, path)) return FAILED;
       while ((got = jsonl_next(&in)) > 0) {                        // -1: it has been said
           json_text query, *choices;
           int count;
           double gold;
           if (json_string(&in, "query", &query) < 1) ...           // 0: there is none
           if (json_strings(&in, "choices", &choices, &count) < 1) ...
           if (json_number(&in, "gold", &gold) < 1) ...
       }
       jsonl_close(&in);

   What json_string and its like give lives until the next line.  A name that stands twice means
   the last one, as in most readers.  Bytes above 127 are taken as they are.  What a value is
   glam_hub.h knows; here is where it stands: the file, the line, the column. */

#ifndef GLAM_JSONL_H
#define GLAM_JSONL_H

// == lines ==================================================================================

typedef struct lines {
    const char *name;                            // what messages call it
    FILE       *file;
    uint64_t    number;                          // of the line, from 1
    uint64_t    read, size;                      // bytes so far and in all; size 0: a pipe
    char       *text;                            // the line, a 0 behind it in place of its \n
    size_t      length;
    char       *block;
    size_t      room, begin, scanned, end;       // of the block: read and not yet given
    int         over;
} lines;

// Reads an open file, which lines_close will close.
static int lines_use(lines *l, const char *name, FILE *file)
{
    struct stat at;
    memset(l, 0, sizeof *l);
    l->name = name;
    l->file = file;
    if (!file) return complain(FAILED, "%s: cannot be opened: %s", name, strerror(errno));
    if (fstat(fileno(file), &at) == 0 && (at.st_mode & S_IFMT) == S_IFREG)
        l->size = (uint64_t)at.st_size;
    l->room = (size_t)1 << 20;
    l->block = (char *)need(l->room + 1);
    return DONE;
}

static int lines_open(lines *l, const char *path)
{
    memset(l, 0, sizeof *l);
    if (kind_of(path) == FOLDER)
        return complain(FAILED, "%s is a folder; name the files in it", path);
    return strcmp(path, "-") == 0 ? lines_use(l, "standard input", stdin)
                                  : lines_use(l, path, fopen(path, "rb"));
}

static void lines_close(lines *l)
{
    if (l->file && l->file != stdin) fclose(l->file);
    free(l->block);
    memset(l, 0, sizeof *l);
}

// More bytes behind those not yet given.  -1: cannot be read.
static int lines_fill(lines *l)
{
    memmove(l->block, l->block + l->begin, l->end - l->begin);
    l->scanned -= l->begin;
    l->end -= l->begin;
    l->begin = 0;
    if (l->end == l->room) {
        char *larger = (char *)need(2 * l->room + 1);
        memcpy(larger, l->block, l->end);
        free(l->block);
        l->block = larger;
        l->room *= 2;
    }
    size_t got = fread(l->block + l->end, 1, l->room - l->end, l->file);
    l->end += got;
    if (got) return 1;
    l->over = 1;
    if (!ferror(l->file)) return 0;
    complain(FAILED, "%s:%" PRIu64 ": cannot be read: %s", l->name, l->number + 1, strerror(errno));
    return -1;
}

// The next line.  1: there is one, 0: there are no more, -1: it cannot be read, which is told.
static int lines_next(lines *l)
{
    char *found = NULL;
    while ((found = (char *)memchr(l->block + l->scanned, '\n', l->end - l->scanned)) == NULL) {
        l->scanned = l->end;
        int got = l->over ? 0 : lines_fill(l);
        if (got < 0) return -1;
        if (got == 0) break;
    }
    if (!found && l->begin == l->end) return 0;
    l->text = l->block + l->begin;
    l->length = found ? (size_t)(found - l->text) : l->end - l->begin;
    l->text[l->length] = 0;
    l->begin += l->length + (found != NULL);
    l->scanned = l->begin;
    l->read += l->length + (found != NULL);
    if (l->number++ == 0 && l->length >= 3 && memcmp(l->text, "\xef\xbb\xbf", 3) == 0) {
        l->text += 3;                            // the mark that some editors begin a file with
        l->length -= 3;
    }
    return 1;
}

// == one line of JSON =======================================================================

typedef struct json_text { const char *text; size_t length; } json_text;   // and a 0 behind it

// Strings of a line, as json_strings gave them.
typedef struct json_list {
    struct json_list *next;
    json_text         of[1];                     // and more
} json_list;

typedef struct jsonl {
    lines      in;
    char      *copy;                             // of the line: strings are decoded in place
    size_t     room;
    hub_json  *line;                             // the object; NULL: none
    json_list *lists;
    int        quiet;                            // nothing is said of what is wrong
} jsonl;

static inline int jsonl_open(jsonl *j, const char *path)
{
    memset(j, 0, sizeof *j);
    return lines_open(&j->in, path);
}

static void jsonl_forget(jsonl *j)
{
    hub_json_free(j->line);
    j->line = NULL;
    for (json_list *next; j->lists; j->lists = next) {
        next = j->lists->next;
        free(j->lists);
    }
}

static inline void jsonl_close(jsonl *j)
{
    jsonl_forget(j);
    lines_close(&j->in);
    free(j->copy);
    memset(j, 0, sizeof *j);
}

// Says what is wrong in this line, with the file and the line; returns -1.
static int jsonl_wrong(const jsonl *j, const char *format, ...) GLAM_FORMAT(2, 3);
static int jsonl_wrong(const jsonl *j, const char *format, ...)
{
    char what[400];
    va_list args;
    if (j->quiet) return -1;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    complain(FAILED, "%s:%" PRIu64 ": %s", j->in.name, j->in.number, what);
    return -1;
}

// The object of the line.
static int json_object(jsonl *j)
{
    const char *wrong = "an object { ... } is wanted";
    size_t bytes = j->in.length, at = strspn(j->in.text, " \t\r");
    if (j->room <= bytes) {
        free(j->copy);
        j->room = 2 * bytes + 1;
        j->copy = (char *)need(j->room);
    }
    memcpy(j->copy, j->in.text, bytes);
    j->copy[bytes] = 0;
    if (j->copy[at] == '{') j->line = hub_json_read(j->copy, bytes, 1, &wrong, &at);
    if (!j->line) jsonl_wrong(j, "column %.0f: %s", (double)at + 1, wrong);
    return j->line != NULL;
}

// The next line that is not blank.  1: an object, 0: no more lines, -1: wrong, which is told.
static inline int jsonl_next(jsonl *j)
{
    int got;
    jsonl_forget(j);
    while ((got = lines_next(&j->in)) > 0)
        if (strspn(j->in.text, " \t\r") < j->in.length) return json_object(j) ? 1 : -1;
    return got;
}

static const hub_json *json_find(const jsonl *j, const char *name) { return hub_get(j->line, name); }

static const char *json_kind_name(hub_type type)
{
    static const char *const names[] = { "null", "true or false", "true or false", "a number", "a string",
                                         "a list", "an object" };     // hub_type
    return names[type];
}

// A field of that kind.  1: here, 0: no such field, -1: of another kind, which is told.
static int json_of_kind(jsonl *j, const char *name, hub_type type, const hub_json **field)
{
    *field = json_find(j, name);
    if (!*field) return 0;
    if ((*field)->type == type) return 1;
    return jsonl_wrong(j, "the field \"%s\" is %s; %s is wanted", name,
                       json_kind_name((*field)->type), json_kind_name(type));
}

static json_text json_text_of(const hub_json *n)
{
    json_text text = { n->text, n->length };
    return text;
}

static inline int json_string(jsonl *j, const char *name, json_text *text)
{
    const hub_json *f;
    int got = json_of_kind(j, name, HUB_STRING, &f);
    text->text = "";
    text->length = 0;
    if (got == 1) *text = json_text_of(f);
    return got;
}

// A list of strings, as pointers into the line's memory.
static inline int json_strings(jsonl *j, const char *name, json_text **list, int *count)
{
    const hub_json *f;
    int got = json_of_kind(j, name, HUB_ARRAY, &f);
    *list = NULL;
    *count = 0;
    if (got < 1) return got;
    json_list *made = (json_list *)need(sizeof *made + (size_t)f->count * sizeof *made->of);
    made->next = j->lists;
    j->lists = made;
    for (const hub_json *m = f->first; m; m = m->next) {
        if (m->type != HUB_STRING)
            return jsonl_wrong(j, "the field \"%s\": item %d is no string", name, *count);
        made->of[(*count)++] = json_text_of(m);
    }
    *list = made->of;
    return 1;
}

static inline int json_number(jsonl *j, const char *name, double *value)
{
    const hub_json *f;
    int got = json_of_kind(j, name, HUB_NUMBER, &f);
    *value = got == 1 ? f->number : 0;
    return got;
}

// Where a field of that name has its value in the line, or where one more may be put: behind the last.
static void json_place_of(const jsonl *j, const char *name, size_t *at, size_t *end)
{
    const hub_json *f = json_find(j, name), *last = j->line->first;
    while (last && last->next) last = last->next;
    *at = f ? f->at : last ? last->end : j->line->at + 1;
    *end = f ? f->end : *at;
}

// == writing ================================================================================

// A line that is made in memory.
typedef struct json_out { char *text; size_t length, room; } json_out;

static void json_put(json_out *o, const char *bytes, size_t count)
{
    if (o->length + count + 1 > o->room) {
        o->room = 2 * o->room + count + 1000;
        char *larger = (char *)need(o->room);
        if (o->length) memcpy(larger, o->text, o->length);
        free(o->text);
        o->text = larger;
    }
    if (count) memcpy(o->text + o->length, bytes, count);
    o->length += count;
    o->text[o->length] = 0;
}

static void json_printf(json_out *o, const char *format, ...) GLAM_FORMAT(2, 3);
static void json_printf(json_out *o, const char *format, ...)
{
    char some[400];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(some, sizeof some, format, args);
    va_end(args);
    json_put(o, some, length < 0 ? 0 : (size_t)length < sizeof some ? (size_t)length
                                                                    : sizeof some - 1);
}

// A string with its quotes.  What is no UTF-8 becomes U+FFFD, byte by byte: JSON cannot say it.
static inline void json_put_text(json_out *o, const char *text, size_t length)
{
    const unsigned char *t = (const unsigned char *)text;
    json_put(o, "\"", 1);
    for (size_t i = 0, from = 0; ; i++) {
        while (i < length && t[i] >= 32 && t[i] < 127 && t[i] != '"' && t[i] != '\\') i++;
        uint32_t code = 0;
        int left = length - i < 4 ? (int)(length - i) : 4;
        int wide = i < length && t[i] >= 128 ? utf8_character(t + i, left, &code) : 0;
        if (wide > 1) {
            i += (size_t)wide - 1;
            continue;
        }
        json_put(o, text + from, i - from);
        if (i >= length) break;
        from = i + 1;
        if (t[i] >= 128) json_put(o, "\xef\xbf\xbd", 3);
        else if (t[i] == '"' || t[i] == '\\') json_printf(o, "\\%c", t[i]);
        else if (t[i] == '\n') json_put(o, "\\n", 2);
        else if (t[i] == '\t') json_put(o, "\\t", 2);
        else if (t[i] == '\r') json_put(o, "\\r", 2);
        else json_printf(o, "\\u%04x", t[i]);
    }
    json_put(o, "\"", 1);
}

// The line as it came, with this field (its value as JSON) added or put in place of an old one.
static inline void json_put_line_with(json_out *o, const jsonl *j, const char *name, const char *value)
{
    size_t at, end;
    json_place_of(j, name, &at, &end);
    json_put(o, j->in.text, at);
    if (at == end) json_printf(o, "%s\"%s\":", j->line->first ? "," : "", name);
    json_put(o, value, strlen(value));
    json_put(o, j->in.text + end, j->in.length - end);
}

// A file that appears under its name when it is whole, or standard output.  Ctrl-C leaves nothing.
typedef struct outfile {
    const char *path;                            // NULL: standard output
    FILE       *file;
    char       *fresh;                           // the name until it is whole
    uint64_t    bytes;
} outfile;

static char fresh_names[4][4096];                // of outfiles, for the handler of signals
static volatile sig_atomic_t saving = 0, waits = 0;    // waits: the signal that came meanwhile

static void leave_nothing(int number)
{
    const char *unfinished = hub_unfinished();
    if (saving && !waits) {
        waits = number;
        say_at_once("\nglam: the file is finished first; once more ends at once\n");
#ifndef HAVE_UNISTD
        signal(number, leave_nothing);
#endif
        return;
    }
    for (int i = 0; i < 4; i++) if (fresh_names[i][0]) unlink(fresh_names[i]);
    if (unfinished) unlink(unfinished);
    remove_reservations();
    signal(number, SIG_DFL);
    raise(number);
}

// For commands that end at once when a signal comes: half a file stays nowhere.
static void catch_and_leave_nothing(void)
{
    catch_signal(SIGINT, leave_nothing);
    catch_signal(SIGTERM, leave_nothing);
#ifdef HAVE_UNISTD
    catch_signal(SIGHUP, leave_nothing);
#endif
}

// What glam_save has begun only it can take away: a signal waits until the file is whole.
static void save_whole(const glam_model *model, const char *path)
{
    saving = 1;
    glam_save(model, path);
    saving = 0;
    if (waits) leave_nothing(waits);
}

// In the list of the handler: one name for another, NULL for none.  The name is there before its file
// is, and is this process's own, so that a signal may come at any moment.
static void note_fresh(const char *old, const char *fresh)
{
    for (int i = 0; i < 4; i++) {
        char *name = fresh_names[i];
        if (strcmp(name, old ? old : "") != 0) continue;
        if (fresh && strlen(fresh) < sizeof fresh_names[i]) {
            strcpy(name + 1, fresh + 1);
            *name = *fresh;                      // it counts from here on
        } else *name = 0;
        return;
    }
}

// Which option names it, for messages.  path NULL or "-": standard output.
static inline int outfile_open(outfile *o, const char *which, const char *path, int force)
{
    memset(o, 0, sizeof *o);
    o->file = stdout;
    if (!path || strcmp(path, "-") == 0) return DONE;
    if (check_writable(which, path, force)) return FAILED;
    o->path = path;
    catch_and_leave_nothing();
    for (int i = 0, handle = -1; handle < 0; i++) {
        o->fresh = joined("%s.%ld.part", path, (long)getpid() + i);
        note_fresh(NULL, o->fresh);
        handle = open(o->fresh, O_WRONLY | O_CREAT | O_EXCL | O_BINARY | O_CLOEXEC, 0666);
        if (handle >= 0) o->file = fdopen(handle, "wb");
        else if (errno != EEXIST || i > 1000) {
            complain(FAILED, "--%s %s cannot be written: %s", which, path, strerror(errno));
            note_fresh(o->fresh, NULL);
            free(o->fresh);
            o->fresh = NULL;
            return FAILED;
        } else {
            note_fresh(o->fresh, NULL);
            free(o->fresh);
        }
    }
    return DONE;
}

static inline int outfile_write(outfile *o, const char *bytes, size_t count)
{
    o->bytes += count;
    if (fwrite(bytes, 1, count, o->file) == count) return DONE;
    return complain(FAILED, "%s cannot be written: %s", o->path ? o->path : "standard output",
                    strerror(errno));
}

// keep: put it in place; else it is thrown away.
static inline int outfile_close(outfile *o, int keep)
{
    int status = DONE;
    if (!o->path || !o->fresh) return keep && fflush(stdout) ? FAILED : DONE;
    errno = 0;
    int bad = fflush(o->file) != 0 || ferror(o->file);
#ifdef HAVE_UNISTD
    if (keep && !bad) bad = fsync(fileno(o->file)) != 0 && errno != EINVAL;
#endif
    bad |= fclose(o->file) != 0;
    note_fresh(o->fresh, NULL);
#ifdef _WIN32
    if (keep && !bad) remove(o->path);           // it renames over nothing
#endif
    if (keep && !bad) bad = rename(o->fresh, o->path) != 0;
    if (keep && bad)
        status = complain(FAILED, "%s cannot be written: %s", o->path, strerror(errno));
    if (!keep || bad) unlink(o->fresh);
    free(o->fresh);
    memset(o, 0, sizeof *o);
    return status;
}

#endif
