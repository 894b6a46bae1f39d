/* glam_plan.h - the command plan: what a model costs on a machine before one has either.
   Parameters, FLOPs, memory and bytes that are sent are the library's own counts; time and energy
   come from the table and the formulas of glam_device.h.  A part of glam.c. */

#ifndef GLAM_PLAN_H
#define GLAM_PLAN_H

#include "glam_device.h"

// == tables =================================================================================

static void show_printed(const char *what, uint64_t have, double paper)
{
    printf("%-9s %17s parameters", what, show_commas(have));
    if (paper > 0)
        printf("   paper prints %-14s %+.2f %%", show_count(paper),
               100 * ((double)have / paper - 1));
    printf("\n");
}

static int table_of_presets(void)
{
    glam_ctx *ctx = glam_open(NULL);
    printf("%-10s %20s %9s %8s %17s %9s %8s %14s\n", "preset", "parameters", "printed", "",
           "active", "printed", "", "forward");
    for (int i = 0; glam_config_preset_name(i) && glam_error(ctx) == GLAM_OK; i++) {
        const char *name = glam_config_preset_name(i);
        const printed *p = printed_row(name);
        glam_recipe recipe = glam_recipe_paper();
        glam_config c;
        glam_plan plan;
        glam_config_preset(name, &c);
        glam_plan_for(ctx, &c, &recipe, &plan);
        printf("%-10s %20s", name, show_commas(plan.parameters));
        if (p) printf(" %8.4gB %+7.2f%%", p->parameters / 1e9,
                      100 * ((double)plan.parameters / p->parameters - 1));
        else printf("%19s", "");
        printf(" %17s", show_commas(plan.active));
        if (p) printf(" %8.4gB %+7.2f%%", p->active / 1e9,
                      100 * ((double)plan.active / p->active - 1));
        else printf("%19s", "");
        printf(" %14s\n", show_flops(plan.flops_forward));
        fflush(stdout);
    }
    int status = failure(ctx);
    glam_close(ctx);
    return status;
}

static void table_of_cases(void)
{
    printf("\n%-36s %10s %19s %8s  %s\n", "published", "a step", "planned", "inside", "source");
    for (int i = 0; i < CASES; i++) {
        const published *c = &cases[i];
        estimate e = estimate_case(c);
        printf("%-36s %8.2f s %8.2f to %5.2f s ", c->name, c->step, e.low, e.high);
        if (c->step >= e.low && c->step <= e.high) printf("%8s", "yes");
        else printf("%6.2f x", c->step / sqrt(e.low * e.high));
        printf("  %s\n", c->source);
    }
    printf("energy    GLaM, 280 B tokens: 1,024 chips x 574 h x 326 W x 1.11 = %.1f MWh (printed "
           "213);\n          600 B: %.1f MWh (printed 456), %.1f %% of GPT-3's 1,287\n",
           megawatt_hours(1024, 574, 326, 1.11), megawatt_hours(1024, 574 * 600 / 280.0, 326, 1.11),
           megawatt_hours(1024, 574 * 600 / 280.0, 326, 1.11) / 12.87);
}

static void table_of_devices(void)
{
    printf("\n%-8s %14s %5s %10s %14s %14s %8s  %s\n", "device", "peak FLOP/s", "eta", "memory",
           "near", "far", "watts", "");
    for (int i = 0; i < DEVICES; i++) {
        const device *d = &devices[i];
        printf("%-8s %14.3g %5.2f %10s %12s/s %12s/s %8.0f  %s\n", d->name, d->flops, d->eta,
               show_bytes(d->memory), show_bytes(d->inside), show_bytes(d->outside), d->watts,
               d->what);
    }
}

// == devices of one's own ===================================================================

// Lines "field number"; # begins a comment.  What is not there is as in the first device.
static int read_device(const char *path, device *d)
{
    char line[256], name[64], number[64], rest[2];
    int fields = 0;
    FILE *f = kind_of(path) == FOLDER ? NULL : fopen(path, "r");
    if (!f) {
        char *all = joined("there are");
        for (int i = 0; i < DEVICES; i++) {
            char *more = joined("%s %s", all, devices[i].name);
            free(all);
            all = more;
        }
        complain(FAILED, "--device %s: neither a device nor a file that can be read; %s", path,
                 all);
        free(all);
        return FAILED;
    }
    *d = devices[0];
    d->name = name_of(path);
    d->what = "from a file";
    for (int at = 1, bad = 0; !bad && fgets(line, sizeof line, f); at++) {
        double value;
        int words = sscanf(line, " %63s %63s %1s", name, number, rest);
        if (words < 1 || name[0] == '#') continue;
        fields++;
        bad = words < 2 || (words > 2 && *rest != '#') || !read_real(number, &value);
#define DEVICE_READ(field, help) else if (strcmp(name, #field) == 0) d->field = value;
        if (bad) complain(FAILED, "%s:%d: a field and a number are wanted", path, at);
        DEVICE_ROWS(DEVICE_READ)
#undef DEVICE_READ
        else {
            complain(FAILED, "%s:%d: there is no field %s", path, at, name);
            bad = 1;
        }
        if (bad) {
            fclose(f);
            return FAILED;
        }
    }
    fclose(f);
    if (!fields)
        return complain(FAILED, "%s: there is no field of a device in it; --calibrate writes such a file",
                        path);
    if (d->flops > 0 && d->eta > 0 && d->inside > 0 && d->outside > 0 && d->all_to_all > 0)
        return DONE;
    return complain(FAILED, "%s: flops, eta, inside, outside and all_to_all must be more than 0",
                    path);
}

static int write_device(const char *path, const device *d, const char *note)
{
    outfile out;
    if (outfile_open(&out, "calibrate", path, 1)) return FAILED;
    fprintf(out.file, "# %s\n", note);
#define DEVICE_WRITE(field, help) fprintf(out.file, "%-12s %.6g   # %s\n", #field, d->field, help);
    DEVICE_ROWS(DEVICE_WRITE)
#undef DEVICE_WRITE
    return outfile_close(&out, 1);
}

// == a model as the formulas see it =========================================================

static work work_of(const glam_config *config, const glam_recipe *r)
{
    glam_config c = *config;
    work w;
    memset(&w, 0, sizeof w);
    if (c.d_head == 0 && c.heads > 0) c.d_head = c.d_model / c.heads;
    if (c.hidden == 0) c.hidden = 4 * c.d_model;
    if (c.moe.hidden == 0) c.moe.hidden = gated(c.moe.activation) ? c.hidden / 2 : c.hidden;
    w.context = r->context > 0 ? r->context : c.context;
    w.tokens = (double)r->batch * w.context;
    w.d_model = c.d_model;
    w.heads = c.heads;
    w.width = (double)c.heads * c.d_head;
    w.layers = c.layers;
    for (int i = 0; i < c.layers; i++) w.mixtures += is_mixture(&c, i);
    w.attention = (c.position == GLAM_POSITION_TRANSFORMER_XL ? 5 : 4) * w.d_model * w.width;
    w.dense = 3 * w.d_model * c.hidden;
    w.expert = (gated(c.moe.activation) ? 3 : 2) * w.d_model * c.moe.hidden;
    w.embed = (double)c.vocab * c.d_model;
    w.vocab = c.vocab;
    w.looked_up = c.tied ? 0 : w.embed;
    w.hidden = c.hidden;
    if (w.mixtures > 0) {
        w.experts = c.moe.experts;
        w.top_k = c.moe.top_k;
        w.capacity = c.moe.capacity_factor > 0 ? (double)c.moe.capacity_factor / w.top_k : 1;
        w.expert_hidden = c.moe.hidden;
    }
    w.passes = r->recompute ? 4 : 3;
    w.adamw = r->optimizer == GLAM_ADAMW;
    return w;
}

// What the formulas do not know of a layer (grouped heads, shared experts) they get from the
// library's count, so that the FLOPs of both are the same.
static void adopt_flops(work *w, double forward)
{
    work even = *w;
    even.capacity = even.capacity > 0 ? 1 : 0;
    if (w->layers > 0) w->attention += (forward - work_flops(&even) / w->passes) / (2 * w->layers);
}

// == calibration ============================================================================

// Small and wide, shallow and deep, dense and mixtures; the last ones only check.
static const struct { int layers, d_model, heads, experts, every, context, batch, check; }
    tries[] = {
    {2, 64, 4, 0, 1, 64, 8, 0},    {2, 256, 4, 0, 1, 64, 8, 0},   {6, 96, 4, 0, 1, 64, 8, 0},
    {2, 128, 8, 0, 1, 256, 4, 0},  {4, 96, 2, 8, 1, 64, 8, 0},    {2, 128, 4, 32, 1, 64, 8, 0},
    {4, 64, 4, 16, 2, 128, 4, 0},  {2, 64, 4, 0, 1, 64, 32, 0},   {2, 192, 6, 4, 1, 128, 8, 0},
    {4, 128, 4, 0, 1, 128, 8, 1},  {4, 160, 5, 16, 2, 128, 8, 1}, {6, 64, 2, 8, 1, 192, 4, 1},
    {3, 224, 7, 6, 1, 96, 4, 1} };
enum { TRIES = sizeof tries / sizeof tries[0], ROUNDS = 8 };

typedef struct trial {
    glam_ctx     *ctx;
    glam_trainer *trainer;
    work          w;
    double        amount[PARTS], seconds, planned;
} trial;

static int open_trial(trial *t, int i, const glam_options *options)
{
    glam_config c = glam_config_default();
    glam_recipe r = glam_recipe_default();
    char text[4096];
    for (size_t k = 0; k < sizeof text; k++) text[k] = (char)(32 + 90 * glam_random(1, 1, k));
    c.layers = tries[i].layers;
    c.d_model = tries[i].d_model;
    c.heads = tries[i].heads;
    c.context = tries[i].context;
    c.moe.experts = tries[i].experts;
    c.moe.every = tries[i].every;
    c.moe.offset = 0;
    r.batch = tries[i].batch;
    t->ctx = glam_open(options);
    t->trainer = glam_trainer_new(glam_model_new(t->ctx, &c),
                                  glam_text_from(t->ctx, text, sizeof text, NULL), NULL, &r);
    t->w = work_of(&c, &r);
    step_parts(&t->w, t->amount);
    t->seconds = INFINITY;
    return failure(t->ctx);
}

// Non-negative factors of the parts with the least sum of squared relative errors: one factor
// after another, until none changes.
static void fit(const trial *t, double *factor)
{
    for (int i = 0; i < PARTS; i++) factor[i] = 0;
    for (int pass = 0; pass < 20000; pass++)
        for (int i = 0; i < PARTS; i++) {
            double above = 0, below = 0;
            for (int k = 0; k < TRIES; k++) {
                double rest = 1, x = t[k].amount[i] / t[k].seconds;
                if (tries[k].check) continue;
                for (int j = 0; j < PARTS; j++)
                    if (j != i) rest -= factor[j] * t[k].amount[j] / t[k].seconds;
                above += x * rest;
                below += x * x;
            }
            factor[i] = below > 0 && above > 0 ? above / below : 0;
        }
}

// The best step of each, in turns, so that a moment in which the machine was busy hits all.  One
// thread is timed by what it used of its core, several by the clock.
static int time_trials(trial *t, const glam_options *options, int alone)
{
    for (int i = 0; i < TRIES; i++)
        if (open_trial(&t[i], i, options)) return FAILED;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < TRIES; i++)
            for (int k = 0; k < 3; k++) {
                glam_report now;
                clock_t begin = clock();
                if (!glam_train_step(t[i].trainer, &now)) return failure(t[i].ctx);
                double took = alone ? (double)(clock() - begin) / CLOCKS_PER_SEC
                                    : t[i].w.tokens / now.tokens_per_second;
                if (took < t[i].seconds) t[i].seconds = took;
            }
        if (show_terminal) printf("\rmeasuring %d of %d", round + 1, ROUNDS);
        fflush(stdout);
    }
    if (show_terminal) printf("\r");
    return DONE;
}

static void show_trials(trial *t, const device *d)
{
    double worst = 0;
    printf("%-62s %10s %10s\n", "step", "measured", "planned");
    for (int i = 0; i < TRIES; i++) {
        estimate e = estimate_step(&t[i].w, d, 1, 1, 0);
        double off = e.low / t[i].seconds - 1;
        if (tries[i].check) worst = fmax(worst, fabs(off));
        printf("%d layers, width %3d, %2d experts, %2d x %3d tokens%s %8.2f ms %8.2f ms %+5.0f "
               "%%\n", tries[i].layers, tries[i].d_model, tries[i].experts, tries[i].batch,
               tries[i].context, tries[i].check ? ", not calibrated on" : "                   ",
               1e3 * t[i].seconds, 1e3 * e.low, 100 * off);
    }
    printf("the shapes that it was not calibrated on are within %.0f %%\n", 100 * worst);
}

static int calibrate(const settings *s)
{
    static trial t[TRIES];
    glam_options options = glam_options_default();
    double factor[PARTS];
    set_machine(s, &options);
    if (check_writable("calibrate", s->calibrate, s->force)) return FAILED;
    int status = time_trials(t, &options, threads_of(s) == 1);
    if (status == DONE) {
        device d = devices[0];
        fit(t, factor);
        d.name = "this machine";
        d.flops = 1 / fmax(factor[0], 1e-15);
        d.eta = 1;
        d.memory = machine_bytes();
        d.element = factor[1];
        d.score = factor[2];
        d.update = factor[3];
        d.call = factor[4];
        show_trials(t, &d);
        printf("products  %.3g FLOP/s, threads %d, %s\n", d.flops, threads_of(s),
               glam_simd_name(t[0].ctx));
        status = write_device(s->calibrate, &d, "glam plan --calibrate: flops is what products "
                              "reach here; watts, pue and links are the laptop's: yours?");
    }
    if (status == DONE) printf("wrote %s; use it with --device %s\n", s->calibrate, s->calibrate);
    for (int i = 0; i < TRIES; i++) glam_close(t[i].ctx);
    end_reservations();
    return status;
}

// == one model on one machine ===============================================================

static void show_sent(const char *what, uint64_t bytes, double layers, const char *each)
{
    if (!bytes) return;
    printf("          %-34s %10s", what, show_bytes((double)bytes));
    if (layers > 0) printf("   %s of each of %.0f %s", show_bytes((double)bytes / layers), layers,
                           each);
    printf("\n");
}

// What one rank of this library sends in a step when the load is even.
static int show_traffic(const settings *s, const glam_options *options, const glam_config *c,
                        const glam_recipe *r, const work *w)
{
    glam_ctx *ctx = glam_open(options);
    glam_traffic p;
    int *rows = (int *)need((size_t)c->layers * sizeof *rows);
    int X = options->mesh_x;
    double away = w->tokens / X * w->top_k * (X - 1) / X;
    for (int i = 0; i < c->layers; i++) rows[i] = away < 2e9 ? (int)away : 2000000000;
    glam_measure(ctx, 1);
    glam_trainer *t = glam_trainer_new(glam_model_new(ctx, c), NULL, NULL, r);
    if (t) glam_plan_traffic(t, rows, rows, &p);
    free(rows);
    int status = failure(ctx);
    if (status == DONE) {
        printf("sent      %s by a rank in a step, as floats, with even loads%s\n",
               show_bytes((double)p.total), s->mesh_store ? ", weights in shares" : "");
        show_sent("counts of routing", p.routing, w->mixtures, "mixtures");
        show_sent("rows to experts and back", p.dispatch, w->mixtures, "mixtures");
        show_sent("sums over Y", p.model, w->layers, "layers");
        show_sent("gradients over X", p.gradients, w->layers, "layers");
        show_sent("weights gathered", p.weights, w->layers, "layers");
        show_sent("statistics and reports", p.sums, 0, "");
    }
    glam_close(ctx);
    return status;
}

static void show_term(const char *what, double seconds, double bytes)
{
    if (seconds <= 0) return;
    printf("          %-34s %8.3g s", what, seconds);
    if (bytes > 0) printf("   %s sent by a device", show_bytes(bytes));
    printf("\n");
}

// "5.8 to 8.1 s", or one of them where nothing is sent; into out [100].
static const char *from_to(char *out, const char *low, const char *high, const char *unit)
{
    int one = strcmp(low, high) == 0;
    snprintf(out, 100, "%s%s%s%s", low, one ? "" : " to ", one ? "" : high, unit);
    return out;
}

static const char *short_real(double value)
{
    char *out = show_buffer();
    snprintf(out, 40, "%.3g", value);
    return out;
}

// Where numbers are floats, as this library's are, it knows to the byte what is held.
static void show_estimate(const settings *s, const device *d, const work *w, int X, int Y,
                          const glam_plan *plan)
{
    estimate e = estimate_step(w, d, X, Y, s->mesh_store);
    double held = d->number >= 4 ? (double)plan->train_bytes : e.memory, many = 1e9 / w->tokens;
    char range[3][100];
    printf("device    %s: %s; %.3g FLOP/s, eta %.2f\n", d->name, d->what, d->flops, d->eta);
    printf("time      %s a step of %s tokens; longest: %s\n",
           from_to(range[0], short_real(e.low), short_real(e.high), " s"),
           show_commas((uint64_t)w->tokens), e.bottleneck);
    show_term("compute", e.compute, 0);
    show_term("sums over the model axis", e.model, e.sent_model);
    show_term("dispatch to experts", e.dispatch, e.sent_dispatch);
    show_term("dense weights and gradients", e.dense, e.sent_dense);
    show_term("sums of experts' gradients", e.replicas, e.sent_replicas);
    printf("          %s", from_to(range[0], show_count(w->tokens / e.high),
                                   show_count(w->tokens / e.low), " tokens/s"));
    if (d->element <= 0) printf(", %.0f to %.0f %% of the peak", 100 * e.mfu_low, 100 * e.mfu_high);
    printf("\nholds     %s of a device's %s%s\n", show_bytes(held), show_bytes(d->memory),
           held > d->memory ? ": does not fit" : "");
    printf("energy    %s a step (%g W, PUE %g)\n",
           from_to(range[0], show_joules(e.joules_low), show_joules(e.joules_high), ""), d->watts,
           d->pue);
    printf("          1 billion tokens: %s in %s\n",
           from_to(range[1], short_real(e.joules_low * many / 3.6e6),
                   short_real(e.joules_high * many / 3.6e6), " kWh"),
           from_to(range[2], show_time(e.low * many), show_time(e.high * many), ""));
}

// The recipe of a plan: the model's own, and what was asked for.
static int plan_recipe(const settings *s, int preset, int X, glam_recipe *r)
{
    *r = preset ? glam_recipe_paper() : glam_recipe_default();
    if (GIVEN(optimizer)) {
        int kind = find_word("optimizer", s->optimizer, optimizer_names);
        if (kind < 0) return USAGE;
        r->optimizer = (glam_optimizer_kind)kind;
    }
    if (GIVEN(batch)) r->batch = s->batch;
    else r->batch += (X - r->batch % X) % X;             // a part for each, at least
    if (GIVEN(context)) r->context = s->context;
    r->recompute = s->recompute;
    r->accumulate = X;
    if (r->batch > 0 && r->batch % X == 0) return DONE;
    return complain(USAGE, "--batch %d: a whole number of sequences for each of %d rows of the "
                    "mesh is wanted", r->batch, X);
}

// The device of --device; the model's own machine, as far as it is known, without.
static int plan_device(const settings *s, device *d)
{
    *d = devices[0];
    if (!GIVEN(device)) return DONE;
    const device *known = find_device(s->device);
    if (known) *d = *known;
    return known ? DONE : read_device(s->device, d);
}

static int plan_model(const settings *s, const char *name)
{
    glam_config c = glam_config_default();
    glam_options options = glam_options_default();
    glam_recipe r;
    glam_plan plan;
    device d;
    int preset = glam_config_preset(name, &c) == GLAM_OK;
    const printed *p = preset ? printed_row(name) : NULL;
    if (plan_ranks(s, &options)) return USAGE;
    int X = GIVEN(mesh) ? options.mesh_x : 1, Y = GIVEN(mesh) ? options.mesh_y : 1;
    int status = plan_recipe(s, preset, X, &r);
    if (status == DONE) status = plan_device(s, &d);
    if (status != DONE) return status;
    if (!preset && kind_of(name) == NOTHING) return unknown_preset(name);
    glam_ctx *ctx = glam_open(&options);
    if (!preset) {
        glam_ctx *alone = glam_open(NULL);
        glam_load_config(alone, name, &c);
        status = failure(alone);
        glam_close(alone);
    }
    glam_config whole = c;
    if (status == DONE) {
        show_shape(name, &whole);
        glam_plan_for(ctx, &c, &r, &plan);
        status = failure(ctx);
    }
    if (status == DONE) {
        work w = work_of(&c, &r);
        adopt_flops(&w, plan.flops_forward);
        show_printed("total", plan.parameters, p ? p->parameters : 0);
        show_printed("active", plan.active, p ? p->active : 0);
        printf("work      %s per token forward, %s training\n", show_flops(plan.flops_forward),
               show_flops(plan.flops_train));
        if (GIVEN(mesh))
            printf("mesh      %d x %d ranks; of each, in this library's floats:\n", X, Y);
        printf("memory    ");
        show_memory(&plan);
        printf("          (%s, %d x %.0f tokens a step%s)\n", optimizer_names[r.optimizer], r.batch,
               w.context, r.recompute ? ", recomputed" : "");
        if (GIVEN(mesh)) status = show_traffic(s, &options, &c, &r, &w);
        if (status == DONE && GIVEN(device)) show_estimate(s, &d, &w, X, Y, &plan);
        else if (status == DONE)
            printf("time      --device NAME plans it on one of: laptop server a100 h100 tpuv3 "
                   "tpuv4, or FILE\n");
    }
    glam_close(ctx);
    return status;
}

static int run_plan(settings *s, char **words, int count)
{
    if (GIVEN(calibrate) && count > 0)
        return complain(USAGE, "--calibrate measures this machine; plan %s with --device %s "
                        "afterwards", words[0], s->calibrate);
    if (GIVEN(calibrate)) return calibrate(s);
    if (count > 1) return complain(USAGE, "plan wants one preset or model");
    if (count == 1) return plan_model(s, words[0]);
    int status = table_of_presets();
    if (status == DONE) table_of_cases();
    if (status == DONE) table_of_devices();
    return status;
}

#endif
