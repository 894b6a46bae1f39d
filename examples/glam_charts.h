/* glam_charts.h - what a report shows: counts of a text, and the charts, tables and letters made of
   them.  A part of glam.c. */

#ifndef GLAM_CHARTS_H
#define GLAM_CHARTS_H

enum { COUNTED = 65536,                          // most tokens of a text that are counted
       READ = 1200,                              // most that are shown as letters
       READ_BYTES = 400000,                      // ... and what that may take
       SOURCES = 16, KINDS = 14, CHARTS = 400,
       PROBABILITIES = 16 };                     // up to so many experts a letter has them all

// One text that was counted.
typedef struct counted_text {
    const char *name;
    look        counted;
} counted_text;

// One chart alone, for --svg.
typedef struct drawing { char name[48]; json_out svg; } drawing;

typedef struct report {
    const settings *s;
    const char  *path;                           // of the model
    glam_ctx    *ctx;
    glam_model  *model;
    const glam_config *config;
    counted_text source[SOURCES];
    int          sources;
    tally        total;                          // of all texts
    look         read, used;                     // the letters of the page; as in use
    int          layer, expert;                  // where it opens
    int         *order;                          // [layers,experts] most specialised first
    int          hand;                           // the token that is done by hand; -1: none
    byhand      *by;                             // [layers]
    history      run, dense;                     // steps 0: no log
    json_out     page;
    const char  *folder;                         // of --svg; NULL: none
    drawing      drawing[CHARTS];
    int          drawings;
} report;

// == kinds of tokens ========================================================================

static const char *const kind_names[KINDS] = {
    "first of a word", "vowel inside", "other inside", "capital", "digit", "blank", "line end",
    ", ; :", ". ! ?", "quote", "bracket", "other sign", "byte > 127", "control"};

static int is_letter(int c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; }

// Of a byte after another, or of a piece, whose first sign counts (behind a blank that begins it).
static int kind_of_token(const look *k, int t)
{
    char byte, before_byte;
    int bytes, before_bytes = 0, inside = 0;
    const char *piece = piece_of(k->tokenizer, k->ids[t], &byte, &bytes), *before = NULL;
    if (t) before = piece_of(k->tokenizer, k->ids[t - 1], &before_byte, &before_bytes);
    if (before && before_bytes) inside = is_letter(before[before_bytes - 1]);
    if (bytes > 1 && piece[0] == ' ') piece++, bytes--, inside = 0;
    int c = bytes ? (unsigned char)piece[0] : 0;
    char sign[2] = {(char)c, 0};
    if (c > 127) return 12;
    if (c >= 'A' && c <= 'Z') return 3;
    if (c >= 'a' && c <= 'z') return !inside ? 0 : bytes == 1 && strchr("aeiou", c) ? 1 : 2;
    if (c >= '0' && c <= '9') return 4;
    if (c == ' ' || c == '\t') return 5;
    if (c == '\n' || c == '\r') return 6;
    if (c < 32 || c == 127) return 13;
    return strpbrk(",;:", sign) ? 7 : strpbrk(".!?", sign) ? 8 : strpbrk("'\"`", sign) ? 9
         : strpbrk("()[]{}<>", sign) ? 10 : 11;
}

// == what is counted ========================================================================

// How far the tokens of an expert's first choices are from those of all: the more, the more it is a
// specialist (divergence of Kullback and Leibler); one with little to do counts for less.  It only
// orders experts.
static double specialised(const glam_routing_stats *s, const double *all, int expert)
{
    double sum = 0, first = (double)s->first[expert];
    if (first < 8 + 0.02 * (double)s->tokens / s->experts) return -1;    // too few to be one
    for (int id = 0; id < s->vocab; id++) {
        const uint64_t *row = s->by_token + (size_t)id * (size_t)s->experts;
        double of = (double)row[expert];
        if (of > 0) sum += of / first * log(of / first * (double)s->tokens / all[id]);
    }
    double load = first * s->experts / (double)s->tokens;
    return sum * (load < 1 ? load : 1);
}

static void find_order(report *r)
{
    int E = r->config->moe.experts;
    double *by = (double *)need((size_t)E * sizeof *by), most = -2;
    double *all = (double *)need((size_t)r->config->vocab * sizeof *all);
    r->order = (int *)need((size_t)(r->config->layers * E) * sizeof *r->order);
    for (int layer = 0; layer < r->config->layers; layer++) {
        int *order = r->order + layer * E;
        const glam_routing_stats *s = tally_finish(&r->total, layer);
        for (int id = 0; s && id < s->vocab; id++) {
            all[id] = 0;
            for (int e = 0; e < E; e++) all[id] += (double)s->by_token[id * E + e];
        }
        for (int e = 0; s && e < E; e++) {
            int place = e;
            by[e] = specialised(s, all, e);
            for (; place > 0 && by[order[place - 1]] < by[e]; place--)
                order[place] = order[place - 1];
            order[place] = e;
        }
        if (!s || by[order[0]] <= most || (GIVEN(layer) && r->s->layer != layer)) continue;
        most = by[order[0]];
        r->layer = layer;
        r->expert = order[0];
    }
    free(by);
    free(all);
}

// == charts =================================================================================

// A chart goes into the page, and alone into a file of --svg, once the page is written.
static void put_svg(report *r, const char *file, void (*draw)(json_out *o, void *what, int alone),
                    void *what)
{
    draw(&r->page, what, 0);
    if (!r->folder || r->drawings == CHARTS) return;
    drawing *d = &r->drawing[r->drawings++];
    memset(d, 0, sizeof *d);
    snprintf(d->name, sizeof d->name, "%s.svg", file);
    draw(&d->svg, what, 1);
}

static void draw_chart(json_out *o, void *what, int alone) { chart_draw(o, (chart *)what, alone); }
static void draw_heat(json_out *o, void *what, int alone) { heat_draw(o, (heat *)what, alone); }

static chart_line *new_line(chart *c, const char *name, int points)
{
    chart_line *l = &c->line[c->lines++];
    memset(l, 0, sizeof *l);
    snprintf(l->name, sizeof l->name, "%s", name);
    l->x = (double *)need(2 * (size_t)(points + 1) * sizeof *l->x);
    l->y = l->x + points + 1;
    return l;
}

static chart new_chart(const char *file, const char *title, const char *unit, int most)
{
    chart c;
    memset(&c, 0, sizeof c);
    c.file = file;
    c.title = title;
    c.unit = unit;
    c.digits = 4;
    c.line = (chart_line *)need((size_t)most * sizeof *c.line);
    return c;
}

// In the page with a line that tells the numbers at a step.
static void put_chart(report *r, chart *c)
{
    if (c->lines) {
        put_format(&r->page, "<figure class=\"plot\" tabindex=\"0\" "
                   "data-box=\"%d %d %d %d %d\">\n", CHART_WIDE, CHART_LEFT, CHART_RIGHT,
                   CHART_TOP, CHART_BOTTOM);
        put_svg(r, c->file, draw_chart, c);
        put(&r->page, "<figcaption class=\"read\" aria-live=\"polite\">point, tap or use "
                      "\xe2\x86\x90 "
            "\xe2\x86\x92 for numbers</figcaption></figure>\n");
    }
    for (int i = 0; i < c->lines; i++) free(c->line[i].x);
    free(c->line);
}

static void put_heat(report *r, heat *h)
{
    put(&r->page, "<figure class=\"map\" tabindex=\"0\">\n");
    put_svg(r, h->file, draw_heat, h);
    put(&r->page, "</figure>\n");
}

// what 0: loss, 1: validation, 2: balance; the dense twin dashed.
static void put_run_chart(report *r, int what)
{
    static const char *const files[3] = {"loss", "validation", "balance"};
    static const char *const titles[3] = {"loss in training", "validation loss",
                                          "balance E \xce\xa3 f P"};
    chart c = new_chart(files[what], titles[what], what == 2 ? "" : "nats per token", 2);
    c.cut = what == 0;
    for (int twin = 0; twin < (what == 2 ? 1 : 2); twin++) {
        const history *h = twin ? &r->dense : &r->run;
        if (h->steps == 0 || (what == 1 && h->evals == 0)) continue;
        chart_line *l = new_line(&c, twin ? "dense" : "mix", what == 1 ? h->evals : HISTORY_POINTS);
        l->colour = twin;
        l->dashed = twin;
        l->dots = what == 1;
        if (what != 1) {
            l->count = history_points(h, what ? h->balance : h->loss, NULL, 1, l->x, l->y);
            continue;
        }
        l->count = h->evals;
        memcpy(l->x, h->eval_step, (size_t)h->evals * sizeof *l->x);
        memcpy(l->y, h->eval, (size_t)h->evals * sizeof *l->y);
    }
    put_chart(r, &c);
}

// Up to eight experts: a line each.  More: the three fullest and the three emptiest at the end have
// a name.
static void mark_ends(chart *c)
{
    for (int i = 0; i < c->lines && c->lines > 8; i++) {
        int more = 0, less = 0;
        double mine = c->line[i].y[c->line[i].count - 1];
        for (int k = 0; k < c->lines; k++) {
            double other = c->line[k].y[c->line[k].count - 1];
            more += other > mine || (other >= mine && k < i);
            less += other < mine || (other <= mine && k > i);
        }
        c->line[i].faint = more >= 3 && less >= 3;
        c->line[i].colour = more < 3 ? more : 3 + less;
    }
}

static void put_load_chart(report *r, int layer)
{
    const history *h = &r->run;
    const history_layer *l = &h->of[layer];
    char title[60], file[40], name[LINE_NAME];
    int last = h->steps - 1;
    while (last > 0 && l->tokens[last] <= 0) last--;
    snprintf(title, sizeof title, "layer %d: first choices", layer);
    snprintf(file, sizeof file, "load-layer-%d", layer);
    chart c = new_chart(file, title, "\xc3\x97 an even share", h->experts);
    c.level = 1;
    c.from_zero = 1;
    c.digits = 3;
    if (l->slots[last] > 0) c.slots = l->slots[last] * h->experts / l->tokens[last];
    for (int e = 0; e < h->experts; e++) {
        snprintf(name, sizeof name, "%d", e);
        chart_line *line = new_line(&c, name, HISTORY_POINTS);
        line->colour = e;
        line->count = history_load(h, layer, e, line->x, line->y);
    }
    mark_ends(&c);
    put_chart(r, &c);
}

// A line for each mixture.  what 0: dropped, 1: entropy, 2: dead experts, 3: balance.
static void put_layers_chart(report *r, int what)
{
    static const char *const files[4] = {"dropped", "entropy", "dead", "balance-layers"};
    static const char *const titles[4] = {"dropped choices", "entropy of the router",
                                          "dead experts", "balance of each layer"};
    static const char *const units[4] = {"% of all", "nats", "first choices under 0.01", ""};
    const history *h = &r->run;
    double dropped = 0;
    for (int layer = 0; layer < h->layers && what == 0; layer++)
        for (int i = 0; h->of[layer].here && i < h->steps; i++)
            if (h->of[layer].tokens[i] > 0) dropped += h->of[layer].dropped[i];
    if (what == 0 && dropped <= 0) return;
    chart c = new_chart(files[what], titles[what], units[what], h->layers);
    double *share = (double *)need((size_t)h->steps * sizeof *share);
    char name[LINE_NAME];
    c.from_zero = what != 3;
    c.whole = what == 2;
    for (int layer = 0; layer < h->layers; layer++) {
        const history_layer *of = &h->of[layer];
        if (!of->here) continue;
        snprintf(name, sizeof name, "L%d", layer);
        chart_line *l = new_line(&c, name, HISTORY_POINTS);
        l->colour = layer;
        for (int i = 0; i < h->steps; i++)
            share[i] = of->tokens[i] > 0
                     ? of->dropped[i] / of->tokens[i] / r->config->moe.top_k : 0;
        if (what == 2) l->count = history_load(h, layer, -1, l->x, l->y);
        else l->count = history_points(h, what == 0 ? share : what == 1 ? of->entropy : of->balance,
                                       of->tokens, what ? 1 : 100, l->x, l->y);
    }
    free(share);
    put_chart(r, &c);
}

// == tables of shares =======================================================================

static void put_kinds(report *r, int layer)
{
    int E = r->config->moe.experts, rows = 0;
    double *share = (double *)need((size_t)(KINDS * E) * sizeof *share), count[KINDS] = {0};
    const char *name[KINDS], *note[KINDS];
    char title[80], file[40], notes[KINDS][40];
    for (int i = 0; i < KINDS * E; i++) share[i] = 0;
    for (int i = 0; i < r->sources; i++) {
        const look *k = &r->source[i].counted;
        for (int t = 0; t < k->tokens; t++) {
            int kind = kind_of_token(k, t), e = k->of[layer].expert[t * k->top_k];
            count[kind]++;
            if (e >= 0) share[kind * E + e]++;
        }
    }
    for (int kind = 0; kind < KINDS; kind++) {
        if (count[kind] <= 0) continue;
        for (int e = 0; e < E; e++) share[rows * E + e] = share[kind * E + e] / count[kind];
        snprintf(notes[rows], sizeof notes[rows], "%s", show_commas((uint64_t)count[kind]));
        name[rows] = kind_names[kind];
        note[rows] = notes[rows];
        rows++;
    }
    snprintf(title, sizeof title, "layer %d: %% of each kind, by first expert", layer);
    snprintf(file, sizeof file, "kinds-layer-%d", layer);
    heat h = {file, title, "kind", name, share, note, rows, E, 86};
    put_heat(r, &h);
    free(share);
}

static void put_sources(report *r, int layer)
{
    int E = r->config->moe.experts;
    const glam_routing_stats *s = tally_finish(&r->total, layer);
    double *share = (double *)need((size_t)(r->sources * E) * sizeof *share);
    const char *name[SOURCES];
    char title[80], file[40], names[SOURCES][20];
    for (int i = 0; i < r->sources; i++) {
        snprintf(names[i], sizeof names[i], "%.14s", name_of(r->source[i].name));
        name[i] = names[i];
        for (int e = 0; e < E; e++)
            share[i * E + e] = s->text_load[i * E + e] / E;
    }
    snprintf(title, sizeof title, "layer %d: %% of each text's choices", layer);
    snprintf(file, sizeof file, "sources-layer-%d", layer);
    heat h = {file, title, "text", name, share, NULL, r->sources, E, 100};
    put_heat(r, &h);
    free(share);
}

static void put_pairs(report *r, int layer)
{
    int E = r->config->moe.experts;
    const glam_routing_stats *s = tally_finish(&r->total, layer);
    double *share = (double *)need((size_t)(E * E) * sizeof *share);
    const char **name = (const char **)need((size_t)E * sizeof *name);
    char *names = (char *)need((size_t)E * 16), title[80], file[40];
    for (int i = 0; i < E * E; i++)
        share[i] = i / E == i % E || !s->chosen[i / E] ? NAN
                 : (double)s->together[i] / (double)s->chosen[i / E];
    for (int e = 0; e < E; e++) {
        snprintf(names + 16 * e, 16, "with %d", e);
        name[e] = names + 16 * e;
    }
    snprintf(title, sizeof title, "layer %d: pairs, %% of each row", layer);
    snprintf(file, sizeof file, "pairs-layer-%d", layer);
    heat h = {file, title, "", name, share, NULL, E, E, 52};
    put_heat(r, &h);
    free(share);
    free(name);
    free(names);
}

// == the letters, for the script of the page ================================================

static void put_thousandths(json_out *o, const char *name, const float *of, int count)
{
    put_format(o, ",\"%s\":[", name);
    for (int i = 0; i < count; i++)
        put_format(o, "%s%d", i ? "," : "", (int)(1000 * (double)of[i] + 0.5));
    put(o, "]");
}

static void put_integers(json_out *o, const char *name, const int32_t *of, int count)
{
    put_format(o, ",\"%s\":[", name);
    for (int i = 0; i < count; i++) put_format(o, "%s%d", i ? "," : "", (int)of[i]);
    put(o, "]");
}

static void put_letters_layer(report *r, int layer)
{
    json_out *o = &r->page;
    const look *k = &r->read;
    const looked_layer *l = &k->of[layer];
    const glam_routing_stats *s = tally_finish(&r->total, layer);
    int chosen = k->tokens * k->top_k, E = k->experts;
    put_format(o, "{\"layer\":%d,\"slots\":%d", layer, l->capacity);
    put_integers(o, "expert", l->expert, chosen);
    put_integers(o, "slot", l->slot, chosen);
    put_integers(o, "fate", l->fate, chosen);
    put_thousandths(o, "before", l->before, chosen);
    put_thousandths(o, "weight", l->weight, chosen);
    if (E <= PROBABILITIES) put_thousandths(o, "p", l->probability, k->tokens * E);
    put_integers(o, "order", r->order + layer * E, E);
    put(o, ",\"load\":[");
    for (int e = 0; e < E; e++)
        put_format(o, "%s%.3f", e ? "," : "",
                   (double)s->first[e] * E / (double)s->tokens);
    put(o, "]}");
}

static void put_pieces(json_out *o, const look *k)
{
    put(o, ",\"pieces\":[");
    for (int t = 0; t < k->tokens; t++) {
        char *text = piece_as_json(k, t);
        if (t) put(o, ",");
        for (const char *c = text; *c; c++)              // no end of the script inside of it
            if (*c == '<') put(o, "\\u003c");
            else json_put(o, c, 1);
        free(text);
    }
    put(o, "]");
}

static void put_letters(report *r)
{
    json_out *o = &r->page;
    const look *k = &r->read;
    const char *comma = "";
    put(o, "<script type=\"application/json\" id=\"data\">");
    put_format(o, "{\"experts\":%d,\"top\":%d,\"window\":%d,\"start\":[%d,%d]", k->experts,
               k->top_k, k->window, r->layer, r->expert);
    if (k->tokenizer) put_pieces(o, k);
    else put_integers(o, "bytes", k->ids, k->tokens);
    put(o, ",\"loss\":[");
    for (int t = 0; t < k->tokens; t++) {
        if (isfinite(k->loss[t])) put_format(o, "%s%.3f", t ? "," : "", (double)k->loss[t]);
        else put(o, t ? ",null" : "null");
    }
    put(o, "],\"layers\":[");
    for (int layer = 0; layer < k->layers; layer++) {
        if (!k->of[layer].expert) continue;
        put(o, comma);
        put_letters_layer(r, layer);
        comma = ",";
    }
    put(o, "]}</script>\n");
}

#endif
