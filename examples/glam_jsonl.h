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
   the last one, as in most readers.  Bytes above 127 are taken as they are. */

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

typedef struct json_field {
    json_text name;
    char      kind;                              // " [ { 0 (a number) t f n
    size_t    at, end;                           // of its value in the line
    int       decoded, items;
    json_text text, *list;
} json_field;

typedef struct jsonl {
    lines       in;
    size_t      at;                              // the parser's place in the line
    json_field *fields;
    int         count, room;
    char       *decoded;                         // no string is longer decoded than in the line
    size_t      used, decoded_room;
    int         quiet;                           // nothing is said of what is wrong
} jsonl;

static inline int jsonl_open(jsonl *j, const char *path)
{
    memset(j, 0, sizeof *j);
    return lines_open(&j->in, path);
}

static void jsonl_forget(jsonl *j)
{
    for (int i = 0; i < j->count; i++) free(j->fields[i].list);
    j->count = 0;
    j->used = 0;
}

static inline void jsonl_close(jsonl *j)
{
    jsonl_forget(j);
    lines_close(&j->in);
    free(j->fields);
    free(j->decoded);
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

static int json_bad(const jsonl *j, const char *what)
{
    jsonl_wrong(j, "column %.0f: %s", (double)j->at + 1, what);
    return 0;
}

static char json_peek(jsonl *j)
{
    const char *t = j->in.text;
    while (t[j->at] == ' ' || t[j->at] == '\t' || t[j->at] == '\r') j->at++;
    return t[j->at];
}

static int json_hex(const char *t, unsigned *code)
{
    *code = 0;
    for (int i = 0; i < 4; i++) {
        int c = t[i] | 32, digit = t[i] >= '0' && t[i] <= '9' ? t[i] - '0'
                                 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0) return 0;
        *code = 16 * *code + (unsigned)digit;
    }
    return 1;
}

// From the opening quote to behind the closing one.
static int json_skip_string(jsonl *j)
{
    const unsigned char *t = (const unsigned char *)j->in.text;
    size_t at = j->at + 1;
    unsigned code;
    for (;; at++) {
        while (t[at] >= 32 && t[at] != '"' && t[at] != '\\') at++;
        if (t[at] == '"') break;
        j->at = at;
        if (at >= j->in.length) return json_bad(j, "a string does not end");
        if (t[at] != '\\') return json_bad(j, "a control character inside a string");
        at++;
        if (t[at] == 'u' && !json_hex((const char *)t + at + 1, &code))
            return json_bad(j, "\\u and four hexadecimal digits are wanted");
        if (!t[at] || !strchr("\"\\/bfnrtu", t[at])) return json_bad(j, "no such escape");
    }
    j->at = at + 1;
    return 1;
}

static int json_skip_digits(jsonl *j)
{
    size_t from = j->at;
    while (j->in.text[j->at] >= '0' && j->in.text[j->at] <= '9') j->at++;
    return j->at > from;
}

static int json_skip_number(jsonl *j)
{
    const char *t = j->in.text;
    j->at += t[j->at] == '-';
    if (t[j->at] == '0') j->at++;
    else if (!json_skip_digits(j)) return json_bad(j, "no JSON value");
    if (t[j->at] == '.' && (j->at++, !json_skip_digits(j))) return json_bad(j, "no number");
    if ((t[j->at] | 32) == 'e') {
        j->at++;
        j->at += t[j->at] == '+' || t[j->at] == '-';
        if (!json_skip_digits(j)) return json_bad(j, "no number");
    }
    return 1;
}

// A value of any kind, checked to its end.  A line need not nest deeper than 200.
static int json_skip(jsonl *j, int depth)
{
    static const char *const words[] = { "true", "false", "null" };
    char open = json_peek(j), close = open == '{' ? '}' : ']';
    if (open == '"') return json_skip_string(j);
    for (int i = 0; i < 3; i++)
        if (strncmp(j->in.text + j->at, words[i], strlen(words[i])) == 0) {
            j->at += strlen(words[i]);
            return 1;
        }
    if (open != '{' && open != '[') return json_skip_number(j);
    if (depth > 200) return json_bad(j, "nested too deep");
    j->at++;
    if (json_peek(j) == close) {
        j->at++;
        return 1;
    }
    for (;; j->at++) {
        if (open == '{') {
            if (json_peek(j) != '"') return json_bad(j, "a name in quotes is wanted");
            if (!json_skip_string(j)) return 0;
            if (json_peek(j) != ':') return json_bad(j, ": is wanted");
            j->at++;
        }
        if (!json_skip(j, depth + 1)) return 0;
        if (json_peek(j) == close) break;
        if (json_peek(j) != ',')
            return json_bad(j, j->at >= j->in.length ? "the line ends too early"
                                                     : ", or the end of the list is wanted");
    }
    j->at++;
    return 1;
}

static char *json_put_utf8(char *out, unsigned long code)
{
    int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned char lead[] = { 0, 0xc0, 0xe0, 0xf0 };
    *out++ = (char)(lead[more] | (code >> (6 * more)));
    while (more-- > 0) *out++ = (char)(0x80 | ((code >> (6 * more)) & 63));
    return out;
}

// The string that begins at a quote in the line, which has been checked.  Half of a surrogate
// pair is U+FFFD.
static json_text json_decode(jsonl *j, size_t at)
{
    static const char letters[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
    const char *t = j->in.text + at + 1;
    char *out = j->decoded + j->used;
    json_text made = { out, 0 };
    while (*t != '"') {
        size_t plain = strcspn(t, "\"\\");
        memcpy(out, t, plain);
        out += plain;
        t += plain;
        if (*t != '\\') continue;
        if (t[1] != 'u') {
            for (int i = 0; letters[i]; i += 2)
                if (letters[i] == t[1]) *out++ = letters[i + 1];
            t += 2;
            continue;
        }
        unsigned code, low = 0;
        json_hex(t + 2, &code);
        t += 6;
        int first = code >= 0xd800 && code < 0xdc00;
        if (first && t[0] == '\\' && t[1] == 'u' && json_hex(t + 2, &low) && low >= 0xdc00 &&
            low < 0xe000) {
            out = json_put_utf8(out, 0x10000ul + ((code - 0xd800ul) << 10) + (low - 0xdc00ul));
            t += 6;
        } else out = json_put_utf8(out, code >= 0xd800 && code < 0xe000 ? 0xfffd : code);
    }
    made.length = (size_t)(out - made.text);
    *out++ = 0;
    j->used = (size_t)(out - j->decoded);
    return made;
}

static json_field *json_new_field(jsonl *j)
{
    if (j->count == j->room) {
        int room = 2 * j->room + 16;
        json_field *more = (json_field *)need((size_t)room * sizeof *more);
        if (j->count) memcpy(more, j->fields, (size_t)j->count * sizeof *more);
        free(j->fields);
        j->fields = more;
        j->room = room;
    }
    memset(&j->fields[j->count], 0, sizeof *j->fields);
    return &j->fields[j->count++];
}

// The object of the line: where each of its fields is.
static int json_object(jsonl *j)
{
    j->at = 0;
    if (json_peek(j) != '{') return json_bad(j, "an object { ... } is wanted");
    j->at++;
    if (json_peek(j) != '}') {
        for (;; j->at++) {
            if (json_peek(j) != '"') return json_bad(j, "a name in quotes is wanted");
            size_t name = j->at;
            if (!json_skip_string(j)) return 0;
            json_field *f = json_new_field(j);
            f->name = json_decode(j, name);
            if (json_peek(j) != ':') return json_bad(j, ": is wanted");
            j->at++;
            f->kind = json_peek(j);
            f->at = j->at;
            if (!json_skip(j, 1)) return 0;
            if (f->kind == '-' || (f->kind >= '0' && f->kind <= '9')) f->kind = '0';
            f->end = j->at;
            if (json_peek(j) == '}') break;
            if (json_peek(j) != ',')
                return json_bad(j, j->at >= j->in.length ? "the line ends too early"
                                                         : ", or } is wanted");
        }
    }
    j->at++;
    json_peek(j);
    return j->at >= j->in.length || json_bad(j, "something follows the object");
}

// The next line that is not blank.  1: an object, 0: no more lines, -1: wrong, which is told.
static inline int jsonl_next(jsonl *j)
{
    int got;
    jsonl_forget(j);
    while ((got = lines_next(&j->in)) > 0) {
        j->at = 0;
        json_peek(j);
        if (j->at == j->in.length) continue;
        if (j->decoded_room <= j->in.length) {
            free(j->decoded);
            j->decoded_room = 2 * j->in.length + 1;
            j->decoded = (char *)need(j->decoded_room);
        }
        return json_object(j) ? 1 : -1;
    }
    return got;
}

static json_field *json_find(jsonl *j, const char *name)
{
    size_t length = strlen(name);
    for (int i = j->count - 1; i >= 0; i--)
        if (j->fields[i].name.length == length && !memcmp(j->fields[i].name.text, name, length))
            return &j->fields[i];
    return NULL;
}

static const char *json_kind_name(char kind)
{
    return kind == '"' ? "a string" : kind == '[' ? "a list" : kind == '{' ? "an object"
         : kind == '0' ? "a number" : kind == 'n' ? "null" : "true or false";
}

// A field of that kind.  1: here, 0: no such field, -1: of another kind, which is told.
static int json_of_kind(jsonl *j, const char *name, char kind, json_field **field)
{
    *field = json_find(j, name);
    if (!*field) return 0;
    if ((*field)->kind == kind) return 1;
    return jsonl_wrong(j, "the field \"%s\" is %s; %s is wanted", name,
                       json_kind_name((*field)->kind), json_kind_name(kind));
}

static inline int json_string(jsonl *j, const char *name, json_text *text)
{
    json_field *f;
    int got = json_of_kind(j, name, '"', &f);
    text->text = "";
    text->length = 0;
    if (got < 1) return got;
    if (!f->decoded) f->text = json_decode(j, f->at);
    f->decoded = 1;
    *text = f->text;
    return 1;
}

// A list of strings, as pointers into the line's memory.
static inline int json_strings(jsonl *j, const char *name, json_text **list, int *count)
{
    json_field *f;
    int got = json_of_kind(j, name, '[', &f);
    size_t room = 0;
    *list = NULL;
    *count = 0;
    if (got < 1) return got;
    j->at = f->at + 1;
    if (!f->decoded && json_peek(j) != ']') {
        for (;; j->at++) {
            if (json_peek(j) != '"')
                return jsonl_wrong(j, "the field \"%s\": item %d is no string", name, f->items);
            if ((size_t)f->items == room) {
                room = 2 * room + 8;
                json_text *more = (json_text *)need(room * sizeof *more);
                if (f->items) memcpy(more, f->list, (size_t)f->items * sizeof *more);
                free(f->list);
                f->list = more;
            }
            f->list[f->items++] = json_decode(j, j->at);
            json_skip_string(j);
            if (json_peek(j) == ']') break;
        }
    }
    f->decoded = 1;
    *list = f->list;
    *count = f->items;
    return 1;
}

static inline int json_number(jsonl *j, const char *name, double *value)
{
    json_field *f;
    int got = json_of_kind(j, name, '0', &f);
    *value = got == 1 ? strtod(j->in.text + f->at, NULL) : 0;
    return got;
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
static inline void json_put_line_with(json_out *o, jsonl *j, const char *name, const char *value)
{
    const json_field *f = json_find(j, name);
    const char *line = j->in.text;
    if (f) {
        json_put(o, line, f->at);
        json_put(o, value, strlen(value));
        json_put(o, line + f->end, j->in.length - f->end);
    } else {
        size_t end = j->count ? j->fields[j->count - 1].end : strcspn(line, "{") + 1;
        json_put(o, line, end);
        json_printf(o, "%s\"%s\":", j->count ? "," : "", name);
        json_put(o, value, strlen(value));
        json_put(o, "}", 1);
    }
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

// Which option names it, for messages.  path NULL or "-": standard output.
static inline int outfile_open(outfile *o, const char *which, const char *path, int force)
{
    memset(o, 0, sizeof *o);
    o->file = stdout;
    if (!path || strcmp(path, "-") == 0) return DONE;
    if (check_writable(which, path, force)) return FAILED;
    o->path = path;
    for (int i = 0, handle = -1; handle < 0; i++) {
        o->fresh = joined("%s.%d.part", path, i);
        handle = open(o->fresh, O_WRONLY | O_CREAT | O_EXCL | O_BINARY | O_CLOEXEC, 0666);
        if (handle >= 0) o->file = fdopen(handle, "wb");
        else if (errno != EEXIST || i > 1000) {
            complain(FAILED, "--%s %s cannot be written: %s", which, path, strerror(errno));
            free(o->fresh);
            o->fresh = NULL;
            return FAILED;
        } else free(o->fresh);
    }
    for (int i = 0; i < 4; i++)
        if (!fresh_names[i][0] && strlen(o->fresh) < sizeof fresh_names[i]) {
            strcpy(fresh_names[i], o->fresh);
            break;
        }
    catch_and_leave_nothing();
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
    for (int i = 0; i < 4; i++) if (strcmp(fresh_names[i], o->fresh) == 0) fresh_names[i][0] = 0;
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
