/* glam - train, use and look into a GLaM from the shell.

   Build:  cc -O2 -fopenmp examples/glam.c -o glam -lm      (without -fopenmp: one core)

   ./glam train book.txt --minutes 2        learns a text, shows how, saves model.safetensors
   ./glam generate model.safetensors --prompt "Once"
   ./glam race book.txt                     does the mixture learn more than a dense model?
   ./glam help

   On many machines: mpicc instead of cc with -DGLAM_MPI, and
   mpirun -n 8 ./glam train book.txt --mesh 4x2 --accumulate 4

   The file in order: shapes and recipes; the log; train; generate, eval, route, info.  The options
   are in glam_options.h, the drawing in glam_show.h, race in glam_race.h, ranks in glam_ranks.h.
   Everything goes through the public interface of glam.h.  Exit status: 0 done, 1 something is wrong with files or
   numbers, 2 with the command line, 130 stopped by Ctrl-C. */

#define _POSIX_C_SOURCE 200809L
#define GLAM_IMPLEMENTATION
#include "../glam.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#define HAVE_UNISTD 1
#endif
#ifdef _OPENMP
#include <omp.h>
#endif

#include "glam_options.h"
#include "glam_show.h"
#include "glam_ranks.h"

enum { PATH = 1024, BYTES = 256 };                  // BYTES: the vocabulary of bytes

// Prints the first failure of the context, if there is one.
static int failure(const glam_ctx *ctx)
{
    if (glam_error(ctx) == GLAM_OK) return DONE;
    return complain(FAILED, "%s", glam_error_text(ctx));
}

// == shapes and recipes =====================================================================

static const char *const position_names[]   = {"buckets", "transformer_xl", "none", NULL};
static const char *const normalise_names[]  = {"before_drop", "after_drop", "none", NULL};
static const char *const recipe_names[]     = {"default", "paper", "finetune", "quick", NULL};
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
        work += is_mixture(c, i) ? c->moe.top_k * one * (gated(c->moe.activation) ? 3 : 2)
                                 : 3 * dense;
    if (c->layers > 0) c->hidden = (int)(work / (3.0 * c->layers) + 0.5);
    c->moe.experts = 0;
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
    if (word >= 0 && GIVEN(normalise))
        c->moe.normalise = (glam_normalise)(word = find_word("normalise", s->normalise,
                                                             normalise_names));
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
    if (GIVEN(hidden))     c->hidden = s->hidden;
    if (GIVEN(experts))    c->moe.experts = s->experts;
    if (GIVEN(top_k))      c->moe.top_k = s->top_k;
    if (GIVEN(moe_every))  c->moe.every = s->moe_every;
    if (GIVEN(moe_hidden)) c->moe.hidden = s->moe_hidden;
    if (GIVEN(capacity))   c->moe.capacity_factor = (float)s->capacity;
    if (GIVEN(group))      c->moe.group = s->group;
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

// == the log: JSON lines ====================================================================

static void log_config(FILE *f, const glam_config *c)
{
    fprintf(f, ",\"config\":{\"vocab\":%d,\"context\":%d,\"layers\":%d,\"d_model\":%d,"
            "\"heads\":%d,\"d_head\":%d,\"hidden\":%d,\"position\":\"%s\",\"buckets\":%d,"
            "\"max_distance\":%d,\"attention_scale\":%s,\"attention_sink\":%s,"
            "\"attention_cap\":%s,\"activation\":\"%s\",\"norm_eps\":%s,\"tied\":%s,"
            "\"logit_scale\":%s,\"logit_cap\":%s,\"z_loss\":%s,",
            c->vocab, c->context, c->layers, c->d_model, c->heads, c->d_head,
            c->hidden, position_names[c->position], c->buckets, c->max_distance,
            short_float(c->attention_scale), c->attention_sink ? "true" : "false",
            short_float(c->attention_cap), activation_names[c->activation],
            short_float(c->norm_eps), c->tied ? "true" : "false", short_float(c->logit_scale),
            short_float(c->logit_cap), short_float(c->z_loss));
    const glam_moe_config *m = &c->moe;
    fprintf(f, "\"moe\":{\"experts\":%d,\"top_k\":%d,\"every\":%d,\"offset\":%d,\"hidden\":%d,"
            "\"activation\":\"%s\",\"normalise\":\"%s\",\"capacity_factor\":%s,"
            "\"capacity\":%d,\"group\":%d,\"aux_weight\":%s,\"router_z_weight\":%s,"
            "\"router_cap\":%s}}",
            m->experts, m->top_k, m->every, m->offset, m->hidden, activation_names[m->activation],
            normalise_names[m->normalise], short_float(m->capacity_factor), m->capacity, m->group,
            short_float(m->aux_weight), short_float(m->router_z_weight),
            short_float(m->router_cap));
}

static void log_recipe(FILE *f, const glam_recipe *r)
{
    fprintf(f, ",\"recipe\":{\"optimizer\":\"%s\",\"schedule\":\"%s\",\"lr\":%.9g,"
            "\"embed_lr\":%.9g,\"bias_lr\":%.9g,\"warmup\":%d,\"min_lr\":%.9g,\"batch\":%d,"
            "\"context\":%d,"
            "\"accumulate\":%d,\"recompute\":%d,\"update_in_backward\":%d,\"clip\":%.9g,"
            "\"weight_decay\":%.9g,\"beta1\":%.9g,\"beta2\":%.9g,\"eval_every\":%d,"
            "\"patience\":%d}", optimizer_names[r->optimizer], schedule_names[r->schedule], r->lr,
            r->embed_lr, r->bias_lr, r->warmup, r->min_lr, r->batch, r->context, r->accumulate,
            r->recompute, r->update_in_backward, r->clip, r->weight_decay, r->beta1, r->beta2,
            r->eval_every, r->patience);
}

static const char *compiler(void)
{
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "unknown";
#endif
}

// == train ==================================================================================

enum { PROMPT = 12, SAMPLE = 200,            // tokens that a sample begins with, and has
       PATIENT = 8,                          // most seconds between lines
       CHECKS = 5 };                         // validations on the way, unless told otherwise

typedef struct run {
    settings     *s;
    const char   *side;                       // of a race: "mixture" or "dense"; else NULL
    char        **paths;
    int           path_count;
    glam_ctx     *ctx;
    glam_config   config;
    glam_recipe   recipe;
    glam_plan     plan;
    glam_text    *train, *valid;              // valid NULL: nothing is held back
    glam_model   *model;
    glam_trainer *trainer;
    glam_session *session;                    // writes the samples
    FILE         *log;
    char          out[PATH], checkpoint[PATH];
    double        valid_loss;                 // of the last validation; negative: none yet
    glam_report   now;
    uint64_t     *load;                       // [layers,experts] since the last load bars
    time_t        next_line;
    int           lines, fresh;               // lines printed; steps done by this process
    int           checks;                     // validations on the way
} run;

static volatile sig_atomic_t interrupted = 0;
static int mute = 0;                          // the library's notes are not printed

static void on_signal(int number)
{
    interrupted = 1;
    signal(number, SIG_DFL);                  // the second Ctrl-C does not wait
}

static int was_interrupted(void *user)
{
    (void)user;
    return interrupted;
}

// Was the run cut short?  Ranks go by the report, which is the same on all of them.
static int was_stopped(const run *r)
{
    return ranks.size ? r->now.cancelled : interrupted;
}

static void print_note(void *user, const char *line)
{
    (void)user;
    if (!mute) fprintf(stderr, "note: %s\n", line);
}

// -- files that will be written -----------------------------------------------------------

static int exists(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f) fclose(f);
    return f != NULL;
}

// The first of stem.ext, stem-2.ext, stem-3.ext ... that is free.
static void free_name(char *out, const char *stem, const char *ext)
{
    snprintf(out, PATH, "%s%s", stem, ext);
    for (int i = 2; exists(out) && i < 10000; i++) snprintf(out, PATH, "%s-%d%s", stem, i, ext);
}

// Finds out now, not after hours of training: the file is written beside its place and renamed,
// so it is the folder that must be writable.
static int check_writable(const char *name, const char *path, int may_exist)
{
    char probe[PATH + 8];
    if (exists(path) && !may_exist)
        return complain(FAILED, "--%s %s exists already; --force overwrites it", name, path);
    FILE *f = exists(path) ? fopen(path, "r+b") : NULL;
    if (!f && exists(path)) return complain(FAILED, "--%s %s cannot be written", name, path);
    if (f) fclose(f);
    snprintf(probe, sizeof probe, "%s.probe", path);
    f = fopen(probe, "wb");
    if (!f) return complain(FAILED, "--%s %s cannot be written: is its folder there, and yours?",
                            name, path);
    fclose(f);
    remove(probe);
    return DONE;
}

// A log of before may be overwritten, a book may not.
static int may_be_log(const char *path)
{
    char start[9] = "";
    FILE *f = fopen(path, "rb");
    if (!f) return 1;
    size_t bytes = fread(start, 1, 8, f);
    fclose(f);
    return bytes == 0 || strcmp(start, "{\"event\"") == 0;
}

static int open_log(run *r)
{
    const settings *s = r->s;
    if (!GIVEN(log) || rank > 0) return DONE;
    if (!GIVEN(resume) && !s->force && !may_be_log(s->log))
        return complain(FAILED, "--log %s exists already and is no log; --force overwrites it",
                        s->log);
    r->log = fopen(s->log, GIVEN(resume) ? "a" : "w");
    return r->log ? DONE : complain(FAILED, "--log %s cannot be written", s->log);
}

static int choose_files(run *r)
{
    const settings *s = r->s;
    char stem[PATH];
    if (GIVEN(out)) snprintf(r->out, PATH, "%s", s->out);
    else free_name(r->out, "model", ".safetensors");
    if (check_writable("out", r->out, !GIVEN(out) || s->force)) return FAILED;

    snprintf(stem, PATH, "%s", r->out);                   // model.safetensors, without the end
    size_t length = strlen(stem);
    if (length > 12 && strcmp(stem + length - 12, ".safetensors") == 0) stem[length - 12] = 0;
    if (GIVEN(checkpoint)) snprintf(r->checkpoint, PATH, "%s", s->checkpoint);
    else if (GIVEN(resume)) snprintf(r->checkpoint, PATH, "%s", s->resume);
    else free_name(r->checkpoint, stem, ".checkpoint");
    int same = GIVEN(resume) || s->force || !GIVEN(checkpoint);
    if (check_writable("checkpoint", r->checkpoint, same)) return FAILED;
    if (strcmp(r->out, r->checkpoint) == 0)
        return complain(USAGE, "--out and --checkpoint are the same file");
    return open_log(r);
}

// -- texts ----------------------------------------------------------------------------------

// Opens every text and splits each on its own.  context: the tokens of a window; 0: not known.
static int open_texts(run *r, double fraction, int context)
{
    glam_text **part = (glam_text **)calloc((size_t)r->path_count * 2, sizeof *part);
    glam_text **train = part, **valid = part + r->path_count;
    size_t held = 0;
    int status = part ? DONE : complain(FAILED, "there is no memory");
    for (int i = 0; i < r->path_count && status == DONE; i++) {
        glam_text *text = glam_text_open(r->ctx, r->paths[i], NULL);
        if (fraction > 0) glam_text_split(text, (float)fraction, &train[i], &valid[i]);
        else train[i] = text;
        status = failure(r->ctx);
        if (status == DONE && glam_text_length(train[i]) <= (size_t)context)
            status = complain(FAILED, "%s: %s tokens to train on are too few for a context of %d; "
                              "a longer text or a smaller --context", r->paths[i],
                              show_commas(glam_text_length(train[i])), context);
        if (status == DONE && fraction > 0 && glam_text_length(valid[i]) > held)
            held = glam_text_length(valid[i]);
    }
    if (status == DONE && fraction > 0 && held <= (size_t)context)
        status = complain(FAILED, "%s tokens to validate on are too few for a context of %d; "
                          "--val-fraction 0 trains without validation", show_commas(held),
                          context);
    if (status == DONE) {
        int many = r->path_count > 1;
        r->train = many ? glam_mix(r->ctx, train, NULL, r->path_count) : train[0];
        if (fraction <= 0) r->valid = NULL;
        else r->valid = many ? glam_mix(r->ctx, valid, NULL, r->path_count) : valid[0];
        status = failure(r->ctx);
    }
    free(part);
    return status;
}

// The share that validates is no part of a recipe, but a checkpoint tells how many tokens did:
// the shortest decimal fraction that leaves that many is the one that was given.
static int open_texts_of_checkpoint(run *r)
{
    static char head[1 << 16];
    FILE *f = fopen(r->s->resume, "rb");
    if (!f) return complain(FAILED, "--resume %s cannot be opened", r->s->resume);
    size_t bytes = fread(head, 1, sizeof head - 1, f);
    fclose(f);
    for (size_t i = 0; i < bytes; i++) if (!head[i]) head[i] = ' ';
    head[bytes] = 0;
    const char *at = strstr(head, "valid_tokens");
    while (at && *at && (*at < '0' || *at > '9')) at++;
    double held = at ? strtod(at, NULL) : -1, total = 0;
    size_t mark = glam_mark(r->ctx);
    for (int i = 0; i < r->path_count; i++)
        total += (double)glam_text_length(glam_text_open(r->ctx, r->paths[i], NULL));
    glam_rewind(r->ctx, mark);
    if (failure(r->ctx)) return FAILED;
    double unit = 10;
    for (int digits = 1; held > 0 && digits < 7; digits++, unit *= 10) {
        double fraction = floor(held / total * unit + 0.5) / unit;
        if (fraction <= 0 || fraction >= 1) continue;
        mark = glam_mark(r->ctx);
        if (open_texts(r, fraction, 0)) return FAILED;
        if ((double)glam_text_length(r->valid) == held) return DONE;
        glam_rewind(r->ctx, mark);
    }
    return open_texts(r, held == 0 ? 0 : 0.1, 0);        // other texts: loading will say so
}

// -- before the first step ------------------------------------------------------------------

// A new model or a saved one, what is frozen of it, and its trainer.
static void make_trainer(run *r)
{
    char list[PATH];
    r->model = GIVEN(from) ? glam_load(r->ctx, r->s->from) : glam_model_new(r->ctx, &r->config);
    snprintf(list, sizeof list, "%s", GIVEN(freeze) ? r->s->freeze : "");
    for (char *word = strtok(list, ","); word; word = strtok(NULL, ","))
        glam_freeze(r->model, word, 1);
    r->trainer = glam_trainer_new(r->model, r->train, r->valid, &r->recipe);
}

static int window(const run *r)
{
    return r->recipe.context > 0 ? r->recipe.context : r->config.context;
}

// A validation is forward only: about a third of a training step, of `each` seconds, per token.
static double validation_seconds(const run *r, double each)
{
    return each / 3 * (double)glam_text_length(r->valid) / window(r) / r->recipe.batch;
}

// --minutes: runs some steps of a model that is then thrown away, so that the run itself is
// exactly the one that --steps would give.
static int steps_in(run *r, double minutes)
{
    size_t mark = glam_mark(r->ctx);
    double first = 0, last = 0, budget = minutes * 60;
    time_t begin = time(NULL);
    glam_report now;
    int steps = 0;
    if (!r->s->quiet) printf("timing a few steps ...\n");
    fflush(stdout);
    make_trainer(r);
    mute = 1;
    while (steps < 40 && glam_train_step(r->trainer, &now)) {
        last = now.seconds;
        if (++steps == 1) first = last;                   // it allocates, which the others do not
        if (steps > 2 && last > (budget < 40 ? budget / 10 : 4)) break;
    }
    mute = r->s->quiet;
    double each = steps > 1 ? (last - first) / (steps - 1) : first;
    glam_rewind(r->ctx, mark);
    r->model = NULL;
    r->trainer = NULL;
    if (failure(r->ctx) || interrupted || each <= 0) return 0;
    double one = validation_seconds(r, each);
    double left = budget - difftime(time(NULL), begin) - 1;
    double checks = floor(one > 0 ? 0.15 * left / one : 0);
    r->checks = checks > CHECKS ? CHECKS : checks < 1 ? 1 : (int)checks;
    double fit = (left - r->checks * one) / (each * 1.03);   // some for samples and checkpoints
    return fit < 1 ? 1 : fit > 1e9 ? 1000000000 : (int)fit;
}

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
    printf("%-9s %d layers, width %d, %d heads of %d, hidden %d, context %d, vocabulary %d\n",
           what, c->layers, c->d_model, c->heads, c->d_head, c->hidden, c->context, c->vocab);
    if (c->moe.experts == 0) {
        printf("          every layer is dense\n");
        return;
    }
    int mixtures = 0;
    for (int i = 0; i < c->layers; i++) mixtures += is_mixture(c, i);
    printf("          %d of them mixtures: %d experts (%s, hidden %d), top %d, ", mixtures,
           c->moe.experts, activation_names[c->moe.activation], c->moe.hidden, c->moe.top_k);
    if (c->moe.capacity > 0) printf("%d slots per expert\n", c->moe.capacity);
    else if (c->moe.capacity_factor > 0)
        printf("capacity factor %g\n", (double)c->moe.capacity_factor);
    else printf("none dropped\n");
}

// "needs 412 MB: weights 57 MB, ..."
static void show_memory(const glam_plan *p)
{
    printf("needs %s: weights %s, packed %s, gradients %s, optimiser %s, activations %s\n",
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

// What it will take, told before it is taken.
static int show_plan(run *r)
{
    if (glam_plan_for(r->ctx, &r->config, &r->recipe, &r->plan) != GLAM_OK) return failure(r->ctx);
    if (!r->s->quiet) {
        printf("memory    ");
        show_memory(&r->plan);
    }
    warn_memory(r->plan.train_bytes);
    return DONE;
}

static int threads_of(const settings *s)
{
    if (GIVEN(threads) && s->threads > 0) return s->threads;
    if (GIVEN(mesh)) return 1;
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

static void show_texts(const run *r)
{
    printf("text      %s%s: %s tokens to learn from, %s to validate\n", r->paths[0],
           r->path_count > 1 ? " and others" : "", show_commas(glam_text_length(r->train)),
           show_commas(glam_text_length(r->valid)));
}

static void show_run(const run *r)
{
    uint64_t active, all = glam_model_count(r->model, &active);
    const glam_recipe *p = &r->recipe;
    show_texts(r);
    show_model("model", &r->config);
    printf("          %s parameters, %s of them active for a token\n", show_count((double)all),
           show_count((double)active));
    printf("          %s\n", glam_trainer_summary(r->trainer));
    printf("run       %d steps of %d x %d tokens, %s, rate %g %s, seed %" PRIu64 ", %s, "
           "threads %d\n", p->steps, p->batch, window(r), optimizer_names[p->optimizer], p->lr,
           schedule_names[p->schedule], p->seed, glam_simd_name(r->ctx), threads_of(r->s));
    if (GIVEN(resume)) printf("          going on after step %d\n", glam_trainer_done(r->trainer));
    printf("saves     %s%s\n\n", r->out, GIVEN(out) ? "" : " (--out chooses another name)");
}

static void log_event(const run *r, const char *event)
{
    log_begin(r->log, event);
    if (r->side) log_string(r->log, "side", r->side);
}

static void log_start(const run *r)
{
    FILE *f = r->log;
    if (!f) return;
    uint64_t active, all = glam_model_count(r->model, &active);
    log_event(r, "start");
    log_config(f, &r->config);
    log_recipe(f, &r->recipe);
    log_int(f, "seed", r->recipe.seed);
    if (!r->side || r->s->minutes <= 0)                     // a race ends by the clock
        log_int(f, "steps", (uint64_t)r->recipe.steps);
    log_int(f, "done", (uint64_t)glam_trainer_done(r->trainer));
    if (r->s->minutes > 0) log_real(f, "minutes", r->s->minutes);
    log_int(f, "threads", (uint64_t)threads_of(r->s));
    log_string(f, "version", GLAM_VERSION);
    log_string(f, "compiler", compiler());
    log_string(f, "simd", glam_simd_name(r->ctx));
    log_int(f, "params", all);
    log_int(f, "active_params", active);
    log_real(f, "flops_per_token", r->plan.flops_forward);
    log_string(f, "trains", glam_trainer_summary(r->trainer));
    log_int(f, "train_tokens", glam_text_length(r->train));
    log_int(f, "val_tokens", glam_text_length(r->valid));
    log_end(f);
}

// -- while it works -------------------------------------------------------------------------

static void log_step(const run *r)
{
    FILE *f = r->log;
    const glam_report *n = &r->now;
    if (!f) return;
    log_event(r, "step");
    log_int(f, "step", (uint64_t)n->step);
    log_real(f, "loss", n->loss);
    log_real(f, "z_loss", n->z_loss);
    log_real(f, "aux_loss", n->aux_loss);
    log_real(f, "router_z_loss", n->router_z_loss);
    log_real(f, "total", n->total);
    log_real(f, "balance", n->balance);
    log_real(f, "entropy", n->entropy);
    log_real(f, "dropped", n->dropped);
    log_real(f, "load_min", n->load_min);
    log_real(f, "load_max", n->load_max);
    log_real(f, "grad_norm", n->grad_norm);
    log_real(f, "lr", n->lr);
    log_int(f, "tokens", n->tokens);
    log_real(f, "train_seconds", n->seconds);
    log_real(f, "tokens_per_second", n->tokens_per_second);
    log_int(f, "bytes", n->bytes);
    log_int(f, "skipped", (uint64_t)n->skipped);
    log_int(f, "torn", (uint64_t)n->torn);
    log_end(f);
}

static void log_eval(const run *r)
{
    if (!r->log) return;
    log_event(r, "eval");
    log_int(r->log, "step", (uint64_t)glam_trainer_done(r->trainer));
    log_real(r->log, "val_loss", r->valid_loss);
    log_real(r->log, "train_seconds", r->now.seconds);
    log_int(r->log, "tokens", r->now.tokens);
    log_end(r->log);
}

// Adds what each expert did in this step to the load since the last bars.
static void gather_load(run *r)
{
    int E = r->config.moe.experts;
    for (int layer = 0; r->load && layer < r->config.layers; layer++) {
        const glam_routing *g = glam_model_routing(r->model, layer);
        for (int e = 0; g && g->load && e < E; e++)
            r->load[layer * E + e] += (uint64_t)g->load[e];
    }
}

static void print_load(const run *r)
{
    int E = r->config.moe.experts;
    for (int layer = 0; r->load && layer < r->config.layers; layer++) {
        if (!is_mixture(&r->config, layer)) continue;
        printf("  layer %-2d ", layer);
        show_load(stdout, r->load + layer * E, E);
    }
}

static void tokens_to_text(const int32_t *tokens, int count, char *text)
{
    for (int i = 0; i < count; i++)
        text[i] = (char)(tokens[i] >= 0 && tokens[i] < BYTES ? tokens[i] : '?');
}

// A few tokens of the text that was held back, with letters in them; returns how many.
static int choose_prompt(const run *r, int32_t *tokens, uint64_t seed)
{
    int count = window(r) < PROMPT ? window(r) : PROMPT, letters = 0;
    for (uint64_t place = 0; place < 20 && letters < count / 2; place++) {
        glam_batch batch;
        glam_text *text = r->valid ? r->valid : r->train;
        if (glam_next_batch(text, 1, count, seed, place, &batch) != GLAM_OK) return 0;
        memcpy(tokens, batch.tokens, (size_t)count * sizeof *tokens);
        glam_forget(r->ctx);
        for (int i = letters = 0; i < count; i++) letters += isalpha(tokens[i] & 127) != 0;
    }
    return count;
}

// Writes up to SAMPLE tokens that go on with a prompt; returns how many there are with it.  It
// draws from a seed of its own, so that a run with samples has the bits of a run without.
static int write_sample(run *r, int32_t *tokens, int *prompt, uint64_t seed)
{
    glam_sampling sampling = glam_sampling_default();
    sampling.seed = seed;
    *prompt = choose_prompt(r, tokens, seed);
    glam_session_reset(r->session);
    return *prompt + glam_generate(r->session, tokens, *prompt, tokens + *prompt, SAMPLE,
                                   &sampling);
}

static void print_sample(run *r)
{
    int32_t tokens[PROMPT + SAMPLE];
    char text[PROMPT + SAMPLE];
    int prompt, count = write_sample(r, tokens, &prompt, (uint64_t)r->now.step);
    tokens_to_text(tokens, count, text);
    printf("  writes   ");
    show_line(stdout, text, prompt, 24);
    printf(" ... ");
    show_line(stdout, text + prompt, count - prompt, 54);
    printf("\n");
}

// Seconds that one step takes, over the run so far.
static double pace(const run *r)
{
    return r->fresh > 0 ? r->now.seconds / r->fresh : 0;
}

static void print_line(run *r)
{
    const glam_report *n = &r->now;
    double left = (n->steps - n->step) * pace(r);
    char valid[16] = "-";
    if (r->valid_loss >= 0) snprintf(valid, sizeof valid, "%.3f", r->valid_loss);
    int routes = r->config.moe.experts > 0;
    if (r->lines++ % 6 == 0)
        printf("   step    loss  bits/byte  valid%s  tokens/s     left\n",
               routes ? "  balance   drop   load of experts" : "");
    printf("%7d %7.3f %10.3f %6s", n->step, n->loss, n->loss / log(2.0), valid);
    if (routes) printf(" %8.2f %5.1f%%       %4.2f - %-4.2f", n->balance, 100 * n->dropped,
                       n->load_min, n->load_max);
    printf(" %9.0f %8s\n", pace(r) > 0 ? r->recipe.batch * window(r) / pace(r) : 0,
           show_time(left));
}

// A line now and then by the clock; with every sixth, what the experts do and what it writes.
static void print_progress(run *r)
{
    time_t now = time(NULL);
    if (r->s->quiet || (now < r->next_line && r->now.step < r->now.steps && r->fresh > 1)) return;
    double pause = r->now.steps * pace(r) / 30;
    pause = pause < 2 ? 2 : pause > PATIENT ? PATIENT : pause;
    r->next_line = now + (time_t)pause;
    print_line(r);
    if (r->lines % 6 == 1 && r->now.step < r->now.steps) {
        print_load(r);
        if (!ranks.size) print_sample(r);                 // on a mesh all would have to write it
        int cells = r->config.layers * r->config.moe.experts;
        if (r->load) memset(r->load, 0, (size_t)cells * sizeof *r->load);
    }
    fflush(stdout);
}

static void after_step(run *r)
{
    const glam_recipe *p = &r->recipe;
    r->fresh++;
    gather_load(r);
    log_step(r);
    if (r->valid && p->eval_every > 0 && r->now.step % p->eval_every == 0) {
        r->valid_loss = r->now.valid_loss;
        log_eval(r);
    }
    if (GIVEN(checkpoint_every) && r->s->checkpoint_every > 0 &&
        r->now.step % r->s->checkpoint_every == 0 && r->now.step < r->now.steps)
        glam_save_checkpoint(r->trainer, r->checkpoint);
    print_progress(r);
}

// -- the end --------------------------------------------------------------------------------

// A path as the shell wants to see it.
static void print_quoted(FILE *f, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "/._-+:,@%";
    if (strspn(word, plain) == strlen(word)) {
        fputs(word, f);
        return;
    }
    fputc('\'', f);
    for (; *word; word++) fputs(*word == '\'' ? "'\\''" : (char[2]){*word, 0}, f);
    fputc('\'', f);
}

// The command that goes on with this run.
static void print_resume(const run *r)
{
    printf("  %s train", program);
    for (int i = 0; i < r->path_count; i++) {
        putchar(' ');
        print_quoted(stdout, r->paths[i]);
    }
    printf(" --resume ");
    print_quoted(stdout, r->checkpoint);
    if (GIVEN(out)) {
        printf(" --out ");
        print_quoted(stdout, r->out);
    }
    if (GIVEN(checkpoint_every)) printf(" --checkpoint-every %d", r->s->checkpoint_every);
    if (GIVEN(mesh)) printf(" --mesh %s%s", r->s->mesh, r->s->mesh_store ? " --mesh-store" : "");
}

// Ctrl-C: everything is as after the last whole step, and goes into a checkpoint.
static int stop_early(run *r)
{
    int done = r->trainer ? glam_trainer_done(r->trainer) : 0;
    if (done == 0) return complain(STOPPED, "stopped before the first step; nothing is saved");
    glam_save_checkpoint(r->trainer, r->checkpoint);
    if (failure(r->ctx)) return FAILED;
    printf("\nstopped after step %d of %d; everything is in %s\nto go on:\n", done,
           r->recipe.steps, r->checkpoint);
    print_resume(r);
    printf("\nto make a model of what it has learnt so far, the same with --steps %d\n", done);
    if (r->log) {
        log_begin(r->log, "stopped");
        log_int(r->log, "step", (uint64_t)done);
        log_string(r->log, "checkpoint", r->checkpoint);
        log_end(r->log);
    }
    return STOPPED;
}

// The mixture of the last such layer in the last forward; NULL: every layer is dense.
static const glam_routing *last_routing(const glam_model *model, int *at)
{
    const glam_routing *found = NULL, *one;
    for (int layer = 0; layer < glam_model_config(model)->layers; layer++)
        if ((one = glam_model_routing(model, layer)) != NULL) found = one, *at = layer;
    return found;
}

// Runs tokens through the model as in use: no drops, no tape.
static glam_status look_at(glam_model *model, const int32_t *tokens, int count)
{
    glam_batch batch = {1, count, tokens, NULL, NULL, NULL};
    glam_ctx *ctx = glam_model_ctx(model);
    int before = glam_no_grad(ctx, 1);
    glam_forward(model, &batch, GLAM_INFER);
    glam_no_grad(ctx, before);
    return glam_error(ctx);
}

static void print_experts(glam_model *model, const int32_t *tokens, int count)
{
    char text[4096];
    int layer = 0;
    if (count > (int)sizeof text) count = (int)sizeof text;
    tokens_to_text(tokens, count, text);
    const glam_routing *g = last_routing(model, &layer);
    if (!g) {
        for (int i = 0; i < count;) i += show_raw(stdout, text + i, count - i);
        printf("\n");
        return;
    }
    printf(show_colour ? "(each letter has the colour of its first expert in layer %d)\n"
                       : "(under each letter its first expert in layer %d)\n", layer);
    show_experts(stdout, text, count, g->expert, g->top_k);
}

static void print_result(run *r)
{
    int32_t tokens[PROMPT + SAMPLE];
    double seconds = r->now.seconds;
    int prompt;
    printf("\n%d steps in %s", glam_trainer_done(r->trainer), show_time(seconds));
    if (r->valid_loss >= 0)
        printf(", validation loss %.4f nats, %.3f bits per byte", r->valid_loss,
               r->valid_loss / log(2.0));
    printf("%s\n\n", r->now.stopped ? "; stopped, as it no longer gained" : "");
    int count = write_sample(r, tokens, &prompt, 7);
    if (count > 0 && look_at(r->model, tokens, count) == GLAM_OK)
        print_experts(r->model, tokens, count);
    glam_forget(r->ctx);
    if (r->config.moe.experts > 0 && r->fresh > 0) {
        printf("\nload\n");
        print_load(r);
    }
}

static void print_next(const run *r)
{
    static const char *const rest[3][2] = {{"generate", " --prompt \"The \" --temperature 0.7"},
                                           {"route", " \"Who works on which letter?\""},
                                           {"info", ""}};
    printf("\ntry next\n");
    for (int i = 0; i < (r->config.moe.experts > 0 ? 3 : 1); i++) {
        printf("  %s %s ", program, rest[i][0]);
        print_quoted(stdout, r->out);
        printf("%s\n", rest[i][1]);
    }
    if (r->config.moe.experts > 0) return;
    printf("  %s eval ", program);                        // a dense model has no routes to look at
    print_quoted(stdout, r->out);
    printf(" %s\n  %s info ", r->paths[0], program);
    print_quoted(stdout, r->out);
    printf("\n");
}

static void log_done(const run *r)
{
    FILE *f = r->log;
    if (!f) return;
    uint64_t active, all = glam_model_count(r->model, &active);
    double tokens = (double)r->fresh * r->recipe.batch * window(r);
    log_event(r, r->side ? "result" : "done");
    log_int(f, "steps", (uint64_t)glam_trainer_done(r->trainer));
    log_int(f, "tokens", r->now.tokens);
    log_real(f, "train_seconds", r->now.seconds);
    log_real(f, "val_loss", r->valid_loss >= 0 ? r->valid_loss : NAN);
    log_real(f, "tokens_per_second", r->now.seconds > 0 ? tokens / r->now.seconds : 0);
    log_int(f, "params", all);
    log_int(f, "active_params", active);
    log_int(f, "peak_bytes", glam_memory(r->ctx).peak);
    log_end(f);
}

static int finish(run *r)
{
    int step = glam_trainer_done(r->trainer), every = r->recipe.eval_every;
    if (r->valid && (r->fresh == 0 || every == 0 || step % every != 0)) {
        double wait = validation_seconds(r, pace(r));
        if (!r->s->quiet && wait > PATIENT) {
            printf("validating on %s tokens takes about %s%s\n",
                   show_commas(glam_text_length(r->valid)), show_time(wait),
                   GIVEN(resume) ? "" : "; --val-fraction makes them fewer");
            fflush(stdout);
        }
        r->valid_loss = glam_validate(r->trainer);
        if (r->valid_loss >= 0) log_eval(r);
    }
    if (ranks.size ? r->valid && r->valid_loss < 0 : interrupted) return stop_early(r);
    glam_save(r->model, r->out);
    if (GIVEN(checkpoint) || GIVEN(checkpoint_every))
        glam_save_checkpoint(r->trainer, r->checkpoint);
    if (failure(r->ctx)) return FAILED;
    log_done(r);
    if (!r->s->quiet) print_result(r);
    printf("%ssaved %s after %d steps", r->s->quiet ? "" : "\n", r->out, step);
    if (r->valid_loss >= 0) printf(", validation loss %.4f", r->valid_loss);
    printf("\n");
    if (!r->s->quiet) print_next(r);
    return failure(r->ctx);
}

// -- from the start to the end ----------------------------------------------------------------

// Recipe, shape and texts of a new run.
static int describe(run *r)
{
    int status = make_recipe(r->s, &r->recipe);
    if (status == DONE && !GIVEN(from)) status = make_config(r->s, &r->config);
    if (status == DONE && GIVEN(from)) glam_load_config(r->ctx, r->s->from, &r->config);
    if (status == DONE) status = failure(r->ctx);
    if (status != DONE) return status;
    double fraction = GIVEN(val_fraction) ? r->s->val_fraction : 0.1;
    if (fraction >= 1) return complain(USAGE, "--val-fraction %g: less than 1 is wanted", fraction);
    return open_texts(r, fraction, window(r));
}

static int prepare_new(run *r)
{
    int status = describe(r);
    if (status == DONE) status = show_plan(r);
    if (status != DONE) return status;
    if (!r->valid) r->recipe.eval_every = r->recipe.patience = 0;
    int automatic = !GIVEN(eval_every) && r->recipe.eval_every == 0 && r->valid;
    if (GIVEN(eval_every) && r->valid) r->recipe.eval_every = r->s->eval_every;
    else if (automatic) r->recipe.eval_every = 1000000;
    if (GIVEN(minutes)) {
        int steps = steps_in(r, r->s->minutes);
        if (steps == 0) return interrupted ? stop_early(r) : FAILED;
        r->recipe.steps = steps;
        if (!r->s->quiet) printf("--minutes %g: %d steps on this machine; --steps %d repeats this "
                                 "run\n", r->s->minutes, steps, steps);
    }
    if (automatic) {
        int every = (r->recipe.steps + r->checks - 1) / r->checks;
        r->recipe.eval_every = every < 100 ? 100 : every;
    }
    make_trainer(r);
    return failure(r->ctx);
}

static int prepare_resumed(run *r)
{
    if (open_texts_of_checkpoint(r)) return FAILED;
    r->trainer = glam_load_checkpoint(r->ctx, r->s->resume, r->train, r->valid);
    if (failure(r->ctx)) return FAILED;
    if (GIVEN(steps) && r->s->steps < glam_trainer_done(r->trainer))
        return complain(FAILED, "--steps %d: the run has %d behind it already", r->s->steps,
                        glam_trainer_done(r->trainer));
    if (GIVEN(steps)) glam_trainer_steps(r->trainer, r->s->steps);
    if (failure(r->ctx)) return FAILED;
    r->model  = glam_trainer_model(r->trainer);
    r->recipe = *glam_trainer_recipe(r->trainer);
    r->config = *glam_model_config(r->model);
    return show_plan(r);
}

static int train(run *r)
{
    int status = GIVEN(resume) ? prepare_resumed(r) : prepare_new(r);
    if (status != DONE) return status;
    r->config = *glam_model_config(r->model);               // with the derived sizes filled in
    r->session = glam_session_new(r->model, PROMPT + SAMPLE);
    size_t cells = (size_t)r->config.layers * (size_t)r->config.moe.experts;
    if (cells) r->load = (uint64_t *)calloc(cells, sizeof *r->load);
    if (failure(r->ctx)) return FAILED;
    if (!r->s->quiet) show_run(r);
    log_start(r);
    fflush(stdout);
    glam_report now;
    while (glam_train_step(r->trainer, &now)) {
        r->now = now;
        after_step(r);
    }
    r->now.stopped = now.stopped;                // the last report says why there is no more
    r->now.cancelled = now.cancelled;
    if (failure(r->ctx)) return FAILED;
    return was_stopped(r) ? stop_early(r) : finish(r);
}

// A context for a run, which Ctrl-C cancels.
static int open_run(run *r, settings *s, char **words, int count)
{
    glam_options options = glam_options_default();
    r->s = s;
    r->paths = words;
    r->path_count = count;
    r->valid_loss = -1;
    r->checks = CHECKS;
    mute = s->quiet;
    if (join_ranks(s, &options)) return USAGE;
    if (GIVEN(threads)) options.threads = s->threads;
    else if (GIVEN(mesh)) options.threads = 1;
    if (GIVEN(simd)) options.simd = s->simd;
    if (GIVEN(pack)) options.pack_bytes = (size_t)(s->pack * 1048576);
    if (GIVEN(seed)) options.seed = s->seed;
    options.log = print_note;
    options.cancel = was_interrupted;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    r->ctx = glam_open(&options);
    return failure(r->ctx);
}

static int run_train(settings *s, char **words, int count)
{
    static run r;
    if (count == 0)
        return complain(USAGE, "train wants one text or more: %s train book.txt", program);
    if (check_together()) return USAGE;
    int status = open_run(&r, s, words, count);
    if (status == DONE) status = choose_files(&r);
    if (status == DONE) status = train(&r);
    if (r.log) fclose(r.log);
    free(r.load);
    abort_ranks(status);
    glam_close(r.ctx);
    leave_ranks();
    return status;
}

#include "glam_race.h"

// == generate, eval, route, info ============================================================

static int run_generate(settings *s, char **words, int count)
{
    if (count != 1) return complain(USAGE, "generate wants one model: %s generate "
                                    "model.safetensors", program);
    glam_sampling sampling = glam_sampling_default();
    if (GIVEN(temperature)) sampling.temperature = (float)s->temperature;
    if (GIVEN(pick_top_k))  sampling.top_k = s->pick_top_k;
    if (GIVEN(top_p))       sampling.top_p = (float)s->top_p;
    if (GIVEN(min_p))       sampling.min_p = (float)s->min_p;
    if (GIVEN(seed))        sampling.seed = s->seed;
    const char *prompt = GIVEN(prompt) && *s->prompt ? s->prompt : "\n";
    int most = GIVEN(tokens) ? s->tokens : 400, length = (int)strlen(prompt);

    glam_ctx *ctx = glam_open(NULL);
    glam_model *model = glam_load(ctx, words[0]);
    glam_session *session = glam_session_new(model, length + most + 1);
    int32_t *tokens = (int32_t *)malloc(((size_t)length + (size_t)most + 1) * sizeof *tokens);
    if (tokens && model) {
        glam_encode(NULL, prompt, (size_t)length, tokens, (size_t)length);
        if (GIVEN(prompt))
            for (int i = 0; i < length;) i += show_raw(stdout, prompt + i, length - i);
        const float *logits = glam_next(session, tokens, length);
        for (int i = length; logits && i < length + most; i++) {
            char byte;
            tokens[i] = glam_pick(ctx, logits, glam_model_config(model)->vocab, &sampling, tokens,
                                  i, (uint64_t)i);
            if (glam_error(ctx) != GLAM_OK) break;
            tokens_to_text(&tokens[i], 1, &byte);
            // as it comes; other than a file, a terminal is spared control characters
            if (show_colour) show_raw(stdout, &byte, 1);
            else putchar(byte);
            if (byte == '\n') fflush(stdout);
            logits = i + 1 < length + most ? glam_next(session, &tokens[i], 1) : NULL;
        }
        printf("\n");
    }
    int status = failure(ctx);
    free(tokens);
    glam_close(ctx);
    return status;
}

static int run_eval(settings *s, char **words, int count)
{
    if (count != 2) return complain(USAGE, "eval wants a model and a text: %s eval "
                                    "model.safetensors book.txt", program);
    glam_ctx *ctx = glam_open(NULL);
    glam_model *model = glam_load(ctx, words[0]);
    glam_text *text = glam_text_open(ctx, words[1], NULL), *rest = NULL;
    if (GIVEN(val_fraction) && s->val_fraction < 1)
        glam_text_split(text, (float)s->val_fraction, &rest, &text);
    if (failure(ctx)) {
        glam_close(ctx);
        return FAILED;
    }
    int context = glam_model_config(model)->context, status;
    glam_perplexity_report p;
    if (glam_text_length(text) <= (size_t)context) {
        status = complain(FAILED, "%s: %s tokens are fewer than a context of %d and the next token",
                          words[1], show_commas(glam_text_length(text)), context);
    } else {
        glam_perplexity(model, text, 0, &p);
        status = failure(ctx);
        if (status == DONE)
            printf("%s on %s%s: loss %.4f nats per token, perplexity %.3f, %.4f bits per byte, "
                   "%s tokens\n", words[0], rest ? "the last part of " : "", words[1], p.loss,
                   p.perplexity, p.bits_per_token, show_commas(p.tokens));
    }
    glam_close(ctx);
    return status;
}

// One token: what it is, then for every mixture its experts and their weights.
static void print_route(const glam_model *model, const char *text, int t)
{
    char name[8];
    show_visible((const unsigned char *)text + t, 1, name);
    printf("%5d  %-5s", t, strcmp(name, " ") == 0 ? "' '" : name);
    for (int layer = 0; layer < glam_model_config(model)->layers; layer++) {
        const glam_routing *g = glam_model_routing(model, layer);
        for (int k = 0; g && k < g->top_k; k++) {
            int e = g->expert[t * g->top_k + k];
            printf("%s", k ? " " : " | ");
            show_paint(stdout, e);
            printf("%3d", e);
            show_plain(stdout);
            printf(" %.2f", (double)g->gate[t * g->top_k + k]);
        }
    }
    printf("\n");
}

static int run_route(settings *s, char **words, int count)
{
    (void)s;
    if (count != 2) return complain(USAGE, "route wants a model and a text in quotes: %s route "
                                    "model.safetensors \"To be\"", program);
    int length = (int)strlen(words[1]);
    if (length == 0) return complain(FAILED, "route: the text is empty");
    glam_ctx *ctx = glam_open(NULL);
    glam_model *model = glam_load(ctx, words[0]);
    int32_t *tokens = (int32_t *)malloc((size_t)length * sizeof *tokens);
    int layer = 0;
    const glam_routing *g = NULL;
    if (tokens && model) {
        glam_encode(NULL, words[1], (size_t)length, tokens, (size_t)length);
        if (look_at(model, tokens, length) == GLAM_OK) g = last_routing(model, &layer);
    }
    int status = failure(ctx);
    if (status == DONE && !g)
        status = complain(FAILED, "%s: every layer is dense, so nothing is routed", words[0]);
    if (status == DONE) {
        print_experts(model, tokens, length);
        printf("\ntoken       ");
        for (layer = 0; layer < glam_model_config(model)->layers; layer++)
            if ((g = glam_model_routing(model, layer)) != NULL)
                printf(" | layer %-*d", 9 * g->top_k - 7, layer);
        printf("\n");
        for (int t = 0; t < length; t++) print_route(model, words[1], t);
    }
    free(tokens);
    glam_close(ctx);
    return status;
}

// 3.1 %, from whole numbers too large for a float
static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

static int run_info(settings *s, char **words, int count)
{
    if (count + (GIVEN(preset) ? 1 : 0) != 1)
        return complain(USAGE, "info wants a model or a preset: %s info --preset 64B/64E",
                        program);
    glam_config c = glam_config_default();
    glam_options options = glam_options_default();
    if (plan_ranks(s, &options)) return USAGE;
    glam_ctx *ctx = glam_open(NULL), *mesh = glam_open(&options);
    glam_recipe recipe = GIVEN(preset) ? glam_recipe_paper() : glam_recipe_default();
    glam_plan plan;
    int status = DONE;
    if (GIVEN(preset) && glam_config_preset(s->preset, &c) != GLAM_OK)
        status = unknown_preset(s->preset);
    if (!GIVEN(preset)) glam_load_config(ctx, words[0], &c);
    if (GIVEN(mesh)) {                                    // a part of the batch, at least, for each
        recipe.accumulate = options.mesh_x;
        recipe.batch += (options.mesh_x - recipe.batch % options.mesh_x) % options.mesh_x;
    }
    if (status == DONE) status = failure(ctx);
    if (status == DONE) glam_plan_for(mesh, &c, &recipe, &plan);
    if (status == DONE) status = failure(mesh);
    if (status == DONE) {
        int d_head = c.d_head ? c.d_head : c.d_model / c.heads;
        int hidden = c.hidden ? c.hidden : 4 * c.d_model, E = c.moe.experts;
        if (c.moe.hidden == 0) c.moe.hidden = gated(c.moe.activation) ? hidden / 2 : hidden;
        c.d_head = d_head;
        c.hidden = hidden;
        printf("%s\n", GIVEN(preset) ? s->preset : words[0]);
        printf("paper     L %d  M %d  H %d  heads %d  d_head %d  E %d\n", c.layers, c.d_model,
               hidden, c.heads, d_head, E);
        show_model("model", &c);
        printf("total     %" PRIu64 " parameters (%s)\n", plan.parameters,
               show_count((double)plan.parameters));
        printf("active    %" PRIu64 " for a token (%s, %.2f %%)\n", plan.active,
               show_count((double)plan.active), percent(plan.active, plan.parameters));
        printf("work      %s per token forward, %s training\n", show_flops(plan.flops_forward),
               show_flops(plan.flops_train));
        if (GIVEN(mesh))
            printf("mesh      %d ranks: %d share batch and experts, %d heads and widths%s; each:\n",
                   ranks.size, options.mesh_x, options.mesh_y,
                   s->mesh_store ? "; other weights split over both" : "");
        printf("to train  ");
        show_memory(&plan);
        printf("          (%s, %d x %d tokens per step)\n", optimizer_names[recipe.optimizer],
               recipe.batch, recipe.context ? recipe.context : c.context);
        printf("to run    needs %s\n", show_bytes((double)plan.run_bytes));
    }
    glam_close(mesh);
    glam_close(ctx);
    return status;
}

// == main ===================================================================================

int main(int argc, char **argv)
{
    static settings s;
    int words = 0;
    program = argc > 0 && argv[0] ? argv[0] : program;
#ifdef HAVE_UNISTD
    show_begin(isatty(1));
#else
    show_begin(0);
#endif
    if (argc < 2) return help();
    int asks = strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
               strcmp(argv[1], "-h") == 0;
    const command *c = NULL;
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(argv[asks && argc > 2 ? 2 : 1], commands[i].name) == 0) c = &commands[i];
    if (asks && argc < 3) return help();
    if (!c) return unknown_command(argv[asks ? 2 : 1]);
    if (asks) {
        help_command(c);
        return DONE;
    }
    // Options are read where they stand; all other words move to the front of argv.
    for (int i = 2, used = 1, plain = 0; i < argc; i += used) {
        used = 1;
        if (!plain && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            help_command(c);
            return DONE;
        }
        if (!plain && strcmp(argv[i], "--") == 0) plain = 1;
        else if (!plain && strncmp(argv[i], "--", 2) == 0) {
            if (read_option(c, &s, argv + i, argc - i, &used)) return USAGE;
        } else argv[words++] = argv[i];
    }
    return c->run(&s, argv, words);
}
