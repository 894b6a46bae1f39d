/* Golden cases: complete models, their inputs, and what a correct program computes from them, made
   in double precision by another program (PyTorch's autograd).  Kind of test: golden.
   The reader below is the test's own, so that a mistake in room 21 cannot hide one here.
   GLAM_GOLDEN names the folder (default tests/golden); every *.safetensors in it is run. */

typedef struct golden {
    unsigned char *file;
    size_t         size;
    char          *header;         // JSON, 0-terminated
    const unsigned char *data;
    char          *config, *recipe;
    int            bad, quiet;
    const char    *path;
    int            narrow;         // products in bf16
    double         off[256];       // squares of relative errors since golden_rms, of so many tensors
    int            parts;
} golden;

// --- the smallest JSON reader that can find a value by key -------------------------------------

static const char *json_space(const char *p)
{
    while (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t') p++;
    return p;
}

// Past the value at p; NULL when it has no end.
static const char *json_skip(const char *p)
{
    int depth = 0, quoted = 0;
    for (p = json_space(p); *p; p++) {
        if (quoted) {
            if (*p == '\\' && p[1]) p++;
            else if (*p == '"') quoted = 0;
            if (!quoted && !depth) return p + 1;
            continue;
        }
        if (*p == '"') quoted = 1;
        else if (*p == '{' || *p == '[') depth++;
        else if (*p == '}' || *p == ']') {
            if (depth == 0) return p;              // the end of what encloses a number
            if (--depth == 0) return p + 1;
        } else if (*p == ',' && depth == 0) return p;
    }
    return NULL;
}

// The value of key in the object at p; NULL when there is none.
static const char *json_find(const char *p, const char *key)
{
    size_t length = strlen(key);
    if (!p) return NULL;
    p = json_space(p);
    if (*p++ != '{') return NULL;
    for (;;) {
        p = json_space(p);
        if (*p != '"') return NULL;
        int same = !strncmp(p + 1, key, length) && p[1 + length] == '"';
        p = json_skip(p);
        if (!p) return NULL;
        p = json_space(p);
        if (*p++ != ':') return NULL;
        p = json_space(p);
        if (same) return p;
        p = json_skip(p);
        if (!p) return NULL;
        p = json_space(p);
        if (*p++ != ',') return NULL;
    }
}

// A string value, unescaped as far as our files need it; the caller frees it.
static char *json_string(const char *p)
{
    if (!p || *p != '"') return NULL;
    const char *end = json_skip(p);
    char *out = end ? (char *)malloc((size_t)(end - p)) : NULL;
    size_t n = 0;
    if (!out) return NULL;
    for (p++; p < end - 1; p++) {
        if (*p == '\\' && p + 1 < end - 1) p++;
        out[n++] = *p;
    }
    out[n] = 0;
    return out;
}

static double json_number(const char *object, const char *key, double missing)
{
    const char *p = json_find(object, key);
    if (!p) return missing;
    if (!strncmp(p, "true", 4)) return 1;
    if (!strncmp(p, "false", 5)) return 0;
    return strtod(p, NULL);
}

static int json_word(const char *object, const char *key, const char *const *words, int count)
{
    char *value = json_string(json_find(object, key));
    int found = -1;
    for (int i = 0; value && i < count; i++) if (!strcmp(value, words[i])) found = i;
    free(value);
    return found;
}

// --- files ---------------------------------------------------------------------------------------

static int golden_read(golden *g, const char *path)
{
    FILE *f = fopen(path, "rb");
    memset(g, 0, sizeof *g);
    g->path = path;
    if (!f) return 0;
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    fseek(f, 0, SEEK_SET);
    if (size > 8) g->file = (unsigned char *)malloc((size_t)size);
    if (g->file) g->size = fread(g->file, 1, (size_t)size, f);
    fclose(f);
    if (!g->file || g->size != (size_t)size) return 0;
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | g->file[i];
    if (length > g->size - 8) return 0;
    g->header = (char *)malloc((size_t)length + 1);
    if (!g->header) return 0;
    memcpy(g->header, g->file + 8, (size_t)length);
    g->header[length] = 0;
    g->data = g->file + 8 + length;
    const char *meta = json_find(g->header, "__metadata__");
    g->config = json_string(json_find(meta, "glam.config"));
    g->recipe = json_string(json_find(meta, "glam.recipe"));
    return g->config != NULL && g->recipe != NULL;
}

static void golden_free(golden *g)
{
    free(g->file);
    free(g->header);
    free(g->config);
    free(g->recipe);
}

// Where the values of a tensor are; NULL when the file has none of that name.
static unsigned char *golden_raw(const golden *g, const char *name, size_t *count, char *type,
                                 int *dims, int *dim)
{
    const char *entry = json_find(g->header, name), *p = json_find(entry, "data_offsets");
    char *dtype = json_string(json_find(entry, "dtype"));
    if (!p || !dtype) { free(dtype); return NULL; }
    *type = dtype[0] == 'I' ? 'i' : dtype[1] == '6' ? 'd' : 'f';
    free(dtype);
    char *q;
    uint64_t begin = strtoull(p + 1, &q, 10), end = strtoull(q + 1, NULL, 10);
    if (begin > end || end > g->size - (size_t)(g->data - g->file)) return NULL;
    *count = (size_t)(end - begin) / (*type == 'd' ? 8 : 4);
    *dims = 0;
    p = json_find(entry, "shape");
    for (p = p ? p + 1 : "]"; *p != ']' && *dims < 4; ) {
        dim[(*dims)++] = (int)strtol(p, &q, 10);
        p = json_space(*q == ',' ? q + 1 : q);
    }
    return (unsigned char *)g->data + begin;
}

// A number of the file, whose bytes begin with the lowest on every machine.
static void golden_copy(void *to, const void *from, int bytes)
{
    const uint16_t one = 1;
    int little = *(const unsigned char *)&one;
    for (int i = 0; i < bytes; i++)
        ((unsigned char *)to)[i] = ((const unsigned char *)from)[little ? i : bytes - 1 - i];
}

// All values of a tensor as doubles; the caller frees them.
static double *golden_values(const golden *g, const char *name, size_t *count)
{
    char type;
    int dims, dim[4];
    const unsigned char *raw = golden_raw(g, name, count, &type, &dims, dim);
    double *out = raw ? (double *)malloc((*count ? *count : 1) * sizeof(double)) : NULL;
    for (size_t i = 0; out && i < *count; i++) {
        float f;
        int32_t n;
        if (type == 'd') golden_copy(&out[i], raw + i * 8, 8);
        else if (type == 'f') { golden_copy(&f, raw + i * 4, 4); out[i] = (double)f; }
        else { golden_copy(&n, raw + i * 4, 4); out[i] = n; }
    }
    return out;
}

static int32_t *golden_ints(const golden *g, const char *name, size_t *count)
{
    double *values = golden_values(g, name, count);
    int32_t *out = values ? (int32_t *)malloc(*count * sizeof(int32_t)) : NULL;
    for (size_t i = 0; out && i < *count; i++) out[i] = (int32_t)values[i];
    free(values);
    return out;
}

// --- comparing -----------------------------------------------------------------------------------

// What rounding to bf16 explains.  An operand is off by 2^-8 of itself at most, and by 2^-9.2 in the mean
// square over all significands: a product of two by sqrt(2) of that, and so is a sum of such products of
// random signs, however many, measured by its own size.  Errors of products in a row are independent and
// add up by squares; the stream that goes around a block carries none, so that this is the most.
static const double golden_rounding = 0.00235;     // sqrt(2) 2^-9.2

// Products in a row: queries, scores, values, output, two of the feed-forward; the head.  A gradient has
// those of the forward pass in what it multiplies, and two for each on its way back.
static double golden_products(const golden *g, int gradient)
{ return (6 * json_number(g->config, "layers", 0) + 1) * (gradient ? 3 : 1); }

// The largest error of a tensor, by its largest value: in f32 `most`, in bf16 four times the mean square.
// Rounding turns e/pi of the units of a ReLU on or off, where e is the error of what they see: each brings
// or takes all of its gradient, 2 e/pi of the squares, as half of the units are on.
static double golden_most(const golden *g, double most, int gradient)
{
    static const char *const relu[] = { "relu" };
    double e = golden_rounding * sqrt(golden_products(g, 0)), turned = 0;
    if (gradient && json_word(json_find(g->config, "moe"), "activation", relu, 1) == 0) turned = 2 * e / 3.14159265;
    return g->narrow ? 4 * golden_rounding * sqrt(golden_products(g, gradient)) + 2 * sqrt(turned) : most;
}

static void golden_bad(golden *g, const char *what, double off)
{
    g->bad++;
    if (!g->quiet) printf("%s: %s is off by %.3g\n", g->path, what, off);
}

// got NULL means zeros: a parameter that nothing flowed into has no gradient buffer.
static void golden_compare(golden *g, const char *name, const float *got, size_t n, double most,
                           int zeros)
{
    size_t count = 0;
    double *want = golden_values(g, name, &count);
    double worst = 0, top = 0, squares = 0, all = 0;
    if (!want || count != n) { golden_bad(g, name, -1); free(want); return; }
    for (size_t i = 0; i < n; i++) {
        double value = got ? (double)got[i] : 0, off = fabs(value - want[i]);
        if (!(off <= DBL_MAX)) off = HUGE_VAL;
        if (off > worst) worst = off;
        if (fabs(want[i]) > top) top = fabs(want[i]);
        squares += off * off;
        all += want[i] * want[i];
        if (zeros && want[i] == 0 && value != 0) { worst = HUGE_VAL; }
    }
    if (!(worst <= most * top)) golden_bad(g, name, top > 0 ? worst / top : worst);
    if (all > 0 && g->parts < 256) g->off[g->parts++] = squares / all;
    free(want);
}

static int golden_less(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// In bf16, the median over the tensors compared since the last call: not more than rounding explains,
// and not so little that nothing was rounded.
static void golden_rms(golden *g, const char *what, int gradient)
{
    double most = golden_rounding * sqrt(golden_products(g, gradient)), rms = 0;
    qsort(g->off, (size_t)g->parts, sizeof *g->off, golden_less);
    if (g->parts) rms = sqrt(g->off[g->parts / 2]);
    if (g->narrow && getenv("GLAM_TEST_SHOW")) printf("%s: %s %.5f, %.2f of the most\n", g->path, what, rms, rms / most);
    if (g->narrow && !(rms <= most && rms > most / 16)) golden_bad(g, what, rms);
    g->parts = 0;
}

static void golden_equal(golden *g, const char *name, const int32_t *got, size_t n)
{
    size_t count = 0, wrong = 0;
    int32_t *want = golden_ints(g, name, &count);
    if (!want || !got || count != n) { golden_bad(g, name, -1); free(want); return; }
    for (size_t i = 0; i < n; i++) wrong += want[i] != got[i];
    if (wrong) golden_bad(g, name, (double)wrong);
    free(want);
}

// --- one case ------------------------------------------------------------------------------------

static glam_config golden_config(const golden *g)
{
    static const char *const positions[] = { "buckets", "transformer_xl", "none" };
    static const char *const activations[] = { "relu", "gelu_tanh", "gelu_erf", "geglu", "swiglu",
                                               "geglu_literal" };
    static const char *const normalise[] = { "before_drop", "after_drop", "none" };
    glam_config c = glam_config_default();
    const char *j = g->config, *m = json_find(j, "moe");
    c.vocab = (int)json_number(j, "vocab", 0);
    c.layers = (int)json_number(j, "layers", 0);
    c.d_model = (int)json_number(j, "d_model", 0);
    c.heads = (int)json_number(j, "heads", 0);
    c.d_head = (int)json_number(j, "d_head", 0);
    c.hidden = (int)json_number(j, "hidden", 0);
    c.position = (glam_position)json_word(j, "position", positions, 3);
    c.buckets = (int)json_number(j, "buckets", 32);
    c.max_distance = (int)json_number(j, "max_distance", 128);
    c.attention_scale = (float)json_number(j, "attention_scale", 1);
    c.attention_sink = (int)json_number(j, "attention_sink", 1);
    c.activation = (glam_activation)json_word(j, "activation", activations, 6);
    c.norm_eps = (float)json_number(j, "norm_eps", 1e-6);
    c.tied = (int)json_number(j, "tied", 1);
    c.logit_scale = (float)json_number(j, "logit_scale", 0);
    c.z_loss = (float)json_number(j, "z_loss", 1e-4);
    c.moe.experts = (int)json_number(m, "experts", 0);
    if (c.moe.experts == 0) return c;
    c.moe.top_k = (int)json_number(m, "top_k", 2);
    c.moe.every = (int)json_number(m, "every", 2);
    c.moe.offset = (int)json_number(m, "offset", 0);
    c.moe.hidden = (int)json_number(m, "hidden", 0);
    c.moe.activation = (glam_activation)json_word(m, "activation", activations, 6);
    c.moe.normalise = (glam_normalise)json_word(m, "normalise", normalise, 3);
    c.moe.capacity_factor = (float)json_number(m, "capacity_factor", 0);
    c.moe.capacity = 0;
    c.moe.group = (int)json_number(m, "group", 0);
    c.moe.aux_weight = (float)json_number(m, "aux_weight", 0.01);
    c.moe.router_z_weight = (float)json_number(m, "router_z_weight", 0);
    return c;
}

// A model with the weights of the file; every weight of the file must have a place in it.
static glam_model *golden_model(golden *g, glam_ctx *ctx)
{
    glam_config config = golden_config(g);
    glam_model *model = glam_model_new(ctx, &config);
    if (!model) { golden_bad(g, glam_error_text(ctx), -1); return NULL; }
    int filled = 0, stored = 0;
    for (int i = 0; glam_model_tensor_at(model, i); i++) {
        glam_tensor *t = glam_model_tensor_at(model, i);
        size_t count = 0;
        char type;
        int dims = 0, dim[4], same = 1;
        double *values = golden_values(g, t->name, &count);
        if (values) golden_raw(g, t->name, &count, &type, &dims, dim);
        for (int d = 0; d < dims; d++) same = same && dim[d] == t->shape.dim[d];
        if (!values || count != glam_size(t) || dims != t->shape.dims || !same ||
            glam_model_tensor(model, t->name) != t) golden_bad(g, t->name, -1);
        else for (size_t e = 0; e < count; e++) t->data[e] = (float)values[e];
        free(values);
        filled++;
    }
    for (const char *p = strstr(g->header, "\"dtype\""); p; p = strstr(p + 1, "\"dtype\"")) stored++;
    for (const char *p = strstr(g->header, "\"expect."); p; p = strstr(p + 1, "\"expect.")) stored--;
    for (const char *p = strstr(g->header, "\"input."); p; p = strstr(p + 1, "\"input.")) stored--;
    if (stored != filled) golden_bad(g, "the number of weights", stored - filled);
    return model;
}

typedef struct golden_input { glam_batch batch; int32_t *all[4]; } golden_input;

static golden_input golden_batch(golden *g)
{
    golden_input in;
    size_t count = 0, ignored;
    char type;
    int dims = 0, dim[4] = { 0, 0, 0, 0 };
    memset(&in, 0, sizeof in);
    golden_raw(g, "input.tokens", &count, &type, &dims, dim);
    in.batch.rows = dim[0];
    in.batch.length = dim[1];
    in.batch.tokens = in.all[0] = golden_ints(g, "input.tokens", &ignored);
    in.batch.targets = in.all[1] = golden_ints(g, "input.targets", &ignored);
    in.batch.mask = in.all[2] = golden_ints(g, "input.mask", &ignored);
    in.batch.segments = in.all[3] = golden_ints(g, "input.segments", &ignored);
    return in;
}

static void golden_losses(golden *g, const glam_losses *losses, float total)
{
    size_t count = 0;
    double *want = golden_values(g, "expect.loss", &count);
    double got[6] = { losses->xent, losses->z, losses->aux, losses->router_z, losses->total,
                      (double)total };
    static const char *const names[6] = { "loss xent", "loss z", "loss aux", "loss router_z",
                                          "loss total", "the loss tensor" };
    for (int i = 0; i < 6; i++) {
        double w = want && count == 5 ? want[i < 5 ? i : 4] : HUGE_VAL;
        if (!(fabs(got[i] - w) <= (g->narrow ? golden_rounding : 1e-5) * fabs(w))) golden_bad(g, names[i], fabs(got[i] - w));
    }
    free(want);
}

// The same experts for each token; in bf16 two that are as good as equal may change places.
static void golden_same_experts(golden *g, const char *name, const glam_routing *r)
{
    size_t count = 0, all = (size_t)r->tokens * (size_t)r->top_k, wrong = 0;
    int32_t *want = golden_ints(g, name, &count);
    if (!want || count != all) { golden_bad(g, name, -1); free(want); return; }
    for (size_t i = 0; i < all; i++) {
        size_t first = i - i % (size_t)r->top_k, found = 0;
        for (size_t j = first; j < first + (size_t)r->top_k; j++) found += want[j] == r->expert[i];
        wrong += !found;
    }
    if (wrong) golden_bad(g, name, (double)wrong);
    free(want);
}

static void golden_routing(golden *g, const glam_model *model)
{
    const glam_config *c = glam_model_config(model);
    char name[64];
    for (int layer = 0; layer < c->layers; layer++) {
        const glam_routing *r = glam_model_routing(model, layer);
        size_t count;
        sprintf(name, "expect.route.%d.load", layer);
        int32_t *load = golden_ints(g, name, &count);
        if (!r != !load) golden_bad(g, name, -1);
        free(load);
        if (!r || !load) continue;
        size_t all = (size_t)r->tokens * (size_t)r->top_k;
        golden_equal(g, name, r->load, (size_t)r->experts);
        sprintf(name, "expect.route.%d.expert", layer);
        if (!g->narrow) golden_equal(g, name, r->expert, all);
        else golden_same_experts(g, name, r);
        sprintf(name, "expect.route.%d.kept", layer);
        golden_equal(g, name, r->kept, all);
        sprintf(name, "expect.route.%d.gate", layer);
        golden_compare(g, name, r->weight, all, golden_most(g, 1e-5, 0), 1);
        sprintf(name, "expect.route.%d.slot", layer);
        if (r->capacity) golden_equal(g, name, r->slot, all);
    }
}

static glam_ctx *golden_ctx(const golden *g)
{
    glam_options options = test_options();
    if (g->narrow && options.arithmetic != GLAM_BF16_TILES) options.arithmetic = GLAM_BF16;
    return glam_open(&options);
}

static void golden_forward(golden *g)
{
    glam_ctx *ctx = golden_ctx(g);
    glam_model *model = golden_model(g, ctx);
    golden_input in = golden_batch(g);
    glam_losses losses;
    char name[128];
    glam_tensor *loss = glam_loss(model, &in.batch, GLAM_TRAIN, &losses);
    if (loss) {
        golden_losses(g, &losses, loss->data[0]);
        golden_routing(g, model);
    }
    g->parts = 0;
    if (glam_backward(ctx, loss) != GLAM_OK) golden_bad(g, glam_error_text(ctx), -1);
    for (int i = 0; loss && glam_model_tensor_at(model, i); i++) {
        glam_tensor *t = glam_model_tensor_at(model, i);
        sprintf(name, "expect.grad.%.100s", t->name);
        golden_compare(g, name, t->grad, glam_size(t), golden_most(g, 1e-4, 1), 1);
    }
    golden_rms(g, "the mean square of gradients", 1);
    glam_forget(ctx);
    glam_tensor *logits = glam_forward(model, &in.batch, GLAM_TRAIN);
    if (logits) golden_compare(g, "expect.logits", logits->data, glam_size(logits), golden_most(g, 1e-5, 0), 1);
    golden_rms(g, "the mean square of logits", 0);
    if (glam_error(ctx) != GLAM_OK) golden_bad(g, glam_error_text(ctx), -1);
    glam_close(ctx);
    for (int i = 0; i < 4; i++) free(in.all[i]);
}

// Row by row through a cache, the first three tokens at once, then one at a time; then greedily.
static void golden_decode(golden *g)
{
    glam_ctx *ctx = golden_ctx(g);
    glam_model *model = golden_model(g, ctx);
    golden_input in = golden_batch(g);
    int B = in.batch.rows, S = in.batch.length, V = model ? glam_model_config(model)->vocab : 1;
    size_t count = 0;
    double *want = golden_values(g, "expect.decode.logits", &count);
    float *got = (float *)calloc((size_t)B * (size_t)S * (size_t)V, sizeof(float));
    glam_session *session = glam_session_new(model, S);
    for (int b = 0; want && b < B; b++) {
        glam_session_reset(session);
        for (int s = 0; s < S; s = s ? s + 1 : 3) {
            const float *logits = glam_next(session, in.batch.tokens + b * S + s, s ? 1 : 3);
            float *to = got + ((size_t)b * (size_t)S + (size_t)(s ? s : 2)) * (size_t)V;
            if (logits) memcpy(to, logits, (size_t)V * sizeof(float));
        }
        // The first two positions were read in one piece with the third.
        for (int s = 0; s < 2; s++) {
            size_t at = ((size_t)b * (size_t)S + (size_t)s) * (size_t)V;
            for (int v = 0; v < V; v++) got[at + (size_t)v] = (float)want[at + (size_t)v];
        }
    }
    golden_compare(g, "expect.decode.logits", got, (size_t)B * (size_t)S * (size_t)V, golden_most(g, 1e-5, 0), 0);
    free(want);
    free(got);
    int32_t *greedy = golden_ints(g, "expect.greedy.tokens", &count), out[64];
    int prompt = (int)json_number(g->recipe, "prompt", 4);
    free(greedy);
    if (count > 64) count = 64;
    glam_sampling sampling = glam_sampling_default();
    sampling.temperature = 0;
    session = glam_session_new(model, prompt + (int)count);
    int made = glam_generate(session, in.batch.tokens, prompt, out, (int)count, &sampling);
    golden_equal(g, "expect.greedy.tokens", out, (size_t)made);
    if (glam_error(ctx) != GLAM_OK) golden_bad(g, glam_error_text(ctx), -1);
    glam_close(ctx);
    for (int i = 0; i < 4; i++) free(in.all[i]);
}

static glam_recipe golden_recipe(const golden *g, int adamw)
{
    glam_recipe r = glam_recipe_paper();
    const char *j = json_find(g->recipe, adamw ? "adamw" : "adafactor");
    r.optimizer = adamw ? GLAM_ADAMW : GLAM_ADAFACTOR;
    r.schedule = GLAM_SCHEDULE_CONSTANT;
    r.warmup = 0;
    r.clip = 0;
    r.embed_lr = 1;
    r.lr = json_number(j, "lr", 0);
    r.beta1 = json_number(j, "beta1", r.beta1);
    r.beta2 = json_number(j, "beta2", r.beta2);
    r.eps = json_number(j, "eps", r.eps);
    r.weight_decay = adamw ? json_number(j, "weight_decay", 0) : 0;
    r.decay_all = 1;
    r.factor_min = (int)json_number(j, "factor_min", 128);
    r.update_clip = json_number(j, "clip", 1);
    r.eps1 = json_number(j, "eps1", 1e-30);
    r.eps2 = json_number(j, "eps2", 1e-3);
    r.parameter_scale = (int)json_number(j, "parameter_scale", 1);
    return r;
}

static void golden_after(golden *g, const glam_model *model, const char *kind)
{
    char name[128];
    for (int i = 0; glam_model_tensor_at(model, i); i++) {
        glam_tensor *t = glam_model_tensor_at(model, i);
        sprintf(name, "expect.%s.%.90s", kind, t->name);
        golden_compare(g, name, t->data, glam_size(t), 1e-5, 0);
    }
}

static void golden_optimiser(golden *g, int adamw)
{
    size_t count = 0;
    double *has = golden_values(g, adamw ? "expect.adamw3.norm" : "expect.adafactor3.norm", &count);
    free(has);
    if (!has) return;
    glam_ctx *ctx = test_ctx();
    glam_model *model = golden_model(g, ctx);
    golden_input in = golden_batch(g);
    glam_recipe recipe = golden_recipe(g, adamw);
    glam_tensor *params[256];
    int n = 0;
    while (n < 256 && glam_model_tensor_at(model, n)) {
        params[n] = glam_model_tensor_at(model, n);
        n++;
    }
    glam_optimizer *optimizer = glam_optimizer_new(ctx, params, n, &recipe);
    for (int step = 0; step < 3; step++) {
        glam_report report;
        glam_tensor *loss = glam_loss(model, &in.batch, GLAM_TRAIN, NULL);
        if (glam_update(optimizer, loss, &report) != GLAM_OK || report.skipped) {
            golden_bad(g, glam_error_text(ctx), -1);
        }
        if (step == 0 && !adamw) golden_after(g, model, "adafactor1");
    }
    golden_after(g, model, adamw ? "adamw3" : "adafactor3");
    glam_close(ctx);
    for (int i = 0; i < 4; i++) free(in.all[i]);
}

static void golden_all(golden *g)
{
    g->bad = 0;
    golden_forward(g);
    golden_decode(g);
    golden_optimiser(g, 0);
    golden_optimiser(g, 1);
}

// With products in bf16.  The optimisers have none.
static void golden_narrow(golden *g)
{
    g->bad = 0;
    g->narrow = 1;
    golden_forward(g);
    golden_decode(g);
}

// --- the folder ----------------------------------------------------------------------------------

static const char *golden_folder(void)
{
    const char *folder = getenv("GLAM_GOLDEN");
    return folder && *folder ? folder : "tests/golden";
}

static int golden_order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// The paths of all cases, sorted; the caller frees them.
static int golden_list(char **paths, int most)
{
    DIR *dir = opendir(golden_folder());
    int n = 0;
    if (!dir) return 0;
    for (struct dirent *e = readdir(dir); e && n < most; e = readdir(dir)) {
        size_t length = strlen(e->d_name), size = strlen(golden_folder()) + length + 2;
        if (length < 12 || strcmp(e->d_name + length - 12, ".safetensors")) continue;
        paths[n] = (char *)malloc(size);
        if (paths[n]) snprintf(paths[n++], size, "%s/%s", golden_folder(), e->d_name);
    }
    closedir(dir);
    qsort(paths, (size_t)n, sizeof *paths, golden_order);
    return n;
}

static void golden_found(void)
{
    char *paths[256];
    int n = golden_list(paths, 256);
    if (!CHECK(n > 0)) printf("no *.safetensors in %s\n", golden_folder());
    for (int i = 0; i < n; i++) free(paths[i]);
}

static void golden_cases(void)
{
    char *paths[256];
    int n = golden_list(paths, 256);
    for (int i = 0; i < n; i++) {
        golden g;
        const char *slash = strrchr(paths[i], '/');
        char name[256];
        snprintf(name, sizeof name, "golden_%s", slash ? slash + 1 : paths[i]);
        if (test__wanted(name)) {
            test__begin(name);
            if (CHECK(golden_read(&g, paths[i]))) golden_all(&g);
            CHECK(g.bad == 0);
            test__end();
            golden_free(&g);
        }
        snprintf(name, sizeof name, "bf16_golden_%s", slash ? slash + 1 : paths[i]);
        if (test__wanted(name)) {
            test__begin(name);
            if (CHECK(golden_read(&g, paths[i]))) golden_narrow(&g);
            CHECK(g.bad == 0);
            test__end();
            golden_free(&g);
        }
        free(paths[i]);
    }
}

// Moves one number of the file in memory by a thousandth of the largest; integers by one.
static int golden_spoil(golden *g, const char *name)
{
    size_t count = 0, at;
    char type;
    int dims, dim[4];
    unsigned char *raw = golden_raw(g, name, &count, &type, &dims, dim);
    double *values = golden_values(g, name, &count), top = 0;
    if (!raw || !values) { free(values); return 0; }
    at = count - 1;
    for (size_t i = 0; i < count; i++) if (fabs(values[i]) > top) top = fabs(values[i]);
    double moved = values[at] + (type == 'i' ? 1 : 1e-3 * top);
    float f = (float)moved;
    int32_t n = (int32_t)moved;
    if (type == 'd') golden_copy(raw + at * 8, &moved, 8);
    else if (type == 'f') golden_copy(raw + at * 4, &f, 4);
    else golden_copy(raw + at * 4, &n, 4);
    free(values);
    return 1;
}

// The test of the test: after spoiling one expectation of each kind the comparison must fail.
static void golden_spoilt(void)
{
    static const char *const names[] = {
        "expect.logits", "expect.loss", "expect.grad.embed", "expect.grad.layers.0.moe.router",
        "expect.route.0.expert", "expect.route.0.slot", "expect.route.0.kept",
        "expect.route.0.gate", "expect.route.0.load", "expect.adafactor1.layers.1.ffn.up",
        "expect.adafactor3.layers.0.moe.down", "expect.adamw3.layers.0.attn.q",
        "expect.decode.logits", "expect.greedy.tokens" };
    char path[1024];
    golden g;
    snprintf(path, sizeof path, "%s/moe_capacity.safetensors", golden_folder());
    if (!golden_read(&g, path)) {
        golden_free(&g);
        CHECK(getenv("GLAM_GOLDEN") != NULL);      // another folder need not have this case
        return;
    }
    g.quiet = 1;
    golden_all(&g);
    CHECK(g.bad == 0);
    golden_free(&g);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!CHECK(golden_read(&g, path))) return;
        g.quiet = 1;
        CHECK(golden_spoil(&g, names[i]));
        golden_all(&g);
        if (!CHECK(g.bad > 0)) printf("a spoilt %s was not noticed\n", names[i]);
        golden_free(&g);
    }
}

static void test_golden(void)
{
    RUN(golden_found);
    golden_cases();
    RUN(golden_spoilt);
}
