/* lessons.c - what lessons.sh needs beside the tool: pictures, and a mixture made of a dense model.

   It is the tool with another main: logs are read and charts are drawn by its own parts.

       lessons lines OUT.svg TITLE UNIT FIELD NAME=LOG.jsonl ...      a field of each step, as means
       lessons points OUT.svg TITLE UNIT ACROSS NAME=X:Y,X:Y,... ...
       lessons table OUT.svg TITLE CORNER ROW=SHARE,SHARE,... ...
       lessons last FIELD LOG.jsonl ...                               the last tenth's mean of each
       lessons upcycle DENSE OUT EXPERTS PER_TOKEN
       lessons count EXPERTS PER_TOKEN                                of the default model: see there

   Build: cc -O2 -fopenmp examples/lessons.c -o lessons -lm (lessons.sh does it) */

#define main glam_main
#include "glam.c"
#undef main

enum { MOST_LINES = 8, MOST_POINTS = 20000 };

static double xs[MOST_LINES][MOST_POINTS], ys[MOST_LINES][MOST_POINTS];

// The values of a field in a log: of steps, or val_loss of validations.
static int read_log(const char *path, const char *field, double *x, double *y)
{
    jsonl in;
    int n = 0, got;
    if (jsonl_open(&in, path) != DONE) return -1;
    while ((got = jsonl_next(&in)) > 0 && n < MOST_POINTS) {
        json_text event;
        double step, value;
        if (json_string(&in, "event", &event) < 1 || json_number(&in, "step", &step) < 1 ||
            json_number(&in, field, &value) < 1)
            continue;
        x[n] = step;
        y[n++] = value;
    }
    jsonl_close(&in);
    if (got >= 0 && n == 0) complain(FAILED, "%s has no %s", path, field);
    return got < 0 || n == 0 ? -1 : n;
}

// Means of up to ten steps, so that a line can be read.
static int means(double *x, double *y, int n)
{
    int width = n < 60 ? 1 : n / 40 > 10 ? 10 : n / 40 < 2 ? 2 : n / 40, out = 0;
    for (int i = 0; i + width <= n; i += width, out++) {
        double sum = 0;
        for (int k = 0; k < width; k++) sum += y[i + k];
        x[out] = x[i + width - 1];
        y[out] = sum / width;
    }
    return out;
}

// NAME=VALUE: copies the name and returns the value; NULL when there is none.
static const char *named(const char *word, char *name, size_t size)
{
    const char *is = strchr(word, '=');
    if (!is || (size_t)(is - word) >= size) {
        complain(USAGE, "%s: NAME=... is wanted, with a name of less than %d letters", word,
                 (int)size);
        return NULL;
    }
    memcpy(name, word, (size_t)(is - word));
    name[is - word] = 0;
    return is + 1;
}

static int read_points(const char *text, double *x, double *y)
{
    int n = 0;
    while (n < MOST_POINTS) {
        char *end;
        x[n] = strtod(text, &end);
        if (*end != ':') return -1;
        y[n++] = strtod(end + 1, &end);
        if (*end != ',') return *end ? -1 : n;
        text = end + 1;
    }
    return n;
}

static int draw_lines(char **word, int count, int points)
{
    chart_line line[MOST_LINES];
    chart c;
    json_out out = {NULL, 0, 0};
    memset(&c, 0, sizeof c);
    memset(line, 0, sizeof line);
    c.title = word[1];
    c.unit  = word[2];
    c.line  = line;
    c.digits = 5;
    if (points) c.across = word[3];
    for (int i = 4; i < count && c.lines < MOST_LINES; i++) {
        chart_line *l = &line[c.lines];
        const char *value = named(word[i], l->name, sizeof l->name);
        if (!value) return USAGE;
        l->x = xs[c.lines];
        l->y = ys[c.lines];
        l->count = points ? read_points(value, l->x, l->y) : read_log(value, word[3], l->x, l->y);
        if (l->count < 1) return points ? complain(USAGE, "%s: X:Y,X:Y is wanted", value) : FAILED;
        if (!points && strcmp(word[3], "loss") == 0) {           // the first fall would fill it
            int skip = l->count / 5;
            l->x += skip;
            l->y += skip;
            l->count -= skip;
        }
        if (!points) l->count = means(l->x, l->y, l->count);
        l->dots = points;
        l->dashed = c.lines % 2;
        l->colour = c.lines++;
    }
    c.from_zero = strcmp(c.unit, "%") == 0;
    chart_draw(&out, &c, 1);
    const char *const wide[] = {"\"0 0 360 ", "width=\"360\""};        // room for longer names
    for (int i = 0; i < 2; i++) {
        char *at = strstr(out.text, wide[i]);
        if (at) memcpy(strstr(at, "360"), "400", 3);
    }
    return write_whole("out", word[0], 1, &out);
}

static int draw_table(char **word, int count)
{
    enum { ROWS = 40, COLUMNS = 64 };
    static char name[ROWS][64];
    static double share[ROWS * COLUMNS];
    const char *rows[ROWS];
    heat h;
    json_out out = {NULL, 0, 0};
    memset(&h, 0, sizeof h);
    h.title  = word[1];
    h.corner = word[2];
    h.row    = rows;
    h.share  = share;
    size_t longest = strlen(h.corner);
    for (int i = 3; i < count && h.rows < ROWS; i++, h.rows++) {
        const char *at = named(word[i], name[h.rows], sizeof name[0]);
        int n = 0;
        if (!at) return USAGE;
        rows[h.rows] = name[h.rows];
        if (strlen(name[h.rows]) > longest) longest = strlen(name[h.rows]);
        for (char *end; *at; at = *end ? end + 1 : end) {
            double value = strtod(at, &end);
            if (end == at || n == COLUMNS || (h.rows && n == h.columns))
                return complain(USAGE, "%s: numbers are wanted, in each row as many", word[i]);
            share[h.rows * (h.rows ? h.columns : COLUMNS) + n++] = value;
        }
        if (h.rows && n != h.columns)
            return complain(USAGE, "%s: numbers are wanted, in each row as many", word[i]);
        if (!h.rows) h.columns = n;
    }
    h.name_wide = (int)(7 * longest) + 12;
    heat_draw(&out, &h, 1);
    return write_whole("out", word[0], 1, &out);
}

static int tell_last(char **word, int count)
{
    for (int i = 1; i < count; i++) {
        int n = read_log(word[i], word[0], xs[0], ys[0]), from = n - (n + 9) / 10;
        double sum = 0;
        if (n < 1) return FAILED;
        for (int k = from; k < n; k++) sum += ys[0][k];
        printf("%s%.4f", i > 1 ? " " : "", sum / (n - from));
    }
    printf("\n");
    return DONE;
}

// Every expert is a copy of the dense layer, whose weights sum to one: at first the mixture is the
// dense model, whatever its new router says (Komatsuzaki et al. 2023, sparse upcycling).
static int upcycle(char **word)
{
    glam_ctx *ctx = glam_open(NULL);
    glam_model *dense = glam_load(ctx, word[0]);
    glam_config c = dense ? *glam_model_config(dense) : glam_config_default();
    glam_moe_config moe = glam_moe_config_default();
    moe.experts = atoi(word[2]);
    moe.top_k   = atoi(word[3]);
    moe.every   = 1;
    moe.hidden  = c.hidden;
    c.moe = moe;
    glam_model *mixture = glam_model_new(ctx, &c);
    for (int i = 0; mixture; i++) {
        glam_tensor *to = glam_model_tensor_at(mixture, i), *from;
        char name[100], *at;
        if (!to) break;
        snprintf(name, sizeof name, "%s", to->name);
        if ((at = strstr(name, ".moe.")) != NULL) memcpy(at, ".ffn.", 5);
        if ((from = glam_model_tensor(dense, name)) == NULL) continue;       // the router is new
        for (size_t n = 0; n + glam_size(from) <= glam_size(to); n += glam_size(from))
            memcpy(to->data + n, from->data, glam_size(from) * sizeof *from->data);
    }
    glam_save(mixture, word[1]);
    int bad = glam_error(ctx) != GLAM_OK;
    if (bad) fprintf(stderr, "lessons: %s\n", glam_error_text(ctx));
    glam_close(ctx);
    return bad ? FAILED : DONE;
}

// Where the parameters of the default model are, with other experts: in all, used by a token,
// experts, attention, embedding, all else.
static int tell_count(char **word)
{
    glam_ctx *ctx = glam_open(NULL);
    glam_config c = glam_config_default();
    c.moe.experts = atoi(word[0]);
    c.moe.top_k   = atoi(word[1]);
    glam_model *model = glam_model_new(ctx, &c);
    uint64_t part[4] = {0, 0, 0, 0}, active = 0, all = glam_model_count(model, &active);
    for (int i = 0; model && glam_model_tensor_at(model, i); i++) {
        const glam_tensor *t = glam_model_tensor_at(model, i);
        int which = strstr(t->name, "router") ? 3 : strstr(t->name, ".moe.") ? 0
                  : strstr(t->name, ".attn.") ? 1 : strstr(t->name, "embed") ? 2 : 3;
        part[which] += glam_size(t);
    }
    int bad = glam_error(ctx) != GLAM_OK;
    if (bad) fprintf(stderr, "lessons: %s\n", glam_error_text(ctx));
    else printf("%.0f %.0f %.0f %.0f %.0f %.0f\n", (double)all, (double)active, (double)part[0],
                (double)part[1], (double)part[2], (double)part[3]);
    glam_close(ctx);
    return bad ? FAILED : DONE;
}

int main(int argc, char **argv)
{
    char **word = argv + 2;
    int count = argc - 2;
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "lines") == 0 && count > 4)   return draw_lines(word, count, 0);
    if (strcmp(what, "points") == 0 && count > 4)  return draw_lines(word, count, 1);
    if (strcmp(what, "table") == 0 && count > 3)   return draw_table(word, count);
    if (strcmp(what, "last") == 0 && count > 1)    return tell_last(word, count);
    if (strcmp(what, "upcycle") == 0 && count == 4) return upcycle(word);
    if (strcmp(what, "count") == 0 && count == 2) return tell_count(word);
    fprintf(stderr, "lessons: lines, points, table, last, upcycle or count; see examples/lessons.c\n");
    return USAGE;
}
