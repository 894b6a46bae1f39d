/* study_page.h - what came out of a study: lines of JSON in one file, plots, and one page of tables
   and of what agrees with the paper.  A part of study.c.

   Spread: the standard deviation of a final loss over seeds, from all settings that ran with two or
   more, but for those whose seeds lie far further apart than the others'.  A difference counts when it is more than twice its own standard error; what is less is
   called level. */

#ifndef STUDY_PAGE_H
#define STUDY_PAGE_H

#include "plot.h"

enum { SEEDS = 8, TIMES = 8 };

typedef struct point { double tokens, flops, cpu, joules, loss; } point;

typedef struct curve {
    int    done, points;
    point  at[MOMENTS];
    double params, active, forward, two, four, dropped, load_max;
    int    rapl;
} curve;

// The runs of one setting that are done; at[] are means over them.
typedef struct group {
    int    n, points;
    double loss[SEEDS], mean;
    point  at[MOMENTS];
    curve  one;                          // the first of them
    double two, four, cpu, dropped, load_max;
} group;

typedef struct results {
    const plan *p;
    const char *dir;
    curve       of[MOST_JOBS];
    int         done, freedom;           // runs; of the spread
    double      spread;
    int         apart;                   // settings that are not in it
    const change *wild;                  // the last of them, if it is an ablation
    FILE       *page;
} results;

// == reading =================================================================================

static void read_point(curve *c, const char *line)
{
    if (c->points == MOMENTS) return;
    point *a = &c->at[c->points++];
    a->tokens = json_number(line, "tokens");
    a->flops = json_number(line, "flops");
    a->cpu = json_number(line, "cpu_seconds");
    a->joules = json_number(line, "joules");
    a->loss = json_number(line, "loss");
    c->dropped = json_number(line, "dropped");
    c->load_max = json_number(line, "load_max");
}

static void read_curve(results *r, int i, FILE *all)
{
    char path[1024], line[LINE], spec[LINE / 4];
    curve *c = &r->of[i];
    job_path(path, r->dir, &r->p->job[i], "jsonl");
    job_spec(spec, sizeof spec, r->p->mode, &r->p->job[i]);
    FILE *f = fopen(path, "rb");
    if (!f) return;
    while (fgets(line, sizeof line, f) && strchr(line, '\n')) {
        if (json_is(line, "event", "start")) {
            if (!json_is(line, "spec", spec)) break;
            c->params = json_number(line, "params");
            c->active = json_number(line, "active");
            c->forward = json_number(line, "flops_forward");
            c->rapl = json_is(line, "energy", "rapl");
        }
        if (json_is(line, "event", "checkpoint")) continue;
        if (json_is(line, "event", "point")) read_point(c, line);
        if (json_is(line, "event", "done")) {
            c->done = 1;
            c->two = json_number(line, "loss_2x");
            c->four = json_number(line, "loss_4x");
        }
        if (json_is(line, "event", "start")) fputs(line, all);
        else fprintf(all, "{\"id\":\"%s\",%s", r->p->job[i].id, line + 1);
    }
    fclose(f);
    r->done += c->done;
}

static group find_group(const results *r, int base, int experts, text_kind text, int change,
                        double times)
{
    group g;
    memset(&g, 0, sizeof g);
    for (int i = 0; i < r->p->count; i++) {
        const job *j = &r->p->job[i];
        const curve *c = &r->of[i];
        if (j->base != base || j->experts != experts || j->text != text || !c->done) continue;
        if (j->change != change || j->times != times || g.n == SEEDS) continue;
        if (g.n == 0) g.one = *c;
        g.points = c->points;
        for (int k = 0; k < c->points; k++) {
            const double *from = (const double *)&c->at[k];
            double *to = (double *)&g.at[k];
            for (int v = 0; v < 5; v++) to[v] = (to[v] * g.n + from[v]) / (g.n + 1);
        }
        g.two = (g.two * g.n + c->two) / (g.n + 1);
        g.four = (g.four * g.n + c->four) / (g.n + 1);
        g.dropped = (g.dropped * g.n + c->dropped) / (g.n + 1);
        g.load_max = (g.load_max * g.n + c->load_max) / (g.n + 1);
        g.loss[g.n++] = c->at[c->points - 1].loss;
    }
    if (g.n) g.mean = g.at[g.points - 1].loss;
    if (g.n) g.cpu = g.at[g.points - 1].cpu;
    return g;
}

static group main_group(const results *r, int base, int experts)
{
    return find_group(r, base, experts, NOVELS, -1, 1);
}

// The paper's side of an ablation is the run of the main frame with the same experts.
static group change_group(const results *r, int i)
{
    return changes[i].knob == NOTHING ? main_group(r, 0, CHANGED)
                                      : find_group(r, 0, CHANGED, NOVELS, i, 1);
}

// Settings of more than one seed: sums of squares about their means, and degrees of freedom.
enum { SETTINGS = BASES * COUNTS + CHANGES };
typedef struct variances { double sum[SETTINGS]; int freedom[SETTINGS], n; } variances;

static void add_variance(variances *v, const group *g)
{
    double *sum = &v->sum[v->n];
    *sum = 0;
    for (int i = 0; i < g->n; i++) *sum += (g->loss[i] - g->mean) * (g->loss[i] - g->mean);
    v->freedom[v->n++] = g->n > 1 ? g->n - 1 : 0;
}

// One variance for all, but without settings whose own is more than APART times that of the others.
static void find_spread(results *r)
{
    static const double APART = 16;
    variances v;
    double all = 0, sum = 0;
    int freedom = 0;
    v.n = 0;
    for (int b = 0; b < BASES; b++)
        for (int i = 0; i < COUNTS; i++) {
            group g = main_group(r, b, counts[i]);
            add_variance(&v, &g);
        }
    for (int i = 0; i < CHANGES; i++) {
        group g = change_group(r, i);
        if (changes[i].knob == NOTHING) g.n = 0;
        add_variance(&v, &g);
    }
    for (int i = 0; i < v.n; i++) {
        all += v.sum[i];
        freedom += v.freedom[i];
    }
    for (int i = 0; i < v.n; i++) {
        int others = freedom - v.freedom[i];
        if (!v.freedom[i]) continue;
        if (others && v.sum[i] / v.freedom[i] > APART * (all - v.sum[i]) / others) {
            r->apart++;
            if (i >= BASES * COUNTS) r->wild = &changes[i - BASES * COUNTS];
            continue;
        }
        sum += v.sum[i];
        r->freedom += v.freedom[i];
    }
    r->spread = r->freedom ? sqrt(sum / r->freedom) : NAN;
}

// -1: a is lower than b by more than chance; 1: higher; 0: level, or not known.
static int compare(const results *r, const group *a, const group *b)
{
    if (!a->n || !b->n || !r->freedom) return 0;
    double error = r->spread * sqrt(1.0 / a->n + 1.0 / b->n);
    return fabs(a->mean - b->mean) <= 2 * error ? 0 : a->mean < b->mean ? -1 : 1;
}

// == what a loss costs =======================================================================

// Where the mean curve goes below a loss for good: the last crossing; tokens 0: never.
static point crossing(const group *g, double loss)
{
    point none = {0, 0, 0, 0, loss};
    int above = g->points - 1;
    while (above >= 0 && g->at[above].loss <= loss) above--;
    if (above == g->points - 1 || above < 0) return none;
    const double *a = (const double *)&g->at[above], *b = (const double *)&g->at[above + 1];
    double part = (a[4] - loss) / (a[4] - b[4]);
    for (int v = 0; v < 4; v++) ((double *)&none)[v] = a[v] + part * (b[v] - a[v]);
    return none;
}

// Tokens after which a dense model's own run, with its own schedule, would end at a loss: between
// its runs of 1/2, 1, 2 .. times the tokens, on a line over the logarithm.  *limit: -1 fewer than
// the shortest, 1 more than the longest.
static double dense_needs(const results *r, double loss, int *limit)
{
    double last_times = 0, last_loss = 0;
    *limit = -1;
    for (double times = 0.5; times <= r->p->mode->most; times *= 2) {
        group g = find_group(r, 0, 0, NOVELS, -1, times);
        if (!g.n) continue;
        if (g.mean <= loss) {
            if (last_times <= 0) return times;
            double part = (last_loss - loss) / (last_loss - g.mean);
            *limit = 0;
            return last_times * pow(times / last_times, part);
        }
        last_times = times;
        last_loss = g.mean;
    }
    *limit = 1;
    return last_times;
}

// == tables ==================================================================================

static void say(const results *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(r->page, format, args);
    va_end(args);
}

static const char *who(int experts, char *out, size_t size)
{
    if (experts) snprintf(out, size, "E = %d", experts);
    else snprintf(out, size, "dense");
    return out;
}

// "1.412 1.420", or all that there are.
static void say_losses(const results *r, const group *g)
{
    for (int i = 0; i < g->n; i++) say(r, "%s%.3f", i ? " " : "", g->loss[i]);
}

static void table_experts(const results *r)
{
    group dense = main_group(r, 0, 0);
    char name[16];
    if (!dense.n) return;
    point all = dense.at[dense.points - 1];
    say(r, "\nThe small base on novels, %.0f tokens each; losses are nats per byte on the same "
        "%d bytes held out, by seed.\n\n", all.tokens, r->p->mode->sample);
    say(r, "| model | parameters | active | FLOPs a token | loss by seed | mean | to dense | tokens "
        "dense needs for it | to dense's loss: tokens | joules | core seconds | core seconds in all "
        "| busiest expert |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < COUNTS; i++) {
        group g = main_group(r, 0, counts[i]);
        int limit;
        if (!g.n) continue;
        double times = dense_needs(r, g.mean, &limit);
        point p = counts[i] ? crossing(&g, dense.mean) : all;
        say(r, "| %s | %.0f | %.0f | %.0f | ", who(counts[i], name, sizeof name), g.one.params,
            g.one.active, g.one.forward);
        say_losses(r, &g);
        say(r, " | **%.3f** | %+.3f | %s%.2f x | ", g.mean, g.mean - dense.mean,
            counts[i] == 0 || limit == 0 ? "" : limit > 0 ? "more than " : "less than ",
            counts[i] ? times : 1);
        if (p.tokens > 0)
            say(r, "%.0f %% | %.0f | %.1f", 100 * p.tokens / all.tokens, p.joules, p.cpu);
        else say(r, "not reached | - | -");
        if (counts[i]) say(r, " | %.1f | %.1f x even |\n", g.cpu, g.load_max);
        else say(r, " | %.1f | - |\n", g.cpu);
    }
}

static void table_bases(const results *r)
{
    char name[16];
    say(r, "\n| base, text | model | parameters | active | FLOPs a token | loss by seed | mean | to "
        "dense | core seconds |\n|---|---|---|---|---|---|---|---|---|\n");
    for (int b = 0; b < BASES; b++)
        for (int t = NOVELS; t < TEXTS; t++)
            for (int i = 0; i < COUNTS; i++) {
                group g = find_group(r, b, counts[i], (text_kind)t, -1, 1);
                group dense = find_group(r, b, 0, (text_kind)t, -1, 1);
                if (!g.n || (b == 0 && t == NOVELS && counts[i] && counts[i] < BIGGEST)) continue;
                say(r, "| %s, %s | %s | %.0f | %.0f | %.0f | ", bases[b].name, text_names[t],
                    who(counts[i], name, sizeof name), g.one.params, g.one.active, g.one.forward);
                say_losses(r, &g);
                say(r, " | **%.3f** | %+.3f | %.1f |\n", g.mean, g.mean - dense.mean, g.cpu);
            }
}

static void table_changes(const results *r)
{
    group base = main_group(r, 0, CHANGED);
    const char *last = "";
    say(r, "\nOne change at a time, on the small base with E = %d.\n\n| what | choice | FLOPs a token "
        "| loss by seed | mean | to the first row | dropped | busiest expert | core seconds |\n"
        "|---|---|---|---|---|---|---|---|---|\n", CHANGED);
    for (int i = 0; i < CHANGES; i++) {
        group g = change_group(r, i);
        if (!g.n || !base.n) continue;
        say(r, "| %s | %s%s | %.0f | ", strcmp(last, changes[i].group) ? changes[i].group : "",
            changes[i].name, changes[i].paper ? " (paper)" : "", g.one.forward);
        say_losses(r, &g);
        say(r, " | %.3f | %+.3f | %.1f %% | %.1f x even | %.1f |\n", g.mean, g.mean - base.mean,
            100 * g.dropped, g.load_max, g.cpu);
        last = changes[i].group;
    }
    say(r, "\n| position | loss at the trained context | at twice | at four times |\n"
        "|---|---|---|---|\n");
    for (int i = 0; i < CHANGES; i++) {
        group g = change_group(r, i);
        if (strcmp(changes[i].group, "position") != 0 || !g.n) continue;
        say(r, "| %s | %.3f | %.3f | %.3f |\n", changes[i].name, g.mean, g.two, g.four);
    }
}

// == what agrees =============================================================================

static const char *verdict(int agrees)
{
    return agrees > 0 ? "**agrees**" : agrees < 0 ? "**does not agree**" : "**level**";
}

static void claim_bases(const results *r)
{
    for (int b = 0; b < BASES; b++)
        for (int k = 0; k < TEXTS * COUNTS; k++) {
            int t = k / COUNTS, e = counts[k % COUNTS];
            group m = find_group(r, b, e, (text_kind)t, -1, 1);
            group d = find_group(r, b, 0, (text_kind)t, -1, 1);
            if (!e || !m.n || !d.n) continue;
            say(r, "- %s: at equal work a token a mixture is ahead of a dense model: %s base on %s, "
                "E = %d, %.3f against %.3f nats.\n", verdict(-compare(r, &m, &d)), bases[b].name,
                text_names[t], e, m.mean, d.mean);
        }
}

static void claim_experts(const results *r)
{
    group last = main_group(r, 0, counts[1]), dense = main_group(r, 0, 0);
    int limit, most = 0;
    double best = 0;
    for (int i = 2; i < COUNTS; i++) {
        group g = main_group(r, 0, counts[i]);
        if (!g.n || !last.n) continue;
        say(r, "- %s: more experts at the same work are better: from %d to %d, %.3f to %.3f nats.\n",
            verdict(-compare(r, &g, &last)), counts[i - 1], counts[i], last.mean, g.mean);
        last = g;
    }
    for (int i = 1; i < COUNTS; i++) {
        group g = main_group(r, 0, counts[i]);
        double times = g.n ? dense_needs(r, g.mean, &limit) : 0;
        if (times > best) { best = times; most = i; }
    }
    if (!most || !dense.n) return;
    group g = main_group(r, 0, counts[most]);
    dense_needs(r, g.mean, &limit);
    point p = crossing(&g, dense.mean), all = dense.at[dense.points - 1];
    say(r, "- %s: a mixture needs fewer tokens: dense would need %s%.2f times the tokens for the "
        "loss of E = %d.\n", verdict(compare(r, &dense, &g)), limit > 0 ? "more than " : "", best,
        counts[most]);
    if (p.tokens <= 0) return;
    say(r, "- %s%s: a mixture needs less energy for the same loss: E = %d reaches dense's last loss "
        "with %.0f of its %.0f joules, %s.\n", verdict(compare(r, &dense, &g)),
        g.one.rapl ? "" : " if every FLOP costs the same", counts[most], p.joules, all.joules,
        g.one.rapl ? "counted by the machine" : "which are FLOPs times a stated figure");
    say(r, "- %s: it does so in less time here: %.1f of dense's %.1f core seconds.\n",
        verdict(p.cpu < 0.95 * all.cpu ? 1 : p.cpu > 1.05 * all.cpu ? -1 : 0), p.cpu, all.cpu);
}

static void claim_changes(const results *r)
{
    for (int i = 0; i < CHANGES; i++) {
        if (!changes[i].paper) continue;
        group paper = change_group(r, i);
        for (int k = 0; k < CHANGES; k++) {
            group g = change_group(r, k);
            if (k == i || strcmp(changes[k].group, changes[i].group) || !g.n || !paper.n) continue;
            say(r, "- %s: %s: the paper's %s (%.3f) against %s (%.3f).\n",
                verdict(-compare(r, &paper, &g)), changes[i].group, changes[i].name, paper.mean,
                changes[k].name, g.mean);
        }
    }
}

// == plots ===================================================================================

static const style styles[COUNTS] = {
    {"#c2410c", "7 4", 's'}, {"#7fb3f0", "", 'o'}, {"#5598e7", "", 'd'}, {"#2a78d6", "", 't'},
    {"#1c5cab", "", 'o'}, {"#0d366b", "", 'd'} };

static FILE *open_plot(const results *r, const char *name, int width, int height,
                       const char *title, const char *under)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.svg", r->dir, name);
    FILE *f = plot_open(path, width, height, title, under);
    if (!f) exit(complain("%s: %s", path, strerror(errno)));
    return f;
}

// Lowest and highest of the points of the curves that are shown, with a little room.
static void fit_y(plot *p, const group *g, int n, int first)
{
    p->y0 = 1e9;
    p->y1 = -1e9;
    for (int i = 0; i < n; i++)
        for (int k = first; k < g[i].points; k++) {
            p->y0 = fmin(p->y0, g[i].at[k].loss);
            p->y1 = fmax(p->y1, g[i].at[k].loss);
        }
    double room = 0.06 * (p->y1 - p->y0) + 1e-3;
    p->y0 -= room;
    p->y1 += room;
}

// which: of the five numbers of a point.
static void draw_curves(const plot *p, const group *g, const style *s, char (*names)[32], int n,
                        int which, int named)
{
    plot_name label[COUNTS + 2 * BASES];
    int labels = 0;
    for (int i = 0; i < n; i++) {
        double x[MOMENTS], y[MOMENTS];
        for (int k = 0; k < g[i].points; k++) {
            x[k] = ((const double *)&g[i].at[k])[which];
            y[k] = g[i].at[k].loss;
        }
        if (!g[i].n) continue;
        plot_curve(p, x, y, g[i].points, s[i]);
        label[labels].at = plot_y(p, y[g[i].points - 1]);
        label[labels].text = names[i];
        label[labels++].s = s[i];
    }
    if (named) plot_names(p, label, labels);
}

static int main_groups(const results *r, group *g, char (*names)[32])
{
    int any = 0;
    for (int i = 0; i < COUNTS; i++) {
        g[i] = main_group(r, 0, counts[i]);
        who(counts[i], names[i], sizeof names[i]);
        any += g[i].n;
    }
    return any;
}

static void plot_tokens(const results *r)
{
    group g[COUNTS];
    char names[COUNTS][32];
    if (!main_groups(r, g, names)) return;
    FILE *f = open_plot(r, "study_tokens", 640, 400, "Loss against tokens at equal work a token",
                        "Small base on novels, means over seeds; lower is better");
    plot p = {f, 64, 58, 480, 280, 0, 0, 0, 0, 1, 0};
    for (int i = 0; i < COUNTS; i++) if (g[i].n) p.x1 = fmax(p.x1, g[i].at[g[i].points - 1].tokens);
    p.x0 = p.x1 / 16 * 0.98;
    fit_y(&p, g, COUNTS, 1);
    p.x0 = p.x1 / 8;
    plot_axes(&p, "training tokens", "nats per byte, held out", 1);
    draw_curves(&p, g, styles, names, COUNTS, 0, 1);
    plot_close(f);
}

// Two panels with one scale of losses: what the machine was busy for, and what it used.
static void plot_cost(const results *r)
{
    group g[COUNTS];
    char names[COUNTS][32];
    if (!main_groups(r, g, names)) return;
    FILE *f = open_plot(r, "study_cost", 800, 400, "Loss against time and energy",
                        "Small base on novels; seconds of one core, training alone");
    for (int panel = 0; panel < 2; panel++) {
        plot p = {f, 64 + 350.0 * panel, 58, 300, 280, 0, 0, 0, 0, 0, 0};
        int which = panel ? 3 : 2;
        for (int i = 0; i < COUNTS; i++)
            if (g[i].n) p.x1 = fmax(p.x1, ((const double *)&g[i].at[g[i].points - 1])[which]);
        p.x1 *= 1.02;
        fit_y(&p, g, COUNTS, 1);
        plot_axes(&p, panel ? g[0].one.rapl ? "joules, counted" : "joules, from FLOPs"
                            : "core seconds", panel ? "" : "nats per byte, held out", !panel);
        draw_curves(&p, g, styles, names, COUNTS, which, panel);
    }
    plot_close(f);
}

static void plot_experts(const results *r)
{
    group g[COUNTS];
    char names[COUNTS][32];
    static const style line = {"#1c5cab", "", 'o'}, single = {"#1c5cab", "", 'o'};
    double x[COUNTS], y[COUNTS];
    int n = 0;
    if (!main_groups(r, g, names) || !g[0].n) return;
    FILE *f = open_plot(r, "study_experts", 560, 380, "Loss against experts at the same work a token",
                        "Small base on novels; filled: means, hollow: one seed each; 1: dense");
    plot p = {f, 64, 58, 450, 260, 0.9, 72, 0, 0, 1, 1};
    p.y0 = 1e9;
    p.y1 = -1e9;
    for (int i = 0; i < COUNTS; i++) {
        for (int k = 0; k < g[i].n; k++) {
            p.y0 = fmin(p.y0, g[i].loss[k] - 0.005);
            p.y1 = fmax(p.y1, g[i].loss[k] + 0.005);
        }
        if (!g[i].n) continue;
        x[n] = counts[i] ? counts[i] : 1;
        y[n++] = g[i].mean;
    }
    plot_axes(&p, "experts", "nats per byte, held out", 1);
    plot_curve(&p, x, y, n, line);
    for (int i = 0; i < COUNTS; i++)
        for (int k = 0; k < g[i].n && g[i].n > 1; k++)
            plot_mark(&p, counts[i] ? counts[i] : 1, g[i].loss[k], single, 3, 1);
    plot_close(f);
}

static void plot_flops(const results *r)
{
    group g[2 * BASES];
    style s[2 * BASES];
    char names[2 * BASES][32];
    int n = 0;
    double least = 1e30;
    for (int b = 0; b < BASES; b++)
        for (int e = 0; e < 2; e++) {
            g[n] = main_group(r, b, e ? BIGGEST : 0);
            if (!g[n].n) continue;
            s[n] = styles[e ? b == 0 ? 2 : b == 1 ? 3 : 5 : 0];
            s[n].mark = b == 0 ? 'o' : b == 1 ? 'd' : 's';
            snprintf(names[n], sizeof names[n], "%s, %s", bases[b].name, e ? "E = 64" : "dense");
            n++;
        }
    if (!n) return;
    FILE *f = open_plot(r, "study_flops", 700, 400, "Loss against training FLOPs, three bases",
                        "Novels; a mixture of 64 experts and a dense model of equal work a token");
    plot p = {f, 64, 58, 490, 280, 0, 0, 0, 0, 1, 0};
    for (int i = 0; i < n; i++) {
        p.x1 = fmax(p.x1, g[i].at[g[i].points - 1].flops);
        least = fmin(least, g[i].at[1].flops);
    }
    p.x0 = least;
    fit_y(&p, g, n, 1);
    plot_axes(&p, "training FLOPs", "nats per byte, held out", 1);
    draw_curves(&p, g, s, names, n, 1, 1);
    plot_close(f);
}

// Each ablation as a dot at its difference from the first row; the band is what chance may do.
static const double MOST_CHANGE = 0.2;       // nats; what lies beyond is at the edge, with its number
static void plot_changes(const results *r)
{
    group base = main_group(r, 0, CHANGED);
    static const style paper = {"#1c5cab", "", 's'}, other = {"#c2410c", "", 'o'};
    const char *last = "";
    int rows = 0, any = 0;
    double most = 0.02, error = 0;
    for (int i = 0; i < CHANGES; i++) {
        group g = change_group(r, i);
        if (!g.n || !base.n) continue;
        most = fmax(most, fmin(fabs(g.mean - base.mean), MOST_CHANGE));
        rows++;
        any += changes[i].knob != NOTHING;
        if (changes[i].knob != NOTHING)
            error = 2 * r->spread * sqrt(1.0 / g.n + 1.0 / base.n);
    }
    if (!any) return;
    FILE *f = open_plot(r, "study_changes", 660, 110 + 22 * rows, "What one change does to the loss",
                        "Small base, 8 experts, novels; squares: the paper's choice; left is better; "
                        "grey: within chance");
    plot p = {f, 230, 58, 400, 22.0 * rows, -1.15 * most, 1.15 * most, 0, rows, 0, 0};
    if (r->freedom)
        fprintf(f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"#f0f1f3\"/>\n",
                plot_x(&p, -fmin(error, p.x1)), p.top,
                plot_x(&p, fmin(error, p.x1)) - plot_x(&p, -fmin(error, p.x1)), p.height);
    double wide = plot_tick(p.x1 - p.x0, 6);
    for (double x = ceil(p.x0 / wide) * wide; x <= p.x1; x += wide) {
        fprintf(f, "<path d=\"M%.1f %.1fv%.1f\" stroke=\"" GRID "\"/>\n", plot_x(&p, x), p.top,
                p.height);
        plot_text(&p, plot_x(&p, x), p.top + p.height + 17, "middle", PALE, "%+.2f",
                  fabs(x) < 1e-9 ? 0 : x);
    }
    plot_text(&p, p.left + p.width / 2, p.top + p.height + 36, "middle", PALE,
              "nats per byte, difference to the main runs");
    for (int i = 0, row = 0; i < CHANGES; i++) {
        group g = change_group(r, i);
        if (!g.n || !base.n) continue;
        double y = rows - row++ - 0.5;
        if (strcmp(last, changes[i].group))
            plot_text(&p, 16, plot_y(&p, y) + 4, "start", INK, "%s", changes[i].group);
        plot_text(&p, p.left - 10, plot_y(&p, y) + 4, "end", PALE, "%s", changes[i].name);
        double off = g.mean - base.mean;
        plot_mark(&p, fmin(off, most), y, changes[i].paper ? paper : other, 4.5, 0);
        if (off > most)
            plot_text(&p, plot_x(&p, most) - 9, plot_y(&p, y) + 4, "end", INK, "%+.2f, beyond", off);
        last = changes[i].group;
    }
    plot_close(f);
}

// == the page ================================================================================

static void write_words(results *r)
{
    say(r, "Mode %s: %d of %d runs are there. Bases: ", r->p->mode->name, r->done, r->p->count);
    for (int b = 0; b < BASES && r->p->mode->tokens[b] > 0; b++)
        say(r, "%s%s (%d layers, width %d)", b ? ", " : "", bases[b].name, bases[b].layers,
            bases[b].d_model);
    say(r, "; context %d, batches of %d, every other layer a mixture, top %d, ReLU experts, none "
        "dropped, Adafactor (its rate, and AdamW's, are the library's own for it). The hidden width of an expert makes a token cost what it costs the "
        "dense twin, router included. Loss: nats per byte.\n\n", bases[0].context,
        r->p->mode->batch, TOP);
    if (r->freedom)
        say(r, "Spread: one seed's final loss lies %.4f nats (standard deviation, %d degrees of "
            "freedom) about the mean of its setting. A difference of less than twice its standard "
            "error is called level.\n", r->spread, r->freedom);
    if (r->apart)
        say(r, "Not in it, since their seeds lie too far apart (16 times the others' variance): %d "
            "setting%s%s%s%s%s.\n", r->apart, r->apart == 1 ? "" : "s", r->wild ? ", " : "",
            r->wild ? r->wild->group : "", r->wild ? " " : "", r->wild ? r->wild->name : "");
    if (!r->freedom)
        say(r, "There is one seed of each, so nothing is known of their spread and every verdict "
            "is level.\n");
    table_experts(r);
    say(r, "\n![Loss against tokens](study_tokens.svg)\n![Loss against experts](study_experts.svg)\n"
        "![Loss against time and energy](study_cost.svg)\n");
    table_bases(r);
    say(r, "\n![Loss against FLOPs](study_flops.svg)\n");
    table_changes(r);
    say(r, "\n![Changes](study_changes.svg)\n\nWhat agrees with the paper, and what does not, at "
        "this size:\n\n");
    claim_bases(r);
    claim_experts(r);
    claim_changes(r);
}

static int write_page(const plan *p, const char *dir)
{
    static results r;
    char path[1024];
    r.p = p;
    r.dir = dir;
    snprintf(path, sizeof path, "%s/study.json", dir);
    FILE *all = fopen(path, "w");
    if (!all) return complain("%s: %s", path, strerror(errno));
    for (int i = 0; i < p->count; i++) read_curve(&r, i, all);
    fclose(all);
    find_spread(&r);
    snprintf(path, sizeof path, "%s/study.md", dir);
    r.page = fopen(path, "w");
    if (!r.page) return complain("%s: %s", path, strerror(errno));
    write_words(&r);
    fclose(r.page);
    plot_tokens(&r);
    plot_cost(&r);
    plot_experts(&r);
    plot_flops(&r);
    plot_changes(&r);
    printf("%d of %d runs; %s\n", r.done, p->count, path);
    return 0;
}

#endif
