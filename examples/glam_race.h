/* glam_race.h - the command race: a mixture and a dense model of the same work per token, or two
   mixtures with different routers, learn the same text in turns, in one process, and one sentence at
   the end tells who was ahead.  A part of glam.c, from which it takes the run, the log and the texts.

   Both have the same seconds of training: the learning rate ends with the number of steps, so that
   number follows from the pace.  The turns are short, and a machine that becomes busy is as slow
   for one as for the other.  The curves come from the same part of the validation text on both
   sides; the last losses from all of it. */

#ifndef GLAM_RACE_H
#define GLAM_RACE_H

enum { POINTS = 24,                           // of a curve
       CHUNKS = 8, MOST_CHUNKS = 64,          // places of the validation text for the curves
       CHUNK = 2048,                          // tokens at each
       WIDE = 60, HIGH = 12 };                // the plot
static const double TURN = 0.5;               // seconds
static const double LEVEL = 0.01;             // nats: another seed may change as much

typedef struct point {
    double   seconds, loss, joules;           // training alone
    uint64_t tokens;
} point;

typedef struct racer {
    run        r;
    settings   s;
    glam_text *sample;                        // for the curve
    point      curve[POINTS];
    int        points, due;                   // there are; the next that is due
} racer;

// How the two are called: in tables and lines, in sentences, in the plot.
typedef struct side { const char *name, *words; char mark; } side;
static const side mixture_side = {"mixture", "the mixture", 'm'};
static const side dense_side = {"dense", "the dense model", 'd'};

typedef struct race {
    racer  of[2];                             // the mixture, the dense model; or two routers
    side   as[2];
    int    routers;                           // 1: two routers
    double budget;                            // seconds of each; 0: --steps
    int    drawn, said;                       // lines of the plot on the terminal; how long
} race;

// What came out.  Shares are of the second's whole run, at the moment when the first's curve goes
// below the target for good.
typedef struct verdict {
    double target;                            // where the second's curve ends
    int    reached;
    double time_share, token_share, energy_share;   // NAN: not reached
    char   sentence[500];
} verdict;

// == before the first step ==================================================================

// The dense twin has the matrices of the experts that work, but no router: where that is more
// than 2 %, its hidden width makes up for it.
static int equal_work(race *x)
{
    run *a = &x->of[0].r, *b = &x->of[1].r;
    for (int i = 0; i < 2; i++) {
        run *r = &x->of[i].r;
        if (glam_plan_for(r->ctx, &r->config, &r->recipe, &r->plan) != GLAM_OK)
            return failure(r->ctx);
    }
    double wanted = a->plan.flops_forward, had = b->plan.flops_forward;
    if (x->routers || fabs(had / wanted - 1) <= 0.02) return DONE;
    int before = b->config.hidden;
    double one = 6.0 * b->config.d_model * b->config.layers;     // FLOPs of one more in each layer
    int hidden = before + (int)floor((wanted - had) / one + 0.5);
    b->config.hidden = hidden < 1 ? 1 : hidden;
    glam_plan_for(b->ctx, &b->config, &b->recipe, &b->plan);
    if (!a->s->quiet)
        printf("work      a token costs the mixture %s,\n"
               "          its dense twin of hidden %d %s;\n"
               "          with hidden %d the twin has %s: %.1f %% of the mixture's\n",
               show_flops(wanted), before, show_flops(had), b->config.hidden,
               show_flops(b->plan.flops_forward), 100 * b->plan.flops_forward / wanted);
    return failure(b->ctx);
}

// Tokens of the validation text from places spread evenly over it; all of it when it has no more.
// Some 31,000 for a race of two minutes, 131,000 for one of ten, whose crossing is read from
// flatter curves; evaluation takes about a tenth of the time.
static glam_text *take_sample(run *r, double budget)
{
    int length = CHUNK / window(r) < 1 ? window(r) : CHUNK / window(r) * window(r);
    int many = budget < 4 * CHUNKS ? CHUNKS : budget > 4 * MOST_CHUNKS ? MOST_CHUNKS
                                                                       : (int)(budget / 4);
    int chunks = CHUNK * many / length < 1 ? 1 : CHUNK * many / length;
    size_t all = glam_text_length(r->valid), size = (size_t)length + 1;   // and the one after
    if (all <= (size_t)chunks * size) return r->valid;
    glam_text **part = (glam_text **)calloc((size_t)chunks, sizeof *part);
    int32_t *tokens = (int32_t *)malloc(size * sizeof *tokens);
    glam_text *sample = NULL;
    for (int i = 0; part && tokens && i < chunks; i++) {
        glam_text_read(r->valid, (all - size) / (size_t)chunks * (size_t)i, size, tokens);
        part[i] = glam_text_from_tokens(r->ctx, tokens, size);
    }
    if (part && tokens) sample = glam_mix(r->ctx, part, NULL, chunks);
    free(part);
    free(tokens);
    return sample;
}

static void show_race(const race *x)
{
    const run *a = &x->of[0].r;
    const glam_recipe *p = &a->recipe;
    show_texts(a);
    for (int i = 0; i < 2; i++) show_model(x->as[i].name, &x->of[i].r.config);
    if (x->budget > 0) printf("run       %s of training each, steps", show_time(x->budget));
    else printf("run       %d steps each", p->steps);
    printf(" of %d x %d tokens,\n          %s, rate %g %s, seed %" PRIu64 ", %s, threads %d,\n"
           "          the curves from %s tokens\n\n", p->batch, window(a),
           optimizer_names[p->optimizer], p->lr, schedule_names[p->schedule], p->seed,
           glam_simd_name(a->ctx), threads_of(a->s),
           show_commas(glam_text_length(x->of[0].sample)));
}

static int prepare_race(race *x)
{
    for (int i = 0; i < 2; i++) {
        run *r = &x->of[i].r;
        int status = describe(r);
        if (status != DONE) return status;
        if (x->routers)
            r->config.moe.router = (glam_router)find_word("router", x->as[i].name, router_names);
        if (r->config.moe.experts == 0 && i == 0)
            return complain(USAGE, "--experts 0: a race wants a mixture%s",
                            x->routers ? "" : "; its dense twin is made from it");
        if (!r->valid)
            return complain(USAGE, "--val-fraction 0: a race wants a part to validate on");
        x->of[i].sample = take_sample(r, x->budget);
        if (failure(r->ctx)) return FAILED;
    }
    if (equal_work(x)) return FAILED;
    warn_memory(x->of[0].r.plan.train_bytes + x->of[1].r.plan.train_bytes);
    for (int i = 0; i < 2; i++) {
        run *r = &x->of[i].r;
        make_trainer(r);
        if (failure(r->ctx)) return FAILED;
        r->config = *glam_model_config(r->model);           // with the derived sizes filled in
        open_tallies(r);
        log_start(r);
    }
    if (!x->of[0].s.quiet) show_race(x);
    return DONE;
}

// == the plot ===============================================================================

// A curve at some moment, between its points on a straight line; NAN: before or after it, where
// `slack` seconds after it still belong to its end.
static double loss_at(const racer *p, double seconds, double slack)
{
    const point *c = p->curve;
    int last = p->points - 1;
    for (int i = 0; i < last; i++) {
        if (seconds < c[i].seconds || seconds >= c[i + 1].seconds) continue;
        double part = (seconds - c[i].seconds) / (c[i + 1].seconds - c[i].seconds);
        return c[i].loss + part * (c[i + 1].loss - c[i].loss);
    }
    int end = last >= 0 && seconds >= c[last].seconds && seconds <= c[last].seconds + slack;
    return end ? c[last].loss : NAN;
}

static void plot_cell(const race *x, const int at[2], int row, int target)
{
    int a = at[0] == row, b = at[1] == row;
    if (a && b) putchar('*');
    else if (a || b) {
        show_paint(stdout, b);
        putchar(x->as[b].mark);
        show_plain(stdout);
    } else putchar(row == target ? '.' : ' ');
}

// Loss against training time.  While it grows on a terminal, it is drawn over the last one.
static void plot(race *x, int last)
{
    double least = 1e300, most = -1e300, from = 0, to = x->budget;
    const char *end = show_colour ? "\033[K\n" : "\n";
    int at[WIDE][2], target = -1;
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < x->of[i].points; k++) {
            include(x->of[i].curve[k].loss, &least, &most);
            include(x->of[i].curve[k].seconds, &from, &to);
        }
    if (!(most > least)) return;                            // nothing to see yet
    double row = (most - least) / (HIGH - 1), column = to / (WIDE - 1);
    const racer *second = &x->of[1];
    if (last && second->points)
        target = (int)((most - second->curve[second->points - 1].loss) / row + 0.5);
    for (int i = 0; i < WIDE; i++)
        for (int k = 0; k < 2; k++) {
            double loss = loss_at(&x->of[k], i * column, column / 2);
            at[i][k] = isnan(loss) ? -1 : (int)((most - loss) / row + 0.5);
        }
    if (x->drawn) printf("\033[%dA", x->drawn);
    for (int i = 0; i < HIGH; i++) {
        printf("%8.3f |", most - i * row);
        for (int k = 0; k < WIDE; k++) plot_cell(x, at[k], i, target);
        fputs(end, stdout);
    }
    printf("         +");
    for (int k = 0; k < WIDE; k++) putchar('-');
    printf("%s          0:00%*s%s          nats by training time: %c %s, %c %s, * both", end,
           WIDE - 4, show_time(to), end, x->as[0].mark, x->as[0].name, x->as[1].mark, x->as[1].name);
    if (last) printf(",%s. %s at the end", x->routers ? "\n          " : " ", x->as[1].name);
    fputs(end, stdout);
    x->drawn = show_colour ? HIGH + 3 : 0;
    flush_output();
}

// == while it runs ==========================================================================

// The step after which point i of the curve is due: they lie closer towards the end, where the
// curves are flat and the crossing is read from them.
static int point_step(const racer *p, int i)
{
    return (int)ceil(p->r.recipe.steps * (1 - pow(1 - (i + 1) / (double)POINTS, 1.5)));
}

static double clock_now(void)
{
#ifdef HAVE_UNISTD
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) == 0)
        return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
#endif
    return (double)time(NULL);
}

// What it will take in all, once one point of a curve has shown what evaluating takes: training,
// the curves, and the whole validation part of both at the end.
static void say_length(race *x, const racer *p, double took)
{
    double training = 0, points = 0, token = took / (double)glam_text_length(p->sample);
    if (x->said || x->of[0].s.quiet) return;
    x->said = 1;
    for (int i = 0; i < 2; i++) {
        const run *r = &x->of[i].r;
        double each = r->fresh ? r->recent : p->r.recent;
        int steps = r->fresh || x->budget <= 0 ? r->recipe.steps : p->r.recipe.steps;
        training += x->budget > 0 ? x->budget : each * steps;
        points += steps < POINTS ? steps : POINTS;
    }
    double curves = points * took, whole = 2 * token * (double)glam_text_length(p->r.valid);
    printf("takes     about %s in all: training %s, the points of the curves %s,\n"
           "          the whole validation part at the end %s\n\n",
           show_time(training + curves + whole), show_time(training), show_time(curves),
           show_time(whole));
}

static void add_point(race *x, racer *p)
{
    run *r = &p->r;
    glam_perplexity_report q;
    double begin = clock_now();
    glam_perplexity(r->model, p->sample, window(r), &q);
    if (interrupted || glam_error(r->ctx) != GLAM_OK) return;
    say_length(x, p, clock_now() - begin);
    while (p->due < POINTS && r->now.step >= point_step(p, p->due)) p->due++;
    point now = {r->now.seconds, q.loss, r->meter.joules, r->now.tokens};
    p->curve[p->points++] = now;
    r->valid_loss = q.loss;
    log_eval(r);
    if (r->s->quiet) return;
    if (show_colour) plot(x, 0);
    else printf("%-*s %8.1f s  step %6d  %12s tokens  loss %.4f\n", x->routers ? 13 : 8, r->side,
                now.seconds, r->now.step, show_commas(now.tokens), now.loss);
    flush_output();
}

// The steps that the time has room for, at the pace so far: the rate falls by the clock, and a
// machine that becomes slower leaves fewer steps and the same seconds.
static void fix_steps(const race *x, run *r)
{
    if (x->budget <= 0) return;
    double fit = floor(x->budget / pace(r) + 0.5);
    int done = r->now.step, steps = fit > 1e9 ? 1000000000 : (int)fit;
    r->recipe.steps = steps > done ? steps : done;
    glam_trainer_steps(r->trainer, r->recipe.steps);
}

static void take_turn(race *x, racer *p)
{
    run *r = &p->r;
    double end = r->now.seconds + TURN;
    glam_report now;
    energy_skip(&r->meter, r->now.flops);            // the other side's
    while (r->now.seconds < end && glam_train_step(r->trainer, &now)) {
        r->now = now;
        take_pace(r);
        log_step(r);
        fix_steps(x, r);
        if (r->now.step < point_step(p, p->due)) continue;
        add_point(x, p);
        energy_skip(&r->meter, r->now.flops);
    }
}

// The side that is behind, by the clock or in steps; NULL: both are done.
static racer *next_racer(race *x)
{
    racer *a = &x->of[0], *b = &x->of[1];
    int done_a = a->r.now.step >= a->r.recipe.steps, done_b = b->r.now.step >= b->r.recipe.steps;
    int behind = x->budget > 0 ? a->r.now.seconds <= b->r.now.seconds
                               : a->r.now.step <= b->r.now.step;
    if (done_a && done_b) return NULL;
    return done_b || (!done_a && behind) ? a : b;
}

static int run_turns(race *x)
{
    racer *p;
    while (!interrupted && (p = next_racer(x)) != NULL) {
        take_turn(x, p);
        if (failure(p->r.ctx)) return FAILED;
        if (pipe_closed && !p->r.log) return DONE;       // nobody will know who has won
    }
    return DONE;
}

// == the end ================================================================================

static point last_point(const racer *p)
{
    static const point none = {0, NAN, 0, 0};
    return p->points > 0 ? p->curve[p->points - 1] : none;
}

// Where the first's curve goes below the target for good.
static void find_crossing(const race *x, verdict *v)
{
    const racer *m = &x->of[0];
    point all = last_point(&x->of[1]);
    int above = m->points - 1;                              // the last point above the target
    v->target = all.loss;
    v->time_share = v->token_share = v->energy_share = NAN;
    while (above >= 0 && m->curve[above].loss <= v->target) above--;
    v->reached = above < m->points - 1;
    if (!v->reached) return;
    const point *b = &m->curve[above + 1], *a = above < 0 ? b : b - 1;   // no line to its first
    double part = a->loss > b->loss ? (a->loss - v->target) / (a->loss - b->loss) : 1;
    double tokens = (double)a->tokens + part * ((double)b->tokens - (double)a->tokens);
    v->time_share = (a->seconds + part * (b->seconds - a->seconds)) / all.seconds;
    v->token_share = tokens / (double)all.tokens;
    v->energy_share = (a->joules + part * (b->joules - a->joules)) / all.joules;
}

static void judge(const race *x, verdict *v)
{
    double a = x->of[0].r.valid_loss, b = x->of[1].r.valid_loss;
    const char *close = fabs(a - b) < LEVEL ? "; less than 0.01 nats apart: another seed may turn "
                                              "it round" : "";
    char length[40], ahead[160] = "";
    find_crossing(x, v);
    double many = x->budget > 0 ? x->budget / 60 : x->of[1].r.recipe.steps;
    snprintf(length, sizeof length, "%.9g %s%s", many, x->budget > 0 ? "minute" : "step",
             fabs(many - 1) < 1e-9 ? "" : "s");
    const char *first = x->as[0].words, *second = x->as[1].words;
    if (v->reached != (a <= b))
        snprintf(v->sentence, sizeof v->sentence, "the two ended level: %.4f (%s) against "
                 "%.4f nats on the whole validation part, the other way round on the tokens of "
                 "the curves", a, x->as[0].name, b);
    else if (v->reached)
        snprintf(v->sentence, sizeof v->sentence, "%s reached %s's final "
                 "loss in %.0f %% of its time and %.0f %% of its tokens, and ended at %.4f against "
                 "%.4f nats%s", first, second, 100 * v->time_share, 100 * v->token_share, a, b,
                 close);
    else
        snprintf(v->sentence, sizeof v->sentence, "%s did not reach %s's "
                 "final loss in %s: %.4f against %.4f nats%s%s", first, second, length, a, b, close,
                 x->routers ? "" : "; a mixture pays with more tokens");
    for (int i = 0; i < 2; i++)
        if (x->of[i].r.config.moe.experts > 0 && !ahead[0] &&
            x->of[i].r.config.moe.router == GLAM_ROUTER_EXPERT_CHOICE)
            snprintf(ahead, sizeof ahead, "; but %s looks at later tokens: its loss cannot be "
                     "compared", x->as[i].words);
    size_t end = strlen(v->sentence);
    snprintf(v->sentence + end, sizeof v->sentence - end, "%s", ahead);
}

static double speed(const run *r)
{
    return r->now.seconds > 0 ? (double)r->now.tokens / r->now.seconds : 0;
}

static void table_row(const char *what, const char *a, const char *b, const char *note)
{
    printf("%-18s %14s %14s%s%s\n", what, a, b, *note ? "   " : "", note);
}

static const char *four_digits(double loss)
{
    char *out = show_buffer();
    if (isnan(loss) || loss < 0) return "-";
    snprintf(out, 40, "%.4f", loss);
    return out;
}

// whole: the losses on all of the validation text are there.
static void show_table(const race *x, int whole)
{
    const run *a = &x->of[0].r, *b = &x->of[1].r;
    char all[40];
    snprintf(all, sizeof all, "nats, %s tokens", show_commas(glam_text_length(a->valid)));
    printf("\n");
    table_row("", x->as[0].name, x->as[1].name, "");
    if (whole) table_row("validation loss", four_digits(a->valid_loss), four_digits(b->valid_loss),
                         all);
    table_row("end of the curve", four_digits(last_point(&x->of[0]).loss),
              four_digits(last_point(&x->of[1]).loss), "nats, the curves' tokens");
    table_row("parameters", show_count((double)a->plan.parameters),
              show_count((double)b->plan.parameters), "");
    table_row("active", show_count((double)a->plan.active), show_count((double)b->plan.active),
              "for a token");
    table_row("work", show_flops(a->plan.flops_forward), show_flops(b->plan.flops_forward),
              "for a token, forward");
    table_row("steps", show_commas((uint64_t)a->now.step), show_commas((uint64_t)b->now.step), "");
    table_row("tokens", show_commas(a->now.tokens), show_commas(b->now.tokens), "");
    table_row("training time", show_time(a->now.seconds), show_time(b->now.seconds), "");
    table_row("tokens/s", show_commas((uint64_t)speed(a)), show_commas((uint64_t)speed(b)), "");
    table_row("energy", show_joules(a->meter.joules), show_joules(b->meter.joules),
              energy_words(&a->meter));
    table_row("peak memory", show_bytes((double)glam_memory(a->ctx).peak),
              show_bytes((double)glam_memory(b->ctx).peak), "with the text");
    printf("\n");
}

static void log_verdict(const race *x, const verdict *v)
{
    logfile *f = x->of[0].r.log;
    if (!f) return;
    for (int i = 0; i < 2; i++) log_done(&x->of[i].r, NULL, 0);
    log_begin(f, "done");
    log_real(f, x->routers ? "first_loss" : "mixture_loss", x->of[0].r.valid_loss);
    log_real(f, x->routers ? "second_loss" : "dense_loss", x->of[1].r.valid_loss);
    log_real(f, "target", v->target);
    log_int(f, "reached", (uint64_t)v->reached);
    log_real(f, "time_share", v->time_share);
    log_real(f, "token_share", v->token_share);
    log_real(f, "energy_share", v->energy_share);
    log_string(f, "sentence", v->sentence);
    log_end(f);
}

static int finish_race(race *x)
{
    verdict v;
    for (int i = 0; i < 2 && !interrupted; i++) {
        x->of[i].r.valid_loss = glam_validate(x->of[i].r.trainer);
        if (failure(x->of[i].r.ctx)) return FAILED;
    }
    if (interrupted) return DONE;
    judge(x, &v);
    log_verdict(x, &v);
    if (!x->of[0].s.quiet) {
        if (!show_colour) printf("\n");
        plot(x, 1);
        show_table(x, 1);
    }
    if (x->of[0].s.quiet) printf("%s\n", v.sentence);
    else print_wrapped(v.sentence, 0);
    return DONE;
}

// Ctrl-C: what is known so far.
static int stop_race(race *x)
{
    const run *a = &x->of[0].r, *b = &x->of[1].r;
    if (a->now.step + b->now.step == 0)
        return complain(stopped_status(), "stopped before the first step");
    point pa = last_point(&x->of[0]), pb = last_point(&x->of[1]);
    double common = pa.seconds < pb.seconds ? pa.seconds : pb.seconds;
    double la = loss_at(&x->of[0], common, 0), lb = loss_at(&x->of[1], common, 0);
    for (int i = 0; i < 2 && a->log; i++) {
        log_event(&x->of[i].r, "stopped");
        log_int(a->log, "step", (uint64_t)x->of[i].r.now.step);
        log_end(a->log);
    }
    if (!a->s->quiet) {
        printf("\n");
        x->drawn = 0;                                       // the terminal has a ^C in it
        plot(x, 0);
        show_table(x, 0);
    }
    printf("stopped after %d and %d steps", a->now.step, b->now.step);
    if (isnan(la) || isnan(lb)) printf(", too early to compare\n");
    else printf("; after %s each %s was at %.4f nats, %s at %.4f\n", show_time(common),
                x->as[0].words, la, x->as[1].words, lb);
    return stopped_status();
}

// Who runs: a mixture and its dense twin, or the same mixture with two routers.
static int name_sides(race *x, const settings *s)
{
    static char words[2][60];
    x->routers = GIVEN(rival);
    x->as[0] = mixture_side;
    x->as[1] = dense_side;
    for (int i = 0; i < 2; i++) {
        x->of[i].s = *s;
        x->of[i].s.dense = i && !x->routers;
        if (!x->routers) continue;
        const char *name = i ? s->rival : GIVEN(router) ? s->router : router_names[0];
        if (find_word("router", name, router_names) < 0) return USAGE;
        snprintf(words[i], sizeof words[i], "router %s", name);
        side as = {name, words[i], (char)('a' + i)};
        x->as[i] = as;
    }
    if (x->routers && strcmp(x->as[0].name, x->as[1].name) == 0)
        return complain(USAGE, "--router %s twice: a race wants two", x->as[0].name);
    return DONE;
}

static int run_race(settings *s, char **words, int count)
{
    static race x;
    int status = DONE;
    if (count == 0)
        return complain(USAGE, "race wants one text or more: %s race book.txt", program);
    if (check_texts(s, count)) return USAGE;
    if (GIVEN(minutes) && s->minutes <= 0)
        return complain(USAGE, "--minutes 0: a race takes some time");
    if (!GIVEN(steps) && !GIVEN(minutes)) s->minutes = 3;
    x.budget = 60 * s->minutes;
    if (name_sides(&x, s)) return USAGE;
    for (int i = 0; i < 2 && status == DONE; i++) {
        x.of[i].r.side = x.as[i].name;
        status = open_run(&x.of[i].r, &x.of[i].s, words, count);
    }
    for (int k = 0; GIVEN(log) && k < count && status == DONE; k++)
        if (same_file(s->log, words[k]))
            status = complain(USAGE, "--log %s is the text to learn from; it would be overwritten",
                              s->log);
    if (status == DONE) status = open_log(&x.of[0].r);
    x.of[1].r.log = x.of[0].r.log;
    if (status == DONE) status = prepare_race(&x);
    if (status == DONE) status = run_turns(&x);
    int unread = pipe_closed && !x.of[0].r.log;
    if (status == DONE && !interrupted && !unread) status = finish_race(&x);
    if (interrupted) status = stop_race(&x);
    if (!log_close(x.of[0].r.log) && status == DONE) status = FAILED;
    for (int i = 0; i < 2; i++) {
        close_tallies(&x.of[i].r);
        glam_close(x.of[i].r.ctx);
    }
    return status;
}

#endif
