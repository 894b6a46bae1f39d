/* glam_route.h - the command route: which experts work on which token.  A part of glam.c. */

#ifndef GLAM_ROUTE_H
#define GLAM_ROUTE_H

enum { ROUTED = 200000,                          // most tokens that are looked at
       SHOWN = 4000, LISTED = 64 };              // ... whose letters are shown; ... one by one

static const char route_note[] =
    "TEXT that is the name of a file: what is in it; -: standard input. A text that is longer than "
    "the model's context is cut into windows of that length. Nothing is dropped, as in use.\n"
    "--json prints one object: model, layers, experts, top_k, window, tokens [{id, text, loss}], "
    "where loss is -ln of the probability that the model gave the token (null: the first of a "
    "window), and routing [{layer, tokens, dropped, entropy (nats), balance, first and kept "
    "(choices of each expert), routes}], where routes has for each token experts (best first), "
    "weights in the sum, slots (-1: none), kept (0: dropped) and probabilities of all experts.";

// == in the terminal ========================================================================

enum { TAKES = 8 };

// The token ids that choose an expert first, those that are most of its first choices, and how
// often; returns how many.
typedef struct taken { int id; uint64_t count; } taken;

static int takes_of(const glam_routing_stats *s, int expert, taken of[TAKES])
{
    int found = 0;
    for (int id = 0; id < s->vocab; id++) {
        uint64_t count = s->by_token[(size_t)id * (size_t)s->experts + (size_t)expert];
        int place = found < TAKES ? found : TAKES;
        if (!count || (found == TAKES && count <= of[TAKES - 1].count)) continue;
        if (found < TAKES) found++;
        else place--;
        for (; place > 0 && of[place - 1].count < count; place--) of[place] = of[place - 1];
        of[place].id = id;
        of[place].count = count;
    }
    return found;
}

// "  3  1.24   0.61  e 22 %, t 9 %"
static void print_takes(const look *k, const glam_routing_stats *s, int expert)
{
    taken of[TAKES];
    char name[NAME];
    double first = (double)s->first[expert], even = (double)s->tokens / s->experts;
    int count = takes_of(s, expert, of);
    printf("%6d  %5.2f  %5.2f  ", expert, first / even, (double)s->chosen[expert] * s->experts /
           (double)s->choices);
    for (int i = 0, column = 22; i < count; i++) {
        token_name(k->tokenizer, of[i].id, name);
        column += (int)strlen(name) + 7;
        if (i && column > 61) break;
        printf("%s%s %.0f%%", i ? "  " : "", name, 100 * (double)of[i].count / first);
    }
    printf("%s\n", s->first[expert] ? "" : "nothing");
}

static void print_layer_takes(const look *k, int layer, int expert)
{
    const glam_routing_stats *s = tally_finish(k->total, layer);
    printf("\nlayer %d: first choices and all choices of each expert over\n"
           "even ones; the tokens that are most of its first choices\n"
           "expert  first    all  takes\n", layer);
    for (int e = 0; e < k->experts; e++) if (expert < 0 || e == expert) print_takes(k, s, e);
    printf("mean weight of first choices %.2f", s->weight_first);
    if (k->top_k > 1) printf(", of second ones %.2f", s->weight_second);
    printf(";\nthe token alone tells %.0f %% of the first choices\n",
           100 * s->token_specialisation);
}

static void print_text(const look *k, int layer, int expert)
{
    int count = k->tokens < SHOWN ? k->tokens : SHOWN;
    if (expert < 0) printf("layer %d: under each %s its first expert%s\n\n", layer,
                           k->tokenizer ? "token" : "letter",
                           k->experts > 10 ? ", read downwards" : "");
    else printf("layer %d: under each letter the weight of expert %d in\n"
                "percent, read downwards; blank: it does not work there\n\n", layer, expert);
    print_letters(k, layer, expert, count);
    if (count < k->tokens)
        printf("  ... and %s more\n", show_commas((uint64_t)(k->tokens - count)));
}

// One token: what it is, then its experts and their weights.
static void print_route(const look *k, int layer, int t)
{
    char name[NAME];
    printf("%5d  %-5s", t, token_name(k->tokenizer, k->ids[t], name));
    for (int j = 0; j < k->top_k && j < 4; j++) {
        if (k->of[layer].expert[t * k->top_k + j] < 0) printf(" %s  -     ", j ? "" : "|");
        else printf(" %s%3d %.2f", j ? "" : "|", k->of[layer].expert[t * k->top_k + j],
                    (double)k->of[layer].weight[t * k->top_k + j]);
    }
    if (isfinite(k->loss[t]) && k->top_k < 4) printf(" | %5.1f %%", 100 * exp(-(double)k->loss[t]));
    printf("\n");
}

static void print_routes(const look *k, int layer, int expert)
{
    printf("\ntoken         experts of layer %d and their weights%s\n", layer,
           k->top_k < 4 ? ";\n              what the model gave it" : "");
    for (int t = 0; t < k->tokens; t++) {
        int on = expert < 0;
        for (int j = 0; j < k->top_k; j++) on |= k->of[layer].expert[t * k->top_k + j] == expert;
        if (on) print_route(k, layer, t);
    }
}

static void print_looked(const look *k, const glam_config *c, int layer, int expert, int all)
{
    if (k->window < k->tokens)
        printf("%s tokens in windows of %d\n", show_commas((uint64_t)k->tokens), k->window);
    print_text(k, layer, expert);
    printf("\nfirst choices over an even share: a bar (half full: even),\n"
           "the most (whose), the least (whose), dead: chosen less than\n"
           "0.01 as often as the mean, entropy in nats / at most\n");
    for (int i = 0; i < k->layers; i++)
        if (is_mixture(c, i) && (all || i == layer)) print_bar(k->total, i, 1);
    print_layer_takes(k, layer, expert);
    if (k->tokens <= LISTED) print_routes(k, layer, expert);
}

// == as JSON ================================================================================

static void json_floats(logfile *f, const char *key, const float *of, int count)
{
    log_put(f, ",\"%s\":[", key);
    for (int i = 0; i < count; i++) log_put(f, "%s%.6g", i ? "," : "", (double)of[i]);
    log_put(f, "]");
}

static void json_ints(logfile *f, const char *key, const int32_t *of, int count)
{
    log_put(f, "%s\"%s\":[", key[0] == 'e' ? "" : ",", key);
    for (int i = 0; i < count; i++) log_put(f, "%s%d", i ? "," : "", of[i]);
    log_put(f, "]");
}

static void json_tokens(logfile *f, const look *k)
{
    log_put(f, ",\"tokens\":[");
    for (int t = 0; t < k->tokens; t++) {
        char *text = piece_as_json(k, t);
        log_put(f, "%s{\"id\":%d,\"text\":%s", t ? "," : "", k->ids[t], text);
        free(text);
        log_real(f, "loss", (double)k->loss[t]);
        log_put(f, "}");
    }
    log_put(f, "]");
}

static void json_layer(logfile *f, const look *k, int layer)
{
    const looked_layer *l = &k->of[layer];
    size_t top = (size_t)k->top_k;
    log_layer(f, k->total, layer);
    log_put(f, ",\"routes\":[");
    for (size_t t = 0; t < (size_t)k->tokens; t++) {
        log_put(f, t ? ",{" : "{");
        json_ints(f, "experts", l->expert + t * top, k->top_k);
        json_floats(f, "weights", l->weight + t * top, k->top_k);
        json_ints(f, "slots", l->slot + t * top, k->top_k);
        json_ints(f, "kept", l->kept + t * top, k->top_k);
        json_floats(f, "probabilities", l->probability + t * (size_t)k->experts, k->experts);
        log_put(f, "}");
    }
    log_put(f, "]}");
}

// layer -1: all mixtures.
static void print_json(const look *k, const char *path, int layer)
{
    logfile f;
    const char *comma = "";
    memset(&f, 0, sizeof f);
    log_put(&f, "{\"layers\":%d,\"experts\":%d,\"top_k\":%d,\"window\":%d", k->layers, k->experts,
            k->top_k, k->window);
    log_string(&f, "model", path);
    json_tokens(&f, k);
    log_put(&f, ",\"routing\":[");
    for (int i = 0; i < k->layers; i++) {
        if (!k->of[i].expert || (layer >= 0 && i != layer)) continue;
        log_put(&f, "%s", comma);
        json_layer(&f, k, i);
        comma = ",";
        fwrite(f.line, 1, f.length, stdout);
        f.length = 0;
    }
    log_put(&f, "]}\n");
    fwrite(f.line, 1, f.length, stdout);
    free(f.line);
}

// == the command ============================================================================

// The layer that is asked for, else the last mixture; -1 with a message: that is none.
static int choose_layer(const settings *s, const look *k, const char *path)
{
    int layer = GIVEN(layer) ? s->layer : last_mixture(k);
    if (last_mixture(k) < 0)
        complain(FAILED, "%s: every layer is dense, so nothing is routed", path);
    else if (layer >= k->layers)
        complain(FAILED, "--layer %d: the model has layers 0 to %d", layer, k->layers - 1);
    else if (!k->of[layer].expert)
        complain(FAILED, "--layer %d is dense; layer %d is a mixture", layer, last_mixture(k));
    else if (GIVEN(expert) && s->expert >= k->experts)
        complain(FAILED, "--expert %d: there are experts 0 to %d", s->expert, k->experts - 1);
    else return layer;
    return -1;
}

static int run_route(settings *s, char **words, int count)
{
    look k;
    tally total;
    int tokens = 0, status;
    if (count != 2)
        return complain(USAGE, "route wants a model and a text in quotes, or a file: %s route "
                        "model.safetensors \"To be\"", program);
    memset(&k, 0, sizeof k);
    memset(&total, 0, sizeof total);
    glam_ctx *ctx = open_context(s);
    glam_model *model = load_adapted(ctx, words[0], s);
    int32_t *ids = model ? text_tokens(model, words[1], ROUTED, 0, &tokens) : NULL;
    if (ids && glam_error(ctx) == GLAM_OK) {
        const glam_config *c = glam_model_config(model);
        tally_open(&total, ctx, c, c->vocab, 0);
        look_open(&k, model, ids, tokens, c->context, &total);
        look_run(&k, model, GLAM_INFER);
    } else free(ids);
    status = failure(ctx);
    int layer = status == DONE ? choose_layer(s, &k, words[0]) : -1;
    if (layer < 0) status = FAILED;
    else if (s->json) print_json(&k, words[0], GIVEN(layer) ? layer : -1);
    else print_looked(&k, glam_model_config(model), layer, GIVEN(expert) ? s->expert : -1,
                      !GIVEN(layer));
    look_close(&k);
    tally_close(&total);
    glam_close(ctx);
    return status;
}

#endif
