/* glam_byhand.h - one token's way through one mixture, in numbers that can be done again by hand,
   the gradients of the router included.  A part of glam.c.

   The numbers are the library's.  The model is run again from the ops that it is made of, cut open
   around the mixture; the mixture itself is run twice, as the one op that it is and in pieces,
   whose gradients are the steps of its derivative.  What the two ways and the model's own pass
   differ by is told. */

#ifndef GLAM_BYHAND_H
#define GLAM_BYHAND_H

typedef struct byhand {
    int     layer, token, next, width, experts, top_k;
    int     failed;                              // this model is not made of what is known here
    int     chosen[64];                          // [k]
    float   mean, difference;                    // of x squared; between the two ways
    double  loss;
    float  *x, *n, *y, *g;                       // [M] before, normed, after; dL / dy
    float  *logit, *power, *p;                   // [E] power: e^(logit - largest)
    float   power_sum, chosen_sum;
    float  *w, *dw;                              // [k]
    float  *f;                                   // [k,M] what each chosen expert makes of n
    float  *dp, *dlogit;                         // [E]
    float  *router, *drouter;                    // [M,E]
    float  *dbalance, *first;                    // [E] of the balance loss of the text; shares
    float  *block;                               // all of them
} byhand;

static void byhand_close(byhand *b)
{
    free(b->block);
    memset(b, 0, sizeof *b);
}

// The steps that are shown: the k best of a softmax, and nothing beside.
static int byhand_knows(const glam_moe_config *c)
{
    return c->router == GLAM_ROUTER_TOP_K && c->score == GLAM_SCORE_SOFTMAX && !c->bias &&
           !c->shared && !(c->temperature < 1) && !(c->temperature > 1) &&
           !(c->weight_scale < 1) && !(c->weight_scale > 1) && c->top_k <= 8;
}

static void byhand_open(byhand *b, const glam_config *c)
{
    size_t M = (size_t)c->d_model, E = (size_t)c->moe.experts, k = (size_t)c->moe.top_k;
    struct { float **at; size_t count; } part[16] = {{&b->x, M}, {&b->n, M}, {&b->y, M}, {&b->g, M},
        {&b->logit, E}, {&b->power, E}, {&b->p, E}, {&b->w, k}, {&b->dw, k}, {&b->f, k * M},
        {&b->dp, E}, {&b->dlogit, E}, {&b->router, M * E}, {&b->drouter, M * E}, {&b->dbalance, E},
        {&b->first, E}};
    size_t all = 0;
    for (int i = 0; i < 16; i++) all += part[i].count;
    b->block = (float *)need(all * sizeof *b->block);
    memset(b->block, 0, all * sizeof *b->block);
    for (int i = 0, at = 0; i < 16; at += (int)part[i].count, i++) *part[i].at = b->block + at;
    b->width = c->d_model;
    b->experts = c->moe.experts;
    b->top_k = c->moe.top_k;
}

// == the model from its ops =================================================================

static glam_tensor *layer_tensor(const glam_model *model, int layer, const char *name)
{
    char full[80];
    snprintf(full, sizeof full, "layers.%d.%s", layer, name);
    return glam_model_tensor(model, full);
}

static glam_tensor *apply_attention(glam_model *model, int layer, glam_tensor *x)
{
    const glam_config *c = glam_model_config(model);
    glam_attention_config a;
    glam_attention_weights w;
    memset(&a, 0, sizeof a);
    a.heads = c->heads;
    a.d_head = c->d_head;
    a.kv_heads = c->kv_heads;
    a.qk_norm = c->qk_norm;
    a.rotary = c->rotary;
    a.position = c->position;
    a.buckets = c->buckets;
    a.max_distance = c->max_distance;
    a.scale = c->attention_scale;
    a.sink = c->attention_sink;
    a.norm_eps = c->norm_eps;
    a.cap = c->attention_cap;
    memset(&w, 0, sizeof w);
    struct { glam_tensor **at; const char *name; } part[11] = {{&w.norm, "attn.norm"},
        {&w.q, "attn.q"}, {&w.k, "attn.k"}, {&w.v, "attn.v"}, {&w.o, "attn.o"},
        {&w.bias, "attn.bias"}, {&w.r, "attn.r"}, {&w.u, "attn.u"}, {&w.v_bias, "attn.v_bias"},
        {&w.q_norm, "attn.q_norm"}, {&w.k_norm, "attn.k_norm"}};
    for (int i = 0; i < 11; i++) *part[i].at = layer_tensor(model, layer, part[i].name);
    return glam_attention(glam_model_ctx(model), x, &w, &a, NULL);
}

static glam_moe_weights moe_weights(const glam_model *model, int layer)
{
    glam_moe_weights w;
    memset(&w, 0, sizeof w);
    w.norm   = layer_tensor(model, layer, "moe.norm");
    w.router = layer_tensor(model, layer, "moe.router");
    w.gate   = layer_tensor(model, layer, "moe.gate");
    w.up     = layer_tensor(model, layer, "moe.up");
    w.down   = layer_tensor(model, layer, "moe.down");
    return w;
}

// The mixture of a layer as in use: nothing is dropped.
static glam_tensor *apply_moe(glam_model *model, int layer, glam_tensor *x, glam_routing *routing,
                              glam_tensor **balance)
{
    glam_moe_config c = glam_model_config(model)->moe;
    glam_moe_weights w = moe_weights(model, layer);
    c.capacity = c.group = 0;
    c.capacity_factor = 0;
    return glam_moe(glam_model_ctx(model), x, &w, &c, routing, balance);
}

static glam_tensor *apply_ffn(glam_model *model, int layer, glam_tensor *x)
{
    const glam_config *c = glam_model_config(model);
    glam_ffn_weights w;
    w.norm = layer_tensor(model, layer, "ffn.norm");
    w.gate = layer_tensor(model, layer, "ffn.gate");
    w.up   = layer_tensor(model, layer, "ffn.up");
    w.down = layer_tensor(model, layer, "ffn.down");
    return glam_ffn(glam_model_ctx(model), x, &w, c->activation, c->norm_eps);
}

// Layers from..to-1 of the residual stream [1,T,M].
static glam_tensor *apply_layers(glam_model *model, int from, int to, glam_tensor *x)
{
    for (int i = from; i < to && x; i++) {
        x = apply_attention(model, i, x);
        x = is_mixture(glam_model_config(model), i) ? apply_moe(model, i, x, NULL, NULL)
                                                    : apply_ffn(model, i, x);
    }
    return x;
}

static glam_tensor *apply_head(glam_model *model, glam_tensor *x)
{
    const glam_config *c = glam_model_config(model);
    glam_ctx *ctx = glam_model_ctx(model);
    glam_tensor *unembed = glam_model_tensor(model, c->tied ? "embed" : "unembed");
    x = glam_rmsnorm(ctx, x, glam_model_tensor(model, "norm"), c->norm_eps);
    x = glam_matmul_t(ctx, glam_scale(ctx, x, c->logit_scale), unembed);
    if (c->logit_cap > 0)
        x = glam_scale(ctx, glam_tanh(ctx, glam_scale(ctx, x, 1 / c->logit_cap)), c->logit_cap);
    return x;
}

// == the mixture in pieces ==================================================================

static void copy_row(float *to, const glam_tensor *t, int row, int width)
{
    if (t && t->data) memcpy(to, t->data + (size_t)row * (size_t)width,
                             (size_t)width * sizeof *to);
}

static void copy_grad(float *to, const glam_tensor *t, size_t count)
{
    if (t && t->grad) memcpy(to, t->grad, count * sizeof *to);
}

static glam_tensor *activated(glam_ctx *ctx, glam_activation kind, glam_tensor *x)
{
    return kind == GLAM_RELU ? glam_relu(ctx, x) : kind == GLAM_GELU_ERF ? glam_gelu_erf(ctx, x)
         : kind == GLAM_SWIGLU ? glam_silu(ctx, x) : glam_gelu(ctx, x);
}

// One matrix of an expert: a part of the tensor that has them all.
static glam_tensor *expert_part(glam_ctx *ctx, glam_tensor *all, int expert)
{
    if (!all) return NULL;
    return glam_view(ctx, glam_slice(ctx, all, expert, 1),
                     glam_dim2(all->shape.dim[1], all->shape.dim[2]));
}

// What an expert makes of n [1,M].
static glam_tensor *one_expert(glam_model *model, int layer, int expert, glam_tensor *n)
{
    glam_ctx *ctx = glam_model_ctx(model);
    glam_moe_weights w = moe_weights(model, layer);
    glam_activation kind = glam_model_config(model)->moe.activation;
    glam_tensor *up = glam_matmul(ctx, n, expert_part(ctx, w.up, expert)), *h;
    if (gated(kind)) {
        glam_tensor *gate = glam_matmul(ctx, n, expert_part(ctx, w.gate, expert));
        h = glam_mul(ctx, activated(ctx, kind, gate), up);
    } else h = activated(ctx, kind, up);
    return glam_matmul(ctx, h, expert_part(ctx, w.down, expert));
}

// A copy that wants a gradient.
static glam_tensor *as_param(glam_ctx *ctx, const char *name, const float *values, glam_shape shape)
{
    glam_tensor *t = glam_param(ctx, name, shape);
    if (t && t->data) memcpy(t->data, values, glam_size(t) * sizeof *values);
    return t;
}

// Forward: norm, logits, powers, probabilities, weights, experts.
static void pieces_forward(byhand *b, glam_model *model)
{
    glam_ctx *ctx = glam_model_ctx(model);
    const glam_config *c = glam_model_config(model);
    glam_moe_weights w = moe_weights(model, b->layer);
    int M = b->width, E = b->experts, before = glam_no_grad(ctx, 1);
    glam_tensor *x = glam_input(ctx, b->x, glam_dim2(1, M));
    glam_tensor *n = glam_rmsnorm(ctx, x, w.norm, c->norm_eps);
    glam_tensor *l = glam_matmul(ctx, n, w.router), *largest, *power, *sum;
    if (c->moe.router_cap > 0)
        l = glam_scale(ctx, glam_tanh(ctx, glam_scale(ctx, l, 1 / c->moe.router_cap)),
                       c->moe.router_cap);
    copy_row(b->n, n, 0, M);
    copy_row(&b->mean, glam_mean(ctx, glam_mul(ctx, x, x)), 0, 1);
    copy_row(b->logit, l, 0, E);
    float most = b->logit[0];
    for (int e = 1; e < E; e++) if (b->logit[e] > most) most = b->logit[e];
    largest = glam_input(ctx, &most, glam_dim1(1));
    power = glam_exp(ctx, glam_sub(ctx, l, largest));
    sum = glam_sum(ctx, power);
    copy_row(b->power, power, 0, E);
    copy_row(&b->power_sum, sum, 0, 1);
    copy_row(b->p, glam_div(ctx, power, sum), 0, E);
    for (int i = 0; i < b->top_k; i++)
        copy_row(b->f + (size_t)i * (size_t)M, one_expert(model, b->layer, b->chosen[i], n), 0, M);
    glam_no_grad(ctx, before);
    glam_forget(ctx);
}

// [E,k]: column i picks the expert that was chosen as number i.
static glam_tensor *picker(const byhand *b, glam_ctx *ctx)
{
    size_t E = (size_t)b->experts, k = (size_t)b->top_k;
    float *one = (float *)need(E * k * sizeof *one);
    memset(one, 0, E * k * sizeof *one);
    for (size_t i = 0; i < k; i++) one[(size_t)b->chosen[i] * k + i] = 1;
    glam_tensor *t = glam_input(ctx, one, glam_dim2((int)E, (int)k));
    free(one);
    return t;
}

// Weights from probabilities [1,E], and g . sum w f from weights: what the loss gains with y.
static glam_tensor *pieces_weights(byhand *b, glam_model *model, glam_tensor *p)
{
    glam_ctx *ctx = glam_model_ctx(model);
    glam_tensor *w = glam_matmul(ctx, p, picker(b, ctx)), *sum = glam_sum(ctx, w);
    copy_row(&b->chosen_sum, sum, 0, 1);
    if (glam_model_config(model)->moe.normalise != GLAM_NORMALISE_NONE) w = glam_div(ctx, w, sum);
    copy_row(b->w, w, 0, b->top_k);
    return w;
}

static glam_tensor *pieces_gain(const byhand *b, glam_ctx *ctx, glam_tensor *w)
{
    glam_tensor *f = glam_input(ctx, b->f, glam_dim2(b->top_k, b->width));
    glam_tensor *g = glam_input(ctx, b->g, glam_dim2(1, b->width));
    return glam_sum(ctx, glam_mul(ctx, glam_matmul(ctx, w, f), g));
}

// Backward, cut at the weights, at the probabilities and at the logits.
static void pieces_backward(byhand *b, glam_model *model)
{
    glam_ctx *ctx = glam_model_ctx(model);
    int E = b->experts, k = b->top_k;
    glam_tensor *p = as_param(ctx, "by hand p", b->p, glam_dim2(1, E));
    glam_backward(ctx, pieces_gain(b, ctx, pieces_weights(b, model, p)));
    copy_grad(b->dp, p, (size_t)E);
    glam_forget(ctx);
    glam_tensor *w = as_param(ctx, "by hand w", b->w, glam_dim2(1, k));
    glam_backward(ctx, pieces_gain(b, ctx, w));
    copy_grad(b->dw, w, (size_t)k);
    glam_forget(ctx);
    glam_tensor *l = as_param(ctx, "by hand l", b->logit, glam_dim2(1, E));
    p = glam_softmax(ctx, l);
    glam_backward(ctx, pieces_gain(b, ctx, pieces_weights(b, model, p)));
    copy_grad(b->dlogit, l, (size_t)E);
    glam_forget(ctx);
}

// The mixture as the one op that it is: y, and the router's gradient.
static void whole_mixture(byhand *b, glam_model *model)
{
    glam_ctx *ctx = glam_model_ctx(model);
    glam_routing r;
    int M = b->width, E = b->experts;
    glam_tensor *router = layer_tensor(model, b->layer, "moe.router");
    glam_tensor *x = glam_input(ctx, b->x, glam_dim2(1, M)), *g;
    glam_tensor *y = apply_moe(model, b->layer, x, &r, NULL);
    g = glam_input(ctx, b->g, glam_dim2(1, M));
    copy_row(b->y, y, 0, M);
    glam_backward(ctx, glam_sum(ctx, glam_mul(ctx, y, g)));
    if (router) copy_row(b->router, router, 0, M * E);
    copy_grad(b->drouter, router, (size_t)M * (size_t)E);
    glam_forget(ctx);
}

// Of each token's logits, the balance loss of a whole text alone: a mixture whose input is its
// logits, whose router is the identity, and whose experts are nothing.
static void balance_gradient(byhand *b, glam_model *model, const look *k)
{
    glam_ctx *ctx = glam_model_ctx(model);
    glam_moe_config c = glam_model_config(model)->moe;
    const looked_layer *l = &k->of[b->layer];
    int E = b->experts, from = b->token / k->window * k->window;
    int count = k->tokens - from < k->window ? k->tokens - from : k->window;
    glam_moe_weights w;
    glam_tensor *balance = NULL;
    memset(&w, 0, sizeof w);
    c.capacity = c.group = 0;
    c.capacity_factor = c.router_z_weight = c.router_cap = 0;
    c.activation = GLAM_RELU;
    c.hidden = 1;
    w.router = glam_zeros(ctx, glam_dim2(E, E));
    w.up = glam_zeros(ctx, glam_dim3(E, E, 1));
    w.down = glam_zeros(ctx, glam_dim3(E, 1, E));
    for (int e = 0; w.router && w.router->data && e < E; e++) w.router->data[e * E + e] = 1;
    glam_tensor *x = as_param(ctx, "by hand logits", l->logit + (size_t)from * (size_t)E,
                              glam_dim2(count, E));
    glam_moe(ctx, x, &w, &c, NULL, &balance);
    if (balance) glam_backward(ctx, balance);
    if (x && x->grad)
        memcpy(b->dbalance, x->grad + (size_t)(b->token - from) * (size_t)E,
               (size_t)E * sizeof *b->dbalance);
    glam_forget(ctx);
    for (int t = from; t < from + count; t++)
        b->first[l->expert[(size_t)t * (size_t)k->top_k]] += 1 / (float)count;
}

// == all of it ==============================================================================

// x before the mixture, y behind it, and what the loss of the next token says of y.
static void cut_open(byhand *b, glam_model *model, const int32_t *ids, int count, int t)
{
    glam_ctx *ctx = glam_model_ctx(model);
    const glam_config *c = glam_model_config(model);
    int M = b->width, before = glam_no_grad(ctx, 1), layers = c->layers;
    glam_tensor *x = glam_embed(ctx, glam_model_tensor(model, "embed"), ids, count, NULL);
    x = glam_view(ctx, glam_scale(ctx, x, c->embed_scale), glam_dim3(1, count, M));
    x = apply_attention(model, b->layer, apply_layers(model, 0, b->layer, x));
    copy_row(b->x, x, t, M);
    glam_tensor *y = apply_moe(model, b->layer, x, NULL, NULL);
    glam_no_grad(ctx, before);
    if (!y) return;
    glam_tensor *cut = as_param(ctx, "by hand y", y->data, glam_dim3(1, count, M));
    glam_tensor *logits = apply_head(model, apply_layers(model, b->layer + 1, layers, cut));
    if (!logits) return;
    logits = glam_view(ctx, logits, glam_dim2(count, logits->shape.dim[2]));
    int32_t target = (int32_t)b->next;
    glam_tensor *loss = glam_cross_entropy(ctx, glam_slice(ctx, logits, t, 1), &target, NULL);
    if (!loss) return;
    b->loss = (double)loss->data[0];
    glam_backward(ctx, loss);
    if (cut->grad) memcpy(b->g, cut->grad + (size_t)t * (size_t)M, (size_t)M * sizeof *b->g);
    glam_forget(ctx);
}

static void apart(byhand *b, const float *x, const float *y, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float d = fabsf(x[i] - y[i]) / (1 + fabsf(y[i]));
        if (!(d <= b->difference)) b->difference = d;
    }
}

// The token at place t of a text that was looked at; there is one after it in its window.
static glam_status byhand_run(byhand *b, glam_model *model, const look *k, int layer, int t)
{
    glam_ctx *ctx = glam_model_ctx(model);
    const looked_layer *l = &k->of[layer];
    int from = t / k->window * k->window, M = b->width, E = b->experts;
    b->layer = layer;
    b->token = t;
    b->next = k->ids[t + 1];
    for (int i = 0; i < b->top_k && i < 64; i++) {
        b->chosen[i] = l->expert[t * k->top_k + i];
        if (b->chosen[i] < 0) b->failed = 1;              // its router leaves experts out
    }
    if (b->failed) return GLAM_OK;
    size_t mark = glam_mark(ctx);
    float *sum = (float *)need((size_t)M * sizeof *sum);
    cut_open(b, model, k->ids + from, t + 2 - from, t - from);
    pieces_forward(b, model);
    pieces_backward(b, model);
    whole_mixture(b, model);
    balance_gradient(b, model, k);
    for (int m = 0; m < M; m++) {
        sum[m] = b->x[m];
        for (int i = 0; i < b->top_k; i++) sum[m] += b->w[i] * b->f[i * M + m];
    }
    apart(b, sum, b->y, (size_t)M);                                   // pieces and op ...
    apart(b, b->logit, l->logit + (size_t)t * (size_t)E, (size_t)E);  // ... and ops and model
    for (int i = 0; i < M * E && glam_model_config(model)->moe.router_cap <= 0; i++) {
        float by_hand = b->n[i / E] * b->dlogit[i % E];
        apart(b, &by_hand, &b->drouter[i], 1);
    }
    float loss = (float)b->loss;
    apart(b, &loss, &k->loss[t + 1], 1);
    free(sum);
    glam_rewind(ctx, mark);
    b->failed = glam_error(ctx) != GLAM_OK || !(b->difference < 1e-3f);
    return glam_error(ctx);
}

#endif
