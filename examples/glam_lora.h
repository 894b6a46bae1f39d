/* glam_lora.h - training adapters: which there are, what they take, which experts a text uses, and
   how far the routers came.  A part of glam.c. */

#ifndef GLAM_LORA_H
#define GLAM_LORA_H

// == the options ============================================================================

// --lora and its like, in the library's words.
static int make_lora(const settings *s, glam_lora *l)
{
    const char *roles[8] = {NULL};
    for (int i = 0; i < 7 && glam_role_name(1 << i); i++) roles[i] = glam_role_name(1 << i);
    *l = glam_lora_default();
    if (GIVEN(lora)) l->roles = 0;
    for (const char *at = GIVEN(lora) ? s->lora : ""; *at;) {
        size_t length = strcspn(at, ",");
        char *word = joined("%.*s", (int)length, at);
        int role = find_word("lora", word, roles);
        free(word);
        if (role < 0) return USAGE;
        l->roles |= 1 << role;
        at += length + (at[length] == ',');
    }
    if (GIVEN(lora_rank))   l->rank = s->lora_rank;
    if (GIVEN(expert_rank)) l->expert_rank = s->expert_rank;
    if (GIVEN(lora_alpha))  l->alpha = (float)s->lora_alpha;
    if (GIVEN(rslora))      l->rslora = 1;
    return DONE;
}

// Options that are about adapters, told before anything is read.
static int check_lora(const settings *s)
{
    glam_lora l;
    if (GIVEN(lora) && !GIVEN(from))
        return complain(USAGE, "--lora wants --from MODEL: an adapter stands beside weights that are "
                        "there");
    if (!GIVEN(lora) && (GIVEN(lora_rank) || GIVEN(expert_rank) || GIVEN(lora_alpha) || GIVEN(rslora)))
        return complain(USAGE, "--rank, --expert-rank, --alpha and --rslora are about --lora");
    if (GIVEN(by_load) && (!GIVEN(from) || GIVEN(freeze)))
        return complain(USAGE, "--experts-by-load wants --from MODEL, and freezes all but those experts itself");
    if (GIVEN(lora) && GIVEN(freeze))
        return complain(USAGE, "--freeze cannot go with --lora: all but the adapters is frozen");
    if (GIVEN(load_share) && !GIVEN(by_load))
        return complain(USAGE, "--share is about --experts-by-load");
    if (!GIVEN(lora)) return DONE;
    if (make_lora(s, &l)) return USAGE;
    if ((GIVEN(expert_rank) || GIVEN(by_load)) && !(l.roles & GLAM_ROLE_EXPERTS))
        return complain(USAGE, "--expert-rank and --experts-by-load want experts in --lora");
    if ((GIVEN(lora_rank) && s->lora_rank < 1) || (GIVEN(expert_rank) && s->expert_rank < 1))
        return complain(USAGE, "--rank and --expert-rank: 1 at least");
    return DONE;
}

// The router as --lora leaves it: without a balance loss, unless it trains.
static void calm_router(const settings *s, glam_model *model)
{
    const glam_config *c = glam_model_config(model);
    glam_moe_config moe;
    glam_lora l;
    if (!c || !c->moe.experts || make_lora(s, &l) || l.roles & GLAM_ROLE_ROUTER) return;
    moe = c->moe;
    moe.aux_weight = 0;
    glam_model_tune(model, -1, &moe, NULL);
}

// == experts by load (ESFT: Wang et al. 2024) ===============================================

enum { LOAD_TOKENS = 16384, LOAD_SHOWN = 12 };

// The fewest experts of a layer that take the share of its choices; the others are frozen, or their
// adapters.
static void choose_experts(run *r, int layer, const glam_routing_stats *s, double share)
{
    uint64_t all = 0, taken = 0;
    int used = 0;
    unsigned char *trains = (unsigned char *)need((size_t)s->experts);
    memset(trains, 0, (size_t)s->experts);
    for (int e = 0; e < s->experts; e++) all += s->chosen[e];
    if (!r->s->quiet) printf("          layer %-3d experts", layer);
    while (used < s->experts && (used == 0 || (double)taken < share * (double)all)) {
        int best = -1;
        for (int e = 0; e < s->experts; e++)
            if (!trains[e] && (best < 0 || s->chosen[e] > s->chosen[best])) best = e;
        trains[best] = 1;
        taken += s->chosen[best];
        if (used++ < LOAD_SHOWN && !r->s->quiet) printf(" %d", best);
    }
    if (!r->s->quiet)
        printf("%s: %d of %d take %.0f %% of the choices\n", used > LOAD_SHOWN ? " ..." : "", used,
               s->experts, all ? 100.0 * (double)taken / (double)all : 0.0);
    for (int e = 0; e < s->experts; e++) trains[e] = !trains[e];
    glam_freeze_experts(r->model, layer, trains);
    r->still += s->experts - used;
    free(trains);
}

// Runs the text of --experts-by-load through the model and keeps the experts that it uses most.
static int experts_by_load(run *r)
{
    const glam_config *c = glam_model_config(r->model);
    tally total;
    look k;
    int count, status;
    memset(&k, 0, sizeof k);
    tally_open(&total, r->ctx, c, 0, 0);
    int32_t *ids = text_tokens(r->model, r->s->by_load, LOAD_TOKENS, 0, &count);
    if (ids) {
        look_open(&k, r->model, ids, count, c->context < 512 ? c->context : 512, &total);
        look_run(&k, r->model, GLAM_INFER);
    }
    status = failure(r->ctx);
    if (status == DONE && !r->s->quiet)
        printf("experts   of those that %s uses most alone, by its first %s tokens:\n", r->s->by_load,
               show_commas((uint64_t)count));
    r->still = 0;
    for (int i = 0; i < c->layers && status == DONE; i++)
        if (total.of[i]) choose_experts(r, i, tally_finish(&total, i),
                                        GIVEN(load_share) ? r->s->load_share : 0.2);
    look_close(&k);
    tally_close(&total);
    return status;
}

// == what it takes ==========================================================================

// Bytes of a run with adapters: its step, recomputed blocks and all, counted in a context that holds
// nothing.
typedef struct lora_bytes { double weights, adapters, optimizer, activations, scratch, all; } lora_bytes;

static void lora_needs(run *r, const glam_lora *l, lora_bytes *b)
{
    glam_options o = glam_options_default();
    set_machine(r->s, &o);
    o.weights = narrowest(r->model);
    if (GIVEN(pack)) o.pack_bytes = pack_bytes(r->s->pack);
    glam_ctx *m = glam_open(&o);
    glam_measure(m, 1);
    glam_model *model = glam_model_new(m, &r->config);
    double bare = (double)glam_memory(m).life;
    if (model) glam_model_adapt(model, l);
    double adapted = (double)glam_memory(m).life;
    glam_trainer *t = glam_trainer_new(model, NULL, NULL, &r->recipe);
    double whole = (double)glam_memory(m).life;
    glam_train_step(t, NULL);
    b->adapters = adapted - bare;
    b->optimizer = whole - adapted;
    b->activations = (double)glam_memory(m).step;
    b->scratch = (double)(glam_memory(m).scratch + glam_memory(m).packed);
    if (glam_error(m) != GLAM_OK) glam_fail(r->ctx, glam_error(m), "%s", glam_error_text(m));
    glam_close(m);
    b->weights = (double)glam_memory(r->ctx).life - b->adapters;      // as they really are: narrow too
    b->all = b->weights + b->adapters + b->optimizer + b->activations + b->scratch;
}

// Adapters onto the model of a run.  What this machine has not the memory for is refused.
static void adapt(run *r)
{
    glam_lora l;
    lora_bytes b;
    double has = machine_bytes();
    if (make_lora(r->s, &l) || glam_model_adapt(r->model, &l) != GLAM_OK) return;
    calm_router(r->s, r->model);
    lora_needs(r, &l, &b);
    if (glam_error(r->ctx) != GLAM_OK) return;
    if (!r->s->quiet && !mute)
        printf("memory    needs %s: weights %s, adapters %s, optimiser %s,\n"
               "          activations %s, logits and scratch %s\n", show_bytes(b.all),
               show_bytes(b.weights), show_bytes(b.adapters), show_bytes(b.optimizer),
               show_bytes(b.activations), show_bytes(b.scratch));
    if (has > 0 && b.all > has)
        glam_fail(r->ctx, GLAM_ERR_MEMORY, "the run needs %s and this machine has %s: a smaller "
                  "--batch or --context, --accumulate or --recompute", show_bytes(b.all),
                  show_bytes(has));
    else if (GIVEN(by_load)) experts_by_load(r);
}

// Without adapters: those experts themselves, and nothing else.
static void train_experts(run *r)
{
    if (!glam_model_config(r->model)->moe.experts) {
        glam_fail(r->ctx, GLAM_ERR_VALUE, "--experts-by-load: %s has no experts", r->s->from);
        return;
    }
    glam_freeze(r->model, "*", 1);
    glam_freeze(r->model, "experts", 0);
    calm_router(r->s, r->model);
    experts_by_load(r);
}

// == what trains ============================================================================

// layers.3.attn.q: attn.q
static const char *part_of(const char *name)
{
    int layer, used = 0;
    return sscanf(name, "layers.%d.%n", &layer, &used) == 1 && used ? name + used : name;
}

// A line for each kind of weight that has adapters.
static void show_lora(const run *r)
{
    const glam_tensor *t, *u;
    glam_adapter a, b;
    uint64_t all = 0, trains = 0;
    double seen = 1;
    printf("adapters  of                 shape      rank  factor     parameters\n");
    for (int i = 0; (t = glam_model_tensor_at(r->model, i)) != NULL; i++) {
        int of = 0, first = 1;
        uint64_t here = 0, size = 0;
        if (!strstr(t->name, ".lora_")) all += glam_size(t);
        if (!is_adapted(r->model, i, &a)) continue;
        for (int k = 0; (u = glam_model_tensor_at(r->model, k)) != NULL && first; k++) {
            if (strcmp(part_of(u->name), part_of(t->name)) || !is_adapted(r->model, k, &b)) continue;
            first = k >= i;
            of++;
            here += glam_size(b.a) + glam_size(b.b);
            size += glam_size(u);
        }
        if (!first) continue;
        int d = t->shape.dims;
        char *shape = d == 3 ? joined("%d x %d x %d", t->shape.dim[0], t->shape.dim[1], t->shape.dim[2])
                             : joined("%d x %d", t->shape.dim[0], t->shape.dim[1]);
        char *count = joined("%s", show_commas(here));
        printf("          %-11s %3d x %-18s %3d  %6.3g  %10s of %s\n", part_of(t->name), of, shape,
               a.a->shape.dim[d - 1], (double)a.scale, count, show_commas(size));
        free(shape);
        free(count);
        trains += here;
    }
    int mixtures = 0;
    for (int i = 0; i < r->config.layers; i++) mixtures += is_mixture(&r->config, i);
    if (mixtures) seen = 1 - (double)r->still / ((double)mixtures * r->config.moe.experts);
    printf("          trains %s beside %s weights (%.2f %%), which stay as they are\n",
           show_commas(trains), show_commas(all), 100.0 * (double)trains / (double)all);
    if (r->still) printf("          of experts %.0f %% alone train, by --experts-by-load\n", 100 * seen);
    glam_lora l;
    if (!r->config.moe.experts || make_lora(r->s, &l) || !GIVEN(lora)) return;
    printf("router    %s\n", l.roles & GLAM_ROLE_ROUTER
           ? "trains, with its balance loss" : "frozen, and no balance loss");
}

// == how far the routers came ===============================================================

enum { DRIFT_TOKENS = 2048 };

// Tokens of what validates, else of what trains; returns how many.
static int drift_tokens(const run *r, int32_t *ids)
{
    glam_batch batch;
    glam_text *text = r->valid ? r->valid : r->train;
    int rows = DRIFT_TOKENS / window(r), count;
    if (rows < 1) rows = 1;
    if (glam_next_batch(text, rows, window(r), 7, 0, &batch) != GLAM_OK) return 0;
    count = batch.rows * batch.length < DRIFT_TOKENS ? batch.rows * batch.length : DRIFT_TOKENS;
    memcpy(ids, batch.tokens, (size_t)count * sizeof *ids);
    glam_forget(r->ctx);
    return count;
}

// The share of choices of a layer that are not among the base's for the same token.
static double changed(const look *base, const look *now, int layer)
{
    int64_t other = 0, all = 0;
    int k = base->top_k;
    for (int i = 0; i < now->tokens * k; i++) {
        int e = now->of[layer].expert[i], there = 0;
        for (int j = 0; j < k; j++) there |= base->of[layer].expert[i / k * k + j] == e;
        all += e >= 0;
        other += e >= 0 && !there;
    }
    return all ? (double)other / (double)all : 0;
}

static void print_drift(run *r)
{
    int32_t *ids, count;
    int shown = 0;
    look now, base;
    if (!count_adapters(r->model) || !r->config.moe.experts || ranks.size) return;
    ids = (int32_t *)need(2 * DRIFT_TOKENS * sizeof *ids);
    if (!(count = drift_tokens(r, ids))) {
        free(ids);
        return;
    }
    int32_t *same = (int32_t *)need((size_t)count * sizeof *same);
    memcpy(same, ids, (size_t)count * sizeof *same);
    look_open(&now, r->model, ids, count, window(r), NULL);
    look_open(&base, r->model, same, count, window(r), NULL);
    look_run(&now, r->model, GLAM_INFER);
    glam_model_use_adapters(r->model, 0);
    look_run(&base, r->model, GLAM_INFER);
    glam_model_use_adapters(r->model, 1);
    printf("routing   choices that are not the base's, of %s tokens:", show_commas((uint64_t)count));
    for (int i = 0; i < now.layers; i++)
        if (now.of[i].expert)
            printf("%slayer %-3d %5.1f %%", shown++ % 4 ? "   " : "\n          ", i,
                   100 * changed(&base, &now, i));
    printf("\n");
    look_close(&now);
    look_close(&base);
}

#endif
