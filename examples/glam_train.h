/* glam_train.h - the command train.  A part of glam.c. */

#ifndef GLAM_TRAIN_H
#define GLAM_TRAIN_H

// == files and plan =========================================================================

// One file under two names would be written over by the other.
static int check_different(const run *r)
{
    const settings *s = r->s;
    char *best = r->checkpoint ? beside(r->checkpoint) : NULL;
    struct { const char *name, *path; } f[6] = {{"out", r->out}, {"checkpoint", r->checkpoint},
        {"checkpoint (with .best)", best}, {"log", s->log},              // these are written
        {"from", s->from}, {"resume", s->resume}};
    int status = DONE;
    for (int i = 0; i < 4 && rank <= 0; i++)
        for (int k = i + 1; k < 6 && status == DONE; k++) {
            if (!f[i].path || !f[k].path || !same_file(f[i].path, f[k].path)) continue;
            if (i == 1 && k == 5) continue;              // a checkpoint goes on in its file
            if (i == 0 && k == 4 && s->force) continue;  // it is read whole before it is replaced
            status = complain(USAGE, "--%s and --%s are the same file: %s%s", f[i].name, f[k].name,
                              f[i].path, i == 0 && k == 4 ? "; --force replaces the model that "
                              "the run begins with" : "");
        }
    for (int i = 0; i < 4 && rank <= 0; i++)
        for (int k = 0; k < r->path_count && status == DONE; k++)
            if (f[i].path && same_file(f[i].path, r->paths[k]))
                status = complain(USAGE, "--%s %s is the text to learn from; it would be "
                                  "overwritten", f[i].name, f[i].path);
    if (status == DONE && GIVEN(checkpoint) && !GIVEN(resume) && !s->force && rank <= 0 &&
        kind_of(best) != NOTHING)
        status = complain(FAILED, "%s, beside --checkpoint, exists already; --force overwrites it",
                          best);
    free(best);
    return status;
}

// The names that were given, or names that are free; each is this run's own from now on.
static int choose_files(run *r)
{
    const settings *s = r->s;
    int refused = 0;
    r->out = GIVEN(out) ? joined("%s", s->out) : NULL;
    r->checkpoint = GIVEN(checkpoint) ? joined("%s", s->checkpoint)
                  : GIVEN(resume) ? joined("%s", s->resume) : NULL;
    int status = check_different(r);                     // before anything is made
    if (status != DONE) return status;
    if (!r->out) r->out = free_name(GIVEN(lora) ? "adapter" : "model", ".safetensors", &refused);
    else if (check_writable("out", r->out, s->force)) return FAILED;
    if (refused)
        return complain(FAILED, "%s cannot be written: %s; --out chooses another place", r->out,
                        strerror(errno));
    if (!r->checkpoint) {
        char *stem = stem_of(r->out);
        r->checkpoint = free_name(stem, ".checkpoint", &refused);
        free(stem);
    } else if ((GIVEN(checkpoint) && same_thing(r->checkpoint, r->out) != 1) ||
               kind_of(r->checkpoint) == PLAIN) {        // loading says what is wrong with another
        if (check_writable("checkpoint", r->checkpoint, GIVEN(resume) || s->force)) return FAILED;
    }
    if (refused)
        return complain(FAILED, "%s cannot be written: %s; --checkpoint chooses another place",
                        r->checkpoint, strerror(errno));
    status = check_different(r);                         // links to what is there now
    return status != DONE ? status : open_log(r);
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

// What trains; where something is frozen, to the last parameter: 2 thousand of 2 million are no 0.1
// million.
static void show_trained(const run *r)
{
    uint64_t all = 0, trained = 0;
    const glam_tensor *t;
    for (int i = 0; (t = glam_model_tensor_at(r->model, i)) != NULL; i++) {
        all += glam_size(t);
        if (t->wants_grad) trained += glam_size(t);
    }
    if (count_adapters(r->model)) {
        show_lora(r);
        return;
    }
    const char *summary = glam_trainer_summary(r->trainer), *parts = strchr(summary, ':');
    if (trained == all || ranks.size) {
        printf("          %s\n", summary);
        return;
    }
    printf("          trains %s of %s parameters (%.*f %%); %s are frozen\n", show_commas(trained),
           show_commas(all), trained * 1000 > all * 999 ? 4 : 2,
           100.0 * (double)trained / (double)all, show_commas(all - trained));
    if (parts) printf("          of%s\n", parts + 1);
}

static void show_run(const run *r)
{
    uint64_t active, all = glam_model_count(r->model, &active);
    const glam_recipe *p = &r->recipe;
    show_texts(r);
    if (r->rows && r->rows == r->path_count) {
        uint64_t learnt, held;
        size_t windows = glam_text_windows(r->train, window(r), &learnt);
        glam_text_windows(r->valid, window(r), &held);
        printf("          packed into %s windows; %s tokens are learnt, %s validate\n",
               show_commas(windows), show_commas(learnt), show_commas(held));
    }
    show_model("model", &r->config);
    printf("          %s parameters, %s of them active for a token\n", show_count((double)all),
           show_count((double)active));
    show_trained(r);
    printf("run       %d steps of %d x %d tokens, %s, rate %g %s,\n"
           "          seed %" PRIu64 ", %s, %s, threads %d\n", p->steps, p->batch, window(r),
           optimizer_names[p->optimizer], p->lr, schedule_names[p->schedule], p->seed,
           glam_simd_name(r->ctx), glam_arithmetic_name(r->ctx), threads_of(r->s));
    if (GIVEN(resume)) printf("          going on after step %d\n", glam_trainer_done(r->trainer));
    printf("saves     %s%s\n", r->out, GIVEN(out) ? "" : " (--out chooses another name)");
    printf("          %s\n\n", !r->valid ? "the last weights: nothing validates"
           : keeps_best(r) ? "the weights of the best validation (--keep last: the last)"
           : "the last weights");
}

// == while it works =========================================================================

// The least and the most first choices that any expert of any layer had in this step, over an even
// share.
static void step_spread(const run *r, double *least, double *most)
{
    *least = 1e300;
    *most = 0;
    for (int layer = 0; layer < r->step.layers; layer++) {
        const glam_routing_stats *s = tally_finish(&r->step, layer);
        if (!s) continue;
        if (s->emptiest < *least) *least = s->emptiest;
        if (s->fullest > *most) *most = s->fullest;
    }
}

// A few tokens of the text that was held back, with letters in them; returns how many.
static int choose_prompt(const run *r, int32_t *tokens, uint64_t seed)
{
    int count = window(r) < PROMPT ? window(r) : PROMPT, letters = 0;
    for (uint64_t place = 0; place < 20 && letters < count / 2; place++) {
        glam_batch batch;
        glam_text *text = r->valid ? r->valid : r->train;
        int from = 0, length = r->rows ? window(r) : count;
        if (glam_next_batch(text, 1, length, seed, place, &batch) != GLAM_OK) return 0;
        while (r->rows && from + count < length && batch.targets[from + count - 1] < 0) from++;
        memcpy(tokens, batch.tokens + from, (size_t)count * sizeof *tokens);
        glam_forget(r->ctx);
        for (int i = letters = 0; i < count; i++)
            letters += r->tokens || isalpha(tokens[i] & 127) != 0;
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
    if (!r->session) return *prompt;                      // see writes()
    glam_session_reset(r->session);
    return *prompt + glam_generate(r->session, tokens, *prompt, tokens + *prompt, SAMPLE,
                                   &sampling);
}

static void print_sample(run *r)
{
    int32_t tokens[PROMPT + SAMPLE];
    int prompt, before, bytes, count = write_sample(r, tokens, &prompt, (uint64_t)r->now.step);
    char *begun = tokens_text(r->tokens, tokens, prompt, &before);
    char *text = tokens_text(r->tokens, tokens + prompt, count - prompt, &bytes);
    printf("  writes   ");
    show_line(stdout, begun, before, 24);
    printf(" ... ");
    show_line(stdout, text, bytes, 39);
    printf("\n");
    free(begun);
    free(text);
}

// Steps and validations to come: half at the pace of late, half at that of the run so far, so that
// a busy moment does not swing it.
static double seconds_left(const run *r)
{
    const glam_report *n = &r->now;
    int every = r->recipe.eval_every, checks = r->valid != NULL;
    if (r->valid && every > 0) checks = (n->steps + every - 1) / every - n->step / every;
    double each = (r->recent + pace(r)) / 2;
    return (n->steps - n->step) * each + checks * validation_seconds(r, each);
}

static void print_line(run *r)
{
    const glam_report *n = &r->now;
    double left = seconds_left(r);
    char valid[16] = "-";
    if (r->valid_loss >= 0) snprintf(valid, sizeof valid, "%.3f", r->valid_loss);
    int routes = r->config.moe.experts > 0;
    if (r->lines++ % 6 == 0)
        printf("  step    loss bits/byte  valid%s tokens/s    left\n",
               routes ? " balance   drop first choices" : "");
    printf("%6d %7.3f %9.3f %6s", n->step, n->loss, n->loss / log(2.0) / r->bytes_per_token,
           valid);
    double least, most;
    step_spread(r, &least, &most);
    if (routes) printf(" %7.2f %5.1f%%   %4.2f - %-5.2f", n->balance, 100 * n->dropped, least,
                       most);
    printf(" %8.0f %7s\n", r->recent > 0 ? r->recipe.batch * window(r) / r->recent : 0,
           r->fresh > 1 || n->step == n->steps ? show_time(left) : "-");   // the first allocates
}

static void print_legend(void)
{
    fputs(bar_legend, stdout);
    if (ranks.size) printf("  (of the first rank's tokens)\n");
}

// A line now and then by the clock; with every sixth, what the experts do and what it writes.
static void print_progress(run *r)
{
    time_t now = time(NULL);
    if (r->s->quiet || (now < r->next_line && r->now.step < r->now.steps && r->fresh > 1)) return;
    double pause = r->now.steps * r->recent / 30;
    pause = pause < 2 ? 2 : pause > PATIENT ? PATIENT : pause;
    r->next_line = now + (time_t)pause;
    print_line(r);
    if (r->lines % 6 == 1 && r->now.step < r->now.steps) {
        if (r->lines == 1 && r->config.moe.experts > 0) print_legend();
        print_bars(&r->since);
        if (!ranks.size && r->session) print_sample(r);   // on a mesh all would have to write
        tally_clear(&r->since);
    }
    flush_output();
}

static void after_step(run *r)
{
    const glam_recipe *p = &r->recipe;
    take_pace(r);
    tally_join(&r->since, &r->step);
    log_step(r);
    if (r->valid && p->eval_every > 0 && r->now.step % p->eval_every == 0) {
        r->valid_loss = r->now.valid_loss;
        log_eval(r);
        keep_best(r, r->now.step, r->now.step >= r->now.steps);
    }
    if (GIVEN(checkpoint_every) && r->s->checkpoint_every > 0 &&
        r->now.step % r->s->checkpoint_every == 0 && r->now.step < r->now.steps)
        save_on_the_way(r);
    print_progress(r);
}

// == the end ================================================================================

// The command that goes on with this run from a checkpoint.  apart: --out has something of this
// run that would be overwritten.
static void print_resume(const run *r, const char *checkpoint, int apart)
{
    printf("  ");
    print_quoted(stdout, program);
    printf(" train");
    for (int i = 0; i < r->path_count; i++) {
        putchar(' ');
        print_path(stdout, r->paths[i]);
    }
    printf(" --resume ");
    print_path(stdout, checkpoint);
    if (GIVEN(out) && !apart) {
        printf(" --out ");
        print_path(stdout, r->out);
    }
    if (GIVEN(log)) {
        printf(" --log ");
        print_path(stdout, r->s->log);
    }
    if (GIVEN(documents)) printf(" --documents %s", r->s->documents);
    if (GIVEN(weights)) printf(" --weights %s", r->s->weights);
    if (GIVEN(long_rows)) printf(" --long %s", r->s->long_rows);
    if (GIVEN(format)) printf(" --format %s", r->s->format);
    if (GIVEN(keep)) printf(" --keep %s", r->s->keep);
    if (GIVEN(threads)) printf(" --threads %d", r->s->threads);
    if (GIVEN(checkpoint_every)) printf(" --checkpoint-every %d", r->s->checkpoint_every);
    if (GIVEN(mesh)) printf(" --mesh %s%s", r->s->mesh, r->s->mesh_store ? " --mesh-store" : "");
}

// The best weights, when they are not the last, go into --out.  Where they are; NULL: they are
// the last, or there are none.
static char *save_best(run *r)
{
    if (!r->best.copy) return NULL;
    swap_best(r);
    char *path = save_somewhere(r, MODEL, r->out);
    swap_best(r);
    return path;
}

// A signal: everything is as after the last whole step, and goes into a checkpoint.
static int stop_early(run *r)
{
    int done = r->trainer ? glam_trainer_done(r->trainer) : 0;
    if (done == 0)
        return complain(stopped_status(), "stopped before the first step; nothing is saved");
    char *path = save_somewhere(r, CHECKPOINT, r->checkpoint), *best = save_best(r);
    if (best)
        printf("\nthe best weights, after step %d with validation loss %.4f, are in %s\n",
               r->best.step, r->best.loss, best);
    if (path) {
        printf("\nstopped after step %d of %d; everything is in %s\nto go on:\n", done,
               r->recipe.steps, path);
        print_resume(r, path, best != NULL);
        printf("\nto make a model of what it has learnt so far, the same with --steps %d\n", done);
    }
    if (r->log && path) {
        log_begin(r->log, "stopped");
        log_int(r->log, "step", (uint64_t)done);
        log_string(r->log, "checkpoint", path);
        log_end(r->log);
    }
    int status = path ? stopped_status()
               : complain(FAILED, "stopped after step %d; the checkpoint could not be written "
                          "anywhere", done);
    free(path);
    free(best);
    return status;
}

// The run has failed on the way.  What it has learnt is saved all the same: the best weights, or
// the last, and the words say where.
static int rescue(run *r)
{
    int step = r->trainer ? glam_trainer_done(r->trainer) : 0, best = r->best.copy != NULL;
    glam_status error = glam_error(r->ctx);
    failure(r->ctx);
    if (step == 0 || r->fresh == 0 || ranks.size || error == GLAM_ERR_COMM) return FAILED;
    glam_clear_error(r->ctx);
    if (best) swap_best(r);
    if (!are_finite(r))
        return complain(FAILED, "the weights after step %d are not finite either, so they are not "
                        "saved", step);
    char *path = save_somewhere(r, MODEL, r->out);
    if (!path) return complain(FAILED, "the weights could not be saved anywhere");
    if (best) complain(FAILED, "the weights of the best validation, %.4f after step %d, are saved "
                       "in %s", r->best.loss, r->best.step, path);
    else complain(FAILED, "the weights after step %d are saved in %s", step, path);
    if (GIVEN(checkpoint_every) && !is_empty(r->checkpoint) && kind_of(r->checkpoint) == PLAIN)
        complain(FAILED, "%s is as the run last wrote it", r->checkpoint);
    free(path);
    return FAILED;
}

// How often each text has been seen, where there are few or they have weights.
static void print_epochs(const run *r)
{
    int named = r->texts == r->path_count, done = glam_trainer_done(r->trainer);
    if (r->texts < 2 || (r->texts > 8 && !GIVEN(weights))) return;
    double *epochs = (double *)need((size_t)r->texts * sizeof *epochs);
    if (glam_mix_epochs(r->train, r->recipe.batch, window(r), r->recipe.seed, 0, (uint64_t)done,
                        epochs, r->texts) == GLAM_OK) {
        printf("epochs: ");
        for (int i = 0; i < r->texts; i++)
            printf("%s%s %.3g", i ? ", " : "", named ? r->paths[i] : "text", epochs[i]);
        printf("\n\n");
    }
    free(epochs);
}

static void print_result(run *r)
{
    int32_t tokens[PROMPT + SAMPLE];
    double seconds = r->now.seconds;
    int prompt;
    printf("\n%d steps in %s", glam_trainer_done(r->trainer), show_time(seconds));
    if (r->valid_loss >= 0)
        printf(", validation loss %.4f nats, %.3f bits per byte", r->valid_loss,
               r->valid_loss / log(2.0) / r->bytes_per_token);
    if (r->fresh > 0)
        printf(",\n%s (%s)", show_joules(r->meter.joules), energy_words(&r->meter));
    printf("%s\n\n", r->now.stopped ? "; stopped, as it no longer gained" : "");
    if (r->base_loss >= 0 && r->valid_loss >= 0)
        printf("adapters  validation loss %.4f before and %.4f after\n", r->base_loss, r->valid_loss);
    print_drift(r);
    print_epochs(r);
    int count = write_sample(r, tokens, &prompt, 7);
    if (count > 0) print_look(r->model, tokens, count);
    glam_forget(r->ctx);
    if (r->config.moe.experts > 0 && r->fresh > 0) {
        printf("\nfirst choices of the last steps\n");
        print_bars(&r->since);
    }
}

// "  ./glam route model.safetensors", without the end of the line
static void print_command(const char *verb, const char *path)
{
    printf("  ");
    print_quoted(stdout, program);
    printf(" %s ", verb);
    print_path(stdout, path);
}

static void print_next(const run *r, const char *path)
{
    static const char *const rest[2][2] = {{"generate", " --prompt \"The \" --temperature 0.7"},
                                           {"route", " \"Who works on which letter?\""}};
    printf("\ntry next\n");
    if (count_adapters(r->model)) {
        const char *base = GIVEN(from) ? r->s->from : "MODEL";
        static const char *const with[2][3] = {{"generate", "--adapter ", ""},
                                               {"merge", "", " --out merged.safetensors"}};
        for (int i = 0; i < 2; i++) {
            printf("  ");
            print_quoted(stdout, program);
            printf(" %s ", with[i][0]);
            print_path(stdout, base);
            printf(" %s", with[i][1]);
            print_path(stdout, path);
            printf("%s\n", with[i][2]);
        }
        return;
    }
    int mixture = r->config.moe.experts > 0;
    for (int i = 0; i < (mixture ? 2 : 1); i++) {
        print_command(rest[i][0], path);
        printf("%s\n", rest[i][1]);
    }
    if (!mixture || !r->rows) {                           // a dense model has no routes to look at
        print_command(mixture ? "report" : "eval", path);
        putchar(' ');
        print_path(stdout, r->paths[0]);
        if (mixture && GIVEN(log)) {
            printf(" --log ");
            print_path(stdout, r->s->log);
        }
        putchar('\n');
        if (mixture) return;
    }
    print_command("info", path);
    putchar('\n');
}

// What was saved where, with both losses where the best weights are not the last.
static void print_saved(const run *r, const char *path, double last, int swapped)
{
    int step = glam_trainer_done(r->trainer);
    const best_weights *b = &r->best;
    printf("%ssaved %s after %d steps", r->s->quiet ? "" : "\n", path, step);
    if (swapped)
        printf(": the weights of the best validation, %.4f after step %d (the last have %.4f; "
               "--keep last saves those)", b->loss, b->step, last);
    else if (last >= 0) printf(", validation loss %.4f", last);
    if (!swapped && b->step && b->step < step && b->loss < last)
        printf(" (it was best after step %d, %.4f%s)", b->step, b->loss,
               keeps_best(r) || ranks.size ? "" : "; --keep best saves those weights");
    printf("\n");
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
    if (glam_error(r->ctx) != GLAM_OK) return rescue(r);
    if (r->valid && r->valid_loss >= 0) keep_best(r, step, 1);
    double last = r->valid_loss;
    int swapped = r->best.copy != NULL, status = DONE;
    char *checkpoint = NULL;
    if (GIVEN(checkpoint) || GIVEN(checkpoint_every)) {
        checkpoint = save_somewhere(r, CHECKPOINT, r->checkpoint);
        if (!checkpoint) status = FAILED;
    }
    if (swapped) swap_best(r);
    char *path = save_somewhere(r, MODEL, r->out);
    log_done(r, path, swapped ? r->best.step : step);
    if (!r->s->quiet) print_result(r);
    if (path) print_saved(r, path, last, swapped);
    if (path && !r->s->quiet) print_next(r, path);
    flush_output();
    if (path && strcmp(path, r->out) != 0)
        status = complain(FAILED, "%s could not be written; the model is in %s", r->out, path);
    if (!path && checkpoint)
        status = complain(FAILED, "the model could not be written anywhere; everything is in the "
                          "checkpoint %s", checkpoint);
    else if (!path) status = complain(FAILED, "the model could not be written anywhere");
    if (checkpoint && strcmp(checkpoint, r->checkpoint) != 0)
        status = complain(FAILED, "%s could not be written; the checkpoint is in %s",
                          r->checkpoint, checkpoint);
    free(path);
    free(checkpoint);
    return failure(r->ctx) ? FAILED : status;
}

// == from the start to the end ==============================================================

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
    int rows = 0;
    for (int i = 0; i < r->path_count; i++) rows += is_rows(r->paths[i], r->s->documents);
    if (rows) glam_load_recipe(r->ctx, r->s->resume, &r->recipe);    // packed for its context
    glam_text *all = choose_tokens(r, 0) ? NULL : open_texts(r, 0, 0);
    if (!all) return FAILED;
    glam_load_split(all, r->s->resume, &r->train, &r->valid);
    if (!glam_error(r->ctx)) count_bytes(r);
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
    load_beside(r);
    return show_plan(r);
}

// Experts that choose look at tokens that are not written yet.
static int writes(const glam_config *c)
{
    return c->moe.experts == 0 || c->moe.router != GLAM_ROUTER_EXPERT_CHOICE;
}

static int train(run *r)
{
    int status = GIVEN(resume) ? prepare_resumed(r) : prepare_new(r);
    if (status != DONE) return r->shown ? DONE : status;
    r->config = *glam_model_config(r->model);               // with the derived sizes filled in
    if (writes(&r->config)) r->session = glam_session_new(r->model, PROMPT + SAMPLE);
    open_tallies(r);
    if (failure(r->ctx)) return FAILED;
    if (!r->s->quiet) show_run(r);
    log_start(r);
    flush_output();
    if (GIVEN(lora) && r->valid) r->base_loss = glam_validate(r->trainer);
    glam_report now;
    while (glam_train_step(r->trainer, &now)) {
        r->now = now;
        after_step(r);
    }
    r->now.stopped = now.stopped;                // the last report says why there is no more
    r->now.cancelled = now.cancelled;
    if (glam_error(r->ctx) != GLAM_OK) return rescue(r);
    return was_stopped(r) ? stop_early(r) : finish(r);
}

static int run_train(settings *s, char **words, int count)
{
    static run r;
    if (count == 0)
        return complain(USAGE, "train wants one text or more: %s train book.txt", program);
    if (GIVEN(keep) && find_word("keep", s->keep, keep_names) < 0) return USAGE;
    if (check_texts(s, count) || check_lora(s)) return USAGE;
    int status = open_run(&r, s, words, count);
    if (status == DONE) status = choose_files(&r);
    if (status == DONE) status = train(&r);
    if (!log_close(r.log) && status == DONE) status = FAILED;
    forget_best(&r.best);
    end_reservations();
    close_tallies(&r);
    free(r.out);
    free(r.checkpoint);
    abort_ranks(status);
    glam_close(r.ctx);
    leave_ranks();
    return status;
}

#endif
