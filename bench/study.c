/* study.c - the paper in miniature: mixtures against dense models of equal work per token.

     study list MODE                                  the runs, and what each costs
     study run  MODE DIR --novels FILE --plays FILE   does those that nobody has done, or is doing
     study page MODE DIR                              plots, table and page from what is there

   bench/study.sh builds it and calls it; MODE is 10min, hour or night.  Every run has its own file
   of JSON lines in DIR, which is locked while a process works on it, so that several may share a
   DIR, and one that was killed leaves nothing to clear away: its run goes on from its checkpoint.
   Budgets are tokens: a busy machine changes the seconds, not the losses.

   A base has dense layers of hidden H, 3 M H multiplications a token.  In its twins a mixture layer
   with E experts, of which k work, has what makes k matrices M h + M E the same number: with two
   matrices, h = (3 H - E) / 4 for k = 2.  Router included, a token costs the same. */

#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include "../examples/glam_energy.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum { TOP = 2, MOST_JOBS = 512, NAME = 64, LINE = 2048 };

// == what is run =============================================================================

typedef struct base { const char *name; int layers, d_model, heads, context; } base;
static const base bases[] = {
    {"small", 4, 48, 3, 128}, {"medium", 6, 64, 4, 128}, {"large", 8, 96, 4, 128} };
enum { BASES = 3 };

// tokens[]: of one run of each base; 0: it is left out.
typedef struct mode {
    const char *name;
    double tokens[BASES];
    int    seeds;                       // of the small base's mixtures, and of dense
    int    big_seeds;                   // of the other bases
    int    big_all;                     // the other bases have every E, not only 16 and 64
    int    change_seeds;                // of the ablations
    int    most;                        // dense runs of 1/2, 1, 2 .. `most` times the tokens
    int    batch, checkpoint;           // sequences a step; seconds
    int    sample;                      // tokens that a point of a curve is measured on
} mode;
static const mode modes[] = {
    {"tiny",  {4e3, 2e3, 0},           1, 1, 0, 1, 1, 8, 0, 1024},           // for the tests
    {"10min", {800e3, 800e3, 800e3},   3, 1, 0, 2, 4, 8, 60, 32768},
    {"hour",  {3e6, 3e6, 3e6},         3, 1, 0, 2, 4, 8, 120, 32768},
    {"night", {16e6, 16e6, 16e6},      3, 2, 1, 2, 4, 16, 300, 32768},
};

static const int counts[] = {0, 4, 8, 16, 32, 64};                   // experts; 0: dense
enum { COUNTS = 6, CHANGED = 8, BIG = 16, BIGGEST = 64 };   // of the ablations; of other bases

// What one ablation changes of the small base with CHANGED experts.
typedef enum knob { NOTHING, BALANCE, EXPERTS, POSITION, OPTIMIZER, EVERY, CAPACITY } knob;
typedef struct change {
    const char *group, *name;
    knob        knob;
    double      value;
    int         paper;                  // the paper's own choice
} change;
static const change changes[] = {
    {"balance loss",      "0.01",           NOTHING,   0, 1},
    {"balance loss",      "0",              BALANCE,   0, 0},
    {"balance loss",      "0.1",            BALANCE,   0.1, 0},
    {"experts",           "ReLU",           NOTHING,   0, 1},
    {"experts",           "GELU",           EXPERTS,   GLAM_GELU_TANH, 0},
    {"experts",           "GEGLU",          EXPERTS,   GLAM_GEGLU, 0},
    {"position",          "buckets",        NOTHING,   0, 1},
    {"position",          "Transformer-XL", POSITION,  GLAM_POSITION_TRANSFORMER_XL, 0},
    {"position",          "none",           POSITION,  GLAM_POSITION_NONE, 0},
    {"optimiser",         "Adafactor",      NOTHING,   0, 1},
    {"optimiser",         "AdamW",          OPTIMIZER, GLAM_ADAMW, 0},
    {"mixture in",        "every other",    NOTHING,   0, 1},
    {"mixture in",        "every layer",    EVERY,     1, 0},
    {"capacity",          "none dropped",   NOTHING,   0, 0},
    {"capacity",          "2 x even",       CAPACITY,  2, 0},
    {"capacity",          "1.25 x even",    CAPACITY,  1.25, 0},
    {"capacity",          "1 x even",       CAPACITY,  1, 1},
};
enum { CHANGES = sizeof changes / sizeof changes[0] };

typedef enum text_kind { NOVELS, PLAYS, TEXTS } text_kind;
static const char *const text_names[] = {"novels", "plays"};

typedef struct job {
    char      id[NAME];
    int       base, experts, change;    // change: a row of changes that is not NOTHING, or -1
    text_kind text;
    uint64_t  seed;
    double    times;                    // of the mode's tokens
    int       beyond;                   // contexts longer than the trained one are tried at the end
} job;

typedef struct plan {
    const mode *mode;
    int count;
    job job[MOST_JOBS];
} plan;

static job *add_job(plan *p, int base, int experts, text_kind text, int seed)
{
    char who[16] = "dense";
    if (p->count == MOST_JOBS) exit(1);
    job *j = &p->job[p->count++];
    memset(j, 0, sizeof *j);
    if (experts) snprintf(who, sizeof who, "e%d", experts);
    snprintf(j->id, sizeof j->id, "%s-%s-%s-s%d", text_names[text], bases[base].name, who, seed);
    j->base = base;
    j->experts = experts;
    j->text = text;
    j->seed = (uint64_t)seed;
    j->times = 1;
    j->change = -1;
    return j;
}

static void rename_job(job *j, const char *what, const char *value)
{
    size_t n = strlen(j->id);
    snprintf(j->id + n, sizeof j->id - n, "-%s-%s", what, value);
    for (char *c = j->id; *c; c++) if (*c == ' ') *c = '_';
}

static void make_plan(plan *p, const mode *m)
{
    p->mode = m;
    p->count = 0;
    for (int seed = 1; seed <= m->seeds; seed++)
        for (int i = 0; i < COUNTS; i++)
            add_job(p, 0, counts[i], NOVELS, seed)->beyond = counts[i] == CHANGED;
    for (double times = 0.5; times <= m->most; times *= 2) {
        char name[16];
        snprintf(name, sizeof name, "%g", times);
        for (int seed = 1; seed <= m->change_seeds && times != 1; seed++) {
            job *j = add_job(p, 0, 0, NOVELS, seed);
            j->times = times;
            rename_job(j, "tokens", name);
        }
    }
    for (int c = 0; c < CHANGES; c++)
        for (int seed = 1; seed <= m->change_seeds && changes[c].knob != NOTHING; seed++) {
            job *j = add_job(p, 0, CHANGED, NOVELS, seed);
            j->change = c;
            j->beyond = changes[c].knob == POSITION;
            rename_job(j, changes[c].group, changes[c].name);
        }
    for (int seed = 1; seed <= m->big_seeds; seed++) {
        for (int b = 1; b < BASES; b++)
            for (int i = 0; i < COUNTS && m->tokens[b] > 0; i++)
                if (m->big_all || counts[i] == 0 || counts[i] == BIG || counts[i] == BIGGEST)
                    add_job(p, b, counts[i], NOVELS, seed);
        add_job(p, 0, 0, PLAYS, seed);
        add_job(p, 0, CHANGED, PLAYS, seed);
    }
}

static const change *change_of(const job *j)
{
    return j->change < 0 ? NULL : &changes[j->change];
}

// The hidden width of an expert with which a token costs a mixture layer what it costs a dense one.
static int equal_hidden(int hidden, int experts, int matrices)
{
    return (int)floor((3.0 * hidden - experts) / (TOP * matrices) + 0.5);
}

static glam_config job_config(const job *j)
{
    const base *b = &bases[j->base];
    const change *x = change_of(j);
    glam_config c = glam_config_default();
    c.layers = b->layers;
    c.d_model = b->d_model;
    c.heads = b->heads;
    c.context = b->context;
    c.hidden = 4 * b->d_model;
    c.moe.experts = j->experts;
    c.moe.every = 2;
    c.moe.top_k = TOP;
    c.moe.activation = GLAM_RELU;
    if (x && x->knob == BALANCE) c.moe.aux_weight = (float)x->value;
    if (x && x->knob == EXPERTS) c.moe.activation = (glam_activation)x->value;
    if (x && x->knob == EVERY) c.moe.every = (int)x->value;
    if (x && x->knob == CAPACITY) c.moe.capacity_factor = (float)(TOP * x->value);
    if (x && x->knob == POSITION) c.position = (glam_position)x->value;
    if (c.position == GLAM_POSITION_TRANSFORMER_XL)
        c.attention_scale = 1.0f / sqrtf((float)(c.d_model / c.heads));
    c.moe.hidden = equal_hidden(c.hidden, j->experts, c.moe.activation == GLAM_GEGLU ? 3 : 2);
    return c;
}

static glam_recipe job_recipe(const mode *m, const job *j)
{
    const change *x = change_of(j);
    glam_recipe r = glam_recipe_default();
    if (x && x->knob == OPTIMIZER) {
        r.optimizer = (glam_optimizer_kind)x->value;
        r.lr = 2e-3;
        r.embed_lr = 3;
    }
    r.batch = m->batch;
    r.steps = (int)(m->tokens[j->base] * j->times / (m->batch * bases[j->base].context) + 0.5);
    r.seed = j->seed;
    return r;
}

// == a run's file ============================================================================

static const char *novels, *plays, *powercap;
static double figure = 0.1;
static int threads = 1;

static int complain(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("study: ", stderr);
    vfprintf(stderr, format, args);
    fputs("\n", stderr);
    va_end(args);
    return 1;
}

static void job_path(char *path, const char *dir, const job *j, const char *end)
{
    if (snprintf(path, 1024, "%s/%s.%s", dir, j->id, end) >= 1024)
        exit(complain("%s: the name is too long", dir));
}

// What a finished run must have been made with to count.
static void job_spec(char *spec, size_t size, const mode *m, const job *j)
{
    glam_recipe r = job_recipe(m, j);
    glam_config c = job_config(j);
    snprintf(spec, size, "%d layers, width %d, %d x %d experts of %d, %d steps of %d x %d tokens, "
             "seed %" PRIu64, c.layers, c.d_model, c.moe.experts ? c.layers / c.moe.every : 0,
             c.moe.experts, c.moe.experts ? c.moe.hidden : 0, r.steps, r.batch, c.context, r.seed);
}

// The number or the word behind a key of a line that this program wrote.
static double json_number(const char *line, const char *key)
{
    char quoted[NAME];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *at = strstr(line, quoted);
    return at ? strtod(at + strlen(quoted), NULL) : NAN;
}

static int json_is(const char *line, const char *key, const char *word)
{
    char quoted[LINE];
    snprintf(quoted, sizeof quoted, "\"%s\":\"%s\"", key, word);
    return strstr(line, quoted) != NULL;
}

typedef struct journal {
    int    file;
    int    done;                        // there is nothing left to do
    int    step;                        // of the last checkpoint line; 0: none
    double cpu, joules;                 // used until then
    off_t  keep;                        // bytes up to and with it
} journal;

// Looks at what an earlier process left.  step: that of the checkpoint, which must have its line.
static void journal_read(journal *n, const char *spec, int step)
{
    char line[LINE];
    FILE *f = fdopen(dup(n->file), "rb");
    int ours = 0;
    n->step = n->done = 0;
    if (!f) return;
    rewind(f);
    while (fgets(line, sizeof line, f) && strchr(line, '\n')) {
        if (json_is(line, "event", "start")) ours = json_is(line, "spec", spec);
        if (!ours) break;
        if (json_is(line, "event", "done")) n->done = 1;
        if (!json_is(line, "event", "checkpoint") || (int)json_number(line, "step") != step)
            continue;
        n->step = step;
        n->cpu = json_number(line, "cpu_seconds");
        n->joules = json_number(line, "joules");
        n->keep = (off_t)ftell(f);
    }
    fclose(f);
}

// A whole line in one write.
static void journal_write(journal *n, const char *format, ...)
{
    char line[LINE];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (length < 0 || length >= LINE || write(n->file, line, (size_t)length) != length)
        exit(complain("a result cannot be written: %s", strerror(errno)));
}

// == one run =================================================================================

static const double moments[] = {1. / 16, 1. / 8, 1. / 4, 3. / 8, 1. / 2, 5. / 8, 3. / 4, 1};
enum { MOMENTS = 8 };

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Windows from places spread evenly over a text.
static glam_text *take_sample(glam_ctx *ctx, glam_text *text, int length, int sample_tokens)
{
    size_t size = (size_t)length + 1, all = glam_text_length(text);
    int parts = sample_tokens / length;
    int32_t *tokens = (int32_t *)malloc(size * sizeof *tokens);
    glam_text **part = (glam_text **)calloc((size_t)parts, sizeof *part);
    glam_text *sample = NULL;
    for (int i = 0; tokens && part && i < parts && all >= size * (size_t)parts; i++) {
        glam_text_read(text, (all - size) / (size_t)parts * (size_t)i, size, tokens);
        part[i] = glam_text_from_tokens(ctx, tokens, size);
    }
    if (part && part[0]) sample = glam_mix(ctx, part, NULL, parts);
    free(tokens);
    free(part);
    return sample;
}

static double sample_loss(glam_model *model, glam_text *sample, int context)
{
    glam_perplexity_report p;
    return glam_perplexity(model, sample, context, &p) == GLAM_OK ? p.loss : NAN;
}

typedef struct worker {
    const mode   *mode;
    const job    *job;
    journal       n;
    glam_ctx     *ctx;
    glam_text    *train, *valid, *sample;
    glam_model   *model;
    glam_trainer *trainer;
    glam_plan     cost;
    energy        meter;
    double        cpu;                  // of training steps
} worker;

static void write_start(worker *w)
{
    const job *j = w->job;
    const glam_config *c = glam_model_config(w->model);
    char spec[LINE / 4];
    job_spec(spec, sizeof spec, w->mode, j);
    journal_write(&w->n, "{\"event\":\"start\",\"id\":\"%s\",\"spec\":\"%s\",\"text\":\"%s\","
                  "\"base\":\"%s\",\"experts\":%d,\"expert_hidden\":%d,\"change\":\"%s %s\","
                  "\"seed\":%" PRIu64 ",\"params\":%" PRIu64 ",\"active\":%" PRIu64 ","
                  "\"flops_forward\":%.9g,\"flops_train\":%.9g,\"energy\":\"%s\",\"threads\":%d,"
                  "\"simd\":\"%s\"}\n", j->id, spec, text_names[j->text], bases[j->base].name,
                  c->moe.experts, c->moe.experts ? c->moe.hidden : 0,
                  j->change < 0 ? "" : changes[j->change].group,
                  j->change < 0 ? "" : changes[j->change].name, j->seed, w->cost.parameters,
                  w->cost.active, w->cost.flops_forward, w->cost.flops_train,
                  energy_source(&w->meter), threads, glam_simd_name(w->ctx));
}

static void write_point(worker *w, const glam_report *r, const char *event)
{
    journal_write(&w->n, "{\"event\":\"%s\",\"step\":%d,\"tokens\":%" PRIu64 ",\"flops\":%.9g,"
                  "\"cpu_seconds\":%.6g,\"seconds\":%.6g,\"joules\":%.*g,\"train_loss\":%.6g,"
                  "\"dropped\":%.6g,\"load_max\":%.6g,\"loss\":%.6g}\n", event, r->step, r->tokens,
                  w->cost.flops_train * (double)r->tokens, w->cpu, r->seconds,
                  strcmp(event, "point") == 0 ? 6 : 17, w->meter.joules, r->loss, r->dropped,
                  r->load_max,
                  strcmp(event, "point") == 0 ? sample_loss(w->model, w->sample, 0) : -1.0);
}

static int is_moment(const glam_report *r)
{
    for (int i = 0; i < MOMENTS; i++)
        if (r->step == (int)(moments[i] * r->steps + 0.5)) return 1;
    return 0;
}

static void train_job(worker *w, const char *checkpoint)
{
    double flops = w->cost.flops_train * w->mode->batch * bases[w->job->base].context;
    double saved = 0;
    glam_report r;
    energy_skip(&w->meter, flops * w->n.step);
    for (double before = cpu_seconds(); glam_train_step(w->trainer, &r); before = cpu_seconds()) {
        w->cpu += cpu_seconds() - before;
        energy_take(&w->meter, flops * r.step);
        if (is_moment(&r)) write_point(w, &r, "point");
        if (saved <= 0) saved = r.seconds;
        if (r.seconds - saved > w->mode->checkpoint && r.step < r.steps) {
            write_point(w, &r, "checkpoint");          // its line first: a checkpoint has one
            glam_save_checkpoint(w->trainer, checkpoint);
            saved = r.seconds;
        }
        energy_skip(&w->meter, flops * r.step);
    }
}

static void finish_job(worker *w, const char *checkpoint)
{
    int context = bases[w->job->base].context;
    double two = 0, four = 0;
    if (w->job->beyond) {
        glam_text *longer = take_sample(w->ctx, w->valid, 4 * context, w->mode->sample);
        two = sample_loss(w->model, longer, 2 * context);
        four = sample_loss(w->model, longer, 4 * context);
    }
    if (glam_error(w->ctx) != GLAM_OK) return;
    journal_write(&w->n, "{\"event\":\"done\",\"id\":\"%s\",\"loss_2x\":%.6g,\"loss_4x\":%.6g,"
                  "\"peak_bytes\":%" PRIu64 "}\n", w->job->id, two, four,
                  glam_memory(w->ctx).peak);
    remove(checkpoint);
}

// Everything of one run but its file.
static int do_job(worker *w, const char *checkpoint, int resume)
{
    const job *j = w->job;
    glam_options o = glam_options_default();
    glam_config c = job_config(j);
    glam_recipe r = job_recipe(w->mode, j);
    o.threads = threads;
    o.seed = j->seed;
    w->ctx = glam_open(&o);
    glam_plan_for(w->ctx, &c, &r, &w->cost);
    energy_open(&w->meter, powercap, figure);
    glam_text *all = glam_text_open(w->ctx, j->text == NOVELS ? novels : plays, NULL);
    glam_text_split(all, 0.1f, &w->train, &w->valid);
    w->sample = take_sample(w->ctx, w->valid, c.context, w->mode->sample);
    if (!w->sample && glam_error(w->ctx) == GLAM_OK)
        return complain("%s: the text is too short", j->id);
    w->trainer = resume ? glam_load_checkpoint(w->ctx, checkpoint, w->train, NULL)
                        : glam_trainer_new(glam_model_new(w->ctx, &c), w->train, NULL, &r);
    w->model = glam_trainer_model(w->trainer);
    if (glam_error(w->ctx) == GLAM_OK) {
        if (resume) {
            w->cpu = w->n.cpu;
            w->meter.joules = w->n.joules;
        } else write_start(w);
        train_job(w, checkpoint);
        finish_job(w, checkpoint);
    }
    return glam_error(w->ctx) == GLAM_OK ? 0 : complain("%s: %s", j->id, glam_error_text(w->ctx));
}

// The step of a checkpoint, 0: there is none that can be read.
static int checkpoint_step(const char *path, const job *j)
{
    int step = 0;
    if (access(path, R_OK) != 0) return 0;
    glam_ctx *ctx = glam_open(NULL);
    glam_text *train, *valid, *all = glam_text_open(ctx, j->text == NOVELS ? novels : plays, NULL);
    glam_text_split(all, 0.1f, &train, &valid);
    step = glam_trainer_done(glam_load_checkpoint(ctx, path, train, NULL));
    if (glam_error(ctx) != GLAM_OK) step = 0;
    glam_close(ctx);
    return step;
}

// 1: done by this call; 0: was done, or is in other hands; -1: it failed.
static int take_job(const mode *m, const job *j, const char *dir)
{
    char path[1024], checkpoint[1024], spec[LINE / 4];
    worker w;
    memset(&w, 0, sizeof w);
    w.mode = m;
    w.job = j;
    job_path(path, dir, j, "jsonl");
    job_path(checkpoint, dir, j, "checkpoint");
    w.n.file = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (w.n.file < 0) return complain("%s: %s", path, strerror(errno)), -1;
    if (flock(w.n.file, LOCK_EX | LOCK_NB) != 0) {
        close(w.n.file);
        return 0;
    }
    job_spec(spec, sizeof spec, m, j);
    journal_read(&w.n, spec, -1);
    if (w.n.done) {
        close(w.n.file);
        return 0;
    }
    int step = checkpoint_step(checkpoint, j);
    if (step) journal_read(&w.n, spec, step);
    int resume = step && w.n.step == step;
    if (ftruncate(w.n.file, resume ? w.n.keep : 0) != 0)
        return complain("%s: %s", path, strerror(errno)), -1;
    printf("%s: %s%s\n", j->id, spec, resume ? ", from its checkpoint" : "");
    fflush(stdout);
    int failed = do_job(&w, checkpoint, resume);
    printf("%s: %s, %.1f s of a core, %.0f J (%s)\n", j->id, failed ? "failed" : "done", w.cpu,
           w.meter.joules, energy_words(&w.meter));
    fflush(stdout);
    glam_close(w.ctx);
    close(w.n.file);
    return failed ? -1 : 1;
}

static int run_all(const plan *p, const char *dir)
{
    for (int i = 0; i < p->count; i++)
        if (take_job(p->mode, &p->job[i], dir) < 0) return 1;
    return 0;
}

static int list_all(const plan *p)
{
    double total = 0;
    for (int i = 0; i < p->count; i++) {
        const job *j = &p->job[i];
        glam_config c = job_config(j);
        glam_recipe r = job_recipe(p->mode, j);
        glam_ctx *ctx = glam_open(NULL);
        glam_plan cost;
        glam_plan_for(ctx, &c, &r, &cost);
        double flops = cost.flops_train * r.steps * r.batch * c.context;
        printf("%-46s %10" PRIu64 " parameters, %8" PRIu64 " active, %9.0f FLOPs a token, %.2f "
               "TFLOP\n", j->id, cost.parameters, cost.active, cost.flops_forward, 1e-12 * flops);
        total += flops;
        glam_close(ctx);
    }
    printf("%d runs, %.1f TFLOP\n", p->count, 1e-12 * total);
    return 0;
}

#include "study_page.h"

static int usage(void)
{
    fputs("usage: study list MODE | study run MODE DIR --novels FILE --plays FILE [--threads N]\n"
          "       [--powercap FOLDER] [--joules-per-gflop J] | study page MODE DIR\n"
          "       MODE: 10min, hour, night\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    static plan p;
    const mode *m = NULL;
    for (size_t i = 0; argc > 2 && i < sizeof modes / sizeof modes[0]; i++)
        if (strcmp(argv[2], modes[i].name) == 0) m = &modes[i];
    if (!m) return usage();
    make_plan(&p, m);
    if (strcmp(argv[1], "list") == 0) return list_all(&p);
    if (argc < 4) return usage();
    for (int i = 4; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--novels") == 0) novels = argv[i + 1];
        else if (strcmp(argv[i], "--plays") == 0) plays = argv[i + 1];
        else if (strcmp(argv[i], "--threads") == 0) threads = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--powercap") == 0) powercap = argv[i + 1];
        else if (strcmp(argv[i], "--joules-per-gflop") == 0) figure = atof(argv[i + 1]);
        else return usage();
    }
    if (strcmp(argv[1], "run") == 0 && novels && plays) return run_all(&p, argv[3]);
    if (strcmp(argv[1], "page") == 0) return write_page(&p, argv[3]);
    return usage();
}
