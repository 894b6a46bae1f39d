/* models.h - rows of whole layers, training steps, decoding, growth and costs.  Used by bench.c. */

#ifndef MODELS_H
#define MODELS_H

// ---- layers: a mixture of two-matrix ReLU experts against the dense layer of equal work

typedef struct layer {
    glam_ctx *ctx;
    glam_tensor *x;
    glam_moe_weights w;
    glam_moe_config config;
    const float *dy;
} layer;

static void layer_moe(void *state)
{
    layer *s = (layer *)state;
    glam_tensor *balance = NULL, *y = glam_moe(s->ctx, s->x, &s->w, &s->config, NULL, &balance);
    glam_backward(s->ctx, glam_add(s->ctx, probe(s->ctx, y, s->dy), balance));
    glam_forget(s->ctx);
    if (glam_error(s->ctx)) die(glam_error_text(s->ctx));
}

static void layer_ops(void *state)     // relu(x up) down, from single ops
{
    layer *s = (layer *)state;
    glam_tensor *h = glam_relu(s->ctx, glam_matmul(s->ctx, s->x, s->w.up));
    glam_backward(s->ctx, probe(s->ctx, glam_matmul(s->ctx, h, s->w.down), s->dy));
    glam_forget(s->ctx);
    if (glam_error(s->ctx)) die(glam_error_text(s->ctx));
}

// Which experts token t goes to: all alike, or expert 0 first for every second token.
static void layer_choose(int t, int E, int skewed, int *first, int *second)
{
    int n = skewed ? E - 1 : E, from = skewed ? 1 : 0;
    *first = skewed && t % 2 == 0 ? 0 : from + t / (skewed ? 2 : 1) % n;
    *second = from + (t / (skewed ? 2 : 1) + n / 2) % n;
}

static layer *layer_new(bench *b, int T, int M, int H, int E, int skewed)
{
    layer *s = (layer *)keep(b, sizeof *s);
    s->ctx = open_context(b, b->threads);
    s->config = glam_moe_config_default();
    s->config.experts = E;
    s->config.top_k = E == 1 ? 1 : 2;
    s->config.hidden = H;
    s->config.activation = GLAM_RELU;
    if (E == 1) s->config.normalise = GLAM_NORMALISE_NONE;
    s->w = glam_moe_init(s->ctx, "moe", M, &s->config);
    s->x = glam_param(s->ctx, "x", glam_dim2(T, M));
    if (!s->x) die(glam_error_text(s->ctx));
    glam_fill_normal(s->x, 1, 1);
    s->dy = noise(b, (size_t)T * M);
    glam_fill(s->w.router, 0);         // the first E columns of x say where a token goes
    for (int e = 0; e < E && e < M; e++) s->w.router->data[(size_t)e * E + e] = 1;
    for (int t = 0; t < T && E > 1; t++) {
        float *x = s->x->data + (size_t)t * M;
        int first, second;
        layer_choose(t, E, skewed, &first, &second);
        memset(x, 0, (size_t)E * sizeof *x);
        x[first] = 2;
        x[second] = 1;
    }
    return s;
}

// p: T, M, H, full (also with one token of skew)
static void open_layer(bench *b, const int *v)
{
    static const int experts[] = { 8, 32, 64 };
    int T = v[0], M = v[1], H = v[2];
    snprintf(b->shape, sizeof b->shape, "T %d, M %d, H %d, top 2, forward + backward", T, M, H);
    layer *dense = layer_new(b, T, M, 2 * H, 1, 0);
    enter(b, "dense", layer_moe, dense);
    layer *ops = (layer *)keep(b, sizeof *ops);
    *ops = *dense;
    ops->ctx = open_context(b, b->threads);
    ops->x = glam_param(ops->ctx, "x", glam_dim2(T, M));
    ops->w.up = glam_param(ops->ctx, "up", glam_dim2(M, 2 * H));
    ops->w.down = glam_param(ops->ctx, "down", glam_dim2(2 * H, M));
    if (!ops->w.down) die(glam_error_text(ops->ctx));
    glam_fill_normal(ops->x, 1, 1);
    glam_fill_normal(ops->w.up, 1, 0.05f);
    glam_fill_normal(ops->w.down, 1, 0.05f);
    enter(b, "dense, single ops", layer_ops, ops);
    for (int i = 0; i < 6; i++) {
        char name[32];
        int E = experts[i % 3], skewed = i >= 3;
        snprintf(name, sizeof name, "%s%d", skewed ? "skewed" : "moe", E);
        enter(b, name, layer_moe, layer_new(b, T, M, H, E, skewed));
    }
    for (int i = 0; i < b->count; i++) b->list[i].flops = 24.0 * T * M * H;
}

// ---- training steps

enum { LAYERS, WIDTH, HEADS, HIDDEN, CONTEXT, BATCH, VOCAB, EXPERTS };     // p of a model's row

typedef struct lm {
    glam_ctx *ctx;
    glam_model *model;
    glam_trainer *trainer;
    int recompute;
} lm;

static glam_config lm_config(const int *v)
{
    glam_config c = glam_config_default();
    c.layers = v[LAYERS];
    c.d_model = v[WIDTH];
    c.heads = v[HEADS];
    c.hidden = v[HIDDEN];
    c.context = v[CONTEXT];
    c.vocab = v[VOCAB];
    c.moe.experts = v[EXPERTS];
    c.moe.every = 2;
    c.moe.hidden = v[HIDDEN];
    c.moe.activation = GLAM_RELU;
    return c;
}

// Parameters of the products that one token passes through; the output's among them.
static double lm_active(const int *v)
{
    double M = v[WIDTH], H = v[HIDDEN], E = v[EXPERTS], moe = v[EXPERTS] ? v[LAYERS] / 2 : 0;
    return v[LAYERS] * 4 * M * M + (v[LAYERS] - moe) * 3 * M * H + moe * (4 * M * H + E * M) +
           v[VOCAB] * M;
}

// Of a training step: six per active parameter and token, and attention's causal half.
static double lm_flops(const int *v)
{
    double T = (double)v[BATCH] * v[CONTEXT];
    return 6 * lm_active(v) * T + 6.0 * v[LAYERS] * T * v[CONTEXT] * v[WIDTH];
}

// What else a step must do: exponentials, and floats that stream through norms, residuals, gates.
static void lm_elements(const int *v, double *exps, double *streamed)
{
    double T = (double)v[BATCH] * v[CONTEXT], moe = v[EXPERTS] ? v[LAYERS] / 2 : 0;
    double dense = v[LAYERS] - moe;
    *exps = T * (2 * v[HIDDEN] * dense + (double)v[LAYERS] * v[HEADS] * v[CONTEXT] + v[VOCAB]);
    *streamed = T * (30.0 * v[WIDTH] * v[LAYERS] + 6.0 * v[HIDDEN] * (2 * dense + 2 * moe));
}

// Tokens of a Zipf-like law, as in the peers' runs.
static glam_text *lm_text(glam_ctx *ctx, int V, size_t count)
{
    int32_t *t = (int32_t *)malloc(count * sizeof *t);
    double all = log(V + 1.0);
    if (!t) die("out of memory");
    for (size_t i = 0; i < count; i++) {
        int id = (int)exp(all * (double)glam_random(1, 7, i)) - 1;
        t[i] = id < V ? id : V - 1;
    }
    glam_text *text = glam_text_from_tokens(ctx, t, count);
    free(t);
    return text;
}

static lm *lm_new(bench *b, const int *v, int threads, int recompute)
{
    lm *s = (lm *)keep(b, sizeof *s);
    glam_config c = lm_config(v);
    glam_recipe r = glam_recipe_default();
    r.optimizer = GLAM_ADAMW;
    r.lr = 1e-3;
    r.weight_decay = 0;
    r.clip = 1;
    r.steps = 1000000000;
    r.batch = v[BATCH];
    r.recompute = recompute;
    s->ctx = open_context(b, threads);
    s->model = glam_model_new(s->ctx, &c);
    s->trainer = glam_trainer_new(s->model, lm_text(s->ctx, v[VOCAB], (size_t)v[BATCH] *
                                                    v[CONTEXT] * 64 + 1), NULL, &r);
    if (glam_error(s->ctx)) die(glam_error_text(s->ctx));
    return s;
}

static void lm_step(void *state)
{
    lm *s = (lm *)state;
    if (!glam_train_step(s->trainer, NULL)) die(glam_error_text(s->ctx));
}

static entrant *enter_lm(bench *b, const char *name, const int *v, int recompute)
{
    lm *s = lm_new(b, v, b->threads, recompute);
    entrant *e = enter(b, name, lm_step, s);
    e->items = (double)v[BATCH] * v[CONTEXT];
    e->flops = lm_flops(v);
    e->run(s);
    e->held = (double)glam_memory(s->ctx).peak;
    return e;
}

static void say_shape(bench *b, const int *v)
{
    snprintf(b->shape, sizeof b->shape, "L %d, M %d, H %d, heads %d, S %d, B %d, V %d, E %d",
             v[LAYERS], v[WIDTH], v[HIDDEN], v[HEADS], v[CONTEXT], v[BATCH], v[VOCAB],
             v[EXPERTS]);
}

static void open_step(bench *b, const int *v)
{
    double exps, streamed;
    entrant *e = enter_lm(b, "glam", v, 0);
    lm_elements(v, &exps, &streamed);
    say_shape(b, v);
    fact(b, "parameters", (double)glam_model_count(((lm *)e->state)->model, NULL));
    fact(b, "active", lm_active(v));
    fact(b, "exps", exps);
    fact(b, "streamed", streamed);
}

// ---- decoding: one token after another, greedily, from an empty cache to the full context

typedef struct decoder {
    lm model;
    glam_session *session;
    int context, vocab, prompt;
    int32_t token, tokens[64];
} decoder;

static void decode_one(void *state)
{
    decoder *s = (decoder *)state;
    if (glam_session_length(s->session) >= s->context) glam_session_reset(s->session);
    const float *logits = glam_next(s->session, &s->token, 1);
    if (!logits) die(glam_error_text(s->model.ctx));
    s->token = 0;
    for (int i = 1; i < s->vocab; i++) if (logits[i] > logits[s->token]) s->token = i;
}

static void decode_prefill(void *state)
{
    decoder *s = (decoder *)state;
    glam_session_reset(s->session);
    if (!glam_next(s->session, s->tokens, s->prompt)) die(glam_error_text(s->model.ctx));
}

static void open_decode(bench *b, const int *v)
{
    glam_config c = lm_config(v);
    glam_ctx *ctx = open_context(b, b->threads);
    if (ctx->simd.products->pair > 1) ctx->options.pack_bytes = SIZE_MAX;  // as glam generate does
    glam_model *model = glam_model_new(ctx, &c);
    decoder *s[2];
    for (int i = 0; i < 2; i++) {
        s[i] = (decoder *)keep(b, sizeof **s);
        s[i]->model.ctx = ctx;
        s[i]->session = glam_session_new(model, v[CONTEXT]);
        s[i]->context = v[CONTEXT];
        s[i]->vocab = v[VOCAB];
        s[i]->prompt = 16;
        for (int t = 0; t < 16; t++) s[i]->tokens[t] = t * 7 % v[VOCAB];
    }
    if (glam_error(ctx)) die(glam_error_text(ctx));
    entrant *e = enter(b, "glam", decode_one, s[0]);
    e->items = 1;
    e->moved = 4.0 / ctx->simd.products->pair * lm_active(v);
    e->flops = 2 * lm_active(v);
    entrant *p = enter(b, "glam, prefill 16", decode_prefill, s[1]);
    p->items = 16;
    p->flops = 32 * lm_active(v);
    decode_one(s[0]);
    e->held = p->held = (double)glam_memory(ctx).peak;
    say_shape(b, v);
    fact(b, "weights", 4 * (double)glam_model_count(model, NULL));
}

// ---- growth: one size moves, all else stays; every size is an entrant, named by it

// p: those of a model, and the moving one is given by the row's name
static void open_growth(bench *b, const int *v)
{
    static const int contexts[] = { 64, 128, 256, 512, 1024, 2048, 4096, 0 };
    static const int experts[] = { 8, 16, 32, 64, 128, 0 };
    static const int batches[] = { 1, 2, 4, 8, 16, 32, 64, 0 };
    static const int vocabs[] = { 256, 1024, 4096, 16000, 64000, 256000, 0 };
    const char *name = b->row->name;
    int at = !strcmp(name, "context") ? CONTEXT : !strcmp(name, "experts") ? EXPERTS
           : !strcmp(name, "batch") ? BATCH : VOCAB;
    const int *sizes = at == CONTEXT ? contexts : at == EXPERTS ? experts
                     : at == BATCH ? batches : vocabs;
    int tokens = v[BATCH] * v[CONTEXT], p[8];
    for (int i = 0; sizes[i]; i++) {
        if (!b->full && i % 2 && sizes[i + 1]) continue;       // the short form: every second one
        char text[32];
        memcpy(p, v, sizeof p);
        p[at] = sizes[i];
        if (at == CONTEXT) p[BATCH] = tokens / sizes[i];
        snprintf(text, sizeof text, "%d", sizes[i]);
        enter_lm(b, text, p, 0);
    }
    say_shape(b, v);
}

// ---- costs

static void open_recompute(bench *b, const int *v)
{
    say_shape(b, v);
    enter_lm(b, "kept", v, 0);
    enter_lm(b, "recomputed", v, 1);
}

// A process that burns one core; stopped except while its entrant is sampled.
static pid_t neighbour;

static void neighbour_wake(void *state) { (void)state; kill(neighbour, SIGCONT); usleep(20000); }
static void neighbour_stop(void *state) { (void)state; kill(neighbour, SIGSTOP); usleep(20000); }

static void open_neighbour(bench *b, const int *v)
{
    pid_t parent = getpid();
    neighbour = fork();
    if (neighbour < 0) die("cannot fork");
    if (!neighbour)
        for (volatile long i = 0;; i++)
            if (i % 1000000 == 0 && getppid() != parent) _exit(0);
    kill(neighbour, SIGSTOP);
    say_shape(b, v);
    enter_lm(b, "alone", v, 0)->least = 0.5;
    entrant *e = enter(b, "busy neighbour", lm_step, b->list[0].state);
    *e = b->list[0];
    snprintf(e->name, sizeof e->name, "busy neighbour");
    e->enter = neighbour_wake;
    e->leave = neighbour_stop;
}

// From nothing to the end of the first step: a process of its own.
typedef struct command { char text[600]; } command;

static void command_run(void *state)
{ if (system(((const command *)state)->text)) die(((const command *)state)->text); }

static void open_start(bench *b, const int *v)
{
    command *c = (command *)keep(b, sizeof *c);
    (void)v;
    snprintf(c->text, sizeof c->text, "'%s' --first nano --threads %d", b->program, b->threads);
    snprintf(b->shape, sizeof b->shape, "process start to the end of one step, nano");
    enter(b, "glam", command_run, c);
}

static void open_compile(bench *b, const int *v)
{
    static const char *const how[] = { "-O0", "-O2", "-O2 -DGLAM_NO_SIMD" };
    const char *header = getenv("GLAM_H"), *compiler = getenv("CC");
    (void)v;
    snprintf(b->shape, sizeof b->shape, "%s", compiler ? compiler : "cc");
    for (int i = 0; i < 3; i++) {
        command *c = (command *)keep(b, sizeof *c);
        snprintf(c->text, sizeof c->text, "%s %s -fopenmp -x c -DGLAM_IMPLEMENTATION -c '%s' "
                 "-o /dev/null", compiler ? compiler : "cc", how[i], header ? header : "glam.h");
        enter(b, how[i], command_run, c);
    }
}

// Ordered sums against sums in whatever order: a dot product in the first cache, and the sum of
// squares of a gradient by all threads.
typedef struct sums {
    glam_ctx *ctx;
    size_t n;
    const float *x, *y;
    const machine *machine;
    float out;
} sums;

static void sums_dot(void *state)
{ sums *s = (sums *)state; s->out += s->ctx->simd.kernels->dot((int)s->n, s->x, s->y); }

static void sums_dot_free(void *state)
{ sums *s = (sums *)state; s->out += s->machine->dot(s->n, s->x, s->y); }

static void sums_chunk(void *arg, size_t from, size_t count, double *sum)
{
    const sums *s = (const sums *)arg;
    *sum = s->ctx->simd.kernels->sum_squares(count, s->x + from);
}

static void sums_norm(void *state)
{ sums *s = (sums *)state; s->out += (float)glam__each_chunk(s->ctx, 0, s->n, sums_chunk, s); }

static void sums_norm_free(void *state)
{
    sums *s = (sums *)state;
    float total = 0;
    int t, threads = s->ctx->options.threads;
#ifdef _OPENMP
    #pragma omp parallel for schedule(static) num_threads(threads) reduction(+:total)
#endif
    for (t = 0; t < threads; t++) {
        size_t part = s->n / (size_t)threads / 1024 * 1024, from = part * (size_t)t;
        total += s->machine->dot(part, s->x + from, s->x + from);
    }
    s->out += total;
}

static const machine *machine_of(const char *name)
{
    if (!strcmp(name, "amx")) name = "avx512";
    for (int i = 0; i < MACHINES; i++) if (!strcmp(machines[i]->name, name)) return machines[i];
    return machines[0];
}

// p: elements, all threads
static void open_sums(bench *b, const int *v)
{
    sums *s = (sums *)keep(b, sizeof *s);
    s->ctx = open_context(b, v[1] ? b->threads : 1);
    glam__reserve_scratch(s->ctx, 1 << 20);
    s->n = (size_t)v[0];
    s->x = noise(b, s->n);
    s->y = v[1] ? s->x : noise(b, s->n);
    s->machine = machine_of(glam_simd_name(s->ctx));
    snprintf(b->shape, sizeof b->shape, "%s of %d floats, %s", v[1] ? "sum of squares" : "dot",
             v[0], v[1] ? "all threads" : "one thread");
    enter(b, "ordered", v[1] ? sums_norm : sums_dot, s);
    enter(b, "any order", v[1] ? sums_norm_free : sums_dot_free, s);
    for (int i = 0; i < 2; i++) {
        b->list[i].flops = 2.0 * (double)s->n;
        b->list[i].moved = (v[1] ? 4.0 : 8.0) * (double)s->n;
    }
}

#endif
