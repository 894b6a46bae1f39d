/* glam_history.h - a run as its log tells it: loss, validation, balance, and what the experts had
   to do, in at most so many points.  A part of glam.c. */

#ifndef GLAM_HISTORY_H
#define GLAM_HISTORY_H

enum { HISTORY_POINTS = 150 };                   // of a curve: each the mean of some steps

// What one mixture did in each step.
typedef struct history_layer {
    int     here;                                // the log has it
    double *first;                               // [steps,experts]
    double *tokens, *dropped, *slots, *entropy, *balance;   // [steps]
} history_layer;

typedef struct history {
    const char *path, *side;                     // side: of a race's log; NULL: any
    int     other;                               // lines of the other side of a race
    int     steps, room, evals, eval_room, layers, experts;
    double *step, *loss, *balance;
    double *eval_step, *eval;
    history_layer *of;                           // [layers]
} history;

static void history_close(history *h)
{
    for (int i = 0; h->of && i < h->layers; i++) {
        free(h->of[i].first);
        free(h->of[i].tokens);
        free(h->of[i].dropped);
        free(h->of[i].slots);
        free(h->of[i].entropy);
        free(h->of[i].balance);
    }
    free(h->of);
    free(h->step);
    free(h->loss);
    free(h->balance);
    free(h->eval_step);
    free(h->eval);
    memset(h, 0, sizeof *h);
}

static void grow(double **of, int count, int room, int each)
{
    double *more = (double *)need((size_t)room * (size_t)each * sizeof *more);
    if (count) memcpy(more, *of, (size_t)count * (size_t)each * sizeof *more);
    free(*of);
    *of = more;
}

static void history_grow(history *h)
{
    if (h->steps < h->room) return;
    h->room = 2 * h->room + 256;
    grow(&h->step, h->steps, h->room, 1);
    grow(&h->loss, h->steps, h->room, 1);
    grow(&h->balance, h->steps, h->room, 1);
    for (int i = 0; i < h->layers; i++) {
        history_layer *l = &h->of[i];
        grow(&l->first, h->steps, h->room, h->experts);
        grow(&l->tokens, h->steps, h->room, 1);
        grow(&l->dropped, h->steps, h->room, 1);
        grow(&l->slots, h->steps, h->room, 1);
        grow(&l->entropy, h->steps, h->room, 1);
        grow(&l->balance, h->steps, h->room, 1);
    }
}

static double number_or(const hub_json *object, const char *name, double otherwise)
{
    const hub_json *n = hub_get(object, name);
    return n && n->type == HUB_NUMBER ? n->number : otherwise;
}

// The numbers of a list, at most `most`; how many there were.
static int numbers_of(const hub_json *list, double *out, int most)
{
    int count = 0;
    for (const hub_json *n = list ? list->first : NULL; n && count < most && n->type == HUB_NUMBER; n = n->next)
        out[count++] = n->number;
    return count;
}

// What a line of a step has of one mixture.
static void read_routing(history *h, const hub_json *of)
{
    double layer = number_or(of, "layer", -1);
    if (!(layer >= 0 && layer < h->layers)) return;
    history_layer *l = &h->of[(int)layer];
    size_t n = (size_t)h->steps, E = (size_t)h->experts;
    int got = numbers_of(hub_get(of, "first"), l->first + n * E, h->experts);
    l->tokens[n] = number_or(of, "tokens", 0);
    l->dropped[n] = number_or(of, "dropped", 0);
    l->slots[n] = number_or(of, "slots", 0);
    l->entropy[n] = number_or(of, "entropy", NAN);
    l->balance[n] = number_or(of, "balance", NAN);
    if (got != h->experts) l->tokens[n] = 0;              // of another model
    l->here |= l->tokens[n] > 0;
}

// A run that went on from an earlier step has that step twice: the later one holds.
static void read_step(history *h, jsonl *in)
{
    double step = number_or(in->line, "step", 0);
    while (h->steps && h->step[h->steps - 1] >= step) h->steps--;
    while (h->evals && h->eval_step[h->evals - 1] >= step) h->evals--;
    history_grow(h);
    h->step[h->steps] = step;
    h->loss[h->steps] = number_or(in->line, "loss", NAN);
    h->balance[h->steps] = number_or(in->line, "balance", NAN);
    for (int i = 0; i < h->layers; i++) h->of[i].tokens[h->steps] = 0;
    const hub_json *list = json_find(in, "routing");
    for (const hub_json *of = list && list->type == HUB_ARRAY ? list->first : NULL; of; of = of->next)
        read_routing(h, of);
    h->steps++;
}

static void read_eval(history *h, jsonl *in)
{
    double loss = number_or(in->line, "val_loss", NAN);
    if (!isfinite(loss)) return;
    if (h->evals == h->eval_room) {
        h->eval_room = 2 * h->eval_room + 64;
        grow(&h->eval_step, h->evals, h->eval_room, 1);
        grow(&h->eval, h->evals, h->eval_room, 1);
    }
    h->eval_step[h->evals] = number_or(in->line, "step", 0);
    h->eval[h->evals++] = loss;
}

// A log of train, or one side of a race.  Which: "log" or "dense-log", for messages.
static int history_read(history *h, const char *which, const char *path, const char *of,
                        const glam_config *c)
{
    jsonl in;
    int got;
    memset(h, 0, sizeof *h);
    h->path = path;
    h->side = of;
    h->layers = c->layers;
    h->experts = c->moe.experts;
    h->of = (history_layer *)need((size_t)h->layers * sizeof *h->of);
    memset(h->of, 0, (size_t)h->layers * sizeof *h->of);
    if (jsonl_open(&in, path)) return FAILED;
    while ((got = jsonl_next(&in)) > 0) {
        const hub_json *event = json_find(&in, "event"), *on = json_find(&in, "side");
        if (!event || event->type != HUB_STRING) continue;
        if (on && on->type == HUB_STRING && of && strcmp(on->text, of) != 0) {
            h->other++;
            continue;
        }
        if (strcmp(event->text, "step") == 0) read_step(h, &in);
        if (strcmp(event->text, "eval") == 0) read_eval(h, &in);
    }
    jsonl_close(&in);
    if (got < 0) return FAILED;
    if (h->steps == 0)
        return complain(FAILED, "--%s %s has no steps of a run%s", which, path,
                        h->other ? " on that side" : "; glam train --log writes such a file");
    return DONE;
}

// == in points ==============================================================================

static int steps_per_point(const history *h)
{
    return (h->steps + HISTORY_POINTS - 1) / HISTORY_POINTS;
}

// The mean of values over each point's steps, weighted, each times `factor`.
static int history_points(const history *h, const double *value, const double *weight,
                          double factor, double *x, double *y)
{
    int each = steps_per_point(h), count = 0;
    for (int from = 0; from < h->steps; from += each) {
        int to = from + each < h->steps ? from + each : h->steps;
        double sum = 0, all = 0;
        for (int i = from; i < to; i++) {
            double w = weight ? weight[i] : 1;
            if (!isfinite(value[i]) || w <= 0) continue;
            sum += value[i] * w;
            all += w;
        }
        x[count] = h->step[to - 1];
        y[count++] = all > 0 ? factor * sum / all : NAN;
    }
    return count;
}

// First choices of an expert over an even share, point by point; expert -1: how many are dead.
static int history_load(const history *h, int layer, int expert, double *x, double *y)
{
    const history_layer *l = &h->of[layer];
    int each = steps_per_point(h), count = 0, E = h->experts;
    double *sum = (double *)need((size_t)E * sizeof *sum);
    for (int from = 0; from < h->steps; from += each) {
        int to = from + each < h->steps ? from + each : h->steps;
        double tokens = 0, dead = 0;
        for (int e = 0; e < E; e++) sum[e] = 0;
        for (int i = from; i < to; i++) {
            if (l->tokens[i] <= 0) continue;
            tokens += l->tokens[i];
            for (int e = 0; e < E; e++) sum[e] += l->first[(size_t)i * (size_t)E + (size_t)e];
        }
        for (int e = 0; e < E; e++) dead += sum[e] * E < 0.01 * tokens;
        x[count] = h->step[to - 1];
        y[count++] = tokens <= 0 ? NAN : expert < 0 ? dead : sum[expert] * E / tokens;
    }
    free(sum);
    return count;
}

#endif
