/* glam_look.h - a model at work on a text: what its routers did with each token.  A part of
   glam.c. */

#ifndef GLAM_LOOK_H
#define GLAM_LOOK_H

// A context for a command that works on a model.
static glam_ctx *open_context(const settings *s)
{
    glam_options options = glam_options_default();
    set_machine(s, &options);
    return glam_open(&options);
}

// A saved model.  One of whose weights is no number computes nothing but nonsense: an error.
static glam_model *load_model(glam_ctx *ctx, const char *path)
{
    glam_model *model = glam_load(ctx, path);
    glam_tensor *t;
    for (int i = 0; (t = glam_model_tensor_at(model, i)) != NULL; i++)
        for (size_t k = 0, size = t->data ? glam_size(t) : 0; k < size; k++) {
            if (isfinite(t->data[k])) continue;
            glam_fail(ctx, GLAM_ERR_NUMERIC, "%s: the weights are not finite: %s has %g at place "
                      "%.0f; the run that saved it went wrong, an earlier file may be well", path,
                      t->name, (double)t->data[k], (double)k);
            return NULL;
        }
    return model;
}

static void tokens_to_text(const int32_t *tokens, int count, char *text)
{
    for (int i = 0; i < count; i++)
        text[i] = (char)(tokens[i] >= 0 && tokens[i] < BYTES ? tokens[i] : '?');
}

// What one mixture did with each token of a text.
typedef struct looked_layer {
    int      capacity;                           // slots; 0: as many as it takes
    int32_t *expert, *slot, *kept;               // [N,k]; expert NULL: a dense layer
    float   *weight, *probability;               // [N,k], [N,E]
} looked_layer;

// A text that went through a model in windows, and its routing.
typedef struct look {
    int32_t *ids;                                // [N]
    float   *loss;                               // [N] given the tokens before; NAN: the first of a
                                                 // window
    int      tokens, window, layers, experts, top_k;
    looked_layer *of;                            // [layers]
    tally    total;
} look;

static void look_close(look *k)
{
    for (int layer = 0; k->of && layer < k->layers; layer++) {
        free(k->of[layer].expert);
        free(k->of[layer].weight);
    }
    free(k->of);
    free(k->ids);
    free(k->loss);
    tally_close(&k->total);
    memset(k, 0, sizeof *k);
}

// Takes over the tokens.
static void look_open(look *k, const glam_model *model, int32_t *ids, int count, int window)
{
    const glam_config *c = glam_model_config(model);
    size_t N = (size_t)count, top = (size_t)c->moe.top_k, E = (size_t)c->moe.experts;
    memset(k, 0, sizeof *k);
    k->ids = ids;
    k->tokens = count;
    k->window = window < 1 || window > count ? count : window;
    k->layers = c->layers;
    k->experts = c->moe.experts;
    k->top_k = c->moe.top_k;
    k->loss = (float *)need(N * sizeof *k->loss);
    k->of = (looked_layer *)need((size_t)k->layers * sizeof *k->of);
    memset(k->of, 0, (size_t)k->layers * sizeof *k->of);
    for (int layer = 0; layer < k->layers; layer++) {
        looked_layer *l = &k->of[layer];
        if (!is_mixture(c, layer)) continue;
        l->expert = (int32_t *)need(3 * N * top * sizeof *l->expert);
        l->slot = l->expert + N * top;
        l->kept = l->slot + N * top;
        l->weight = (float *)need(N * (top + E) * sizeof *l->weight);
        l->probability = l->weight + N * top;
    }
    tally_open(&k->total, c);
}

// What a pass over the tokens from `at` on has left in the model.
static void look_take(look *k, const glam_model *model, int at)
{
    for (int layer = 0; layer < k->layers; layer++) {
        looked_layer *l = &k->of[layer];
        const glam_routing *g = glam_model_routing(model, layer);
        if (!l->expert || !g) continue;
        size_t T = (size_t)g->tokens, top = (size_t)k->top_k, E = (size_t)k->experts;
        size_t to = (size_t)at * top;
        l->capacity = g->capacity;
        memcpy(l->expert + to, g->expert, T * top * sizeof *l->expert);
        memcpy(l->slot + to, g->slot, T * top * sizeof *l->slot);
        memcpy(l->kept + to, g->kept, T * top * sizeof *l->kept);
        memcpy(l->weight + to, g->weight, T * top * sizeof *l->weight);
        memcpy(l->probability + (size_t)at * E, g->probability, T * E * sizeof *l->weight);
        tally_add(&k->total, layer, g);
    }
}

// Runs the text through the model, window by window: as in use (nothing is dropped), or as in
// training.
static glam_status look_run(look *k, glam_model *model, glam_mode mode)
{
    glam_ctx *ctx = glam_model_ctx(model);
    int before = glam_no_grad(ctx, 1), V = glam_model_config(model)->vocab;
    for (int at = 0; at < k->tokens && glam_error(ctx) == GLAM_OK; at += k->window) {
        int count = k->tokens - at < k->window ? k->tokens - at : k->window;
        glam_batch batch = {1, count, k->ids + at, NULL, NULL, NULL};
        glam_tensor *p = glam_softmax(ctx, glam_forward(model, &batch, mode));
        if (!p) break;
        look_take(k, model, at);
        k->loss[at] = NAN;
        for (int t = 1; t < count; t++)
            k->loss[at + t] = -logf(p->data[(size_t)(t - 1) * (size_t)V + (size_t)k->ids[at + t]]);
        glam_forget(ctx);
    }
    glam_no_grad(ctx, before);
    return glam_error(ctx);
}

// The last mixture; -1: every layer is dense.
static int last_mixture(const look *k)
{
    int last = -1;
    for (int layer = 0; layer < k->layers; layer++) if (k->of[layer].expert) last = layer;
    return last;
}

// A few tokens in colours: the look of a run at what it has just written.
static void print_look(glam_model *model, const int32_t *tokens, int count)
{
    look k;
    char *text = (char *)need((size_t)count + 1);
    int32_t *ids = (int32_t *)need((size_t)count * sizeof *ids);
    memcpy(ids, tokens, (size_t)count * sizeof *ids);
    tokens_to_text(tokens, count, text);
    look_open(&k, model, ids, count, count);
    int layer = look_run(&k, model, GLAM_INFER) == GLAM_OK ? last_mixture(&k) : -1;
    if (layer < 0) {
        for (int i = 0; i < count;) i += show_raw(stdout, text + i, count - i);
        printf("\n");
    } else {
        printf("(under each letter its first expert in layer %d)\n", layer);
        show_experts(stdout, text, count, k.of[layer].expert, k.top_k, k.experts);
    }
    look_close(&k);
    free(text);
}

#endif
