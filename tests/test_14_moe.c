/* Room 14: the mixture.  Kinds: value (a slow mixture in double, written from the reference),
   golden (the worked vectors of reference 2.1), property, failure. */

// --- the slow mixture ----------------------------------------------------------------------------

typedef struct slow_mixture {
    int T, M, E, k, H;
    double *p, *y, *gate;          // [T,E] [T,M] [T,k]
    int    *expert, *slot, *kept;  // [T,k]
    int    *load;                  // [E]
    int     dropped, capacity;
    double  balance, z, entropy, margin;
} slow_mixture;

static void slow_mixture_new(slow_mixture *s, int T, int M, const glam_moe_config *c)
{
    memset(s, 0, sizeof *s);
    s->T = T;
    s->M = M;
    s->E = c->experts;
    s->k = c->top_k;
    s->H = c->hidden;
    s->p = (double *)calloc((size_t)(T * s->E), sizeof(double));
    s->y = (double *)calloc((size_t)(T * M), sizeof(double));
    s->gate = (double *)calloc((size_t)(T * s->k), sizeof(double));
    s->expert = (int *)calloc((size_t)(T * s->k), sizeof(int));
    s->slot = (int *)calloc((size_t)(T * s->k), sizeof(int));
    s->kept = (int *)calloc((size_t)(T * s->k), sizeof(int));
    s->load = (int *)calloc((size_t)s->E, sizeof(int));
}

static void slow_mixture_free(slow_mixture *s)
{
    free(s->p);
    free(s->y);
    free(s->gate);
    free(s->expert);
    free(s->slot);
    free(s->kept);
    free(s->load);
}

// Steps 1 to 5 of section 2: probabilities and the k best, the lowest index on ties.
static void slow_choose(slow_mixture *s, const float *x, const int32_t *mask, const float *router,
                        const glam_moe_config *c)
{
    int E = s->E, real = 0;
    s->margin = 1;
    for (int t = 0; t < s->T; t++) {
        double logit[64], top = -1e300, sum = 0, total = 0;
        int taken[64] = { 0 };
        for (int e = 0; e < E; e++) {
            logit[e] = 0;
            for (int m = 0; m < s->M; m++) logit[e] += (double)x[t * s->M + m] * (double)router[m * E + e];
            double cap = (double)c->router_cap;
            if (cap > 0) logit[e] = cap * tanh(logit[e] / cap);
            if (logit[e] > top) top = logit[e];
        }
        for (int e = 0; e < E; e++) sum += exp(logit[e] - top);
        for (int e = 0; e < E; e++) s->p[t * E + e] = exp(logit[e] - top) / sum;
        if (mask && !mask[t]) {
            for (int i = 0; i < s->k; i++) s->expert[t * s->k + i] = s->slot[t * s->k + i] = -1;
            continue;
        }
        real++;
        s->z += pow(top + log(sum), 2);
        for (int e = 0; e < E; e++) s->entropy -= s->p[t * E + e] * log(s->p[t * E + e]);
        for (int i = 0; i < s->k; i++) {
            int best = -1;
            for (int e = 0; e < E; e++) {
                if (!taken[e] && (best < 0 || s->p[t * E + e] > s->p[t * E + best])) best = e;
            }
            taken[best] = 1;
            s->expert[t * s->k + i] = best;
            s->gate[t * s->k + i] = s->p[t * E + best];
            total += s->p[t * E + best];
            for (int e = 0; e < E; e++) {
                double gap = s->p[t * E + best] - s->p[t * E + e];
                if (!taken[e] && gap < s->margin) s->margin = gap;
            }
        }
        if (c->normalise == GLAM_NORMALISE_BEFORE_DROP) {
            for (int i = 0; i < s->k; i++) s->gate[t * s->k + i] /= total + 1e-9;
        }
    }
    s->z /= real ? real : 1;
    s->entropy /= real ? real : 1;
}

// Steps 6 to 8 and the balance loss, group by group.
static void slow_assign(slow_mixture *s, const glam_moe_config *c)
{
    int group = c->group ? c->group : s->T, k = s->k, E = s->E, all = 0;
    for (int t = 0; t < s->T; t++) all += s->expert[t * k] >= 0;
    s->capacity = c->capacity;
    if (!s->capacity && c->capacity_factor > 0) {
        s->capacity = (int)((double)group * (double)c->capacity_factor / E);
        if (s->capacity < 1) s->capacity = 1;
        s->capacity = (s->capacity + 3) / 4 * 4;
    }
    for (int g = 0; g < s->T; g += group) {
        int held[64] = { 0 }, first[64] = { 0 }, real = 0;
        for (int t = g; t < g + group; t++) real += s->expert[t * k] >= 0;
        for (int i = 0; i < k; i++) {
            int seen[64] = { 0 }, now[64] = { 0 };
            for (int t = g; t < g + group; t++) {
                int e = s->expert[t * k + i];
                if (e < 0) continue;
                int place = held[e] + seen[e]++;
                int fits = !s->capacity || place < s->capacity;
                s->slot[t * k + i] = fits ? place : -1;
                s->kept[t * k + i] = fits;
                if (fits) now[e]++; else s->dropped++;
                if (i == 0) first[e]++;
            }
            for (int e = 0; e < E; e++) held[e] += now[e];
        }
        for (int e = 0; e < E; e++) {
            double P = 0;
            for (int t = g; t < g + group; t++) if (s->expert[t * k] >= 0) P += s->p[t * E + e];
            if (real) s->balance += E * (first[e] / (double)real) * (P / real) * real / all;
            s->load[e] += held[e];
        }
    }
    for (int t = 0; t < s->T; t++) {
        double total = 0;
        for (int i = 0; i < k; i++) {
            if (!s->kept[t * k + i]) s->gate[t * k + i] = 0;
            total += s->gate[t * k + i];
        }
        for (int i = 0; i < k && c->normalise == GLAM_NORMALISE_AFTER_DROP && total > 0; i++) {
            s->gate[t * k + i] /= total;
        }
    }
}

static double slow_act(glam_activation kind, double gate, double up)
{
    switch (kind) {
    case GLAM_RELU:      return up > 0 ? up : 0;
    case GLAM_GELU_TANH: return slow_gelu(up);
    case GLAM_GELU_ERF:  return slow_gelu_erf(up);
    case GLAM_GEGLU:     return slow_gelu(gate) * up;
    case GLAM_SWIGLU:    return slow_silu(gate) * up;
    default:             return slow_gelu(gate * up);
    }
}

static void slow_experts(slow_mixture *s, const float *x, const glam_moe_weights *w,
                         const glam_moe_config *c)
{
    int M = s->M, H = s->H;
    for (int t = 0; t < s->T; t++) {
        for (int i = 0; i < s->k; i++) {
            int e = s->expert[t * s->k + i];
            if (e < 0 || !s->kept[t * s->k + i]) continue;
            for (int h = 0; h < H; h++) {
                double up = 0, gate = 0;
                for (int m = 0; m < M; m++) {
                    size_t at = (size_t)((e * M + m) * H + h);
                    up += (double)x[t * M + m] * (double)w->up->data[at];
                    if (w->gate) gate += (double)x[t * M + m] * (double)w->gate->data[at];
                }
                double value = s->gate[t * s->k + i] * slow_act(c->activation, gate, up);
                for (int m = 0; m < M; m++) {
                    s->y[t * M + m] += value * (double)w->down->data[(e * H + h) * M + m];
                }
            }
        }
    }
}

static void slow_mixture_run(slow_mixture *s, const float *x, const int32_t *mask,
                             const glam_moe_weights *w, const glam_moe_config *c)
{
    slow_choose(s, x, mask, w->router->data, c);
    slow_assign(s, c);
    slow_experts(s, x, w, c);
}

// --- against the slow mixture --------------------------------------------------------------------

static void moe_compare(const glam_routing *r, const glam_tensor *y, const slow_mixture *s)
{
    int wrong = 0;
    for (int i = 0; i < s->T * s->k; i++) {
        wrong += r->expert[i] != s->expert[i] || r->kept[i] != s->kept[i];
        wrong += s->capacity && r->slot[i] != s->slot[i];
        wrong += !s->kept[i] && r->weight[i] != 0;
    }
    for (int e = 0; e < s->E; e++) wrong += r->load[e] != s->load[e];
    CHECK(wrong == 0);
    CHECK(r->tokens == s->T && r->experts == s->E && r->top_k == s->k);
    CHECK(r->capacity == s->capacity);
    CHECK(r->dropped == s->dropped);
    CHECK(test_off(r->weight, s->gate, (size_t)(s->T * s->k)) < 3e-6);
    CHECK(test_off(y->data, s->y, (size_t)(s->T * s->M)) < 1e-5);
    CHECK_NEAR(r->balance, s->balance, 1e-5 * s->balance);
    CHECK_NEAR(r->router_z, s->z, 1e-5 * s->z);
    CHECK_NEAR(r->entropy, s->entropy, 1e-5);
}

static glam_moe_config moe_config(int E, int k, int H)
{
    glam_moe_config c = glam_moe_config_default();
    c.experts = E;
    c.top_k = k;
    c.hidden = H;
    c.activation = GLAM_RELU;
    return c;
}

// One mixture of random weights against the slow one.  Ties closer than float can see are
// avoided by taking the next seed.
static void moe_value(int T, int M, const glam_moe_config *c, const int32_t *mask)
{
    glam_ctx *ctx = test_ctx();
    glam_moe_weights w = glam_moe_init(ctx, "m", M, c);
    glam_routing r;
    glam_tensor *balance = NULL;
    slow_mixture s;
    float *values = NULL;
    if (!CHECK(w.router != NULL)) printf("%s\n", glam_error_text(ctx));
    for (uint64_t seed = 1; w.router && seed < 100; seed++) {
        values = test_floats((size_t)(T * M), seed, -2, 2);
        slow_mixture_new(&s, T, M, c);
        slow_mixture_run(&s, values, mask, &w, c);
        if (s.margin > 1e-5) break;
        slow_mixture_free(&s);
        free(values);
        values = NULL;
    }
    if (!CHECK(values != NULL)) { glam_close(ctx); return; }
    glam_tensor *x = glam_input(ctx, values, glam_dim2(T, M));
    glam_tensor *y = mask ? glam_moe_masked(ctx, x, mask, &w, c, &r, &balance)
                          : glam_moe(ctx, x, &w, c, &r, &balance);
    if (CHECK(y != NULL && balance != NULL)) {
        moe_compare(&r, y, &s);
        CHECK(test_off(r.probability, s.p, (size_t)(T * s.E)) < 1e-5 || mask != NULL);
        double want = (double)c->aux_weight * s.balance + (double)c->router_z_weight * s.z;
        CHECK_NEAR(balance->data[0], want, 1e-5 * (want + 1e-6));
    }
    slow_mixture_free(&s);
    free(values);
    CLOSE_CLEAN(ctx);
}

static void moe_values_everywhere(void)
{
    static const glam_activation kinds[5] = { GLAM_RELU, GLAM_GELU_TANH, GLAM_GELU_ERF, GLAM_GEGLU,
                                              GLAM_SWIGLU };
    for (int i = 0; i < 45; i++) {
        glam_moe_config c = moe_config(5, 1 + i % 3, 7 + i);
        c.activation = kinds[i % 5];
        c.normalise = (glam_normalise)(i / 3 % 3);
        c.capacity_factor = i / 9 % 3 ? 0.5f * (float)(i / 9 % 3) * (float)c.top_k : 0;
        c.group = i % 2 ? 26 : 0;
        c.router_z_weight = 0.001f;
        moe_value(78, 13 + i % 4, &c, NULL);
    }
}

static void moe_values_masked(void)
{
    int32_t mask[60];
    for (int i = 0; i < 60; i++) mask[i] = i % 7 != 3 && i < 52;
    for (int i = 0; i < 12; i++) {
        glam_moe_config c = moe_config(4, 1 + i % 4, 9);
        c.normalise = (glam_normalise)(i % 3);
        c.capacity = i / 3 % 2 ? 3 : 0;
        c.group = i / 6 ? i % 2 ? 5 : 20 : 0;
        c.router_z_weight = 0.01f;
        moe_value(60, 11, &c, mask);
    }
}

// A cap on the router: dropless and with drops, with groups and padding.
static void moe_values_capped(void)
{
    int32_t mask[60];
    for (int i = 0; i < 60; i++) mask[i] = i % 7 != 3 && i < 52;
    for (int i = 0; i < 16; i++) {
        glam_moe_config c = moe_config(5, 1 + i % 3, 9);
        c.activation = i % 2 ? GLAM_GEGLU : GLAM_RELU;
        c.router_cap = i % 4 ? 1.25f : 30;
        c.capacity = i / 2 % 2 ? 5 : 0;
        c.group = i / 4 % 2 ? 20 : 0;
        c.router_z_weight = 0.01f;
        moe_value(60, 11, &c, i / 8 ? mask : NULL);
    }
}

// The balance loss, router z-loss and every gradient of `T` tokens of which the first `real` are
// not padding, in groups.
static void moe_padded(int T, int real, int group, int cap, double *losses, float *grads)
{
    enum { M = 6, E = 3, H = 5 };
    glam_ctx *ctx = test_ctx();
    glam_moe_config c = moe_config(E, 2, H);
    c.aux_weight = 1;
    c.router_z_weight = 0.5f;
    c.router_cap = cap ? 3 : 0;
    c.group = group;
    glam_moe_weights w = glam_moe_init(ctx, "m", M, &c);
    float *values = test_floats((size_t)(T * M), 7, -2, 2);
    int32_t mask[64];
    for (int t = 0; t < T; t++) mask[t] = t < real;
    glam_routing r;
    glam_tensor *balance = NULL, *x = glam_input(ctx, values, glam_dim2(T, M));
    glam_tensor *y = glam_moe_masked(ctx, x, real < T ? mask : NULL, &w, &c, &r, &balance);
    CHECK(y && glam_backward(ctx, balance) == GLAM_OK);
    if (balance) {
        losses[0] = r.balance;
        losses[1] = r.router_z;
        losses[2] = balance->data[0];
        losses[3] = r.entropy;
        memcpy(grads, w.router->grad, M * E * sizeof *grads);
    }
    free(values);
    CLOSE_CLEAN(ctx);
}

// Padding counts for nothing: the same 8 tokens have the same losses and gradients whatever lies
// behind them, in one group or in several, of which one may be of padding alone.
static void moe_padding_weighs_nothing(void)
{
    for (int i = 0; i < 4; i++) {
        int grouped = i % 2, cap = i / 2;
        double bare[4], more[4];
        float g[18], other[18];
        moe_padded(8, 8, grouped ? 4 : 0, cap, bare, g);
        for (int behind = 1; behind < 5; behind++) {
            moe_padded(8 + 4 * behind, 8, grouped ? 4 : 0, cap, more, other);
            for (int k = 0; k < 4; k++) CHECK_NEAR(more[k], bare[k], 1e-6 * fabs(bare[k]));
            for (int k = 0; k < 18; k++) CHECK_NEAR(other[k], g[k], 1e-6);
        }
    }
    // groups partly of padding: weighted by their real tokens, against those tokens apart
    double all[4], part[4];
    float g[18], one[18];
    moe_padded(12, 7, 6, 0, all, g);
    moe_padded(6, 6, 6, 0, part, one);
    CHECK(fabs(all[0] - part[0]) > 1e-4);      // the seventh token counts
    // padding alone: nothing, and no gradient
    moe_padded(8, 0, 4, 0, all, g);
    for (int k = 0; k < 4; k++) CHECK(all[k] == 0);
    for (int k = 0; k < 18; k++) CHECK(g[k] == 0);
}

static void moe_values_large(void)
{
    glam_moe_config c = moe_config(8, 2, 70);
    c.activation = GLAM_GEGLU;
    moe_value(300, 48, &c, NULL);
    c.activation = GLAM_RELU;
    c.capacity_factor = 2;
    c.group = 100;
    moe_value(300, 48, &c, NULL);
    c = moe_config(3, 2, 70);              // more rows for each expert than a task takes
    moe_value(600, 48, &c, NULL);
}

// Output and input gradient of a row do not depend on how many rows each expert has: 600, whose
// experts have their panels made beforehand, have the bits of three times 200, who have not.
static void moe_rows_are_apart(void)
{
    enum { T = 600, M = 48, PART = 200 };
    glam_ctx *ctx = test_ctx();
    glam_moe_config c = moe_config(2, 2, 70);
    c.activation = GLAM_GEGLU;
    c.aux_weight = 0;                      // the balance loss is of the whole batch
    glam_moe_weights w = glam_moe_init(ctx, "m", M, &c);
    float *x = test_floats((size_t)T * M, 1, -2, 2), *dy = test_floats((size_t)T * M, 2, -1, 1);
    float *y = test_floats((size_t)T * M, 3, 0, 1), *dx = test_floats((size_t)T * M, 4, 0, 1);
    for (int from = -PART; from < T; from += PART) {           // all of them first
        int rows = from < 0 ? T : PART;
        size_t at = from < 0 ? 0 : (size_t)from * M, bytes = (size_t)rows * M * sizeof(float);
        glam_tensor *in = glam_param(ctx, from < 0 ? "all" : NULL, glam_dim2(rows, M));
        if (!CHECK(in != NULL)) break;
        memcpy(in->data, x + at, bytes);
        glam_tensor *balance = NULL, *out = glam_moe(ctx, in, &w, &c, NULL, &balance);
        glam_backward(ctx, glam_sum(ctx, glam_mul(ctx, out, glam_input(ctx, dy + at,
                                                                       glam_dim2(rows, M)))));
        if (!CHECK(glam_error(ctx) == GLAM_OK)) { printf("%s\n", glam_error_text(ctx)); break; }
        if (from < 0) {
            memcpy(y, out->data, bytes);
            memcpy(dx, in->grad, bytes);
        } else {
            CHECK(memcmp(y + at, out->data, bytes) == 0);
            CHECK(memcmp(dx + at, in->grad, bytes) == 0);
        }
        glam_forget(ctx);
    }
    free(x); free(dy); free(y); free(dx);
    CLOSE_CLEAN(ctx);
}

// --- the worked vectors --------------------------------------------------------------------------

// One-hot tokens and router = log p make softmax(x W) = p; expert e answers with the e-th unit
// vector, so that row t of y is the weights of token t.
static void moe_worked(glam_ctx *ctx, int T, const double p[][3], const glam_moe_config *c,
                       glam_routing *r, glam_tensor **y, glam_tensor **balance)
{
    glam_moe_weights w = glam_moe_init(ctx, "worked", 4, c);
    float one_hot[16] = { 0 };
    if (!w.router) return;
    glam_fill(w.up, 1);
    glam_fill(w.down, 0);
    for (int m = 0; m < 4; m++) {
        for (int e = 0; e < 3; e++) w.router->data[m * 3 + e] = m < T ? (float)log(p[m][e]) : 0;
    }
    for (int e = 0; e < 3; e++) w.down->data[e * 4 + e] = 1;
    for (int t = 0; t < T; t++) one_hot[t * 4 + t] = 1;
    *y = glam_moe(ctx, glam_input(ctx, one_hot, glam_dim2(T, 4)), &w, c, r, balance);
}

static void moe_worked_vectors(void)
{
    static const double p[4][3] = { { .6, .3, .1 }, { .5, .1, .4 }, { .7, .2, .1 }, { .2, .5, .3 } };
    static const int expert[8] = { 0, 1, 0, 2, 0, 1, 1, 2 };
    static const int slot[8] = { 0, 1, 1, 0, -1, -1, 0, 1 };
    static const double gate[8] = { .666667, .333333, .555556, .444444, 0, 0, .625, .375 };
    glam_ctx *ctx = test_ctx();
    glam_moe_config c = moe_config(3, 2, 1);
    glam_routing r;
    glam_tensor *y = NULL, *balance = NULL;
    c.capacity = 2;
    c.aux_weight = 1;
    moe_worked(ctx, 4, p, &c, &r, &y, &balance);
    if (CHECK(y && balance)) {
        for (int i = 0; i < 8; i++) {
            CHECK(r.expert[i] == expert[i]);
            CHECK(r.slot[i] == slot[i]);
            CHECK(r.kept[i] == (slot[i] >= 0));
            CHECK_NEAR(r.weight[i], gate[i], 1e-6);
            CHECK_NEAR(y->data[i / 2 * 4 + expert[i]], gate[i], 1e-6);
        }
        for (int i = 0; i < 12; i++) CHECK_NEAR(r.probability[i], p[i / 3][i % 3], 1e-6);
        CHECK(r.load[0] == 2 && r.load[1] == 2 && r.load[2] == 2);
        CHECK(r.dropped == 2);
        CHECK_NEAR(r.balance, 1.33125, 1e-6);
        CHECK_NEAR(balance->data[0], 1.33125, 1e-6);
    }
    CLOSE_CLEAN(ctx);
}

// Token 1 loses its first choice: .444444 of the second is left, or all of it.
static void moe_worked_renormalised(void)
{
    static const double p[2][3] = { { .6, .3, .1 }, { .5, .1, .4 } };
    for (int after = 0; after < 2; after++) {
        glam_ctx *ctx = test_ctx();
        glam_moe_config c = moe_config(3, 2, 1);
        glam_routing r;
        glam_tensor *y = NULL, *balance = NULL;
        c.capacity = 1;
        c.normalise = after ? GLAM_NORMALISE_AFTER_DROP : GLAM_NORMALISE_BEFORE_DROP;
        moe_worked(ctx, 2, p, &c, &r, &y, &balance);
        if (CHECK(y != NULL)) {
            CHECK(r.kept[2] == 0 && r.slot[2] == -1 && r.expert[2] == 0);
            CHECK(r.kept[3] == 1 && r.slot[3] == 0 && r.expert[3] == 2);
            CHECK(r.weight[2] == 0);
            CHECK_NEAR(r.weight[3], after ? 1.0 : .444444, 1e-6);
        }
        CLOSE_CLEAN(ctx);
    }
}

// Reference 2 step 6: S=1024 E=64 -> 32; S=1024 E=8 -> 256; S=256 E=64 -> 8; S=16 E=64 -> 4.
static void moe_capacities(void)
{
    static const int rows[4][3] = { { 1024, 64, 32 }, { 1024, 8, 256 }, { 256, 64, 8 }, { 16, 64, 4 } };
    for (int i = 0; i < 4; i++) {
        glam_ctx *ctx = test_ctx();
        glam_moe_config c = moe_config(rows[i][1], 2, 1);
        c.capacity_factor = 2;
        c.group = rows[i][0];
        glam_moe_weights w = glam_moe_init(ctx, "m", 2, &c);
        float *x = test_floats((size_t)rows[i][0] * 4, 9, -1, 1);
        glam_routing r;
        CHECK(glam_moe(ctx, glam_input(ctx, x, glam_dim2(rows[i][0] * 2, 2)), &w, &c, &r, NULL) != NULL);
        CHECK(r.capacity == rows[i][2]);
        free(x);
        CLOSE_CLEAN(ctx);
    }
}

// --- properties ----------------------------------------------------------------------------------

static void moe_invariants(void)
{
    for (int i = 0; i < 12; i++) {
        glam_ctx *ctx = test_ctx();
        glam_moe_config c = moe_config(6, 2, 3);
        glam_routing r;
        c.capacity_factor = i % 4 == 0 ? 0 : 0.5f * (float)(i % 4 + 1);
        c.group = i % 2 ? 24 : 0;
        glam_moe_weights w = glam_moe_init(ctx, "m", 8, &c);
        float *x = test_floats(96 * 8, 40 + (uint64_t)i, -3, 3);
        glam_tensor *y = glam_moe(ctx, glam_input(ctx, x, glam_dim2(96, 8)), &w, &c, &r, NULL);
        int total = 0, wrong = 0;
        if (!CHECK(y != NULL)) { free(x); glam_close(ctx); return; }
        for (int t = 0; t < 96; t++) {
            double sum = (double)r.weight[2 * t] + (double)r.weight[2 * t + 1], output = 0;
            int both = r.kept[2 * t] && r.kept[2 * t + 1], none = !r.kept[2 * t] && !r.kept[2 * t + 1];
            wrong += sum > 1 + 1e-6;
            wrong += both != (fabs(sum - 1) < 1e-6);
            for (int m = 0; m < 8; m++) output += fabs((double)y->data[t * 8 + m]);
            wrong += none && output != 0;          // only the residual is left
            total += r.kept[2 * t] + r.kept[2 * t + 1];
        }
        CHECK(wrong == 0);
        CHECK(total + r.dropped == 192);
        for (int e = 0; e < 6; e++) {
            total -= r.load[e];
            if (r.capacity) CHECK(r.load[e] <= r.capacity * (c.group ? 4 : 1));
        }
        CHECK(total == 0);
        CHECK(r.balance >= 0);
        free(x);
        CLOSE_CLEAN(ctx);
    }
}

// A router of zeros: p is uniform, the balance loss 1 whatever is chosen, ties go to expert 0.
static void moe_uniform_balance(void)
{
    glam_ctx *ctx = test_ctx();
    glam_moe_config c = moe_config(7, 3, 3);
    c.aux_weight = 1;
    glam_moe_weights w = glam_moe_init(ctx, "m", 8, &c);
    float *x = test_floats(20 * 8, 3, -1, 1);
    glam_routing r;
    glam_tensor *balance = NULL;
    glam_fill(w.router, 0);
    if (CHECK(glam_moe(ctx, glam_input(ctx, x, glam_dim2(20, 8)), &w, &c, &r, &balance) != NULL)) {
        CHECK_NEAR(r.balance, 1, 1e-6);
        CHECK_NEAR(balance->data[0], 1, 1e-6);
        CHECK_NEAR(r.entropy, log(7.0), 1e-5);
        for (int t = 0; t < 20; t++) {
            CHECK(r.expert[t * 3] == 0 && r.expert[t * 3 + 1] == 1 && r.expert[t * 3 + 2] == 2);
        }
    }
    free(x);
    CLOSE_CLEAN(ctx);
}

// First choices spread evenly: the balance loss is 1 whatever the probabilities are.
static void moe_balanced_balance(void)
{
    glam_ctx *ctx = test_ctx();
    glam_moe_config c = moe_config(4, 1, 1);
    c.normalise = GLAM_NORMALISE_NONE;
    glam_moe_weights w = glam_moe_init(ctx, "m", 4, &c);
    glam_routing r;
    float x[64] = { 0 };
    for (int t = 0; t < 16; t++) x[t * 4 + t % 4] = 0.3f + 0.2f * (float)t;
    for (int i = 0; i < 16; i++) w.router->data[i] = i % 5 == 0 ? 2.0f : 0.0f;
    CHECK(glam_moe(ctx, glam_input(ctx, x, glam_dim2(16, 4)), &w, &c, &r, NULL) != NULL);
    CHECK_NEAR(r.balance, 1, 1e-6);
    CLOSE_CLEAN(ctx);
}

static void moe_one_expert(void)
{
    // E = 1 is a plain feed-forward.  top_k 1; the weight is 1 up to the 1e-9 of the normalising.
    for (int i = 0; i < 2; i++) {
        glam_ctx *ctx = test_ctx();
        glam_moe_config c = moe_config(1, 1, 6);
        glam_ffn_weights plain;
        glam_routing r;
        memset(&plain, 0, sizeof plain);
        c.activation = GLAM_GEGLU;
        c.normalise = i ? GLAM_NORMALISE_NONE : GLAM_NORMALISE_BEFORE_DROP;
        glam_moe_weights w = glam_moe_init(ctx, "m", 5, &c);
        float *x = test_floats(9 * 5, 4, -2, 2);
        glam_tensor *in = glam_input(ctx, x, glam_dim2(9, 5));
        glam_tensor *y = glam_moe(ctx, in, &w, &c, &r, NULL);
        plain.gate = glam_view(ctx, w.gate, glam_dim2(5, 6));
        plain.up = glam_view(ctx, w.up, glam_dim2(5, 6));
        plain.down = glam_view(ctx, w.down, glam_dim2(6, 5));
        glam_tensor *z = glam_ffn(ctx, in, &plain, GLAM_GELU_TANH, 1e-6f);
        if (CHECK(y && z)) {
            for (int n = 0; n < 45; n++) CHECK_NEAR(y->data[n], z->data[n], 1e-5);
            CHECK(r.load[0] == 9 && r.dropped == 0);
            CHECK_NEAR(r.balance, 1, 1e-6);
        }
        free(x);
        CLOSE_CLEAN(ctx);
    }
}

// Identical experts without drops: the mixture is one of them, whatever the router says.
static void moe_identical_experts(void)
{
    for (int k = 1; k <= 5; k++) {
        glam_ctx *ctx = test_ctx();
        glam_moe_config c = moe_config(5, k, 6);
        c.activation = GLAM_GEGLU;
        glam_moe_weights w = glam_moe_init(ctx, "m", 4, &c);
        glam_ffn_weights plain;
        memset(&plain, 0, sizeof plain);
        if (!CHECK(w.gate != NULL)) { glam_close(ctx); return; }
        for (int e = 1; e < 5; e++) {
            memcpy(w.gate->data + e * 24, w.gate->data, 24 * sizeof(float));
            memcpy(w.up->data + e * 24, w.up->data, 24 * sizeof(float));
            memcpy(w.down->data + e * 24, w.down->data, 24 * sizeof(float));
        }
        float *x = test_floats(11 * 4, 4, -2, 2);
        glam_tensor *in = glam_input(ctx, x, glam_dim2(11, 4));
        glam_tensor *y = glam_moe(ctx, in, &w, &c, NULL, NULL);
        plain.gate = glam_input(ctx, w.gate->data, glam_dim2(4, 6));
        plain.up = glam_input(ctx, w.up->data, glam_dim2(4, 6));
        plain.down = glam_input(ctx, w.down->data, glam_dim2(6, 4));
        glam_tensor *z = glam_ffn(ctx, in, &plain, GLAM_GELU_TANH, 1e-6f);
        if (CHECK(y && z)) for (int n = 0; n < 44; n++) CHECK_NEAR(y->data[n], z->data[n], 1e-5);
        free(x);
        CLOSE_CLEAN(ctx);
    }
}

// Dropless has the numbers of a capacity that is large enough.
static void moe_dropless_is_large_capacity(void)
{
    glam_ctx *ctx = test_ctx();
    glam_moe_config c = moe_config(4, 2, 9);
    glam_moe_weights w = glam_moe_init(ctx, "m", 7, &c);
    float *x = test_floats(33 * 7, 8, -2, 2);
    glam_tensor *in = glam_input(ctx, x, glam_dim2(33, 7));
    glam_routing r;
    glam_tensor *free_of = glam_moe(ctx, in, &w, &c, NULL, NULL);
    c.capacity = 66;
    glam_tensor *roomy = glam_moe(ctx, in, &w, &c, &r, NULL);
    if (CHECK(free_of && roomy)) {
        CHECK(r.dropped == 0);
        for (int n = 0; n < 33 * 7; n++) CHECK_NEAR(free_of->data[n], roomy->data[n], 1e-6);
    }
    free(x);
    CLOSE_CLEAN(ctx);
}

// Two groups in one call are two calls: neither slots nor the balance loss cross over.
static void moe_groups_are_apart(void)
{
    glam_ctx *ctx = test_ctx();
    glam_moe_config c = moe_config(4, 2, 9);
    c.capacity = 5;
    c.group = 15;
    glam_moe_weights w = glam_moe_init(ctx, "m", 7, &c);
    float *x = test_floats(30 * 7, 8, -2, 2);
    glam_routing both, half[2];
    glam_tensor *y = glam_moe(ctx, glam_input(ctx, x, glam_dim2(30, 7)), &w, &c, &both, NULL);
    double balance = 0;
    for (int g = 0; y && g < 2; g++) {
        glam_tensor *part = glam_input(ctx, x + g * 15 * 7, glam_dim2(15, 7));
        glam_tensor *z = glam_moe(ctx, part, &w, &c, &half[g], NULL);
        if (!CHECK(z != NULL)) break;
        CHECK(!memcmp(z->data, y->data + g * 15 * 7, 15 * 7 * sizeof(float)));
        CHECK(!memcmp(half[g].slot, both.slot + g * 30, 30 * sizeof(int32_t)));
        balance += (double)half[g].balance / 2;
    }
    CHECK_NEAR(both.balance, balance, 1e-6);
    free(x);
    CLOSE_CLEAN(ctx);
}

// The sub-layer form: y = x + moe(rmsnorm(x)).
static void moe_with_norm(void)
{
    glam_ctx *ctx = test_ctx();
    glam_moe_config c = moe_config(4, 2, 9);
    glam_moe_weights w = glam_moe_init(ctx, "m", 7, &c);
    float *x = test_floats(12 * 7, 8, -2, 2), *gain = test_floats(7, 3, 0.5, 1.5);
    glam_tensor *in = glam_input(ctx, x, glam_dim2(12, 7)), *g = glam_input(ctx, gain, glam_dim1(7));
    glam_tensor *a = glam_add(ctx, in, glam_moe(ctx, glam_rmsnorm(ctx, in, g, 1e-6f), &w, &c, NULL, NULL));
    w.norm = g;
    glam_tensor *b = glam_moe(ctx, in, &w, &c, NULL, NULL);
    if (CHECK(a && b)) for (int n = 0; n < 84; n++) CHECK_NEAR(a->data[n], b->data[n], 1e-5);
    free(x);
    free(gain);
    CLOSE_CLEAN(ctx);
}

// A masked token changes nothing for the others and comes out as zero (or, with the residual of
// the sub-layer form, unchanged).
static void moe_mask_is_absence(void)
{
    glam_ctx *ctx = test_ctx();
    glam_moe_config c = moe_config(3, 2, 5);
    c.capacity = 4;
    glam_moe_weights w = glam_moe_init(ctx, "m", 6, &c);
    float *x = test_floats(12 * 6, 8, -2, 2), *other = test_floats(12 * 6, 9, -50, 50);
    int32_t mask[12];
    glam_routing r;
    for (int t = 0; t < 12; t++) {
        mask[t] = t % 3 != 1;
        if (mask[t]) memcpy(other + t * 6, x + t * 6, 6 * sizeof(float));
    }
    glam_tensor *a = glam_moe_masked(ctx, glam_input(ctx, x, glam_dim2(12, 6)), mask, &w, &c, &r, NULL);
    glam_tensor *b = glam_moe_masked(ctx, glam_input(ctx, other, glam_dim2(12, 6)), mask, &w, &c,
                                     NULL, NULL);
    if (CHECK(a && b)) {
        CHECK(!memcmp(a->data, b->data, 72 * sizeof(float)));
        for (int t = 0; t < 12; t++) {
            if (mask[t]) continue;
            CHECK(r.expert[2 * t] == -1 && r.slot[2 * t] == -1 && r.kept[2 * t] == 0 && r.weight[2 * t] == 0);
            for (int m = 0; m < 6; m++) CHECK(a->data[t * 6 + m] == 0);
        }
    }
    free(x);
    free(other);
    CLOSE_CLEAN(ctx);
}

static void moe_failures(void)
{
    glam_ctx *ctx = test_ctx();
    glam_moe_config c = moe_config(4, 2, 5), bad;
    glam_moe_weights w = glam_moe_init(ctx, "m", 6, &c), w2;
    glam_tensor *x = glam_zeros(ctx, glam_dim2(10, 6)), *balance = x;
    memset(&bad, 0, sizeof bad);
    CHECK(glam_moe_init(ctx, "z", 6, &bad).router == NULL);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "experts");
    bad = c;
    bad.top_k = 5;
    CHECK(glam_moe(ctx, x, &w, &bad, NULL, &balance) == NULL);
    CHECK(balance == NULL);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "top_k");
    bad = c;
    bad.router_cap = -0.5f;
    CHECK(glam_moe(ctx, x, &w, &bad, NULL, NULL) == NULL);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "router_cap is -0.5");
    bad = c;
    bad.group = 7;
    CHECK(glam_moe(ctx, x, &w, &bad, NULL, NULL) == NULL);
    CHECK(strstr(glam_error_text(ctx), "group") != NULL && strstr(glam_error_text(ctx), "7") != NULL);
    glam_clear_error(ctx);
    w2 = w;
    w2.router = glam_zeros(ctx, glam_dim2(5, 4));
    CHECK(glam_moe(ctx, x, &w2, &c, NULL, NULL) == NULL);
    ERROR_IS(ctx, GLAM_ERR_SHAPE, "router");
    w2 = w;
    w2.norm = glam_zeros(ctx, glam_dim1(5));
    CHECK(glam_moe(ctx, x, &w2, &c, NULL, NULL) == NULL);
    ERROR_IS(ctx, GLAM_ERR_SHAPE, "norm");
    w2 = w;
    w2.down = NULL;
    CHECK(glam_moe(ctx, x, &w2, &c, NULL, NULL) == NULL);
    CHECK(glam_error(ctx) != GLAM_OK);
    glam_clear_error(ctx);
    bad = c;
    bad.activation = GLAM_GEGLU_LITERAL;
    CHECK(glam_moe(ctx, x, &w, &bad, NULL, NULL) == NULL);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "activation");
    CLOSE_CLEAN(ctx);
}

// The router's panels are kept from pass to pass, as those of experts are.
static void moe_keeps_panels(void)
{
    glam_ctx *ctx = test_ctx();
    glam_moe_config c = glam_moe_config_default();
    c.hidden = 24;
    glam_moe_weights w = glam_moe_init(ctx, "m", 16, &c);
    glam_no_grad(ctx, 1);
    CHECK(glam_moe(ctx, glam_zeros(ctx, glam_dim2(40, 16)), &w, &c, NULL, NULL) != NULL);
    CHECK(w.router->pack && w.router->pack->bytes[0] > 0);
    CHECK(ctx->simd.plain || (w.up->pack && w.up->pack->bytes[0] > 0));
    CLOSE_CLEAN(ctx);
}

static void test_14_moe(void)
{
    RUN(moe_keeps_panels);
    RUN(moe_worked_vectors);
    RUN(moe_worked_renormalised);
    RUN(moe_capacities);
    RUN(moe_values_everywhere);
    RUN(moe_values_masked);
    RUN(moe_padding_weighs_nothing);
    RUN(moe_values_capped);
    RUN(moe_values_large);
    RUN(moe_rows_are_apart);
    RUN(moe_invariants);
    RUN(moe_uniform_balance);
    RUN(moe_balanced_balance);
    RUN(moe_one_expert);
    RUN(moe_identical_experts);
    RUN(moe_dropless_is_large_capacity);
    RUN(moe_groups_are_apart);
    RUN(moe_with_norm);
    RUN(moe_mask_is_absence);
    RUN(moe_failures);
}
