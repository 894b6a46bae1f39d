/* Many ranks against one, in one process: ranks are threads.  Kinds: same bits (X axis), value (Y axis
   and split storage, within the tolerances of MESH_LOSS and MESH_GRADIENT), failure (each with its own
   words, on all ranks, within the deadline), property (bytes sent, bytes held).
   GLAM_TEST_FULL=100: so many steps (at most) in place of ten, every kind of model, as many places to die. */

#ifndef THREADS_COMM

static int mesh_print_hashes(const char *mesh)
{
    (void)mesh;
    return 1;
}

static void test_mesh(void)
{
    printf("mesh: skipped (no pthreads)\n");
}

#else

#include "mesh.h"

#define MESH_LOSS     1e-5             // per step from the one-rank state
#define MESH_GRADIENT 1e-4             // of the largest of its tensor
#define MESH_RUNNING  1e-3             // loss on the whole text at the end of a run of its own
#define MESH_TIED     1e-2             // the same where the trace has a margin below MESH_TIE
#define MESH_TIE      1e-7             // a margin that is rounding
#define MESH_MARGIN   1e-5             // routing may differ where two experts are as close as this
#define MESH_GRACE    2.0              // seconds that ranks may need after the deadline

enum { MESH_LONG = 100, MESH_LAYERS = 4 };

// 0, or how many steps a full run has.
static int mesh_full(void)
{
    const char *full = getenv("GLAM_TEST_FULL");
    int steps = full ? atoi(full) : 0;
    return steps < MESH_LONG ? steps : MESH_LONG;
}

// The ordinary run has everything once as C, and that it runs at all as C++; as what watches threads.
static int mesh_short(void)
{
#if defined(__cplusplus) || defined(GLAM_TEST_SHORT)
    return !mesh_full();
#else
    return 0;
#endif
}

static mesh_size mesh_of(int X, int Y, int store)
{
    mesh_size m;
    m.X = X;
    m.Y = Y;
    m.store = store;
    return m;
}

// --- X axis: the same bits -----------------------------------------------------------------------

static void mesh_all_well(const mesh_job *j, int ranks, int steps)
{
    for (int r = 0; r < ranks; r++) {
        const mesh_out *o = &j->out[r];
        if (!CHECK(o->error == GLAM_OK && o->steps == steps && o->gathered))
            printf("  %s on %dx%d%s, rank %d: step %d, \"%s\"\n", j->kind->name, j->mesh.X, j->mesh.Y,
                   j->mesh.store ? "s" : "", r, o->steps, o->text);
    }
}

// Everything that a run on X ranks shows has the bits of the run on one.
static void mesh_x_compare(const mesh_job *one, const mesh_job *j)
{
    int good = 1, rounds = j->parts / j->mesh.X;
    for (int i = 0; i < MESH_SHOTS; i++) {
        if (!j->shot[i]) continue;
        for (int r = 0; r < j->mesh.X; r++)
            good &= CHECK(mesh_reports_same(&j->out[r].report[i], &one->out[0].report[i]));
        good &= CHECK(mesh_same_bits(&j->layout, j->gradients[i], one->gradients[i]));
        good &= CHECK(mesh_same_bits(&j->layout, j->weights[i], one->weights[i]));
    }
    // a pass of one's own is part 0 of its batch, and draws what part 0 does
    for (int x = 0; x < j->mesh.X && !strstr(j->kind->name, "noise"); x++)
        good &= CHECK(j->out[x].routing == one->part_routing[(rounds - 1) * j->mesh.X + x]);
    long sent = 0, received = 0;
    for (int x = 0; x < j->mesh.X; x++) {
        good &= CHECK(!strcmp(j->out[x].summary, one->out[0].summary));
        sent += j->out[x].choices_sent;
        received += j->out[x].rows_received;
    }
    good &= CHECK(sent == received && (sent > 0) == (j->mesh.X > 1));
    if (!good) printf("  ^ %s on %d ranks\n", j->kind->name, j->mesh.X);
}

static void mesh_x_case(const mesh_case *kind, int steps)
{
    static mesh_job one, many;
    mesh_job_init(&one, kind, mesh_of(1, 1, 0), 8, steps);
    mesh_train(NULL, &one);
    mesh_all_well(&one, 1, steps);
    if (kind->capacity_factor > 0) CHECK(one.out[0].report[0].dropped > 0);
    if (kind->skew == MESH_HOT) CHECK(one.out[0].report[0].load_max > 2);
    if (kind->skew == MESH_STARVED) CHECK(one.out[0].report[0].load_min <= 0);
    for (int X = 1; X <= 8; X *= 2) {
        threads_world w = threads_world_of(X);
        mesh_job_init(&many, kind, mesh_of(X, 1, 0), 8, steps);
        threads_run(&w, mesh_train, &many);
        mesh_all_well(&many, X, steps);
        mesh_x_compare(&one, &many);
        CHECK(w.splits == w.releases);
        mesh_job_free(&many);
    }
    mesh_job_free(&one);
}

static void mesh_x_same_bits(void)
{
    for (int i = 0; i < (mesh_short() ? 3 : MESH_CASES); i++)
        mesh_x_case(&mesh_cases[i], mesh_full() ? mesh_full() : 10);
}

// --- Y axis and split storage: near ---------------------------------------------------------------

typedef struct mesh_choice {           // what the mixtures of one part did
    int     tokens, top_k;
    int32_t expert[MESH_LAYERS][512];  // [T,k]
    float   gap[MESH_LAYERS][256];     // between the last expert taken and the first that was not
} mesh_choice;

typedef struct mesh_trace {            // of one rank: a state, and what one step from it gives
    const mesh_case *kind;
    int         steps, parts;
    mesh_layout layout;
    float      *gradients[MESH_LONG];
    glam_report report[MESH_LONG];
    double      end;                   // loss on the whole text after the last step
    mesh_choice choice[MESH_LONG][2];
} mesh_trace;

static const char *mesh_state_path(char *path, size_t size, const char *kind, int step)
{
    const char *folder = getenv("GLAM_TEST_DIR");
    snprintf(path, size, "%s/glam_mesh_%s_%d_%ld", folder && *folder ? folder : "/tmp", kind, step,
             (long)getpid());
    return path;
}

static float mesh_gap(const float *p, int E, int k)
{
    float best[8];
    int n = 0;
    for (int e = 0; e < E; e++) {
        int at = n < 8 ? n++ : 7;
        if (at == 7 && n == 8 && e >= 8 && p[e] <= best[7]) continue;
        for (best[at] = p[e]; at > 0 && best[at] > best[at - 1]; at--) {
            float t = best[at];
            best[at] = best[at - 1];
            best[at - 1] = t;
        }
    }
    float gap = 1;
    for (int i = 0; i < k && i + 1 < n; i++) gap = fminf(gap, best[i] - best[i + 1]);
    return gap;
}

static void mesh_choice_of(const glam_model *model, mesh_choice *c)
{
    for (int l = 0; l < MESH_LAYERS; l++) {
        const glam_routing *r = glam_model_routing(model, l);
        for (int t = 0; t < 256; t++) c->gap[l][t] = 1;
        if (!r) continue;
        c->tokens = r->tokens;
        c->top_k = r->top_k;
        memcpy(c->expert[l], r->expert, (size_t)(r->tokens * r->top_k) * sizeof(int32_t));
        for (int t = 0; t < r->tokens; t++)
            c->gap[l][t] = mesh_gap(r->probability + (size_t)t * (size_t)r->experts, r->experts, r->top_k);
    }
}

// The routing agrees, or differs only where it may; those tokens are listed.
static int mesh_routing_agrees(const mesh_choice *one, const mesh_choice *many, int *excused)
{
    int agrees = one->tokens == many->tokens && one->top_k == many->top_k;
    for (int l = 0; l < MESH_LAYERS && agrees; l++)
        for (int i = 0; i < one->tokens * one->top_k; i++) {
            int t = i / one->top_k;
            if (one->expert[l][i] == many->expert[l][i]) continue;
            printf("  layer %d, token %d: another expert at a margin of %.3g\n", l, t,
                   (double)one->gap[l][t]);
            *excused += 1;
            if ((double)one->gap[l][t] > MESH_MARGIN) return 0;
        }
    return agrees;
}

static void mesh_trace_make(mesh_trace *tr, const mesh_case *kind, int parts, int steps)
{
    char path[400];
    memset(tr, 0, sizeof *tr);
    tr->kind = kind;
    tr->parts = parts;
    tr->steps = steps;
    glam_config c = mesh_config(kind);
    glam_recipe recipe = mesh_recipe(kind, parts, MESH_LONG);
    glam_options options = mesh_options(NULL, mesh_of(1, 1, 0), 1);
    glam_ctx *ctx = glam_open(&options);
    glam_model *model = glam_model_new(ctx, &c);
    tr->layout = mesh_layout_of(&c);
    mesh_lean(model, kind->skew);
    if (kind->frozen) glam_freeze(model, kind->frozen, 1);
    glam_text *text = mesh_text(ctx);
    glam_trainer *trainer = glam_trainer_new(model, text, NULL, &recipe);
    for (int s = 0; s < steps; s++) {
        tr->gradients[s] = (float *)calloc(tr->layout.at[tr->layout.count] + 1, sizeof(float));
        CHECK(glam_save_checkpoint(trainer, mesh_state_path(path, sizeof path, kind->name, s)) == GLAM_OK);
        for (int p = 0; p < parts; p++) {
            glam_batch b = mesh_part(text, &recipe, c.context, s, p);
            glam_forward(model, &b, GLAM_TRAIN);
            mesh_choice_of(model, &tr->choice[s][p]);
            glam_forget(ctx);
        }
        CHECK(glam_train_step(trainer, &tr->report[s]) == 1);
        mesh_gather(NULL, mesh_of(1, 1, 0), model, 1, &tr->layout, tr->gradients[s]);
        glam_forget(ctx);
    }
    glam_perplexity_report end;
    glam_perplexity(model, text, 0, &end);
    tr->end = end.loss;
    CLOSE_CLEAN(ctx);
}

static void mesh_trace_free(mesh_trace *tr)
{
    char path[400];
    for (int s = 0; s < tr->steps; s++) {
        free(tr->gradients[s]);
        remove(mesh_state_path(path, sizeof path, tr->kind->name, s));
    }
}

typedef struct mesh_follow {           // a mesh that takes each step of a trace from its state
    const mesh_trace *trace;
    mesh_size    mesh;
    float       *gradients[MESH_LONG];
    glam_report  report[MESH_LONG][MESH_RANKS];
    double       running[MESH_LONG];   // losses of a run of its own, and in the end on the whole text
    double       end;
    mesh_choice  choice[MESH_LONG][2];
    mesh_out     out[MESH_RANKS];
} mesh_follow;

static void mesh_follow_rank(glam_comm *comm, void *arg)
{
    mesh_follow *f = (mesh_follow *)arg;
    const mesh_trace *tr = f->trace;
    mesh_out *out = &f->out[comm->rank];
    char path[400];
    glam_options options = mesh_options(comm, f->mesh, 8);
    glam_ctx *ctx = glam_open(&options);
    glam_text *text = mesh_text(ctx);
    size_t mark = glam_mark(ctx);
    out->gathered = 1;
    for (int s = 0; s < tr->steps && glam_error(ctx) == GLAM_OK; s++) {
        mesh_state_path(path, sizeof path, tr->kind->name, s);
        glam_trainer *trainer = glam_load_checkpoint(ctx, path, text, NULL);
        if (!trainer || !glam_train_step(trainer, &f->report[s][comm->rank])) break;
        const glam_model *model = glam_trainer_model(trainer);
        if (comm->rank % f->mesh.Y == 0) mesh_choice_of(model, &f->choice[s][comm->rank / f->mesh.Y]);
        out->gathered &= mesh_gather(comm, f->mesh, model, 1, &tr->layout, f->gradients[s]);
        out->steps = s + 1;
        glam_rewind(ctx, mark);
    }
    mesh_state_path(path, sizeof path, tr->kind->name, 0);
    glam_trainer *trainer = glam_load_checkpoint(ctx, path, text, NULL);
    glam_report report;
    for (int s = 0; trainer && s < tr->steps && glam_train_step(trainer, &report); s++)
        if (comm->rank == 0) f->running[s] = report.loss;
    glam_perplexity_report end;
    memset(&end, 0, sizeof end);
    if (trainer) glam_perplexity(glam_trainer_model(trainer), text, 0, &end);
    if (comm->rank == 0) f->end = end.loss;
    mesh_note_error(out, ctx);
    glam_close(ctx);
}

// Tokens of a trace that two experts share to the last bit: where those go, and with drops those
// behind them, is up to any rounding on the way there.
static int mesh_ties(const mesh_trace *tr)
{
    int ties = 0;
    for (int s = 0; s < tr->steps; s++)
        for (int p = 0; p < tr->parts; p++)
            for (int l = 0; l < MESH_LAYERS; l++)
                for (int t = 0; t < tr->choice[s][p].tokens; t++)
                    ties += (double)tr->choice[s][p].gap[l][t] < MESH_TIE;
    return ties;
}

static void mesh_follow_check(const mesh_trace *tr, const mesh_follow *f, int ranks)
{
    for (int s = 0; s < tr->steps; s++) {
        int same = 1, excused = 0, good = 1;
        for (int p = 0; p < tr->parts; p++)
            same &= mesh_routing_agrees(&tr->choice[s][p], &f->choice[s][p], &excused);
        good &= CHECK(same);
        for (int r = 1; r < ranks; r++)
            good &= CHECK(mesh_reports_same(&f->report[s][r], &f->report[s][0]));
        if (same && !excused) {
            good &= CHECK_NEAR(f->report[s][0].loss, tr->report[s].loss, MESH_LOSS);
            good &= CHECK_NEAR(f->report[s][0].grad_norm, tr->report[s].grad_norm,
                               MESH_GRADIENT * tr->report[s].grad_norm);
            good &= CHECK(mesh_near(&tr->layout, f->gradients[s], tr->gradients[s], MESH_GRADIENT));
        }
        if (good) continue;
        printf("  ^ %s on %dx%d%s, step %d\n", tr->kind->name, f->mesh.X, f->mesh.Y,
               f->mesh.store ? "s" : "", s + 1);
        return;
    }
    int last = tr->steps - 1, leaves = 0;
    // on the whole text: in a batch of 128 tokens one that goes elsewhere is worth more than 1e-3
    int ties = mesh_ties(tr);
    if (CHECK(tr->end > 0) && CHECK_NEAR(f->end, tr->end, ties ? MESH_TIED : MESH_RUNNING)) return;
    while (fabs(f->running[leaves] - tr->report[leaves].loss) <= MESH_LOSS) leaves++;
    printf("  ^ %s on %dx%d%s, %d parts, a run of its own: 1e-5 off from step %d on\n", tr->kind->name,
           f->mesh.X, f->mesh.Y, f->mesh.store ? "s" : "", tr->parts, leaves + 1);
    for (int s = leaves; s <= last; s += 1 + (last - leaves) / 12)
        printf("    step %d: %.6f, one rank %.6f\n", s + 1, f->running[s], tr->report[s].loss);
}

static void mesh_follow_run(const mesh_trace *tr, mesh_size m)
{
    static mesh_follow f;
    int ranks = m.X * m.Y;
    threads_world w = threads_world_of(ranks);
    memset(&f, 0, sizeof f);
    f.trace = tr;
    f.mesh = m;
    for (int s = 0; s < tr->steps; s++)
        f.gradients[s] = (float *)calloc(tr->layout.at[tr->layout.count] + 1, sizeof(float));
    threads_run(&w, mesh_follow_rank, &f);
    int good = 1;
    for (int r = 0; r < ranks && good; r++) {
        good = CHECK(f.out[r].error == GLAM_OK && f.out[r].steps == tr->steps && f.out[r].gathered);
        if (!good) printf("  %s on %dx%d%s, rank %d: step %d, \"%s\"\n", tr->kind->name, m.X, m.Y,
                          m.store ? "s" : "", r, f.out[r].steps, f.out[r].text);
    }
    if (good) mesh_follow_check(tr, &f, ranks);
    for (int s = 0; s < tr->steps; s++) free(f.gradients[s]);
}

// The meshes of one number of parts, over several kinds of model.
static void mesh_near_cases(const mesh_size *meshes, int count)
{
    static const char *const kinds[] = { "balanced", "xl_drops", "rotary", "noise_bias_shared", "gated_xl",
                                         "drops_in_groups", "frozen_attention", "starved" };
    static mesh_trace trace;
    int steps = mesh_full() ? mesh_full() : 5;
    for (int k = 0; k < (mesh_full() ? 8 : mesh_short() ? 1 : 5); k++)
        for (int parts = 1; parts <= 2; parts++) {
            if (parts > 1 && strstr(kinds[k], "noise")) continue;  // steps of one's own know no parts
            mesh_trace_make(&trace, mesh_case_of(kinds[k]), parts, steps);
            for (int i = 0; i < count; i++)
                if (meshes[i].X == parts) mesh_follow_run(&trace, meshes[i]);
            mesh_trace_free(&trace);
        }
}

static void mesh_y_near(void)
{
    static const mesh_size meshes[] = { { 1, 2, 0 }, { 1, 4, 0 }, { 2, 2, 0 }, { 2, 4, 0 } };
    mesh_near_cases(meshes, 4);
}

static void mesh_store_near(void)
{
    static const mesh_size meshes[] = { { 2, 1, 1 }, { 2, 2, 1 }, { 2, 4, 1 } };
    mesh_near_cases(meshes, 3);
}

// Over X alone, from a fresh start: the sums of a tensor go by its shards, so bits may differ.
static void mesh_store_near_fresh(void)
{
    static const char *const kinds[] = { "balanced", "gated_xl", "xl_drops", "frozen_experts",
                                         "noise_bias_shared" };
    static mesh_job one, many;
    for (int k = 0; k < 5; k++) {
        mesh_job_init(&one, mesh_case_of(kinds[k]), mesh_of(1, 1, 0), 8, 3);
        mesh_train(NULL, &one);
        for (int X = 2; X <= 8; X *= 2) {
            threads_world w = threads_world_of(X);
            mesh_job_init(&many, one.kind, mesh_of(X, 1, 1), 8, 3);
            threads_run(&w, mesh_train, &many);
            mesh_all_well(&many, X, 3);
            for (int i = 0; i < MESH_SHOTS && one.shot[i]; i++)
                CHECK_NEAR(many.out[0].report[i].loss, one.out[0].report[i].loss, MESH_LOSS);
            CHECK(mesh_near(&one.layout, many.gradients[0], one.gradients[0], MESH_GRADIENT));
            for (int r = 1; r < X; r++)
                CHECK(mesh_reports_same(&many.out[r].report[0], &many.out[0].report[0]));
            mesh_job_free(&many);
        }
        mesh_job_free(&one);
    }
}

// --- files ----------------------------------------------------------------------------------------

static int mesh_files_same(const char *a, const char *b)
{
    files_block x = files_read(a), y = files_read(b);
    int same = files_same(x, y);
    free(x.data);
    free(y.data);
    return same;
}

static void mesh_files(void)
{
    static const mesh_size meshes[] = { { 1, 1, 0 }, { 2, 1, 0 }, { 4, 1, 0 }, { 8, 1, 0 }, { 1, 2, 0 },
        { 2, 2, 0 }, { 4, 2, 0 }, { 2, 1, 1 }, { 2, 2, 1 }, { 4, 2, 1 } };
    static const char *const names[6] = { "from", "later", "model", "from2", "later2", "model2" };
    static mesh_file_job j;
    char path[6][400];
    for (int i = 0; i < 6; i++) mesh_state_path(path[i], sizeof path[i], names[i], 0);
    memset(&j, 0, sizeof j);
    j.mesh = mesh_of(1, 1, 0);
    j.first = 3;
    j.save = path[0];
    j.later = path[1];
    j.model = path[2];
    mesh_file_rank(NULL, &j);
    CHECK(j.out[0].error == GLAM_OK && j.out[0].steps == 10);
    for (int i = 0; i < (int)(sizeof meshes / sizeof meshes[0]); i++) {
        threads_world w = threads_world_of(meshes[i].X * meshes[i].Y);
        memset(&j, 0, sizeof j);
        j.mesh = meshes[i];
        j.from = path[0];
        j.save = path[3];
        j.later = path[4];
        j.model = path[5];
        for (int k = 3; k < 6; k++) remove(path[k]);
        threads_run(&w, mesh_file_rank, &j);
        int good = 1;
        for (int r = 0; r < w.size; r++) good &= CHECK(j.out[r].error == GLAM_OK && j.out[r].steps == 10);
        good &= CHECK(mesh_files_same(path[0], path[3]));
        good &= CHECK(mesh_files_same(path[2], path[5]));
        if (meshes[i].Y == 1 && !meshes[i].store) good &= CHECK(mesh_files_same(path[1], path[4]));
        for (int k = 3; k < 6; k += 2) {
            char temporary[408];
            snprintf(temporary, sizeof temporary, "%s.tmp", path[k]);
            good &= CHECK(access(temporary, F_OK) != 0);
        }
        if (!good) printf("  ^ on %dx%d%s: \"%s\"\n", meshes[i].X, meshes[i].Y, meshes[i].store ? "s" : "",
                          j.out[0].text);
    }
    for (int i = 0; i < 6; i++) remove(path[i]);
}

// A damaged file is refused by all ranks with the same words; a folder that is not there fails a save.
static void mesh_damage_rank(glam_comm *comm, void *arg)
{
    mesh_file_job *j = (mesh_file_job *)arg;
    mesh_out *out = &j->out[comm->rank];
    glam_options options = mesh_options(comm, j->mesh, 8);
    glam_ctx *ctx = glam_open(&options);
    if (j->from) {
        out->gathered = glam_load(ctx, j->from) == NULL;
    } else {
        glam_config c = mesh_config(mesh_case_of("balanced"));
        out->gathered = glam_save(glam_model_new(ctx, &c), j->save) != GLAM_OK;
    }
    mesh_note_error(out, ctx);
    glam_close(ctx);
}

static void mesh_files_damaged(void)
{
    static mesh_file_job j;
    char path[400];
    glam_config c = mesh_config(mesh_case_of("balanced"));
    glam_ctx *ctx = test_ctx();
    CHECK(glam_save(glam_model_new(ctx, &c), mesh_state_path(path, sizeof path, "damaged", 0)) == GLAM_OK);
    CLOSE_CLEAN(ctx);
    FILE *file = fopen(path, "r+b");
    if (!CHECK(file != NULL)) return;
    fseek(file, -100, SEEK_END);
    int byte = fgetc(file);
    fseek(file, -100, SEEK_END);
    fputc(byte ^ 16, file);
    fclose(file);
    for (int kind = 0; kind < 2; kind++) {
        threads_world w = threads_world_of(4);
        memset(&j, 0, sizeof j);
        j.mesh = mesh_of(2, 2, 0);
        j.from = kind ? NULL : path;
        j.save = "/nowhere/at/all";
        threads_run(&w, mesh_damage_rank, &j);
        int well = 0;
        for (int r = 0; r < 4; r++) {
            well += j.out[r].error == GLAM_OK;
            if (!CHECK(j.out[r].gathered && strstr(j.out[r].text, kind ? "nowhere" : "checksum")))
                printf("  rank %d: \"%s\"\n", r, j.out[r].text);
        }
        CHECK(well == 0);
    }
    remove(path);
}

// --- using a model --------------------------------------------------------------------------------

typedef struct mesh_use_job {
    mesh_size mesh;
    int       bits;                    // wanted: the bits of one rank
    const char *from;
    float     logits[MESH_RANKS][2 * 16 * 257], next[MESH_RANKS][257];
    int32_t   story[MESH_RANKS][24];
    glam_perplexity_report perplexity[MESH_RANKS];
    double    valid[MESH_RANKS], score[MESH_RANKS];
    int32_t   answer[MESH_RANKS][6];
    mesh_out  out[MESH_RANKS];
} mesh_use_job;

static void mesh_use_rank(glam_comm *comm, void *arg)
{
    mesh_use_job *j = (mesh_use_job *)arg;
    int rank = comm ? comm->rank : 0;
    glam_options options = mesh_options(comm, j->mesh, 8);
    glam_ctx *ctx = glam_open(&options);
    glam_model *model = glam_load(ctx, j->from);
    glam_text *text = mesh_text(ctx), *train = NULL, *valid = NULL;
    glam_batch b;
    memset(&b, 0, sizeof b);
    glam_next_batch(text, 2, 16, 3, 0, &b);
    b.targets = NULL;
    const glam_tensor *y = glam_forward(model, &b, GLAM_INFER);
    if (y && glam_size(y) == 2 * 16 * 257) memcpy(j->logits[rank], y->data, sizeof j->logits[rank]);
    glam_forget(ctx);
    glam_session *s = glam_session_new(model, 64);
    static const int32_t prompt[5] = { 111, 110, 101, 32, 102 };
    const float *logits = glam_next(s, prompt, 5);
    if (logits) memcpy(j->next[rank], logits, sizeof j->next[rank]);
    glam_session_reset(s);
    glam_generate(s, prompt, 5, j->story[rank], 24, NULL);
    glam_perplexity(model, text, 0, &j->perplexity[rank]);
    static const glam_query queries[3] = { { "one, two", " buckle" }, { "", "a" }, { "fish", "es!" } };
    glam_score scores[3];
    glam_loglikelihood(model, queries, 3, 0, scores);
    for (int i = 0; i < 3; i++) j->score[rank] += scores[i].loglik;
    glam_beam_search(model, prompt, 5, j->answer[rank], 6, NULL, NULL);
    glam_text_split(text, 0.3f, &train, &valid);
    glam_recipe recipe = mesh_recipe(mesh_case_of("balanced"), 8, 2);
    j->valid[rank] = glam_validate(glam_trainer_new(model, train, valid, &recipe));
    mesh_note_error(&j->out[rank], ctx);
    glam_close(ctx);
}

static void mesh_use_check(const mesh_use_job *one, const mesh_use_job *j, int ranks)
{
    int good = 1;
    for (int r = 0; r < ranks; r++) {
        double most = j->bits ? 0 : 1e-5;
        good &= CHECK(j->out[r].error == GLAM_OK);
        for (int i = 0; i < 2 * 16 * 257 && good; i++)
            good &= CHECK_NEAR(j->logits[r][i], one->logits[0][i], most);
        for (int i = 0; i < 257 && good; i++) good &= CHECK_NEAR(j->next[r][i], one->next[0][i], most);
        good &= CHECK(!memcmp(j->story[r], one->story[0], sizeof one->story[0]));
        good &= CHECK(!memcmp(j->answer[r], one->answer[0], sizeof one->answer[0]));
        good &= CHECK_NEAR(j->score[r], one->score[0], 20 * most);
        good &= CHECK_NEAR(j->perplexity[r].loss, one->perplexity[0].loss, most);
        good &= CHECK(j->perplexity[r].tokens == one->perplexity[0].tokens);
        good &= CHECK_NEAR(j->valid[r], one->valid[0], most);
        // and among each other the bits are the same on any mesh
        good &= CHECK(!memcmp(j->logits[r], j->logits[0], sizeof j->logits[0]));
        good &= CHECK(j->perplexity[r].loss >= j->perplexity[0].loss && j->valid[r] >= j->valid[0] &&
                      j->valid[r] <= j->valid[0]);
        if (good) continue;
        printf("  ^ on %dx%d%s, rank %d: \"%s\"\n", j->mesh.X, j->mesh.Y, j->mesh.store ? "s" : "", r,
               j->out[r].text);
        return;
    }
}

static void mesh_use(void)
{
    static const mesh_size meshes[] = { { 2, 1, 0 }, { 8, 1, 0 }, { 1, 2, 0 }, { 1, 4, 0 }, { 2, 2, 0 },
                                        { 4, 2, 0 }, { 2, 1, 1 }, { 2, 2, 1 } };
    static mesh_use_job one, many;
    char path[400];
    memset(&one, 0, sizeof one);
    one.mesh = mesh_of(1, 1, 0);
    one.from = mesh_state_path(path, sizeof path, "use", 0);
    glam_config c = mesh_config(mesh_case_of("gated_xl"));
    glam_ctx *ctx = test_ctx();
    CHECK(glam_save(glam_model_new(ctx, &c), path) == GLAM_OK);
    CLOSE_CLEAN(ctx);
    mesh_use_rank(NULL, &one);
    CHECK(one.out[0].error == GLAM_OK && one.valid[0] > 0 && one.perplexity[0].tokens > 0 &&
          one.score[0] < 0);
    for (int i = 0; i < (int)(sizeof meshes / sizeof meshes[0]); i++) {
        threads_world w = threads_world_of(meshes[i].X * meshes[i].Y);
        memset(&many, 0, sizeof many);
        many.mesh = meshes[i];
        many.bits = meshes[i].Y == 1;
        many.from = path;
        threads_run(&w, mesh_use_rank, &many);
        mesh_use_check(&one, &many, w.size);
    }
    remove(path);
}

// --- a network of one's own, logs, cancelling -------------------------------------------------------

typedef struct mesh_host_job {
    mesh_size mesh;
    int       kind, lines[MESH_RANKS], cancel_at[MESH_RANKS], polls[MESH_RANKS];
    float     own[MESH_RANKS][6];
    glam_report report[MESH_RANKS];
    uint64_t  before[MESH_RANKS], after[MESH_RANKS];
    mesh_out  out[MESH_RANKS];
    int       resumed[MESH_RANKS];
} mesh_host_job;

typedef struct mesh_host { mesh_host_job *job; int rank; } mesh_host;

static void mesh_host_log(void *user, const char *line)
{
    mesh_host *h = (mesh_host *)user;
    (void)line;
    h->job->lines[h->rank]++;
}

static int mesh_host_cancel(void *user)
{
    mesh_host *h = (mesh_host *)user;
    int at = h->job->cancel_at[h->rank];
    return ++h->job->polls[h->rank] == at;
}

// A parameter of the user's is the same on all ranks: its gradient is the sum over the x group.
static void mesh_own_rank(glam_comm *comm, void *arg)
{
    mesh_host_job *j = (mesh_host_job *)arg;
    int rank = comm ? comm->rank : 0, parts = comm ? 1 : 2;
    glam_options options = mesh_options(comm, j->mesh, 8);
    glam_ctx *ctx = glam_open(&options);
    glam_recipe recipe = glam_recipe_default();
    recipe.optimizer = GLAM_ADAMW;
    recipe.warmup = 0;
    recipe.steps = 10;
    glam_tensor *w = glam_param(ctx, "w", glam_dim2(2, 3));
    for (int i = 0; w && i < 6; i++) w->data[i] = 0.1f * (float)i;
    glam_optimizer *o = glam_optimizer_new(ctx, &w, 1, &recipe);
    for (int step = 0; step < 3; step++) {
        glam_tensor *loss = NULL;
        for (int p = 0; p < parts; p++) {
            float x[4], t[6];
            test_fill(x, 4, (uint64_t)(20 * step + (comm ? rank : p)), -1, 1);
            test_fill(t, 6, (uint64_t)(20 * step + 9 + (comm ? rank : p)), -1, 1);
            glam_tensor *y = glam_matmul(ctx, glam_input(ctx, x, glam_dim2(2, 2)), w);
            glam_tensor *one = glam_mse(ctx, y, glam_input(ctx, t, glam_dim2(2, 3)));
            loss = loss ? glam_add(ctx, loss, one) : one;
        }
        glam_update(o, loss, NULL);
    }
    if (w) memcpy(j->own[rank], w->data, sizeof j->own[rank]);
    mesh_note_error(&j->out[rank], ctx);
    glam_close(ctx);
}

static void mesh_own_network(void)
{
    static mesh_host_job one, two;
    threads_world w = threads_world_of(2);
    memset(&one, 0, sizeof one);
    memset(&two, 0, sizeof two);
    one.mesh = mesh_of(1, 1, 0);
    two.mesh = mesh_of(2, 1, 0);
    mesh_own_rank(NULL, &one);
    threads_run(&w, mesh_own_rank, &two);
    for (int r = 0; r < 2; r++) {
        if (!CHECK(two.out[r].error == GLAM_OK)) printf("  \"%s\"\n", two.out[r].text);
        for (int i = 0; i < 6; i++) CHECK_NEAR(two.own[r][i], one.own[0][i], 1e-6);
        CHECK(!memcmp(two.own[r], two.own[0], sizeof two.own[0]));
    }
}

static void mesh_cancel_rank(glam_comm *comm, void *arg)
{
    mesh_host_job *j = (mesh_host_job *)arg;
    int rank = comm->rank;
    mesh_host h;
    h.job = j;
    h.rank = rank;
    glam_options options = mesh_options(comm, j->mesh, 8);
    options.cancel = mesh_host_cancel;
    options.log = mesh_host_log;
    options.cancel_user = options.log_user = &h;
    glam_config c = mesh_config(mesh_case_of("balanced"));
    glam_recipe recipe = mesh_recipe(mesh_case_of("balanced"), 8, 4);
    glam_ctx *ctx = glam_open(&options);
    glam_model *model = glam_model_new(ctx, &c);
    glam_trainer *t = glam_trainer_new(model, mesh_text(ctx), NULL, &recipe);
    j->out[rank].steps = glam_train_step(t, NULL);
    if (model) j->before[rank] = test_model_hash(model);
    j->cancel_at[rank] = rank == j->mesh.X * j->mesh.Y - 1 ? j->polls[rank] + 3 : 0;
    j->out[rank].gathered = glam_train_step(t, &j->report[rank]);
    if (model) j->after[rank] = test_model_hash(model);
    j->resumed[rank] = glam_train_step(t, NULL);
    if (ctx->options.log) ctx->options.log(ctx->options.log_user, "a line");
    mesh_note_error(&j->out[rank], ctx);
    glam_close(ctx);
}

// The host of the last rank says stop: all ranks stop at the same place, and may go on.
static void mesh_cancel(void)
{
    static const mesh_size meshes[2] = { { 4, 1, 0 }, { 2, 2, 0 } };
    for (int i = 0; i < 2; i++) {
        static mesh_host_job j;
        threads_world w = threads_world_of(4);
        memset(&j, 0, sizeof j);
        j.mesh = meshes[i];
        threads_run(&w, mesh_cancel_rank, &j);
        for (int r = 0; r < 4; r++) {
            if (!CHECK(j.out[r].error == GLAM_OK)) printf("  \"%s\"\n", j.out[r].text);
            CHECK(j.out[r].steps == 1 && j.out[r].gathered == 0 && j.report[r].cancelled);
            CHECK(j.before[r] == j.after[r] && j.resumed[r] == 1);
            CHECK(j.polls[r] == j.polls[0]);
            CHECK(j.lines[r] == (r == 0));             // one rank speaks
        }
    }
}

// --- failure --------------------------------------------------------------------------------------

typedef enum mesh_trouble {
    MESH_OVERFLOW, MESH_OTHER_LR, MESH_OTHER_SIZE, MESH_OTHER_TEXT, MESH_OTHER_SEED, MESH_OTHER_SUMS,
    MESH_LEAVES, MESH_SAVES, MESH_VALIDATES, MESH_NO_MEMORY, MESH_FAULT
} mesh_trouble;

typedef struct mesh_fail_job {
    mesh_size    mesh;
    mesh_trouble trouble;
    int          odd;                  // the rank in trouble
    double       receive_factor;
    uint64_t     before[MESH_RANKS], after[MESH_RANKS];
    mesh_out     out[MESH_RANKS];
    const char  *path;
} mesh_fail_job;

static void mesh_fail_rank(glam_comm *comm, void *arg)
{
    mesh_fail_job *j = (mesh_fail_job *)arg;
    int odd = comm->rank == j->odd;
    mesh_out *out = &j->out[comm->rank];
    const mesh_case *kind = mesh_case_of(j->trouble == MESH_OVERFLOW ? "hot" : "balanced");
    glam_options options = mesh_options(comm, j->mesh, j->receive_factor);
    glam_config c = mesh_config(kind);
    glam_recipe recipe = mesh_recipe(kind, 8, 3);
    test_heap heap;
    test_heap_into(&heap, &options);
    double begin = threads_now();
    if (odd && j->trouble == MESH_OTHER_LR) recipe.lr *= 2;
    if (odd && j->trouble == MESH_OTHER_SIZE) c.hidden = 44;
    if (odd && j->trouble == MESH_OTHER_SEED) options.seed = 99;
    if (odd && j->trouble == MESH_OTHER_SUMS)
        options.arithmetic = options.arithmetic == GLAM_BF16 ? GLAM_F32 : GLAM_BF16;
    glam_ctx *ctx = glam_open(&options);
    if (odd && j->trouble == MESH_NO_MEMORY) heap.fail_at = heap.calls + 3, heap.from_on = 1;
    glam_model *model = glam_model_new(ctx, &c);
    if (model) mesh_lean(model, kind->skew);
    glam_text *text = odd && j->trouble == MESH_OTHER_TEXT ? test_text(ctx, 3000) : mesh_text(ctx);
    glam_trainer *t = glam_trainer_new(model, text, text, &recipe);
    if (model) j->before[comm->rank] = test_model_hash(model);
    if (j->trouble != MESH_OVERFLOW) {
        out->steps += glam_train_step(t, NULL);
        if (j->path) glam_save_checkpoint(t, j->path);
    }
    if (odd && j->trouble == MESH_SAVES) glam_save(model, "/tmp/glam_mesh_never");
    if (odd && j->trouble == MESH_VALIDATES) glam_validate(t);
    if (!(odd && j->trouble == MESH_LEAVES))
        while (glam_train_step(t, NULL)) out->steps++;
    if (model) j->after[comm->rank] = test_model_hash(model);
    out->seconds = threads_now() - begin;
    mesh_note_error(out, ctx);
    glam_close(ctx);
}

// Runs the job; every rank (but one that went away on purpose) must have failed, in time, with `part`
// and `also` in its message.
static void mesh_fails(mesh_fail_job *j, threads_world *w, double most, const char *part, const char *also)
{
    const threads_world fresh = *w;
    const mesh_fail_job again = *j;
    double took = threads_run(w, mesh_fail_rank, j);
    // a machine at other work may be late once; ranks that do not see the deadline are late each time
    for (int tries = 0; took > most && tries < 3; tries++) {
        *w = fresh;
        *j = again;
        took = threads_run(w, mesh_fail_rank, j);
    }
    int good = CHECK(took <= most);
    for (int r = 0; r < w->size; r++) {
        const mesh_out *o = &j->out[r];
        if (r == j->odd && (j->trouble == MESH_LEAVES || j->trouble == MESH_NO_MEMORY ||
                            j->trouble == MESH_FAULT)) continue;
        if (j->trouble == MESH_FAULT && o->error == GLAM_OK && o->steps == 3) continue;   // was done
        good &= CHECK(o->error != GLAM_OK && strstr(o->text, part) && strstr(o->text, also));
    }
    if (good) return;
    printf("  ^ trouble %d on %dx%d, %.2f s\n", (int)j->trouble, j->mesh.X, j->mesh.Y, took);
    for (int r = 0; r < w->size; r++)
        printf("    rank %d, %.2f s: %s \"%s\"\n", r, j->out[r].seconds,
               glam_status_name(j->out[r].error), j->out[r].text);
}

static void mesh_fail_init(mesh_fail_job *j, mesh_size m, mesh_trouble trouble)
{
    memset(j, 0, sizeof *j);
    j->mesh = m;
    j->trouble = trouble;
    j->odd = 1;
    j->receive_factor = 8;
}

// Dropless, and one rank would have to take more than it has room for.
static void mesh_overflow(void)
{
    static mesh_fail_job j;
    for (int Y = 1; Y <= 2; Y++) {
        threads_world w = threads_world_of(4 * Y);
        mesh_fail_init(&j, mesh_of(4, Y, 0), MESH_OVERFLOW);
        j.receive_factor = 1.25;
        mesh_fails(&j, &w, 60, "receive_factor", "layer 0");
        for (int r = 0; r < w.size; r++) {
            CHECK(j.out[r].steps == 0 && j.before[r] == j.after[r]);
            const char *own = strstr(j.out[r].text, "receive_factor");
            const char *first = strstr(j.out[0].text, "receive_factor");
            CHECK(own && first && !strcmp(own, first));
        }
    }
}

static void mesh_others_differ(void)
{
    static const mesh_trouble troubles[5] = { MESH_OTHER_LR, MESH_OTHER_SIZE, MESH_OTHER_TEXT,
                                              MESH_OTHER_SEED, MESH_OTHER_SUMS };
    static const mesh_size meshes[2] = { { 4, 1, 0 }, { 2, 2, 0 } };
    for (int m = 0; m < 2; m++)
        for (int i = 0; i < 5; i++) {
            static mesh_fail_job j;
            threads_world w = threads_world_of(4);
            w.timeout_s = 2;
            mesh_fail_init(&j, meshes[m], troubles[i]);
            mesh_fails(&j, &w, 2 + MESH_GRACE, "rank 1", "other configurations");
        }
}

static void mesh_rank_leaves(void)
{
    static const mesh_size meshes[2] = { { 4, 1, 0 }, { 2, 2, 0 } };
    for (int m = 0; m < 2; m++) {
        static mesh_fail_job j;
        threads_world w = threads_world_of(4);
        w.timeout_s = 1;
        mesh_fail_init(&j, meshes[m], MESH_LEAVES);
        mesh_fails(&j, &w, 1 + MESH_GRACE, "rank ", "did not answer");
        w = threads_world_of(4);
        w.timeout_s = 1;
        mesh_fail_init(&j, meshes[m], MESH_SAVES);             // it is there, but somewhere else
        mesh_fails(&j, &w, 1 + MESH_GRACE, "rank 1", "save");
        w = threads_world_of(4);
        w.timeout_s = 1;
        mesh_fail_init(&j, meshes[m], MESH_VALIDATES);
        mesh_fails(&j, &w, 1 + MESH_GRACE, "rank 1", "valid");
        w = threads_world_of(4);
        w.timeout_s = 2;
        mesh_fail_init(&j, meshes[m], MESH_NO_MEMORY);
        mesh_fails(&j, &w, 2 + MESH_GRACE, "rank 1 failed", "memory");
    }
}

// A rank dies, or misses one exchange, at many places of a run: everybody ends in time, with a message
// that names a rank, and the checkpoint of the step before can be read.
static void mesh_dies_anywhere(void)
{
    static const mesh_size meshes[3] = { { 4, 1, 0 }, { 2, 2, 0 }, { 2, 2, 1 } };
    int places = mesh_full() ? mesh_full() : mesh_short() ? 3 : 14;
    char path[400];
    mesh_state_path(path, sizeof path, "dies", 0);
    for (int m = 0; m < 3; m++) {
        static mesh_fail_job j;
        threads_world well = threads_world_of(4);
        mesh_fail_init(&j, meshes[m], MESH_FAULT);
        j.path = path;
        double took = threads_run(&well, mesh_fail_rank, &j);      // what the machine needs for it
        for (int r = 0; r < 4; r++)
            if (!CHECK(j.out[r].error == GLAM_OK)) printf("  \"%s\"\n", j.out[r].text);
        if (j.out[0].error != GLAM_OK) continue;
        int named = 0;
        long every = well.calls[1] / places + 1;
        for (long at = 1; at < well.calls[1]; at += every) {
            threads_world w = threads_world_of(4);
            w.timeout_s = 0.15;
            w.fault = at / every % 3 == 2 ? THREADS_SKIP : THREADS_DIE;
            w.fault_rank = 1;
            w.fault_at = at;
            mesh_fail_init(&j, meshes[m], MESH_FAULT);
            j.path = path;
            mesh_fails(&j, &w, 0.15 + MESH_GRACE + took, "rank ", "");
            for (int r = 0; r < 4; r++) named |= strstr(j.out[r].text, "layer ") != NULL;
        }
        if (!mesh_short()) CHECK(named);       // a few places may all lie between the layers
        glam_ctx *ctx = test_ctx();
        glam_text *text = mesh_text(ctx);
        CHECK(glam_load_checkpoint(ctx, path, text, text) != NULL);
        CLOSE_CLEAN(ctx);
        remove(path);
    }
}

// A slow rank is waited for, and changes no bit.
static void mesh_slow_rank(void)
{
    static mesh_job one, many;
    const mesh_case *kind = mesh_case_of("balanced");
    threads_world w = threads_world_of(4);
    mesh_job_init(&one, kind, mesh_of(1, 1, 0), 8, 2);
    mesh_job_init(&many, kind, mesh_of(4, 1, 0), 8, 2);
    mesh_train(NULL, &one);
    w.fault = THREADS_SLOW;
    w.fault_rank = 2;
    w.fault_at = 20;
    w.fault_s = 0.3;
    double took = threads_run(&w, mesh_train, &many);
    CHECK(took > 0.3);
    mesh_all_well(&many, 4, 2);
    CHECK(mesh_same_bits(&many.layout, many.weights[1], one.weights[1]));
    mesh_job_free(&one);
    mesh_job_free(&many);
}

typedef struct mesh_again_job { int tries[3][2], same[MESH_RANKS]; mesh_out out[MESH_RANKS]; } mesh_again_job;

// Each constructor fails at each of its allocations; then it is called again, until it has them all.
static void mesh_again_rank(glam_comm *comm, void *arg)
{
    mesh_again_job *j = (mesh_again_job *)arg;
    const mesh_case *kind = mesh_case_of("balanced");
    glam_options options = mesh_options(comm, mesh_of(2, 1, 0), 8);
    glam_config c = mesh_config(kind);
    glam_recipe recipe = mesh_recipe(kind, 8, 2);
    test_heap heap;
    test_heap_into(&heap, &options);
    glam_ctx *ctx = glam_open(&options);
    glam_text *text = mesh_text(ctx);
    glam_model *model = NULL, *guest = NULL;
    glam_trainer *t = NULL;
    j->same[comm->rank] = 1;
    for (int what = 0; what < 3; what++)
        for (long k = 1; k < 400; k++) {
            uint64_t before = ctx->mesh->config;
            heap.fail_at = heap.calls + (what == 1 ? 1 : k);
            void *made = what == 0 ? (void *)(model = glam_model_new(ctx, &c))
                       : what == 1 ? (void *)(guest = glam_model_borrow(ctx, model))
                                   : (void *)(t = glam_trainer_new(model, text, NULL, &recipe));
            heap.fail_at = 0;
            if (made && what == 1 && !j->tries[1][comm->rank]) continue;         // until its memory is not there already
            if (made) break;
            j->same[comm->rank] &= ctx->mesh->config == before && glam_error(ctx) == GLAM_ERR_MEMORY;
            j->tries[what][comm->rank]++;
            glam_clear_error(ctx);
        }
    while (glam_train_step(t, NULL)) j->out[comm->rank].steps++;
    mesh_note_error(&j->out[comm->rank], ctx);
    glam_close(ctx);
}

static void mesh_tries_again(void)
{
    static mesh_again_job j;
    threads_world w = threads_world_of(2);
    memset(&j, 0, sizeof j);
    threads_run(&w, mesh_again_rank, &j);
    for (int r = 0; r < 2; r++)
        if (!CHECK(j.same[r] && j.out[r].error == GLAM_OK && j.out[r].steps == 2)) printf("  %s\n", j.out[r].text);
    for (int what = 0; what < 3; what++) CHECK(j.tries[what][0] > 0 && j.tries[what][1] > 0);
}

// --- refusals -------------------------------------------------------------------------------------

typedef struct mesh_refusal {
    mesh_size mesh;
    void    (*change)(glam_config *c, glam_recipe *r);
    const char *part, *also;           // of the message
} mesh_refusal;

static void mesh_odd_heads(glam_config *c, glam_recipe *r)   { (void)r; c->heads = 3; }
static void mesh_odd_kv_heads(glam_config *c, glam_recipe *r) { (void)r; c->kv_heads = 1; }
static void mesh_whole_norm(glam_config *c, glam_recipe *r) { (void)r; c->qk_norm = GLAM_QK_NORM_WHOLE; }
static void mesh_odd_hidden(glam_config *c, glam_recipe *r)  { (void)r; c->hidden = 41; }
static void mesh_odd_experts(glam_config *c, glam_recipe *r) { (void)r; c->moe.hidden = 23; }
static void mesh_six_experts(glam_config *c, glam_recipe *r) { (void)r; c->moe.experts = 6; }
static void mesh_four_parts(glam_config *c, glam_recipe *r)  { (void)c; r->accumulate = 2; }
static void mesh_early(glam_config *c, glam_recipe *r)
{ (void)c; r->update_in_backward = 1; r->clip = 0; r->accumulate = 1; }

typedef struct mesh_refusal_job {
    const mesh_refusal *row;
    mesh_out out[MESH_RANKS];
} mesh_refusal_job;

static void mesh_refusal_rank(glam_comm *comm, void *arg)
{
    mesh_refusal_job *j = (mesh_refusal_job *)arg;
    const mesh_case *kind = mesh_case_of("balanced");
    glam_options options = mesh_options(comm, j->row->mesh, 8);
    glam_config c = mesh_config(kind);
    glam_recipe recipe = mesh_recipe(kind, 8, 2);
    j->row->change(&c, &recipe);
    glam_ctx *ctx = glam_open(&options);
    glam_model *model = glam_model_new(ctx, &c);
    glam_trainer *t = glam_trainer_new(model, mesh_text(ctx), NULL, &recipe);
    j->out[comm->rank].steps = glam_train_step(t, NULL);
    mesh_note_error(&j->out[comm->rank], ctx);
    glam_close(ctx);
}

static void mesh_refusals(void)
{
    static const mesh_refusal rows[] = {
        { { 1, 2, 0 }, mesh_odd_heads, "heads", "3" },
        { { 1, 2, 0 }, mesh_odd_kv_heads, "kv_heads", "1" },
        { { 1, 2, 0 }, mesh_whole_norm, "qk_norm", "mesh_y 2" },
        { { 2, 2, 0 }, mesh_odd_hidden, "hidden", "41" },
        { { 1, 2, 0 }, mesh_odd_experts, "moe.hidden", "23" },
        { { 4, 1, 0 }, mesh_six_experts, "moe.experts", "6" },
        { { 4, 1, 0 }, mesh_four_parts, "accumulate", "2" },
        { { 2, 1, 0 }, mesh_early, "update_in_backward", "" },
    };
    for (int i = 0; i < (int)(sizeof rows / sizeof rows[0]); i++) {
        static mesh_refusal_job j;
        threads_world w = threads_world_of(rows[i].mesh.X * rows[i].mesh.Y);
        memset(&j, 0, sizeof j);
        j.row = &rows[i];
        threads_run(&w, mesh_refusal_rank, &j);
        for (int r = 0; r < w.size; r++) {
            const mesh_out *o = &j.out[r];
            if (!CHECK(o->error == GLAM_ERR_VALUE && o->steps == 0 && strstr(o->text, rows[i].part) &&
                       strstr(o->text, rows[i].also)))
                printf("  row %d, rank %d: %s \"%s\"\n", i, r, glam_status_name(o->error), o->text);
        }
    }
}

// --- bytes ----------------------------------------------------------------------------------------

static int mesh_traffic_same(const glam_traffic *a, const glam_traffic *b)
{
    static const char *const name[8] = { "routing", "dispatch", "model", "gradients", "weights", "sums",
                                         "files", "total" };
    uint64_t x[8], y[8];
    memcpy(x, a, sizeof x);
    memcpy(y, b, sizeof y);
    for (int i = 0; i < 8; i++) {
        if (x[i] == y[i]) continue;
        printf("  %s: %.0f bytes sent, %.0f planned\n", name[i], (double)x[i], (double)y[i]);
        return 0;
    }
    return 1;
}

// What was sent in a step is, to the byte, what the plan says.
static void mesh_traffic(void)
{
    static const mesh_size meshes[] = { { 2, 1, 0 }, { 4, 1, 0 }, { 8, 1, 0 }, { 1, 2, 0 }, { 2, 2, 0 },
                                        { 4, 2, 0 }, { 2, 1, 1 }, { 2, 2, 1 } };
    static const char *const kinds[] = { "balanced", "drops", "gated_xl", "xl_drops", "frozen_experts",
                                        "rotary", "noise_bias_shared" };
    static mesh_job j;
    for (int m = 0; m < (int)(sizeof meshes / sizeof meshes[0]); m++)
        for (int k = 0; k < 7; k++) {
            int ranks = meshes[m].X * meshes[m].Y, good = 1;
            threads_world w = threads_world_of(ranks);
            mesh_job_init(&j, mesh_case_of(kinds[k]), meshes[m], meshes[m].X, 1);
            j.shot[0] = 0;                                      // gathering would send too
            threads_run(&w, mesh_train, &j);
            mesh_all_well(&j, ranks, 1);
            for (int r = 0; r < ranks; r++) {
                const glam_traffic *s = &j.out[r].sent;
                good &= CHECK(mesh_traffic_same(s, &j.out[r].plan));
                good &= CHECK(s->total == s->routing + s->dispatch + s->model + s->gradients +
                                          s->weights + s->sums + s->files);
                good &= CHECK(s->total > 0 && s->total <= w.bytes[r]);
                good &= CHECK((s->model > 0) == (meshes[m].Y > 1) && (s->weights > 0) == meshes[m].store);
                good &= CHECK((s->dispatch > 0) == (meshes[m].X > 1));
            }
            if (!good) printf("  ^ %s on %dx%d%s\n", kinds[k], meshes[m].X, meshes[m].Y,
                              meshes[m].store ? "s" : "");
            mesh_job_free(&j);
        }
}

// The leading terms, written down by hand: rows to experts and back, gradients over X.
static void mesh_traffic_by_hand(void)
{
    static mesh_job j;
    threads_world w = threads_world_of(4);
    mesh_job_init(&j, mesh_case_of("drops"), mesh_of(4, 1, 0), 4, 1);
    threads_run(&w, mesh_train, &j);
    mesh_all_well(&j, 4, 1);
    size_t shared = 0;
    for (int i = 0; i < j.layout.count; i++) {
        const char *name = j.layout.name[i];
        if (strstr(name, ".moe.up") || strstr(name, ".moe.down")) continue;
        shared += j.layout.at[i + 1] - j.layout.at[i];
    }
    for (int r = 0; r < 4; r++) {
        const mesh_out *o = &j.out[r];
        // there M floats and back M; in backward M and a weight there, M and its gradient back
        double rows = (double)(o->choices_sent + o->rows_received), M = 16;
        CHECK_NEAR(o->sent.dispatch, 4 * rows * (2 * M + 1), 4 * rows * 2);
        // a rank sends three quarters of the gradients to their owners, and its quarter to three
        CHECK_NEAR(o->sent.gradients, 1.5 * 4 * (double)shared, 4.0 * 16 * j.layout.count);
    }
    mesh_job_free(&j);
}

// What a rank holds is what measure mode said before anything was there.
static void mesh_memory(void)
{
    static const mesh_size meshes[] = { { 2, 1, 0 }, { 8, 1, 0 }, { 1, 4, 0 }, { 2, 2, 0 }, { 4, 2, 0 },
                                        { 4, 1, 1 }, { 2, 2, 1 }, { 4, 2, 1 } };
    static const char *const kinds[] = { "balanced", "gated_xl", "xl_drops" };
    static mesh_job j;
    for (int k = 0; k < 3; k++) {
        const mesh_case *kind = mesh_case_of(kinds[k]);
        glam_config c = mesh_config(kind);
        glam_recipe recipe = mesh_recipe(kind, 8, 2);
        glam_plan alone;
        glam_ctx *one = test_ctx();
        CHECK(glam_plan_for(one, &c, &recipe, &alone) == GLAM_OK);
        CLOSE_CLEAN(one);
        for (int m = 0; m < (int)(sizeof meshes / sizeof meshes[0]); m++) {
            int ranks = meshes[m].X * meshes[m].Y;
            threads_world w = threads_world_of(ranks);
            mesh_job_init(&j, kind, meshes[m], 8, 2);
            j.shot[0] = j.shot[1] = 0;
            threads_run(&w, mesh_train, &j);
            mesh_all_well(&j, ranks, 2);
            glam_comm comm;
            memset(&comm, 0, sizeof comm);
            comm.size = ranks;
            glam_options options = mesh_options(&comm, meshes[m], 8);
            glam_ctx *ctx = glam_open(&options);
            glam_plan plan;
            CHECK(glam_plan_for(ctx, &c, &recipe, &plan) == GLAM_OK);
            if (glam_error(ctx)) printf("  \"%s\"\n", glam_error_text(ctx));
            glam_close(ctx);
            int good = CHECK(plan.weights < alone.weights && plan.optimizer < alone.optimizer);
            good &= CHECK(plan.parameters == alone.parameters);
            for (int r = 0; r < ranks; r++) {
                // the text (16 kB of tokens) and the batch are not in the plan
                double used = (double)j.out[r].memory.peak - 4 * 4096, said = (double)plan.train_bytes;
                good &= CHECK_NEAR(used, said, 0.05 * said);
            }
            if (!good) printf("  ^ %s on %dx%d%s\n", kinds[k], meshes[m].X, meshes[m].Y,
                              meshes[m].store ? "s" : "");
            mesh_job_free(&j);
        }
    }
}

// With split storage no weight is held twice: the shares of all ranks add up to the model.
static void mesh_store_holds_once(void)
{
    glam_config c = mesh_config(mesh_case_of("gated_xl"));
    glam_recipe recipe = mesh_recipe(mesh_case_of("gated_xl"), 8, 2);
    c.d_model = 64;
    c.hidden = 256;
    c.moe.hidden = 128;
    uint64_t weights[2] = { 0, 0 }, slots[2] = { 0, 0 };
    for (int kind = 0; kind < 2; kind++) {
        int ranks = kind ? 8 : 1;
        for (int r = 0; r < ranks; r++) {
            glam_comm comm;
            memset(&comm, 0, sizeof comm);
            comm.size = ranks;
            comm.rank = r;
            glam_options options = mesh_options(kind ? &comm : NULL, mesh_of(kind ? 4 : 1, kind ? 2 : 1, kind), 8);
            glam_ctx *ctx = glam_open(&options);
            glam_plan plan;
            CHECK(glam_plan_for(ctx, &c, &recipe, &plan) == GLAM_OK);
            weights[kind] += plan.weights;
            slots[kind] += plan.optimizer;
            CLOSE_CLEAN(ctx);
        }
    }
    printf("  weights on 4x2s, all ranks together / one rank: %.4f, optimiser %.4f\n",
           (double)weights[1] / (double)weights[0], (double)slots[1] / (double)slots[0]);
    // padding to cache lines, and what Y leaves whole
    CHECK((double)weights[1] <= 1.02 * (double)weights[0]);
    CHECK((double)slots[1] <= 1.02 * (double)slots[0]);
}

// The largest model of the paper, a thousand ranks: planned without any of them.
static void mesh_giant_plan(void)
{
    glam_config c;
    glam_plan plan;
    glam_comm comm;
    CHECK(glam_config_preset("64B/64E", &c) == GLAM_OK);
    glam_recipe recipe = glam_recipe_paper();
    recipe.batch = 1024;
    recipe.accumulate = 64;
    recipe.recompute = 1;
    memset(&comm, 0, sizeof comm);
    comm.size = 1024;
    glam_options options = mesh_options(&comm, mesh_of(64, 16, 1), 4);
    glam_ctx *ctx = glam_open(&options);
    CHECK(glam_plan_for(ctx, &c, &recipe, &plan) == GLAM_OK);
    CHECK(plan.parameters > 1000000000000u);
    CHECK_NEAR(plan.weights, 4.0 * (double)plan.parameters / 1024, 0.02 * 4.0 * (double)plan.parameters / 1024);
    CLOSE_CLEAN(ctx);
}

// --- padding --------------------------------------------------------------------------------------

typedef struct mesh_padding { int X, Y, some; double total[4], norm[4]; } mesh_padding;

// glam_loss and glam_update of four rows padded unevenly, one of them padding alone.  some: without a
// z_loss and with nothing to predict at a third of the tokens, which then have no logits.
static void mesh_padded_rank(glam_comm *comm, void *arg)
{
    enum { S = 16 };
    static const int length[4] = { 16, 3, 0, 9 };
    mesh_padding *p = (mesh_padding *)arg;
    glam_options options = mesh_options(comm, mesh_of(p->X, p->Y, 0), 8);
    glam_config c = mesh_config(mesh_case_of("balanced"));
    glam_recipe recipe = mesh_recipe(mesh_case_of("balanced"), 1, 4);
    int32_t tokens[4 * S], targets[4 * S], mask[4 * S];
    int rank = comm ? comm->rank : 0, rows = 4 / p->X, from = rank / p->Y * rows * S;
    test_ids(tokens, 4 * S, 1, c.vocab);
    test_ids(targets, 4 * S, 2, c.vocab);
    // where the vocabulary of one rank along Y ends and that of the next begins
    for (int t = 0; t < 3; t++) targets[t] = 127 + t;
    for (int t = 0; t < 4 * S; t++) mask[t] = t % S < length[t / S];
    for (int t = 1; t < 4 * S && p->some; t += 3) targets[t] = -1;
    if (p->some) c.z_loss = 0;
    c.moe.group = S;
    c.moe.aux_weight = 0.5f;
    c.moe.router_z_weight = 0.25f;
    glam_ctx *ctx = glam_open(&options);
    glam_model *model = glam_model_new(ctx, &c);
    glam_batch b = { rows, S, tokens + from, targets + from, mask + from, NULL };
    glam_losses losses;
    glam_report report;
    glam_tensor *params[MESH_TENSORS];
    int count = 0;
    while ((params[count] = glam_model_tensor_at(model, count)) != NULL) count++;
    glam_optimizer *o = glam_optimizer_new(ctx, params, count, &recipe);
    p->total[rank] = p->norm[rank] = NAN;
    if (glam_update(o, glam_loss(model, &b, GLAM_TRAIN, &losses), &report) == GLAM_OK) {
        p->total[rank] = losses.total;
        p->norm[rank] = report.grad_norm;
    }
    glam_close(ctx);
}

// The losses of the ranks add up to the loss of one, and so do the gradients.
static void mesh_padded(void)
{
    mesh_padding one, many;
    for (int some = 0; some < 2; some++) {
    memset(&one, 0, sizeof one);
    one.X = one.Y = 1;
    one.some = some;
    mesh_padded_rank(NULL, &one);
    for (int ranks = 1; ranks <= 4; ranks *= 2)
      for (int Y = 1; Y <= 2 && Y <= ranks; Y++) {
        int X = ranks / Y;
        threads_world w = threads_world_of(ranks);
        memset(&many, 0, sizeof many);
        many.X = X;
        many.Y = Y;
        many.some = some;
        threads_run(&w, mesh_padded_rank, &many);
        double sum = many.total[0] + many.total[1] + many.total[2] + many.total[3];
        CHECK_NEAR(sum / Y, one.total[0], 2e-6 * one.total[0]);
        for (int r = 0; r < ranks; r++) CHECK_NEAR(many.norm[r], one.norm[0], 2e-5 * one.norm[0]);
      }
    }
}

// For mpi.sh: what mpi.c prints under MPI, of ranks as threads ("4x1", "2x2s").
static int mesh_print_hashes(const char *mesh)
{
    for (int i = 0; i < MESH_CASES; i++) mesh_hash_case(&mesh_cases[i], mesh_read(mesh), 8, MESH_HASH_STEPS);
    return 0;
}

static void test_mesh(void)
{
    RUN(mesh_x_same_bits);
    RUN(mesh_overflow);
    RUN(mesh_padded);
    RUN(mesh_refusals);
    RUN(mesh_others_differ);
    RUN(mesh_rank_leaves);
    RUN(mesh_tries_again);
    RUN(mesh_cancel);
    RUN(mesh_slow_rank);
    RUN(mesh_own_network);
    RUN(mesh_use);
    RUN(mesh_files);
    RUN(mesh_files_damaged);
    RUN(mesh_dies_anywhere);
    RUN(mesh_y_near);
    RUN(mesh_store_near);
    RUN(mesh_store_near_fresh);
    RUN(mesh_traffic);
    RUN(mesh_traffic_by_hand);
    RUN(mesh_memory);
    RUN(mesh_store_holds_once);
    RUN(mesh_giant_plan);
}

#endif
