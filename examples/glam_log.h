/* glam_log.h - the log of a run: one JSON object per line.  A part of glam.c. */

#ifndef GLAM_LOG_H
#define GLAM_LOG_H

// A line is made in memory and written whole, so that whoever follows the file never reads half
// of one.
typedef struct logfile {
    const char *name;
    FILE       *file;
    char       *line;
    size_t      length, room;
    int         failed;                          // nothing more is written
} logfile;

static void log_put(logfile *f, const char *format, ...) GLAM_FORMAT(2, 3);
static void log_put(logfile *f, const char *format, ...)
{
    for (int again = 0; again < 2; again++) {
        va_list args;
        va_start(args, format);
        int more = vsnprintf(f->line ? f->line + f->length : NULL, f->room - f->length, format,
                             args);
        va_end(args);
        if (more < 0) return;
        if (f->length + (size_t)more < f->room) {
            f->length += (size_t)more;
            return;
        }
        f->room = 2 * f->room + (size_t)more + 1000;
        char *line = (char *)need(f->room);
        if (f->line) memcpy(line, f->line, f->length);
        free(f->line);
        f->line = line;
    }
}

// A full disk ends the log after a whole line, and the run goes on.
static void log_write(logfile *f)
{
    if (f->failed) return;
#ifdef HAVE_UNISTD
    struct stat before;
    int known = fstat(fileno(f->file), &before) == 0 && S_ISREG(before.st_mode);
#endif
    errno = 0;
    if (fwrite(f->line, 1, f->length, f->file) == f->length && fflush(f->file) == 0) return;
    f->failed = 1;
    warn("--log %s cannot be written, and has no more lines: %s", f->name, strerror(errno));
#ifdef HAVE_UNISTD
    if (known && ftruncate(fileno(f->file), before.st_size) != 0)
        warn("--log %s: its last line is not whole", f->name);
#endif
}

static void log_begin(logfile *f, const char *event)
{
    f->length = 0;
    log_put(f, "{\"event\":\"%s\"", event);
}

static void log_end(logfile *f)
{
    log_put(f, "}\n");
    log_write(f);
}

// A log of before may be overwritten, a book may not.
static int may_be_log(const char *path)
{
    char start[9] = "";
    FILE *f = kind_of(path) == PLAIN ? fopen(path, "rb") : NULL;
    if (!f) return 1;
    size_t bytes = fread(start, 1, 8, f);
    fclose(f);
    return bytes == 0 || strcmp(start, "{\"event\"") == 0;
}

// goes_on: behind what is there.
static logfile *log_open(const char *path, int goes_on, int force)
{
    int reason = 0, busy = 0;
    FILE *file = NULL;
    if (!force && !may_be_log(path)) {
        complain(FAILED, "--log %s exists already and is no log; --force overwrites it", path);
        return NULL;
    }
#ifdef HAVE_UNISTD
    int handle = open(path, O_RDWR | O_CREAT | O_CLOEXEC | (goes_on ? O_APPEND : 0), 0666);
    if (handle < 0) handle = open(path, O_WRONLY | O_CLOEXEC);      // a pipe, a terminal
    reason = errno;
    busy = handle >= 0 && kind_of(path) == PLAIN && lock_file(handle) == 0;
    if (handle >= 0 && !busy) {
        if (!goes_on && kind_of(path) == PLAIN && ftruncate(handle, 0) != 0) reason = errno;
        else file = fdopen(handle, goes_on ? "a" : "w");
    }
    if (handle >= 0 && !file) close(handle);
#else
    file = fopen(path, goes_on ? "a" : "w");
    reason = errno;
#endif
    if (busy) complain(FAILED, "--log %s: another run is writing it", path);
    else if (!file) complain(FAILED, "--log %s cannot be written: %s", path, strerror(reason));
    if (!file) return NULL;
    setvbuf(file, NULL, _IONBF, 0);                      // a line of ours is one write
    logfile *f = (logfile *)need(sizeof *f);
    memset(f, 0, sizeof *f);
    f->name = path;
    f->file = file;
    return f;
}

// Is every line of it there?
static int log_close(logfile *f)
{
    if (!f) return 1;
    int well = fclose(f->file) == 0 && !f->failed;
    if (!well && !f->failed) warn("--log %s cannot be written: %s", f->name, strerror(errno));
    free(f->line);
    free(f);
    return well;
}

static void log_string(logfile *f, const char *key, const char *text)
{
    log_put(f, ",\"%s\":\"", key);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\') log_put(f, "\\%c", *c);
        else if (*c < 32) log_put(f, "\\u%04x", *c);
        else {
            uint32_t code;
            int bytes = utf8_character(c, (int)strlen((const char *)c), &code);
            if (bytes > 0) log_put(f, "%.*s", bytes, (const char *)c);
            else log_put(f, "\\ufffd");                   // JSON is UTF-8; a path need not be
            c += bytes > 0 ? bytes - 1 : 0;
        }
    }
    log_put(f, "\"");
}


static void log_int(logfile *f, const char *key, uint64_t value)
{
    log_put(f, ",\"%s\":%" PRIu64, key, value);
}

static void log_real(logfile *f, const char *key, double value)
{
    if (isfinite(value)) log_put(f, ",\"%s\":%.9g", key, value);
    else log_put(f, ",\"%s\":null", key);               // JSON has no word for these
}

// A float in the fewest digits that bring it back: 0.01 and not 0.00999999978.
static const char *short_float(float value)
{
    char *out = show_buffer();
    for (int digits = 6; digits < 10; digits++) {
        snprintf(out, 40, "%.*g", digits, (double)value);
        if ((float)strtod(out, NULL) == value) break;
    }
    return out;
}


static void log_config(logfile *f, const glam_config *c)
{
    log_put(f, ",\"config\":{\"vocab\":%d,\"context\":%d,\"layers\":%d,\"d_model\":%d,"
            "\"heads\":%d,\"d_head\":%d,\"kv_heads\":%d,\"hidden\":%d,\"position\":\"%s\",\"buckets\":%d,"
            "\"max_distance\":%d,\"attention_scale\":%s,\"attention_sink\":%s,"
            "\"attention_cap\":%s,\"activation\":\"%s\",\"norm_eps\":%s,\"tied\":%s,"
            "\"logit_scale\":%s,\"logit_cap\":%s,\"z_loss\":%s,",
            c->vocab, c->context, c->layers, c->d_model, c->heads, c->d_head, c->kv_heads,
            c->hidden, position_names[c->position], c->buckets, c->max_distance,
            short_float(c->attention_scale), c->attention_sink ? "true" : "false",
            short_float(c->attention_cap), activation_names[c->activation],
            short_float(c->norm_eps), c->tied ? "true" : "false", short_float(c->logit_scale),
            short_float(c->logit_cap), short_float(c->z_loss));
    const glam_rotary *o = &c->rotary;
    log_put(f, "\"qk_norm\":\"%s\",\"embed_scale\":%s,\"residual_scale\":%s,",
            qk_norm_names[c->qk_norm], short_float(c->embed_scale), short_float(c->residual_scale));
    log_put(f, "\"rotary\":{\"theta\":%s,\"scaling\":\"%s\",\"factor\":%s,\"context\":%d,"
            "\"low\":%s,\"high\":%s,\"attention\":%s},", short_float(o->theta),
            scaling_names[o->scaling], short_float(o->factor), o->context, short_float(o->low),
            short_float(o->high), short_float(o->attention));
    const glam_moe_config *m = &c->moe;
    log_put(f, "\"moe\":{\"experts\":%d,\"top_k\":%d,\"every\":%d,\"offset\":%d,\"hidden\":%d,"
            "\"activation\":\"%s\",\"normalise\":\"%s\",\"capacity_factor\":%s,"
            "\"capacity\":%d,\"group\":%d,\"aux_weight\":%s,\"router_z_weight\":%s,"
            "\"router_cap\":%s,\"router\":\"%s\",\"score\":\"%s\",\"bias\":%d,\"shared\":%d}}",
            m->experts, m->top_k, m->every, m->offset, m->hidden, activation_names[m->activation],
            normalise_names[m->normalise], short_float(m->capacity_factor), m->capacity, m->group,
            short_float(m->aux_weight), short_float(m->router_z_weight),
            short_float(m->router_cap), router_names[m->router], score_names[m->score], m->bias,
            m->shared);
}

static void log_recipe(logfile *f, const glam_recipe *r)
{
    log_put(f, ",\"recipe\":{\"optimizer\":\"%s\",\"schedule\":\"%s\",\"lr\":%.9g,"
            "\"embed_lr\":%.9g,\"bias_lr\":%.9g,\"warmup\":%d,\"min_lr\":%.9g,\"batch\":%d,"
            "\"context\":%d,"
            "\"accumulate\":%d,\"recompute\":%d,\"update_in_backward\":%d,\"clip\":%.9g,"
            "\"weight_decay\":%.9g,\"beta1\":%.9g,\"beta2\":%.9g,\"eval_every\":%d,"
            "\"patience\":%d}", optimizer_names[r->optimizer], schedule_names[r->schedule], r->lr,
            r->embed_lr, r->bias_lr, r->warmup, r->min_lr, r->batch, r->context, r->accumulate,
            r->recompute, r->update_in_backward, r->clip, r->weight_decay, r->beta1, r->beta2,
            r->eval_every, r->patience);
}

static const char *compiler(void)
{
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "unknown";
#endif
}

#endif
