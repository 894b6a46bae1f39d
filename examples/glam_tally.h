/* glam_tally.h - how busy the experts are: first choices, kept ones, drops and entropy, added up
   over passes, and their bars.  A part of glam.c. */

#ifndef GLAM_TALLY_H
#define GLAM_TALLY_H

// What the mixtures of a model did in any number of passes, added up.  First choices show what the
// router wants; where slots are few, the kept ones are even by force.
typedef struct tally {
    int       layers, experts, group;
    uint64_t *first, *kept;                      // [layers,experts] choices
    uint64_t *tokens, *dropped, *slots;          // [layers] real tokens; choices without a slot;
                                                 // slots per expert, 0: as many as it takes
    double   *entropy, *balance;                 // [layers] sums over the real tokens
} tally;

static void tally_clear(tally *t)
{
    size_t layers = (size_t)t->layers, cells = layers * (size_t)t->experts;
    if (t->first) memset(t->first, 0, (2 * cells + 3 * layers) * sizeof *t->first);
    if (t->first) memset(t->entropy, 0, 2 * layers * sizeof *t->entropy);
}

// A model without mixtures has a tally of nothing.
static void tally_open(tally *t, const glam_config *c)
{
    t->layers = c->layers;
    t->experts = c->moe.experts;
    t->group = c->moe.group;
    size_t layers = (size_t)t->layers, cells = layers * (size_t)t->experts;
    if (!cells) return;
    t->first = (uint64_t *)need((2 * cells + 3 * layers) * sizeof *t->first);
    t->kept = t->first + cells;
    t->tokens = t->kept + cells;
    t->dropped = t->tokens + layers;
    t->slots = t->dropped + layers;
    t->entropy = (double *)need(2 * layers * sizeof *t->entropy);
    t->balance = t->entropy + layers;
    tally_clear(t);
}

static void tally_close(tally *t)
{
    free(t->first);
    free(t->entropy);
    t->first = NULL;
    t->entropy = NULL;
}

// Adds one pass of one layer.
static void tally_add(tally *t, int layer, const glam_routing *g)
{
    if (!t->first || !g || g->experts != t->experts) return;
    uint64_t *first = t->first + layer * t->experts, *kept = t->kept + layer * t->experts;
    uint64_t real = 0;
    for (int i = 0; i < g->tokens; i++) {
        int e = g->expert[i * g->top_k];
        if (e < 0) continue;                             // padding
        first[e]++;
        real++;
    }
    for (int e = 0; e < t->experts; e++) kept[e] += (uint64_t)g->load[e];
    t->tokens[layer] += real;
    t->dropped[layer] += (uint64_t)g->dropped;
    int groups = t->group > 0 ? (g->tokens + t->group - 1) / t->group : 1;
    t->slots[layer] += (uint64_t)g->capacity * (uint64_t)groups;
    t->entropy[layer] += (double)g->entropy * (double)real;
    t->balance[layer] += (double)g->balance * (double)real;
}

static void tally_join(tally *to, const tally *t)
{
    size_t layers = (size_t)t->layers, cells = layers * (size_t)t->experts;
    if (!t->first) return;
    for (size_t i = 0; i < 2 * cells + 3 * layers; i++) to->first[i] += t->first[i];
    for (size_t i = 0; i < 2 * layers; i++) to->entropy[i] += t->entropy[i];
}

// The least and the most that one expert has of an even share, and who that is.
typedef struct spread { double least, most; int emptiest, fullest, dead; } spread;

static spread spread_of(const uint64_t *load, int experts)
{
    spread s = {0, 0, 0, 0, 0};
    double sum = 0;
    for (int e = 0; e < experts; e++) {
        sum += (double)load[e];
        if (load[e] < load[s.emptiest]) s.emptiest = e;
        if (load[e] > load[s.fullest]) s.fullest = e;
    }
    double even = sum > 0 ? sum / experts : 1;
    for (int e = 0; e < experts; e++) s.dead += (double)load[e] < 0.01 * even;
    s.least = (double)load[s.emptiest] / even;
    s.most = (double)load[s.fullest] / even;
    return s;
}

// A layer's first choices: a bar, and what it does not tell.  Within 80 columns.
static void print_bar(const tally *t, int layer)
{
    const uint64_t *first = t->first + layer * t->experts;
    uint64_t tokens = t->tokens[layer];
    spread s = spread_of(first, t->experts);
    printf("  layer %-3d", layer);
    show_load(stdout, first, t->experts, 11);
    if (t->experts > 14) printf("\n          ");
    printf("  most %.2f (%d), least %.2f (%d), %d dead, entropy %.2f/%.2f\n", s.most, s.fullest,
           s.least, s.emptiest, s.dead, tokens ? t->entropy[layer] / (double)tokens : 0,
           log((double)t->experts));
}

static void print_bars(const tally *t, const glam_config *c)
{
    for (int layer = 0; t->first && layer < t->layers; layer++)
        if (is_mixture(c, layer)) print_bar(t, layer);
}

static const char bar_legend[] =
    "  (bars: first choices since the last bars, by expert; half full is an even share, 1;\n"
    "  dead: under 0.01 of it; entropy of the router in nats / the most it can be)\n";

// One mixture, without the brace that ends it.
static void log_layer(logfile *f, const tally *t, int layer)
{
    double tokens = t->tokens[layer] ? (double)t->tokens[layer] : 1;
    log_put(f, "{\"layer\":%d", layer);
    log_int(f, "tokens", t->tokens[layer]);
    log_int(f, "dropped", t->dropped[layer]);
    log_real(f, "entropy", t->entropy[layer] / tokens);
    log_real(f, "balance", t->balance[layer] / tokens);
    if (t->slots[layer]) log_int(f, "slots", t->slots[layer]);
    for (int what = 0; what < 2; what++) {
        const uint64_t *load = (what ? t->kept : t->first) + layer * t->experts;
        log_put(f, ",\"%s\":[", what ? "kept" : "first");
        for (int e = 0; e < t->experts; e++) log_put(f, "%s%" PRIu64, e ? "," : "", load[e]);
        log_put(f, "]");
    }
}

static void log_tally(logfile *f, const tally *t)
{
    const char *comma = ",\"routing\":[";
    for (int layer = 0; t->first && layer < t->layers; layer++) {
        if (t->tokens[layer] == 0) continue;
        log_put(f, "%s", comma);
        log_layer(f, t, layer);
        log_put(f, "}");
        comma = ",";
    }
    if (comma[1] == 0) log_put(f, "]");
}

#endif
