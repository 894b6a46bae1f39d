/* glam_run.h - a run that learns: its texts, its trainer, how it is stopped, and what it logs.
   Shared by train and race.  A part of glam.c. */

#ifndef GLAM_RUN_H
#define GLAM_RUN_H

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

static int window(const run *r)
{
    return r->recipe.context > 0 ? r->recipe.context : r->config.context;
}

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

// == the log of a run ======================================================================

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

// == texts ==================================================================================

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

// == before the first step ==================================================================

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

// A validation is forward only: about a third of a training step, of `each` seconds, per token.
static double validation_seconds(const run *r, double each)
{
    return each / 3 * (double)glam_text_length(r->valid) / window(r) / r->recipe.batch;
}

// Seconds that one step takes, over the run so far.
static double pace(const run *r)
{
    return r->fresh > 0 ? r->now.seconds / r->fresh : 0;
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

static void show_texts(const run *r)
{
    printf("text      %s%s: %s tokens to learn from, %s to validate\n", r->paths[0],
           r->path_count > 1 ? " and others" : "", show_commas(glam_text_length(r->train)),
           show_commas(glam_text_length(r->valid)));
}

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

#endif
