/* glam_tally.h - how busy the experts are: the library's counts of each mixture of a model, their
   bars, and their lines in a log.  A part of glam.c. */

#ifndef GLAM_TALLY_H
#define GLAM_TALLY_H

// First choices show what the router wants; where slots are few, the kept ones are even by force.
typedef struct tally {
    glam_ctx *ctx;
    int       layers, group;
    glam_routing_stats **of;                     // [layers]; NULL: a dense layer
    uint64_t *slots;                             // [layers] per expert; 0: as many as it takes
} tally;

// Counts live as long as the context; vocab and texts may be 0, as for glam_stats_new.
static void tally_open(tally *t, glam_ctx *ctx, const glam_config *c, int vocab, int texts)
{
    size_t layers = (size_t)(c->layers > 0 ? c->layers : 1);
    t->ctx = ctx;
    t->layers = c->layers;
    t->group = c->moe.group;
    t->of = (glam_routing_stats **)need(layers * sizeof *t->of);
    t->slots = (uint64_t *)need(layers * sizeof *t->slots);
    for (int i = 0; i < t->layers; i++) {
        t->slots[i] = 0;
        t->of[i] = is_mixture(c, i) ? glam_stats_new(ctx, c->moe.experts, vocab, texts) : NULL;
    }
}

static void tally_close(tally *t)
{
    free(t->of);
    free(t->slots);
    memset(t, 0, sizeof *t);
}

static void tally_clear(tally *t)
{
    for (int i = 0; i < t->layers; i++) {
        glam_routing_stats *s = t->of[i];
        size_t E = s ? (size_t)s->experts : 0;
        t->slots[i] = 0;
        if (!s) continue;
        memset(s->first, 0, E * sizeof *s->first);
        memset(s->chosen, 0, E * sizeof *s->chosen);
        memset(s->kept, 0, E * sizeof *s->kept);
        memset(s->together, 0, E * E * sizeof *s->together);
        if (s->by_token) memset(s->by_token, 0, (size_t)s->vocab * E * sizeof *s->by_token);
        if (s->by_text) memset(s->by_text, 0, (size_t)s->texts * E * sizeof *s->by_text);
        memset(s->sums, 0, sizeof s->sums);
        s->tokens = s->choices = s->dropped = 0;
    }
}

// One mixture at work; text [T]: whose each token is, or NULL.
static void tally_add(tally *t, const glam_trace *trace, const int32_t *text)
{
    const glam_routing *g = trace->routing;
    if (trace->layer < 0 || trace->layer >= t->layers || !t->of[trace->layer]) return;
    int groups = t->group > 0 ? (g->tokens + t->group - 1) / t->group : 1;
    t->slots[trace->layer] += (uint64_t)g->capacity * (uint64_t)groups;
    glam_routing_stats *s = t->of[trace->layer];
    glam_stats_add(t->ctx, s, g, s->vocab ? trace->token : NULL, s->texts ? text : NULL);
}

static void tally_join(tally *to, const tally *t)
{
    for (int i = 0; i < t->layers; i++)
        if (t->of[i]) glam_stats_merge(t->ctx, to->of[i], t->of[i]);
}

static const glam_routing_stats *tally_finish(const tally *t, int layer)
{
    if (t->of[layer]) glam_stats_finish(t->of[layer]);
    return t->of[layer];
}

// == bars ===================================================================================

static int fullest_of(const glam_routing_stats *s)
{
    int at = 0;
    for (int e = 1; e < s->experts; e++) if (s->first[e] > s->first[at]) at = e;
    return at;
}

static int emptiest_of(const glam_routing_stats *s)
{
    int at = 0;
    for (int e = 1; e < s->experts; e++) if (s->first[e] < s->first[at]) at = e;
    return at;
}

static const char bar_legend[] =
    "  (bars: first choices since the last bars, by expert; half full is an even\n"
    "  share, 1; dead: chosen less than 0.01 as often as the mean; entropy in nats\n"
    "  / the most it can be)\n";

// A layer's first choices: a bar, and what it does not tell.  Within 80 columns; brief: in 60.
static void print_bar(const tally *t, int layer, int brief)
{
    const char *format = brief ? "  %.2f (%d)  %.2f (%d)  %d dead  %.2f/%.2f\n"
                       : "  most %.2f (%d), least %.2f (%d), %d dead, entropy %.2f/%.2f\n";
    const glam_routing_stats *s = tally_finish(t, layer);
    if (!s) return;
    printf("  layer %-3d", layer);
    show_load(stdout, s->first, s->experts, brief ? 48 : 64, 11);
    if (s->experts > 13) printf("\n          ");
    printf(format, s->fullest, fullest_of(s), s->emptiest, emptiest_of(s), s->dead, s->entropy,
           log((double)s->experts));
}

static void print_bars(const tally *t)
{
    for (int layer = 0; layer < t->layers; layer++) print_bar(t, layer, 0);
}

// == a log ==================================================================================

static void log_counts(logfile *f, const char *key, const uint64_t *of, int count)
{
    log_put(f, ",\"%s\":[", key);
    for (int i = 0; i < count; i++) log_put(f, "%s%" PRIu64, i ? "," : "", of[i]);
    log_put(f, "]");
}

// One mixture, without the brace that ends it.
static void log_layer(logfile *f, const tally *t, int layer)
{
    const glam_routing_stats *s = tally_finish(t, layer);
    log_put(f, "{\"layer\":%d", layer);
    log_int(f, "tokens", s->tokens);
    log_int(f, "dropped", s->dropped);
    log_real(f, "entropy", s->entropy);
    log_real(f, "balance", s->balance);
    if (t->slots[layer]) log_int(f, "slots", t->slots[layer]);
    log_counts(f, "first", s->first, s->experts);
    log_counts(f, "kept", s->kept, s->experts);
}

static void log_tally(logfile *f, const tally *t)
{
    const char *comma = ",\"routing\":[";
    for (int layer = 0; layer < t->layers; layer++) {
        if (!t->of[layer] || t->of[layer]->tokens == 0) continue;
        log_put(f, "%s", comma);
        log_layer(f, t, layer);
        log_put(f, "}");
        comma = ",";
    }
    if (comma[1] == 0) log_put(f, "]");
}

#endif
