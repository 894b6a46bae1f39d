/* glam_shape.h - what a model is and how it learns, from the options: its configuration and recipe,
   and how they are told.  A part of glam.c. */

#ifndef GLAM_SHAPE_H
#define GLAM_SHAPE_H

static const char *const qk_norm_names[]    = {"none", "head", "whole", NULL};
static const char *const scaling_names[]    = {"none", "linear", "llama3", "yarn", NULL};
static const char *const position_names[]   = {"buckets", "transformer_xl", "none", "rotary",
                                               NULL};
static const char *const normalise_names[]  = {"before_drop", "after_drop", "none", NULL};
static const char *const router_names[]     = {"top_k", "sampled", "random", "noisy", "hash",
                                               "expert_choice", NULL};
static const char *const score_names[]      = {"softmax", "sigmoid", NULL};
static const char *const recipe_names[]     = {"default", "paper", "finetune", "quick", NULL};
static const char *const keep_names[]       = {"best", "last", NULL};
static const char *const optimizer_names[]  = {"adafactor", "adamw", NULL};
static const char *const schedule_names[]   = {"paper", "cosine", "constant", NULL};
static const char *const activation_names[] = {"relu", "gelu_tanh", "gelu_erf", "geglu", "swiglu",
                                               "geglu_literal", NULL};

// The number of a word in a list, or -1 with a message.
static int find_word(const char *name, const char *word, const char *const *list)
{
    for (int i = 0; list[i]; i++)
        if (strcmp(list[i], word) == 0) return i;
    fprintf(stderr, "glam: --%s %s: one of", name, word);
    for (int i = 0; list[i]; i++) fprintf(stderr, " %s", list[i]);
    fprintf(stderr, " is wanted\n");
    return -1;
}

static int gated(glam_activation a)
{
    return a == GLAM_GEGLU || a == GLAM_SWIGLU;
}

static int is_mixture(const glam_config *c, int layer)
{
    return c->moe.experts > 0 && c->moe.every > 0 && layer % c->moe.every == c->moe.offset;
}

// Every layer dense, as wide as gives the matrix work that the mixture does for a token.
static void make_dense(glam_config *c)
{
    double dense = c->hidden ? c->hidden : 4.0 * c->d_model, work = 0;
    double one = c->moe.hidden ? c->moe.hidden : gated(c->moe.activation) ? dense / 2 : dense;
    for (int i = 0; i < c->layers; i++)
        work += is_mixture(c, i) ? c->moe.top_k * one * (gated(c->moe.activation) ? 3 : 2) +
                                   3.0 * c->moe.shared
                                 : 3 * dense;
    if (c->layers > 0) c->hidden = (int)(work / (3.0 * c->layers) + 0.5);
    c->moe.experts = 0;
}

// Public families, as glam export writes them.  granitemoe has scales for everything, the others none.
static const struct { const char *name; glam_qk_norm norm; int mixture, scales; glam_normalise normalise; }
    family_rows[] = {
    {"llama",      GLAM_QK_NORM_NONE,  0, 0, GLAM_NORMALISE_BEFORE_DROP},
    {"qwen3",      GLAM_QK_NORM_HEAD,  0, 0, GLAM_NORMALISE_BEFORE_DROP},
    {"mixtral",    GLAM_QK_NORM_NONE,  1, 0, GLAM_NORMALISE_BEFORE_DROP},
    {"granitemoe", GLAM_QK_NORM_NONE,  1, 1, GLAM_NORMALISE_BEFORE_DROP},
    {"olmoe",      GLAM_QK_NORM_WHOLE, 1, 0, GLAM_NORMALISE_NONE},
    {"qwen3_moe",  GLAM_QK_NORM_HEAD,  1, 0, GLAM_NORMALISE_BEFORE_DROP} };
enum { FAMILY_ROWS = sizeof family_rows / sizeof *family_rows };

// What the words --family and --layers .. have left open is as in that family.
static int family_to_config(const char *name, glam_config *c)
{
    int i = 0, d_head = c->d_head ? c->d_head : c->d_model / (c->heads > 0 ? c->heads : 1);
    while (i < FAMILY_ROWS && strcmp(family_rows[i].name, name) != 0) i++;
    if (i == FAMILY_ROWS) {
        fprintf(stderr, "glam: --family %s: one of", name);
        for (i = 0; i < FAMILY_ROWS; i++) fprintf(stderr, " %s", family_rows[i].name);
        fprintf(stderr, " is wanted\n");
        return USAGE;
    }
    c->position = GLAM_POSITION_ROTARY;
    c->attention_sink = 0;
    c->activation = c->moe.activation = GLAM_SWIGLU;
    c->qk_norm = family_rows[i].norm;
    c->moe.normalise = family_rows[i].normalise;
    c->moe.capacity_factor = 0;
    c->moe.every = 1;
    if (!family_rows[i].mixture) c->moe.experts = 0;
    if (family_rows[i].scales) return DONE;
    c->logit_scale = 1;                              // tame_embedding makes up for it
    if (d_head > 0) c->attention_scale = 1.0f / sqrtf((float)d_head);
    return DONE;
}

// Logits are x E^T: where no scale tames them, the numbers that E begins with do.
static void tame_embedding(glam_model *model)
{
    const glam_config *c = glam_model_config(model);
    static const char *const names[] = { "embed", "unembed" };
    for (int i = 0; c && i < 2; i++) {
        glam_tensor *e = glam_model_tensor(model, names[i]);
        for (uint64_t k = 0, n = glam_size(e); e && e->data && k < n; k++)
            e->data[k] /= sqrtf((float)c->d_model);
    }
}

static int words_to_config(const settings *s, glam_config *c)
{
    int word = 0;
    if (GIVEN(position)) {
        c->position = (glam_position)(word = find_word("position", s->position, position_names));
        // Dai et al. scale the whole sum; the buckets of the default have the scale in the query
        int d_head = c->d_head ? c->d_head : c->d_model / (c->heads > 0 ? c->heads : 1);
        if (c->position == GLAM_POSITION_TRANSFORMER_XL && d_head > 0)
            c->attention_scale = 1.0f / sqrtf((float)d_head);
    }
    if (word >= 0 && GIVEN(activation))
        c->moe.activation = (glam_activation)(word = find_word("expert-activation", s->activation,
                                                               activation_names));
    if (word >= 0 && GIVEN(qk_norm))
        c->qk_norm = (glam_qk_norm)(word = find_word("qk-norm", s->qk_norm, qk_norm_names));
    if (word >= 0 && GIVEN(normalise))
        c->moe.normalise = (glam_normalise)(word = find_word("normalise", s->normalise,
                                                             normalise_names));
    if (word >= 0 && GIVEN(router))
        c->moe.router = (glam_router)(word = find_word("router", s->router, router_names));
    if (word >= 0 && GIVEN(score))
        c->moe.score = (glam_router_score)(word = find_word("score", s->score, score_names));
    return word < 0 ? USAGE : DONE;
}

static int make_config(const settings *s, glam_config *c)
{
    *c = glam_config_default();
    if (GIVEN(preset) && glam_config_preset(s->preset, c) != GLAM_OK)
        return unknown_preset(s->preset);
    if (GIVEN(vocab))      c->vocab = s->vocab;
    if (GIVEN(context))    c->context = s->context;
    if (GIVEN(layers))     c->layers = s->layers;
    if (GIVEN(d_model))    c->d_model = s->d_model;
    if (GIVEN(heads))      c->heads = s->heads;
    if (GIVEN(d_head))     c->d_head = s->d_head;
    if (GIVEN(kv_heads))   c->kv_heads = s->kv_heads;
    if (GIVEN(hidden))     c->hidden = s->hidden;
    if (GIVEN(family) && family_to_config(s->family, c)) return USAGE;
    if (GIVEN(experts))    c->moe.experts = s->experts;
    if (GIVEN(top_k))      c->moe.top_k = s->top_k;
    if (GIVEN(moe_every))  c->moe.every = s->moe_every;
    if (GIVEN(moe_hidden)) c->moe.hidden = s->moe_hidden;
    if (GIVEN(capacity))   c->moe.capacity_factor = (float)s->capacity;
    if (GIVEN(group))      c->moe.group = s->group;
    if (GIVEN(bias))       c->moe.bias = s->bias;
    if (GIVEN(shared))     c->moe.shared = s->shared;
    if (GIVEN(aux))        c->moe.aux_weight = (float)s->aux;
    if (GIVEN(attention_cap)) c->attention_cap = (float)s->attention_cap;
    if (GIVEN(router_cap))    c->moe.router_cap = (float)s->router_cap;
    if (GIVEN(logit_cap))     c->logit_cap = (float)s->logit_cap;
    // One expert whose weight is normalised always has weight 1: its router would learn nothing.
    if (c->moe.top_k == 1) c->moe.normalise = GLAM_NORMALISE_NONE;
    int status = words_to_config(s, c);
    if (status == DONE && s->dense) make_dense(c);
    return status;
}

static int make_recipe(const settings *s, glam_recipe *r)
{
    int named = GIVEN(recipe) ? find_word("recipe", s->recipe, recipe_names)
              : GIVEN(from) ? 2 : GIVEN(preset) ? 1 : 0;
    if (named < 0) return USAGE;
    *r = named == 0 ? glam_recipe_default() : named == 1 ? glam_recipe_paper()
       : named == 2 ? glam_recipe_finetune() : glam_recipe_quick();
    if (GIVEN(lora) && !GIVEN(recipe) && !GIVEN(optimizer)) {
        r->optimizer = GLAM_ADAMW;         // a rate relative to B, which begins as 0, would be none
        r->lr = 5e-4;
    }
    if (GIVEN(optimizer)) {
        int kind = find_word("optimizer", s->optimizer, optimizer_names);
        if (kind < 0) return USAGE;
        // Adafactor's rate is relative to the weights, AdamW's is not: neither suits the other.
        if (kind != (int)r->optimizer && !GIVEN(lr)) {
            r->lr = kind == GLAM_ADAMW ? 2e-3 : 0.03;
            r->embed_lr = kind == GLAM_ADAMW ? 3 : 1;
        }
        r->optimizer = (glam_optimizer_kind)kind;
    }
    if (GIVEN(steps))        r->steps = s->steps;
    if (GIVEN(batch))        r->batch = s->batch;
    if (GIVEN(context))      r->context = s->context;
    if (GIVEN(accumulate))   r->accumulate = s->accumulate;
    if (GIVEN(recompute))    r->recompute = 1;
    if (GIVEN(update_in_backward)) {
        r->update_in_backward = 1;
        r->clip = 0;                       // the global norm is never known in time
    }
    if (GIVEN(lr))           r->lr = s->lr;
    if (GIVEN(warmup))       r->warmup = s->warmup;
    if (GIVEN(min_lr))       r->min_lr = s->min_lr;
    if (GIVEN(weight_decay)) r->weight_decay = s->weight_decay;
    if (GIVEN(clip))         r->clip = s->clip;
    if (GIVEN(seed))         r->seed = s->seed;
    return DONE;
}

// == how they are told ====================================================================

static double machine_bytes(void)
{
#if defined(HAVE_UNISTD) && defined(_SC_PHYS_PAGES) && defined(_SC_PAGESIZE)
    return (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
#else
    return 0;                                             // not known
#endif
}

static void show_model(const char *what, const glam_config *c)
{
    if (strlen(what) > 9) {                              // the router expert_choice
        printf("%s\n", what);
        what = "";
    }
    printf("%-9s %d layers, width %d, %d heads of %d, hidden %d,\n"
           "          context %d, vocabulary %d\n", what, c->layers, c->d_model, c->heads,
           c->d_head, c->hidden, c->context, c->vocab);
    if (c->moe.experts == 0) {
        printf("          every layer is dense\n");
        return;
    }
    int mixtures = 0;
    for (int i = 0; i < c->layers; i++) mixtures += is_mixture(c, i);
    printf("          %d of them mixtures: %d experts (%s, hidden %d), top %d, ", mixtures,
           c->moe.experts, activation_names[c->moe.activation], c->moe.hidden, c->moe.top_k);
    float factor = c->moe.capacity_factor;
    if (c->moe.router != GLAM_ROUTER_TOP_K || c->moe.score != GLAM_SCORE_SOFTMAX || c->moe.bias)
        printf("\n          router %s of %s scores%s, ", router_names[c->moe.router],
               score_names[c->moe.score], c->moe.bias ? ", balanced by a bias" : "");
    if (c->moe.shared > 0) printf("one expert of %d for all, ", c->moe.shared);
    if (c->moe.capacity > 0) printf("%d slots per expert\n", c->moe.capacity);
    else if (factor > 0) printf("\n          capacity factor %g", (double)factor);
    else printf("none dropped\n");
    if (c->moe.capacity > 0 || factor <= 0) return;
    if (factor < (float)c->moe.top_k)
        printf(": room for %.3g %% of the choices at most; for all of\n"
               "          them, evenly spread, --capacity %d\n",
               100 * (double)factor / c->moe.top_k, c->moe.top_k);
    else printf("\n");
}

// "needs 412 MB: weights 57 MB, ..."
static void show_memory(const glam_plan *p)
{
    printf("needs %s: weights %s, packed %s, gradients %s,\n"
           "          optimiser %s, activations %s\n",
           show_bytes((double)p->train_bytes), show_bytes((double)p->weights),
           show_bytes((double)p->packed), show_bytes((double)p->gradients),
           show_bytes((double)p->optimizer), show_bytes((double)p->activations));
}

static void warn_memory(uint64_t bytes)
{
    double needs = (double)bytes, has = machine_bytes();
    if (has > 0 && needs > has)
        fprintf(stderr, "warning: the run needs %s, this machine has %s; a smaller --batch, "
                "--accumulate, --recompute or --update-in-backward need less\n", show_bytes(needs),
                show_bytes(has));
}

// The machine's part of the options.
static void set_machine(const settings *s, glam_options *o)
{
    if (GIVEN(threads)) o->threads = s->threads;
    if (GIVEN(simd)) o->simd = s->simd;
    for (int i = 0; i <= GLAM_AUTO && GIVEN(arithmetic); i++)
        if (strcmp(s->arithmetic, arithmetics[i]) == 0) o->arithmetic = (glam_arithmetic)i;
}

static size_t pack_bytes(double megabytes)
{
    double bytes = megabytes * 1048576;
    return bytes < (double)SIZE_MAX ? (size_t)bytes : SIZE_MAX;
}

static int threads_of(const settings *s)
{
    if (GIVEN(threads) && s->threads > 0) return s->threads;
    if (GIVEN(mesh)) return 1;
    glam_ctx *ctx = glam_open(NULL);                 // it knows what a container may use
    int threads = glam_threads(ctx);
    glam_close(ctx);
    return threads;
}

#endif
