/* glam_run.h - a run that learns: its texts, its trainer, how it is stopped, and what it logs.
   Shared by train and race.  A part of glam.c. */

#ifndef GLAM_RUN_H
#define GLAM_RUN_H

enum { PROMPT = 12, SAMPLE = 200,            // tokens that a sample begins with, and has
       PATIENT = 8,                          // most seconds between lines
       CHECKS = 5 };                         // validations on the way, unless told otherwise

// A copy of the weights at the best validation so far.
typedef struct best_weights {
    float **copy;                             // of each tensor; NULL: none yet
    int     tensors, step, off;               // off: no copies (any more)
    int     beside;                           // the step of those beside the checkpoint
    double  loss;
} best_weights;

typedef struct run {
    settings     *s;
    const char   *side;                       // of a race: "mixture" or "dense"; else NULL
    char        **paths;
    int           path_count;
    glam_ctx     *ctx;
    glam_config   config;
    glam_recipe   recipe;
    glam_plan     plan;
    double        base_loss;                  // of validation, before adapters; -1: none
    int           still;                      // experts that --experts-by-load leaves out
    int           texts;                      // of which train is made
    glam_text    *train, *valid;              // valid NULL: nothing is held back
    glam_model   *model;
    glam_trainer *trainer;
    glam_session *session;                    // writes the samples
    logfile      *log;
    char         *out, *checkpoint;
    double        valid_loss;                 // of the last validation; negative: none yet
    best_weights  best;
    glam_report   now;
    energy        meter;
    tally         step, since;                // routing of this step; since the last load bars
    time_t        next_line;
    int           lines, fresh;               // lines printed; steps done by this process
    double        before, recent;             // seconds of earlier processes; of a step, lately
    int           missed;                     // checkpoints in a row that could not be written
    int           checks;                     // validations on the way
    int           rows, shown;                // files of rows among the texts; --show-mask is done
    const glam_tokenizer *tokens;             // NULL: bytes
    double        bytes_per_token;            // of what validates, or else of what trains
} run;

static int window(const run *r)
{
    return r->recipe.context > 0 ? r->recipe.context : r->config.context;
}

static int mute = 0;                          // the library's notes are not printed

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

static int open_log(run *r)
{
    const settings *s = r->s;
    if (!GIVEN(log) || rank > 0) return DONE;
    if (kind_of(s->log) == FOLDER)
        return complain(FAILED, "--log %s cannot be written: it is a folder", s->log);
    r->log = log_open(s->log, GIVEN(resume), s->force);
    return r->log ? DONE : FAILED;
}

static void log_event(const run *r, const char *event)
{
    log_begin(r->log, event);
    if (r->side) log_string(r->log, "side", r->side);
}

static void log_start(const run *r)
{
    logfile *f = r->log;
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
    log_string(f, "arithmetic", glam_arithmetic_name(r->ctx));
    log_int(f, "params", all);
    log_int(f, "active_params", active);
    log_real(f, "flops_per_token", r->plan.flops_forward);
    log_string(f, "energy", energy_source(&r->meter));
    log_string(f, "trains", glam_trainer_summary(r->trainer));
    log_int(f, "train_tokens", glam_text_length(r->train));
    log_int(f, "val_tokens", glam_text_length(r->valid));
    log_end(f);
}

static void log_step(const run *r)
{
    logfile *f = r->log;
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
    log_real(f, "flops", n->flops);
    log_real(f, "joules", r->meter.joules);
    log_int(f, "bytes", n->bytes);
    log_int(f, "skipped", (uint64_t)n->skipped);
    log_int(f, "torn", (uint64_t)n->torn);
    log_tally(f, &r->step);
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

// path: where the model is, NULL: nowhere (or a race, which saves none); step: of its weights.
static void log_done(const run *r, const char *path, int step)
{
    logfile *f = r->log;
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
    log_real(f, "flops", r->now.flops);
    log_real(f, "joules", r->meter.joules);
    log_int(f, "peak_bytes", glam_memory(r->ctx).peak);
    if (path) log_string(f, "saved", path);
    if (path) log_int(f, "saved_step", (uint64_t)step);
    if (r->best.step) log_real(f, "best_val_loss", r->best.loss);
    log_end(f);
}

// == texts ==================================================================================

// What the command line says of texts.
static int check_texts(const settings *s, int count)
{
    const chat_format *format;
    cutting cut;
    if (GIVEN(documents) && strcmp(s->documents, "rows") != 0 && read_cutting(s->documents, &cut))
        return USAGE;
    if (GIVEN(long_rows) && find_word("long", s->long_rows, long_ways) < 0) return USAGE;
    if (GIVEN(format) && choose_format(s, NULL, &format)) return USAGE;
    int weights = 0;
    while (GIVEN(weights) && weights < count && listed_weight(s->weights, weights) >= 0) weights++;
    if (GIVEN(weights) && (weights < count || listed_weight(s->weights, count) != NO_MORE_WEIGHTS))
        return complain(USAGE, "--weights %s: a number from 0 on is wanted for each of %d texts, with "
                        "commas between them", s->weights, count);
    return DONE;
}

// All texts as one.  A file with nothing in it is named and left out.  Those that are too short
// for a window (context; 0: not known yet) are named too: nothing is ever drawn from them.
static glam_text *open_texts(run *r, double fraction, int context)
{
    glam_text **part = (glam_text **)need((size_t)r->path_count * sizeof *part), *all = NULL;
    float *weights = (float *)need((size_t)r->path_count * sizeof *weights);
    size_t most = 0, held = 0;
    int used = 0, status = DONE, told = 0;
    r->rows = 0;
    for (int i = 0; i < r->path_count; i++) r->rows += is_rows(r->paths[i], r->s->documents);
    // without weights all rows are one text, of which an epoch has each once
    int together = r->rows == r->path_count && !GIVEN(weights);
    if (GIVEN(show_mask) && !together)
        status = complain(USAGE, "--show-mask wants files of rows alone: lines of JSON with prompt "
                          "and completion, or messages (or --documents rows)");
    for (int i = 0; i < r->path_count && status == DONE; i++) {
        if (kind_of(r->paths[i]) == FOLDER) {
            status = complain(FAILED, "%s is a folder; name the files in it, such as %s/*.txt",
                              r->paths[i], r->paths[i]);
            break;
        }
        int row = is_rows(r->paths[i], r->s->documents);
        glam_text *text = row ? open_rows(r->ctx, r->s, r->paths + i, together ? r->path_count : 1,
                                          r->tokens, window(r), &told)
                              : open_training_text(r->ctx, r->paths[i], r->tokens, r->s->documents,
                                                   &told);
        r->shown = row && GIVEN(show_mask);
        if (!text && !row && glam_error(r->ctx) == GLAM_ERR_VALUE && r->path_count > 1) {
            warn("%s is left out: %s", r->paths[i], glam_error_text(r->ctx));
            glam_clear_error(r->ctx);
            continue;
        }
        status = told ? FAILED : failure(r->ctx);
        if (status != DONE) break;
        weights[used] = (float)listed_weight(r->s->weights, i);
        if (row) {
            part[used++] = text;
            most = held = SIZE_MAX;              // its windows are what they are
            if (together) break;
            continue;
        }
        size_t length = glam_text_length(part[used++] = text);
        size_t last = (size_t)((double)length * (double)(float)fraction);
        if (length - last > most) most = length - last;
        if (last > held) held = last;
        if (length - last <= (size_t)context && r->path_count > 1)
            warn("%s: %s tokens to train on are fewer than a window of %d and the next; none is "
                 "drawn from it", r->paths[i], show_commas(length - last), context);
    }
    if (status == DONE && used == 0)
        status = complain(FAILED, "there is nothing to learn from: every text is empty");
    else if (status == DONE && most <= (size_t)context)
        status = complain(FAILED, "%s: %s tokens to train on are too few for a context of %d; "
                          "a longer text or a smaller --context", r->paths[0], show_commas(most),
                          context);
    else if (status == DONE && context && fraction > 0 && held <= (size_t)context)
        status = complain(FAILED, "%s tokens to validate on are too few for a context of %d; "
                          "--val-fraction 0 trains without validation", show_commas(held),
                          context);
    if (status == DONE) {
        all = used > 1 ? glam_mix(r->ctx, part, GIVEN(weights) ? weights : NULL, used) : part[0];
        if (failure(r->ctx)) all = NULL;
    }
    r->texts = used;
    free(part);
    free(weights);
    return all;
}

// The tokenizer of the model or checkpoint to go on from, of a file, or one learnt from what trains.
static int choose_tokens(run *r, double fraction)
{
    settings *s = r->s;
    if (GIVEN(resume) || GIVEN(from))
        r->tokens = glam_load_tokenizer(r->ctx, GIVEN(resume) ? s->resume : s->from);
    else if (GIVEN(tokenizer)) {
        r->tokens = hub_tokenizer_open(r->ctx, s->tokenizer);
        if (!GIVEN(vocab) && r->tokens) r->config.vocab = glam_tokenizer_size(r->tokens);
    } else if (GIVEN(vocab) && s->vocab > BYTES) {
        r->tokens = learn_tokens(r->ctx, r->paths, r->path_count, fraction, s->vocab,
                                 GLAM_SPLIT_GPT2, s->quiet);
        if (!r->tokens) return FAILED;
    }
    return failure(r->ctx);
}

static void count_bytes(run *r)
{ r->bytes_per_token = bytes_per_token(r->valid ? r->valid : r->train, r->tokens); }

// The last part of each text is for validation.
static int split_texts(run *r, double fraction)
{
    glam_text *all = choose_tokens(r, fraction) ? NULL : open_texts(r, fraction, window(r));
    if (!all) return FAILED;
    r->train = all;
    r->valid = NULL;
    if (fraction > 0) glam_text_split(all, (float)fraction, &r->train, &r->valid);
    if (!glam_error(r->ctx)) count_bytes(r);
    return failure(r->ctx);
}

// == before the first step ==================================================================

// Freezes what a list names: "experts, router".
static void freeze_all(glam_model *model, const char *list)
{
    while (*list) {
        size_t length = strcspn(list, ",");
        const char *word = list + strspn(list, " \t\n");
        list += length;
        size_t letters = word < list ? (size_t)(list - word) : 0;
        while (letters && strchr(" \t\n", word[letters - 1])) letters--;
        char *pattern = joined("%.*s", (int)letters, word);
        if (letters) glam_freeze(model, pattern, 1);
        free(pattern);
        list += *list == ',';
    }
}

static void adapt(run *r);                       // glam_lora.h

static void train_experts(run *r);

static glam_type narrowest(const glam_model *model)
{
    const glam_tensor *t;
    glam_type type = GLAM_TYPE_F32;
    for (int i = 0; (t = glam_model_tensor_at(model, i)) != NULL; i++) if (t->type > type) type = t->type;
    return type;
}

// A new model or a saved one, what is frozen of it, and its trainer.
static void make_trainer(run *r)
{
    r->model = GIVEN(from) ? load_model(r->ctx, r->s->from) : glam_model_new(r->ctx, &r->config);
    if (GIVEN(family) && !GIVEN(from) && r->config.logit_scale == 1) tame_embedding(r->model);
    if (!GIVEN(from) && r->model) glam_model_set_tokenizer(r->model, r->tokens);
    if (r->model && !GIVEN(lora) && narrowest(r->model))
        glam_fail(r->ctx, GLAM_ERR_STATE, "%s: its weights are narrow and stay as they are; --lora trains adapters "
                  "beside them", r->s->from);
    if (GIVEN(freeze) && r->model) freeze_all(r->model, r->s->freeze);
    if (GIVEN(lora) && r->model) adapt(r);
    else if (GIVEN(by_load) && r->model && !glam_error(r->ctx)) train_experts(r);
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
    return r->fresh > 0 ? (r->now.seconds - r->before) / r->fresh : 0;
}

// After each step: the pace of the last half minute or so, so that neither one slow step nor an
// hour of other weather decides what the time left is.
static void take_pace(run *r)
{
    double speed = r->now.tokens_per_second;
    double took = speed > 0 ? (double)r->recipe.batch * window(r) / speed : r->recent;
    if (r->fresh == 0)                                     // what earlier processes did is theirs
        r->meter.flops = r->now.flops * (1 - 1.0 / r->now.step);
    energy_take(&r->meter, r->now.flops);
    if (r->fresh++ == 0) r->before = r->now.seconds - took;
    double share = took / 30;
    if (share < 1.0 / r->fresh) share = 1.0 / r->fresh;       // the mean, at first
    r->recent += (share < 1 ? share : 1) * (took - r->recent);
}

// The trace of a run's context: training, and what is looked at between the steps.
static void run_trace(void *user, const glam_trace *trace)
{
    run *r = (run *)user;
    look_trace(NULL, trace);
    if (trace->pass != GLAM_PASS_TRAIN || looking || trace->layer < 0) return;
    // the first layer of the first part: what is there is of the step before
    if (trace->layer >= r->step.layers || !r->step.of[trace->layer]) return;
    if (trace->part == 0 && r->step.of[trace->layer]->tokens) tally_clear(&r->step);
    tally_add(&r->step, trace, NULL);
}

static void open_tallies(run *r)
{
    tally_open(&r->step, r->ctx, &r->config, 0, 0);
    tally_open(&r->since, r->ctx, &r->config, 0, 0);
}

static void close_tallies(run *r)
{
    tally_close(&r->step);
    tally_close(&r->since);
}

// What it will take, told before it is taken.
static int show_plan(run *r)
{
    if (glam_plan_for(r->ctx, &r->config, &r->recipe, &r->plan) != GLAM_OK) return failure(r->ctx);
    if (GIVEN(lora)) return DONE;                         // the model has to be there: see adapt
    if (!r->s->quiet) {
        printf("memory    ");
        show_memory(&r->plan);
    }
    warn_memory(r->plan.train_bytes);
    return DONE;
}

static void show_texts(const run *r)
{
    const char *others = r->path_count > 1 ? " and others" : "";
    const char *train = show_commas(glam_text_length(r->train));
    const char *valid = show_commas(glam_text_length(r->valid));
    size_t wide = strlen(r->paths[0]) + strlen(others) + strlen(train) + strlen(valid);
    printf("text      %s%s:%s%s tokens to learn from, %s to validate\n", r->paths[0], others,
           wide > 34 ? "\n          " : " ", train, valid);
}

// Recipe, shape and texts of a new run.
static int describe(run *r)
{
    int status = make_recipe(r->s, &r->recipe);
    if (status == DONE && !GIVEN(from)) status = make_config(r->s, &r->config);
    if (status == DONE && GIVEN(from)) glam_load_config(r->ctx, r->s->from, &r->config);
    if (status == DONE) status = failure(r->ctx);
    if (status != DONE) return status;
    return split_texts(r, GIVEN(val_fraction) ? r->s->val_fraction : 0.1);
}

// The arithmetic in which a run goes on.  What is wrong with its file the loading says.
static glam_arithmetic resumed_arithmetic(const char *path)
{
    glam_ctx *ctx = glam_open(NULL);
    glam_arithmetic found = glam_load_arithmetic(ctx, path);
    glam_close(ctx);
    return found;
}

// A context for a run, which a signal cancels.
static int open_run(run *r, settings *s, char **words, int count)
{
    glam_options options = glam_options_default();
    r->s = s;
    r->paths = words;
    r->path_count = count;
    r->valid_loss = r->base_loss = -1;
    r->checks = CHECKS;
    mute = s->quiet;
    if (join_ranks(s, &options)) return USAGE;
    set_machine(s, &options);
    if (!GIVEN(arithmetic))
        options.arithmetic = GIVEN(resume) ? resumed_arithmetic(s->resume) : GLAM_AUTO;
    if (GIVEN(mesh) && !GIVEN(threads)) options.threads = 1;
    if (GIVEN(pack)) options.pack_bytes = pack_bytes(s->pack);
    if (GIVEN(seed)) options.seed = s->seed;
    options.log = print_note;
    options.cancel = was_interrupted;
    options.trace = run_trace;
    options.trace_user = r;
    catch_signals();
    r->ctx = glam_open(&options);
    energy_open(&r->meter, GIVEN(powercap) ? s->powercap : NULL,
                GIVEN(joules_per_gflop) ? s->joules_per_gflop : ENERGY_FIGURE);
    return failure(r->ctx);
}

#endif
