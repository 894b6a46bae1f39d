/* playground.c - what the page of playground.sh runs: a mixture and its dense twin of equal work,
   trained in turns on one text, with knobs that act between two steps.

   The page calls the functions marked EXPORT; it knows neither structs nor enums: numbers and knobs
   are rows here and go over by name.  There is no file and no second thread; the page takes a
   snapshot by copying the whole memory, in which everything lives.

   As a program it trains the same two models and prints their losses: what the page must show, too.

   Build: cc -O2 examples/playground.c -o playground -lm && ./playground README.md 100 */

#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __wasm__
#define EXPORT(name) __attribute__((export_name(#name)))
#else
#define EXPORT(name)
#endif

enum { LAYERS = 2, WIDTH = 64, HEADS = 2, CONTEXT = 64, BATCH = 8, VALIDATE = 50,
       FROZEN = 6, HELD_BACK = 6000, SURVEY = 32, MOST_LAYERS = 32, MOST_EXPERTS = 256, WRITTEN = 400 };

// What the reader sets, and its value at first.
#define KNOBS(K) K(experts, 8) K(top_k, 2) K(balance, 0.01) K(capacity, 0) \
                 K(temperature, 1) K(router, 0) K(seed, 1)

typedef struct knob_values {
#define K(name, value) double name;
    KNOBS(K)
#undef K
} knob_values;

typedef struct side {
    glam_ctx     *ctx;
    glam_model   *model;
    glam_text    *train;
    glam_trainer *trainer;
    glam_report   now;
} side;

static side mixture, dense;
static const char *simd;                       // NULL: the best; the program may ask for another
static char *text;                             // what is learnt
static size_t text_bytes;
static char complaint[600];
static unsigned char off[MOST_LAYERS][MOST_EXPERTS];       // 1: this expert is switched off

// glam_text_split's share for validation: a twentieth, but no more than a moment's work.
static float held_back(void)
{
    double share = text_bytes > 0 ? (double)HELD_BACK / (double)text_bytes : 1;
    return (float)(share < 0.05 ? share : text_bytes < 4000 ? 0.2 : 0.05);
}

static knob_values knobs = {
#define K(name, value) value,
    KNOBS(K)
#undef K
};

static glam_config config_of_knobs(void)
{
    glam_config c = glam_config_default();
    c.layers      = LAYERS;
    c.d_model     = WIDTH;
    c.heads       = HEADS;
    c.context     = CONTEXT;
    c.moe.experts = (int)knobs.experts;
    return c;
}

// Every layer dense, as wide as gives the matrix work that the mixture does for a token.
static glam_config twin_of(const glam_config *mixed)
{
    glam_config c = *mixed;
    double work = 0, matrices = c.moe.activation == GLAM_GEGLU || c.moe.activation == GLAM_SWIGLU
                              ? 3 : 2;
    for (int i = 0; i < c.layers; i++)
        work += i % c.moe.every == c.moe.offset ? c.moe.top_k * matrices * c.moe.hidden
                                                : 3.0 * c.hidden;
    c.hidden = (int)(work / (3.0 * c.layers) + 0.5);
    c.moe.experts = 0;
    return c;
}

static void knobs_into(glam_config *c)
{
    c->moe.top_k = (int)knobs.top_k < c->moe.experts ? (int)knobs.top_k : c->moe.experts;
    c->moe.normalise = c->moe.top_k == 1 ? GLAM_NORMALISE_NONE : GLAM_NORMALISE_BEFORE_DROP;
    c->moe.capacity_factor = (float)knobs.capacity;
    c->moe.aux_weight = (float)knobs.balance;
    c->moe.temperature = (float)knobs.temperature;
    c->moe.router = knobs.router < FROZEN ? (glam_router)(int)knobs.router : GLAM_ROUTER_TOP_K;
}

static int failed(const side *s)
{
    if (s->ctx && glam_error(s->ctx) == GLAM_OK) return 0;
    snprintf(complaint, sizeof complaint, "%s", s->ctx ? glam_error_text(s->ctx) : "no memory left");
    glam_clear_error(s->ctx);                   // told once, and the run goes on
    return 1;
}

// A context with a model (a new one, or that of a file) and its trainer.
static int side_begin(side *s, const glam_config *c, const void *file, size_t bytes)
{
    glam_options options = glam_options_default();
    options.threads = 1;
    options.simd    = simd;
    options.seed    = (uint64_t)knobs.seed;
    memset(s, 0, sizeof *s);
    s->ctx   = glam_open(&options);
    s->model = file ? glam_load_memory(s->ctx, file, bytes) : glam_model_new(s->ctx, c);
    glam_text *all = glam_text_from(s->ctx, text, text_bytes, NULL), *valid = NULL;
    glam_text_split(all, held_back(), &s->train, &valid);
    if (knobs.router == FROZEN && s == &mixture) glam_freeze(s->model, "router", 1);
    glam_recipe recipe = glam_recipe_default();
    recipe.schedule   = GLAM_SCHEDULE_CONSTANT;      // the page has no last step
    recipe.warmup     = 30;
    recipe.steps      = 1 << 30;
    recipe.batch      = BATCH;
    recipe.context    = CONTEXT;
    recipe.eval_every = VALIDATE;
    recipe.seed       = (uint64_t)knobs.seed;
    s->trainer = glam_trainer_new(s->model, s->train, valid, &recipe);
    s->now.valid_loss = -1;
    return failed(s);
}

// Both models anew; file: the mixture is read from it.  What was there goes only when the new
// ones are there.
static int begin_both(const void *file, size_t bytes)
{
    side old[2] = {mixture, dense};
    glam_config c = config_of_knobs();
    if (!file) knobs_into(&c);
    int bad = side_begin(&mixture, &c, file, bytes);
    if (!bad) {
        c = *glam_model_config(mixture.model);
        if (c.moe.experts < 1 || c.moe.experts > MOST_EXPERTS || c.layers > MOST_LAYERS) {
            snprintf(complaint, sizeof complaint, "this model has %d experts in %d layers; the page "
                     "shows mixtures of at most %d in %d", c.moe.experts, c.layers, MOST_EXPERTS,
                     MOST_LAYERS);
            bad = 1;
        }
    }
    if (!bad) {
        knobs.experts  = c.moe.experts;
        knobs.top_k    = c.moe.top_k;
        knobs.balance  = (double)c.moe.aux_weight;
        knobs.capacity = (double)c.moe.capacity_factor;
        knobs.temperature = (double)c.moe.temperature;
        if (file) knobs.router = c.moe.router;
        memset(off, 0, sizeof off);
        c = twin_of(&c);
        bad = side_begin(&dense, &c, NULL, 0);
        if (bad) glam_close(dense.ctx);
    }
    if (bad) {
        glam_close(mixture.ctx);
        mixture = old[0];
        dense   = old[1];
        return 1;
    }
    glam_close(old[0].ctx);
    glam_close(old[1].ctx);
    return 0;
}

// -- what the page calls; 0: done, else error() says why not --------------------------------------

EXPORT(room) void *room(int bytes) { return malloc((size_t)bytes); }
EXPORT(leave) void leave(void *place) { free(place); }
EXPORT(error) const char *error(void) { return complaint; }
EXPORT(knobs) double *knobs_at(void) { return (double *)&knobs; }

EXPORT(knob_names) const char *knob_names(void)
{
#define K(name, value) #name " "
    return KNOBS(K);
#undef K
}

// The routers, in the order of the knob's values.
EXPORT(choices) const char *choices(void)
{
    return "top_k sampled random noisy hash expert_choice frozen";
}

// The text stays where it is: room() gave the place.
EXPORT(learn) void learn(char *place, int bytes)
{
    text = place;
    text_bytes = (size_t)bytes;
}

EXPORT(begin) int begin(void) { return begin_both(NULL, 0); }
EXPORT(open) int open_file(const void *file, int bytes) { return begin_both(file, (size_t)bytes); }

// What the knobs and switches say now, from the next step on.
EXPORT(turn) int turn(void)
{
    glam_config c = *glam_model_config(mixture.model);
    knobs_into(&c);
    glam_model_tune(mixture.model, -1, &c.moe, NULL);
    for (int l = 0; l < c.layers; l++)
        if (memchr(off[l], 1, MOST_EXPERTS)) glam_model_tune(mixture.model, l, &c.moe, off[l]);
    return failed(&mixture);
}

EXPORT(off) unsigned char *off_at(int layer) { return off[layer]; }

static int32_t load[MOST_LAYERS][2 * MOST_EXPERTS];

// A pass of the reader's comes before the page asks, and ends what the step leaves behind.
static void keep_loads(void)
{
    const glam_config *c = glam_model_config(mixture.model);
    memset(load, 0, sizeof load);
    for (int l = 0; l < c->layers; l++) {
        const glam_routing *r = glam_trainer_routing(mixture.trainer, l);
        for (size_t t = 0; r && t < (size_t)r->tokens; t++) {
            int e = r->expert[t * (size_t)r->top_k];
            if (e < 0) continue;
            load[l][e]++;
            load[l][r->experts + e] += r->kept[t * (size_t)r->top_k];
        }
        if (!r) load[l][0] = -1;
    }
}

// One step of each.
EXPORT(step) int step(void)
{
    glam_train_step(mixture.trainer, &mixture.now);
    if (failed(&mixture)) return 1;
    keep_loads();
    glam_train_step(dense.trainer, &dense.now);
    return failed(&dense);
}

#define NUMBERS(N)                                                                                 \
    N(step, mixture.now.step) N(loss, mixture.now.loss) N(valid, mixture.now.valid_loss)           \
    N(dense_loss, dense.now.loss) N(dense_valid, dense.now.valid_loss)                             \
    N(balance, mixture.now.balance) N(entropy, mixture.now.entropy)                                \
    N(dropped, mixture.now.dropped) N(seconds, mixture.now.seconds)                                \
    N(dense_seconds, dense.now.seconds) N(tokens, (double)mixture.now.tokens)                      \
    N(bytes, (double)mixture.now.bytes) N(layers, c->layers) N(experts, c->moe.experts)            \
    N(top_k, c->moe.top_k) N(parameters, parameters) N(active, (double)active)                     \
    N(dense_parameters, dense_parameters) N(context, c->context) N(width, c->d_model)

EXPORT(number_names) const char *number_names(void)
{
#define N(name, value) #name " "
    return NUMBERS(N);
#undef N
}

EXPORT(numbers) const double *numbers(void)
{
    static double out[40];
    const glam_config *c = glam_model_config(mixture.model);
    uint64_t active = 0;
    double parameters = (double)glam_model_count(mixture.model, &active);
    double dense_parameters = (double)glam_model_count(dense.model, NULL);
    int n = 0;
#define N(name, value) out[n++] = (double)(value);
    NUMBERS(N)
#undef N
    return out;
}

// Of the last training step [2,E]: first choices of each expert, and those of them that found a
// place; NULL: a dense layer.
EXPORT(loads) const int32_t *loads(int layer)
{
    if (layer < 0 || layer >= MOST_LAYERS || load[layer][0] < 0) return NULL;
    return load[layer];
}

// What every layer does with a text of the reader's: experts and weights [L,n,k], probabilities
// [L,n,E]; a dense layer has -1.  One block: n L k E as int32, then the three arrays.
EXPORT(look) const int32_t *look(const char *words, int n)
{
    static int32_t *out;
    const glam_config *c = glam_model_config(mixture.model);
    int L = c->layers, E = c->moe.experts, K = 1;
    size_t each = (size_t)L * (size_t)n;
    int32_t *ids = (int32_t *)malloc((size_t)n * sizeof *ids + 1);
    if (n < 1 || !ids) { free(ids); return NULL; }
    glam_encode(NULL, words, (size_t)n, ids, (size_t)n);
    glam_batch batch = {1, n, ids, NULL, NULL, NULL};
    int tape = glam_no_grad(mixture.ctx, 1);
    glam_forward(mixture.model, &batch, GLAM_INFER);
    glam_no_grad(mixture.ctx, tape);
    for (int l = 0; l < L; l++) {                  // where experts choose a token may have many
        const glam_routing *r = glam_model_routing(mixture.model, l);
        if (r && r->top_k > K) K = r->top_k;
    }
    free(out);
    out = (int32_t *)malloc((4 + each * (size_t)(2 * K + E)) * sizeof *out);
    for (int l = 0; out && l < L; l++) {
        const glam_routing *r = glam_model_routing(mixture.model, l);
        size_t some = (size_t)n * (size_t)K, all = (size_t)n * (size_t)E;
        int32_t *expert = out + 4 + (size_t)l * some;
        float *weight = (float *)(out + 4 + each * (size_t)K) + (size_t)l * some;
        float *chance = (float *)(out + 4 + 2 * each * (size_t)K) + (size_t)l * all;
        out[0] = n; out[1] = L; out[2] = K; out[3] = E;
        for (size_t i = 0; i < some; i++) {
            size_t t = i / (size_t)K, k = i % (size_t)K;
            int there = r && (int)k < r->top_k;
            expert[i] = there ? r->expert[t * (size_t)r->top_k + k] : -1;
            weight[i] = there ? r->weight[t * (size_t)r->top_k + k] : 0;
        }
        for (size_t i = 0; i < all; i++) chance[i] = r ? r->probability[i] : 0;
    }
    glam_forget(mixture.ctx);
    free(ids);
    return failed(&mixture) ? NULL : out;
}

// First choices of each byte in a piece of the text that is learnt: [L,256,E].
EXPORT(survey) const int32_t *survey(void)
{
    static int32_t *out;
    const glam_config *c = glam_model_config(mixture.model);
    int L = c->layers, E = c->moe.experts;
    size_t count = (size_t)L * 256 * (size_t)E;
    free(out);
    out = (int32_t *)calloc(count, sizeof *out);
    glam_batch batch;
    glam_next_batch(mixture.train, SURVEY, CONTEXT, 99, 0, &batch);
    batch.targets = NULL;
    int tape = glam_no_grad(mixture.ctx, 1);
    glam_forward(mixture.model, &batch, GLAM_INFER);
    glam_no_grad(mixture.ctx, tape);
    for (int l = 0; out && l < L && glam_error(mixture.ctx) == GLAM_OK; l++) {
        const glam_routing *r = glam_model_routing(mixture.model, l);
        for (int t = 0; r && t < r->tokens; t++) {
            int e = r->expert[(size_t)t * r->top_k];
            if (e >= 0) out[((size_t)l * 256 + (size_t)batch.tokens[t]) * (size_t)E + (size_t)e]++;
        }
    }
    glam_forget(mixture.ctx);
    return failed(&mixture) ? NULL : out;
}

// What a model writes after a prompt; which: 0 the mixture, 1 the twin.
EXPORT(compose) const char *compose(const char *prompt, int which, int seed)
{
    static char out[WRITTEN];
    side *s = which ? &dense : &mixture;
    glam_sampling sampling = glam_sampling_default();
    sampling.seed = (uint64_t)seed;
    glam_complete(s->model, prompt, out, sizeof out, &sampling);
    return failed(s) ? NULL : out;
}

// The mixture as a safetensors file: its bytes, and their place.
static void *file;
EXPORT(file) void *file_place(void) { return file; }
EXPORT(save) int save(void)
{
    size_t bytes = glam_save_memory(mixture.model, NULL, 0);
    free(file);
    file = bytes ? malloc(bytes) : NULL;
    if (file) bytes = glam_save_memory(mixture.model, file, bytes);
    failed(&mixture);
    return file ? (int)bytes : 0;
}

#ifndef __wasm__

int main(int argc, char **argv)
{
    FILE *in = argc > 2 ? fopen(argv[1], "rb") : NULL;
    if (!in) {
        fprintf(stderr, "playground: ./playground TEXT STEPS [sse2|avx2|...]: %s\n",
                argc > 2 ? "the text cannot be opened" : "a text and a number are wanted");
        return 2;
    }
    static char all[1 << 23];
    learn(all, (int)fread(all, 1, sizeof all, in));
    fclose(in);
    simd = argc > 3 ? argv[3] : NULL;
    int bad = begin();
    for (int i = 0, steps = atoi(argv[2]); i < steps && !bad; i++) {
        bad = step();
        if (!bad && (i + 1) % 10 == 0)
            printf("step %d  mixture %.4f  dense %.4f\n", i + 1, mixture.now.loss, dense.now.loss);
    }
    if (bad) fprintf(stderr, "playground: %s\n", error());
    else printf("%.0f tokens/s\n", (double)(mixture.now.tokens + dense.now.tokens) /
                                   (mixture.now.seconds + dense.now.seconds));
    glam_close(mixture.ctx);
    glam_close(dense.ctx);
    return bad;
}

#endif
