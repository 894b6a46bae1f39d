/* What test_mesh.c (ranks as threads) and mpi.c (ranks as processes) share: cases, a run on any mesh,
   and its gradients and weights gathered on rank 0 as one rank would hold them.  No CHECK in here:
   this code runs on every rank at once. */
#ifndef GLAM_TEST_MESH_H
#define GLAM_TEST_MESH_H

#ifndef ROUTED_WEIGHT
#define ROUTED_WEIGHT weight           // same_bits.sh has older headers, where it was gate
#endif

enum { MESH_RANKS = 16, MESH_TENSORS = 96, MESH_PARTS = 8, MESH_SHOTS = 3 };

typedef struct mesh_size { int X, Y, store; } mesh_size;

typedef enum mesh_skew { MESH_EVEN, MESH_SKEWED, MESH_HOT, MESH_STARVED } mesh_skew;

typedef struct mesh_case {
    const char *name;
    glam_optimizer_kind optimizer;
    glam_activation activation;        // of the experts
    glam_position   position;
    glam_normalise  normalise;
    mesh_skew skew;
    int    top_k, group, recompute, untied;
    float  capacity_factor;            // 0: dropless
    double clip;
    const char *frozen;                // pattern or NULL
    float  cap;                        // of scores and logits; 0: none
} mesh_case;

static const mesh_case mesh_cases[] = {
    { "balanced", GLAM_ADAFACTOR, GLAM_RELU, GLAM_POSITION_BUCKETS, GLAM_NORMALISE_BEFORE_DROP,
      MESH_EVEN, 2, 0, 0, 0, 0, 1, NULL, 0 },
    { "skewed", GLAM_ADAMW, GLAM_RELU, GLAM_POSITION_BUCKETS, GLAM_NORMALISE_BEFORE_DROP,
      MESH_SKEWED, 2, 0, 0, 0, 0, 1, NULL, 0 },
    { "hot", GLAM_ADAFACTOR, GLAM_RELU, GLAM_POSITION_BUCKETS, GLAM_NORMALISE_BEFORE_DROP,
      MESH_HOT, 2, 0, 0, 0, 0, 0, NULL, 0 },
    { "starved", GLAM_ADAMW, GLAM_GELU_TANH, GLAM_POSITION_BUCKETS, GLAM_NORMALISE_NONE,
      MESH_STARVED, 1, 0, 0, 0, 0, 0.5, NULL, 0 },
    { "drops", GLAM_ADAFACTOR, GLAM_RELU, GLAM_POSITION_BUCKETS, GLAM_NORMALISE_AFTER_DROP,
      MESH_SKEWED, 2, 0, 0, 0, 1, 1, NULL, 1.5f },
    { "drops_in_groups", GLAM_ADAMW, GLAM_RELU, GLAM_POSITION_BUCKETS, GLAM_NORMALISE_BEFORE_DROP,
      MESH_HOT, 2, 8, 0, 1, 2, 1, NULL, 0 },
    { "gated_xl", GLAM_ADAMW, GLAM_GEGLU, GLAM_POSITION_TRANSFORMER_XL, GLAM_NORMALISE_BEFORE_DROP,
      MESH_EVEN, 3, 0, 0, 0, 0, 0.1, NULL, 1.5f },
    { "xl_drops", GLAM_ADAFACTOR, GLAM_SWIGLU, GLAM_POSITION_TRANSFORMER_XL,
      GLAM_NORMALISE_AFTER_DROP, MESH_SKEWED, 2, 0, 1, 1, 1, 0.1, NULL, 1.5f },
    { "frozen_experts", GLAM_ADAMW, GLAM_RELU, GLAM_POSITION_BUCKETS, GLAM_NORMALISE_BEFORE_DROP,
      MESH_EVEN, 2, 0, 0, 0, 0, 1, "experts", 0 },
    { "frozen_attention", GLAM_ADAFACTOR, GLAM_GEGLU, GLAM_POSITION_NONE,
      GLAM_NORMALISE_BEFORE_DROP, MESH_SKEWED, 2, 0, 1, 0, 0, 1, "attention", 0 },
#ifndef MESH_WITHOUT_ROTARY            // same_bits.sh, against a header that does not have it yet
    { "rotary", GLAM_ADAMW, GLAM_SWIGLU, GLAM_POSITION_ROTARY, GLAM_NORMALISE_BEFORE_DROP,
      MESH_EVEN, 2, 0, 1, 1, 0, 0.1, NULL, 1.5f },
#endif
#ifndef MESH_WITHOUT_ROUTERS
    { "noise_bias_shared", GLAM_ADAMW, GLAM_GEGLU, GLAM_POSITION_NONE, GLAM_NORMALISE_BEFORE_DROP,
      MESH_EVEN, 2, 0, 1, 0, 0, 0.1, NULL, 0 },
#endif
};
enum { MESH_CASES = sizeof mesh_cases / sizeof mesh_cases[0] };

static const mesh_case *mesh_case_of(const char *name)
{
    for (int i = 0; i < MESH_CASES; i++) if (!strcmp(mesh_cases[i].name, name)) return &mesh_cases[i];
    return NULL;
}

// Sizes that 8 ranks can share along X and 4 along Y, with a vocabulary that nothing divides.
static glam_config mesh_config(const mesh_case *k)
{
    glam_config c = glam_config_default();
    c.vocab = 257;
    c.context = 16;
    c.layers = 4;
    c.d_model = 16;
    c.heads = 4;
    c.d_head = 6;
    c.hidden = 40;
    c.buckets = 8;
    c.max_distance = 16;
    c.position = k->position;
    c.tied = !k->untied;
    c.moe.experts = 8;
    c.moe.top_k = k->top_k;
    c.moe.hidden = 24;
    c.moe.activation = k->activation;
    c.moe.normalise = k->normalise;
    c.moe.capacity_factor = k->capacity_factor;
    c.moe.group = k->group;
    c.moe.router_z_weight = 1e-3f;
    c.attention_cap = c.moe.router_cap = c.logit_cap = k->cap;
#ifndef MESH_WITHOUT_ROTARY
    if (k->position == GLAM_POSITION_ROTARY) {     // with all that other families have
        test_family(&c, 2);
        c.heads = 8;
        c.kv_heads = 4;
        c.moe.every = 2;
    }
#endif
#ifndef MESH_WITHOUT_ROUTERS
    if (strstr(k->name, "noise")) {
        c.moe.router = GLAM_ROUTER_NOISY;
        c.moe.bias = 1;
        c.moe.bias_rate = 0.01f;
        c.moe.shared = 16;
        c.moe.temperature = 1.3f;
    }
#endif
    return c;
}

static glam_recipe mesh_recipe(const mesh_case *k, int parts, int steps)
{
    glam_recipe r = glam_recipe_default();
    r.steps = steps;
    r.batch = 8;
    r.accumulate = parts;
    r.warmup = 2;
    r.eval_every = 0;
    r.optimizer = k->optimizer;
    r.lr = k->optimizer == GLAM_ADAMW ? 3e-3 : 0.02;
    r.factor_min = 8;
    r.clip = k->clip;
    r.recompute = k->recompute;
    return r;
}

// A text of words in an order without a period, so that every batch differs.
static glam_text *mesh_text(glam_ctx *ctx)
{
    static const char *const words[8] = { "one ", "fish ", "two ", "alive ", "then ", "go ", "ten ", "I " };
    char all[4096];
    size_t n = 0;
    uint64_t state = test_seed(5);
    while (n + 8 < sizeof all) {
        const char *w = words[test_next(&state) % 8];
        memcpy(all + n, w, strlen(w));
        n += strlen(w);
    }
    return glam_text_from(ctx, all, n, NULL);
}

// Lends every token a common direction, and the routers a liking for some experts; of the tensors that
// this rank has only its block.
static void mesh_lean(glam_model *model, mesh_skew skew)
{
    if (skew == MESH_EVEN) return;
    for (int i = 0; glam_model_tensor_at(model, i); i++) {
        glam_tensor *t = glam_model_tensor_at(model, i);
        int columns = t->shape.dim[t->shape.dims - 1], router = strstr(t->name, "router") != NULL;
        int row = t->split ? t->split->at[0] : 0, column = t->split ? t->split->at[t->shape.dims - 1] : 0;
        if (!router && strcmp(t->name, "embed")) continue;
        for (size_t at = 0; at < glam_size(t); at++) {
            int r = row + (int)(at / (size_t)columns), e = column + (int)(at % (size_t)columns);
            if (!router && e == 0) t->data[at] = 1;
            if (!router || r) continue;
            t->data[at] += skew == MESH_SKEWED ? 0.1f * (float)(8 - e) :
                           skew == MESH_HOT ? 2.0f * (float)(e == 1) : -3.0f * (float)(e > 5);
        }
    }
}

// --- where the parts of a tensor lie -------------------------------------------------------------

typedef struct mesh_layout {           // of the whole model, as one rank has it
    int        count;
    char       name[MESH_TENSORS][48];
    glam_shape shape[MESH_TENSORS];
    size_t     at[MESH_TENSORS + 1];   // in one long array
} mesh_layout;

static mesh_layout mesh_layout_of(const glam_config *config)
{
    mesh_layout l;
    memset(&l, 0, sizeof l);
    glam_ctx *ctx = glam_open(NULL);
    glam_measure(ctx, 1);
    glam_model *model = glam_model_new(ctx, config);
    for (; model && glam_model_tensor_at(model, l.count) && l.count < MESH_TENSORS; l.count++) {
        const glam_tensor *t = glam_model_tensor_at(model, l.count);
        snprintf(l.name[l.count], sizeof l.name[0], "%s", t->name);
        l.shape[l.count] = t->shape;
        l.at[l.count + 1] = l.at[l.count] + glam_size(t);
    }
    glam_close(ctx);
    return l;
}

// The block of a tensor that rank holds, as begin and length in each of four dimensions: first what is
// shared over Y, then of that over X.
typedef struct mesh_block { int from[4], length[4]; } mesh_block;

static mesh_block mesh_block_of(const glam_tensor *t, glam_shape whole, mesh_size m, int rank)
{
    mesh_block b;
    for (int d = 0; d < 4; d++) {
        int over = t->split ? t->split->over[d] : 0;
        int n[2] = { over & GLAM__OVER_Y ? m.Y : 1, over & GLAM__OVER_X ? m.X : 1 };
        int i[2] = { n[0] > 1 ? rank % m.Y : 0, n[1] > 1 ? rank / m.Y : 0 };
        b.from[d] = 0;
        b.length[d] = whole.dim[d];
        for (int k = 0; k < 2; k++) {
            int from = (int)((long)b.length[d] * i[k] / n[k]);
            b.length[d] = (int)((long)b.length[d] * (i[k] + 1) / n[k]) - from;
            b.from[d] += from;
        }
    }
    return b;
}

static size_t mesh_block_size(const mesh_block *b)
{
    return (size_t)b->length[0] * (size_t)b->length[1] * (size_t)b->length[2] * (size_t)b->length[3];
}

// Writes a block to its place.  0: what another rank wrote there before has other bits.
static int mesh_place(float *whole, char *seen, glam_shape s, const mesh_block *b, const float *from)
{
    int same = 1;
    size_t n = 0;
    for (int i = 0; i < b->length[0]; i++)
        for (int j = 0; j < b->length[1]; j++)
            for (int k = 0; k < b->length[2]; k++)
                for (int l = 0; l < b->length[3]; l++, n++) {
                    size_t at = (((size_t)(b->from[0] + i) * (size_t)s.dim[1] + (size_t)(b->from[1] + j)) *
                                 (size_t)s.dim[2] + (size_t)(b->from[2] + k)) * (size_t)s.dim[3] +
                                (size_t)(b->from[3] + l);
                    if (seen[at] && memcmp(whole + at, from + n, sizeof(float))) same = 0;
                    whole[at] = from[n];
                    seen[at] = 1;
                }
    return same;
}

// Sends bytes to rank 0, which receives bytes_of[r] from each rank into into[r].  An exchange is between
// peers: what is one's own is copied.
static int mesh_to_root(glam_comm *comm, const void *data, size_t bytes, void *const *into,
                        const size_t *bytes_of)
{
    const void *send[MESH_RANKS] = { NULL };
    void *recv[MESH_RANKS] = { NULL };
    size_t send_bytes[MESH_RANKS] = { 0 }, recv_bytes[MESH_RANKS] = { 0 };
    if (comm->rank == 0 && bytes) memcpy(into[0], data, bytes);
    if (comm->rank > 0) {
        send[0] = data;
        send_bytes[0] = bytes;
    }
    for (int r = 1; comm->rank == 0 && r < comm->size; r++) {
        recv[r] = into[r];
        recv_bytes[r] = bytes_of[r];
    }
    return comm->exchange(comm, send, send_bytes, recv, recv_bytes) == 0;
}

// One tensor, gathered on rank 0.  0: an exchange failed, or replicas differ.
static int mesh_gather_one(glam_comm *comm, mesh_size m, const glam_tensor *t, const float *mine,
                           glam_shape whole, float *out)
{
    size_t bytes = mine ? glam_size(t) * sizeof(float) : 0, bytes_of[MESH_RANKS], total = 0, at = 0;
    void *into[MESH_RANKS];
    int good, root = comm->rank == 0;
    for (int r = 0; r < comm->size; r++) {
        mesh_block b = mesh_block_of(t, whole, m, r);
        total += bytes_of[r] = mine ? mesh_block_size(&b) * sizeof(float) : 0;
    }
    size_t n = 1;
    for (int d = 0; d < 4; d++) n *= (size_t)whole.dim[d];
    char *all = (char *)malloc(root && total ? total : 1), *seen = (char *)calloc(n, 1);
    for (int r = 0; r < comm->size; r++, at += root ? bytes_of[r - 1] : 0) into[r] = all + (root ? at : 0);
    good = mesh_to_root(comm, mine, bytes, into, bytes_of);
    for (int r = 0; root && good && mine && r < comm->size; r++) {
        mesh_block b = mesh_block_of(t, whole, m, r);
        if (!mesh_place(out, seen, whole, &b, (const float *)into[r])) {
            printf("  %s: the copy of rank %d has other bits\n", t->name, r);
            good = 0;
        }
    }
    free(all);
    free(seen);
    return good;
}

// Gradients or values of all tensors as one long array on rank 0; comm NULL: one rank.
static int mesh_gather(glam_comm *comm, mesh_size m, const glam_model *model, int gradients,
                       const mesh_layout *l, float *out)
{
    int good = 1;
    for (int i = 0; i < l->count; i++) {
        const glam_tensor *t = glam_model_tensor(model, l->name[i]);
        if (!t) return 0;
        const float *mine = gradients ? t->grad : t->data;
        if (comm) good &= mesh_gather_one(comm, m, t, mine, l->shape[i], out + l->at[i]);
        else if (mine) memcpy(out + l->at[i], mine, glam_size(t) * sizeof(float));
    }
    return good;
}

// --- routing -------------------------------------------------------------------------------------

static uint64_t mesh_routing_hash(const glam_model *model)
{
    uint64_t h = 14695981039346656037ull;
    for (int i = 0; i < glam_model_config(model)->layers; i++) {
        const glam_routing *r = glam_model_routing(model, i);
        if (!r) continue;
        size_t n = (size_t)r->tokens * (size_t)r->top_k;
        h = test_hash(h, r->expert, n * sizeof(int32_t));
        h = test_hash(h, r->slot, n * sizeof(int32_t));
        h = test_hash(h, r->kept, n * sizeof(int32_t));
        h = test_hash(h, r->load, (size_t)r->experts * sizeof(int32_t));
        h = test_hash(h, r->ROUTED_WEIGHT, n * sizeof(float));
        h = test_hash(h, r->probability, (size_t)r->tokens * (size_t)r->experts * sizeof(float));
        h = test_hash(h, &r->balance, sizeof r->balance);
        h = test_hash(h, &r->entropy, sizeof r->entropy);
    }
    return h;
}

// Part `part` of the batch of this step (counted from 0).  Belongs to the step.
static glam_batch mesh_part(glam_text *text, const glam_recipe *r, int context, int step, int part)
{
    glam_batch b;
    memset(&b, 0, sizeof b);
    glam_next_batch(text, r->batch, context, r->seed, (uint64_t)step, &b);
    b.rows = r->batch / r->accumulate;
    b.tokens += (size_t)part * (size_t)(b.rows * context);
    b.targets += (size_t)part * (size_t)(b.rows * context);
    return b;
}

// --- a run ---------------------------------------------------------------------------------------

typedef struct mesh_out {              // what one rank saw
    glam_status  error;
    char         text[512];
    glam_report  report[MESH_SHOTS];
    uint64_t     routing;              // of its part in the last round of the first step
    glam_traffic sent, plan;           // of the first step
    long         choices_sent, rows_received;
    glam_bytes   memory;
    int          gathered, steps;
    char         summary[256];         // what trains
    double       seconds;
} mesh_out;

typedef struct mesh_job {
    const mesh_case *kind;
    mesh_size mesh;
    int       parts, steps, shot[MESH_SHOTS];  // after which steps everything is gathered; 0: never
    double    receive_factor;
    mesh_layout layout;
    float    *gradients[MESH_SHOTS], *weights[MESH_SHOTS];   // whole, by rank 0
    uint64_t  part_routing[MESH_PARTS];        // one rank: of each part in the first step
    mesh_out  out[MESH_RANKS];
} mesh_job;

static void mesh_job_init(mesh_job *j, const mesh_case *kind, mesh_size m, int parts, int steps)
{
    memset(j, 0, sizeof *j);
    j->kind = kind;
    j->mesh = m;
    j->parts = parts;
    j->steps = steps;
    j->receive_factor = 8;
    j->shot[0] = 1;
    j->shot[1] = steps >= 10 ? 10 : steps > 1 ? steps : 0;
    j->shot[2] = steps > 10 ? steps : 0;
    glam_config c = mesh_config(kind);
    j->layout = mesh_layout_of(&c);
    for (int i = 0; i < MESH_SHOTS; i++) {
        size_t n = j->layout.at[j->layout.count] + 1;
        j->gradients[i] = (float *)calloc(n, sizeof(float));
        j->weights[i] = (float *)calloc(n, sizeof(float));
    }
}

static void mesh_job_free(mesh_job *j)
{
    for (int i = 0; i < MESH_SHOTS; i++) {
        free(j->gradients[i]);
        free(j->weights[i]);
    }
}

static glam_options mesh_options(const glam_comm *comm, mesh_size m, double receive_factor)
{
    glam_options o = test_options();
    o.threads = 1;
    o.comm = comm;
    o.mesh_x = comm ? m.X : 0;
    o.mesh_y = comm ? m.Y : 0;
    o.mesh_store = m.store;
    o.receive_factor = receive_factor < m.X ? receive_factor : m.X;
    return o;
}

static void mesh_note_error(mesh_out *out, const glam_ctx *ctx)
{
    out->error = glam_error(ctx);
    snprintf(out->text, sizeof out->text, "%s", glam_error_text(ctx));
}

// The first step is looked at closely: routing, and the bytes that were sent.
static void mesh_first_step(mesh_out *out, const glam_trainer *trainer, glam_traffic before)
{
    const glam_model *model = glam_trainer_model(trainer);
    int layers = glam_model_config(model)->layers, sent[16] = { 0 }, received[16] = { 0 };
    glam_traffic after = glam_sent(glam_model_ctx(model));
    out->routing = mesh_routing_hash(model);
    for (int i = 0; i < layers; i++) {
        const glam_routing *r = glam_model_routing(model, i);
        if (!r) continue;
        out->choices_sent += sent[i] = r->sent;
        out->rows_received += received[i] = r->received;
    }
    out->sent.routing = after.routing - before.routing;
    out->sent.dispatch = after.dispatch - before.dispatch;
    out->sent.model = after.model - before.model;
    out->sent.gradients = after.gradients - before.gradients;
    out->sent.weights = after.weights - before.weights;
    out->sent.sums = after.sums - before.sums;
    out->sent.files = after.files - before.files;
    out->sent.total = after.total - before.total;
    glam_plan_traffic(trainer, sent, received, &out->plan);
}

// Trains on this rank of the mesh (comm NULL: alone) and gathers what the job asks for.
static void mesh_train(glam_comm *comm, void *arg)
{
    mesh_job *j = (mesh_job *)arg;
    mesh_out *out = &j->out[comm ? comm->rank : 0];
    glam_options options = mesh_options(comm, j->mesh, j->receive_factor);
    glam_config c = mesh_config(j->kind);
    glam_recipe recipe = mesh_recipe(j->kind, j->parts, j->steps);
    glam_ctx *ctx = glam_open(&options);
    glam_model *model = glam_model_new(ctx, &c);
    if (model) mesh_lean(model, j->kind->skew);
    if (model && j->kind->frozen) glam_freeze(model, j->kind->frozen, 1);
    glam_text *text = mesh_text(ctx);
    for (int p = 0; !comm && model && p < j->parts; p++) {
        glam_batch b = mesh_part(text, &recipe, c.context, 0, p);
        glam_forward(model, &b, GLAM_TRAIN);
        j->part_routing[p] = mesh_routing_hash(model);
        glam_forget(ctx);
    }
    glam_trainer *trainer = glam_trainer_new(model, text, NULL, &recipe);
    if (trainer) snprintf(out->summary, sizeof out->summary, "%s", glam_trainer_summary(trainer));
    glam_traffic before = glam_sent(ctx);
    glam_report report;
    out->gathered = 1;
    while (glam_train_step(trainer, &report)) {
        out->steps = report.step;
        if (report.step == 1) mesh_first_step(out, trainer, before);
        for (int i = 0; i < MESH_SHOTS; i++) {
            if (report.step != j->shot[i]) continue;
            out->report[i] = report;
            out->gathered &= mesh_gather(comm, j->mesh, model, 1, &j->layout, j->gradients[i]);
            out->gathered &= mesh_gather(comm, j->mesh, model, 0, &j->layout, j->weights[i]);
        }
    }
    out->memory = glam_memory(ctx);
    mesh_note_error(out, ctx);
    glam_close(ctx);
}

// --- files ------------------------------------------------------------------------------------------

typedef struct mesh_file_job {
    mesh_size   mesh;
    const char *from, *save, *later, *model;   // read; save at once, ten steps later, the model alone
    int         first;                         // steps of a fresh run; 0: resume
    mesh_out    out[MESH_RANKS];
} mesh_file_job;

static void mesh_file_rank(glam_comm *comm, void *arg)
{
    mesh_file_job *j = (mesh_file_job *)arg;
    mesh_out *out = &j->out[comm ? comm->rank : 0];
    const mesh_case *kind = mesh_case_of("xl_drops");
    glam_options options = mesh_options(comm, j->mesh, 8);
    glam_config c = mesh_config(kind);
    glam_recipe recipe = mesh_recipe(kind, 8, 13);
    glam_ctx *ctx = glam_open(&options);
    glam_text *text = mesh_text(ctx);
    glam_trainer *t;
    if (j->first) {
        glam_model *model = glam_model_new(ctx, &c);
        mesh_lean(model, kind->skew);
        t = glam_trainer_new(model, text, NULL, &recipe);
        for (int s = 0; s < j->first; s++) glam_train_step(t, NULL);
    } else {
        t = glam_load_checkpoint(ctx, j->from, text, NULL);
    }
    if (j->save) glam_save_checkpoint(t, j->save);
    if (j->model) glam_save(glam_trainer_model(t), j->model);
    while (j->later && glam_train_step(t, NULL)) out->steps++;
    if (j->later) glam_save_checkpoint(t, j->later);
    mesh_note_error(out, ctx);
    glam_close(ctx);
}

// --- comparing -----------------------------------------------------------------------------------

// The numbers of a report that ranks and runs must agree on.
static int mesh_numbers(const glam_report *r, double *out)
{
    const double all[] = { r->loss, r->z_loss, r->aux_loss, r->router_z_loss, r->total, r->balance,
                           r->entropy, r->dropped, r->load_min, r->load_max, r->grad_norm, r->lr,
                           (double)r->step, (double)r->tokens, (double)r->skipped };
    memcpy(out, all, sizeof all);
    return (int)(sizeof all / sizeof all[0]);
}

static int mesh_reports_same(const glam_report *a, const glam_report *b)
{
    static const char *const name[] = { "loss", "z_loss", "aux_loss", "router_z_loss", "total",
        "balance", "entropy", "dropped", "load_min", "load_max", "grad_norm", "lr", "step", "tokens",
        "skipped" };
    double x[15], y[15];
    int n = mesh_numbers(a, x);
    mesh_numbers(b, y);
    for (int i = 0; i < n; i++) {
        if (!memcmp(&x[i], &y[i], sizeof x[i])) continue;
        printf("  report.%s: %.17g is not %.17g\n", name[i], x[i], y[i]);
        return 0;
    }
    return 1;
}

// Names the first tensor whose bits differ; 1: none does.
static int mesh_same_bits(const mesh_layout *l, const float *a, const float *b)
{
    for (int i = 0; i < l->count; i++)
        for (size_t at = l->at[i]; at < l->at[i + 1]; at++)
            if (memcmp(a + at, b + at, sizeof(float))) {
                printf("  first difference: %s[%d], %.9g is not %.9g\n", l->name[i],
                       (int)(at - l->at[i]), (double)a[at], (double)b[at]);
                return 0;
            }
    return 1;
}

// The same with |a - b| <= most * the largest |b| of each tensor.
static int mesh_near(const mesh_layout *l, const float *a, const float *b, double most)
{
    for (int i = 0; i < l->count; i++) {
        double off = 0, top = 1e-12;
        for (size_t at = l->at[i]; at < l->at[i + 1]; at++) {
            double d = fabs((double)a[at] - (double)b[at]);
            off = d <= off ? off : d;              // keeps a NaN
            top = fmax(top, fabs((double)b[at]));
        }
        if (off <= most * top) continue;
        printf("  first difference: %s is off by %.3g of its largest\n", l->name[i], off / top);
        return 0;
    }
    return 1;
}

// One number for a whole run, the same on every mesh that promises bits.
static uint64_t mesh_hash(const mesh_job *j)
{
    uint64_t h = 14695981039346656037ull;
    size_t bytes = j->layout.at[j->layout.count] * sizeof(float);
    for (int i = 0; i < MESH_SHOTS; i++) {
        double x[15];
        if (!j->shot[i]) continue;
        int n = mesh_numbers(&j->out[0].report[i], x);
        h = test_hash(h, x, (size_t)n * sizeof x[0]);
        h = test_hash(h, j->gradients[i], bytes);
        h = test_hash(h, j->weights[i], bytes);
    }
    return h;
}

// The lines that mpi.sh compares.
enum { MESH_HASH_STEPS = 10 };

static void mesh_print_hash(const mesh_job *j)
{
    const mesh_out *o = &j->out[0];
    if (o->error != GLAM_OK || !o->gathered || o->steps != j->steps)
        printf("%s failed after %d steps: %s\n", j->kind->name, o->steps, o->text);
    else printf("%s %016llx\n", j->kind->name, (unsigned long long)mesh_hash(j));
    fflush(stdout);
}

#ifdef GLAM_TEST_THREADS_COMM_H
// Runs a case on threads as ranks and prints its line.
static void mesh_hash_case(const mesh_case *kind, mesh_size m, int parts, int steps)
{
    static mesh_job j;
    threads_world w = threads_world_of(m.X * m.Y);
    mesh_job_init(&j, kind, m, parts, steps);
    threads_run(&w, mesh_train, &j);
    mesh_print_hash(&j);
    mesh_job_free(&j);
}
#endif

// "4x2", or "4x2s" with split storage.
static mesh_size mesh_read(const char *text)
{
    mesh_size m = { 1, 1, 0 };
    sscanf(text, "%dx%d", &m.X, &m.Y);
    m.store = strchr(text, 's') != NULL;
    return m;
}

#endif
