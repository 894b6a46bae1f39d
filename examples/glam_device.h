/* glam_device.h - what a step of training costs on machines that one does not have: a table of
   devices, the formulas of time, memory and energy, and systems whose figures were published, to
   hold the formulas against.  A part of glam.c and of the tests.

   Terms, per device and step, of N = X Y devices; a row of X works on t = T / X of the T tokens:
     compute   T/N FLOPs of a token, forward and backward, at eta of the peak
     model     sums over Y of the residual stream: what each sub-layer sends and hands back
     dispatch  rows to experts and back, over X
     dense     weights that are no experts: gathered and their gradients scattered where they are
               stored in shares over X (the paper's 2D sharding), else their gradients summed
     replicas  sums of the experts' gradients where X is more than the experts
   A step takes from max(compute, all that is sent) where they overlap perfectly to their sum where
   they do not overlap at all.  eta is the one number that no table knows: 0.5 is fair for matrices
   of thousands, half of it for small ones; --calibrate measures it here. */

#ifndef GLAM_DEVICE_H
#define GLAM_DEVICE_H

#include <math.h>
#include <stdio.h>
#include <string.h>

// Field, unit and meaning: of the table, of a file of one's own, and of what --calibrate writes.
#define DEVICE_ROWS(ROW) \
    ROW(flops,     "peak FLOP/s of the numbers that it multiplies") \
    ROW(eta,       "share of it that products of matrices reach") \
    ROW(memory,    "bytes") \
    ROW(number,    "bytes of a number that is sent") \
    ROW(inside,    "bytes/s of a device to its near ones, one way") \
    ROW(near,      "how many are near") \
    ROW(outside,   "bytes/s of a device to all others") \
    ROW(all_to_all,"share of it that an exchange of all with all reaches") \
    ROW(watts,     "of a device that works, with what it needs of its host") \
    ROW(pue,       "energy of the building / energy of the machines") \
    ROW(element,   "seconds of an element of a sub-layer (norms, activations, residuals)") \
    ROW(score,     "seconds of a score of attention, or of a logit") \
    ROW(update,    "seconds of a parameter's update") \
    ROW(call,      "seconds of a sub-layer, whatever its size")

typedef struct device {
    const char *name, *what;
#define DEVICE_FIELD(field, help) double field;
    DEVICE_ROWS(DEVICE_FIELD)
#undef DEVICE_FIELD
} device;

// Peaks and links are those of the makers; watts of TPUv4 and the PUE of 1.11 are the paper's own
// (326 W a chip as measured), those of the others what the maker says for the board or the machine.
// The inside of a TPU is an axis of its torus; a mesh of more than 8 along Y takes two.
static const device devices[] = {
    {"laptop", "8 cores with AVX2, 16 GB", 0.8e12, 0.5, 16e9, 4, 1e9, 1, 1e8, 0.6, 45, 1, 0, 0, 0,
     0},
    {"server", "two sockets, 6 TFLOP/s of floats, 100 Gb/s", 6e12, 0.7, 512e9, 4, 12.5e9, 1, 12.5e9,
     0.6, 800, 1.2, 0, 0, 0, 0},
    {"a100", "80 GB, NVLink", 312e12, 0.5, 80e9, 2, 300e9, 8, 25e9, 0.6, 400, 1.1, 0, 0, 0, 0},
    {"h100", "80 GB, NVLink", 989e12, 0.5, 80e9, 2, 450e9, 8, 50e9, 0.6, 700, 1.1, 0, 0, 0, 0},
    {"tpuv3", "one core, 16 GB", 70e12, 0.5, 16e9, 2, 100e9, 1e9, 100e9, 0.6, 140, 1.11, 0, 0, 0,
     0},
    {"tpuv4", "32 GB, torus", 275e12, 0.5, 32e9, 2, 90e9, 1e9, 90e9, 0.6, 326, 1.11, 0, 0, 0, 0},
};
enum { DEVICES = sizeof devices / sizeof devices[0] };

// Of one token and one layer where not said otherwise; matrices are numbers of parameters.
typedef struct work {
    double tokens, context;              // T of a step, S
    double d_model, width;               // M, A
    double layers, mixtures;             // those with experts; the others are dense
    double attention, dense, expert;     // parameters of an attention, a feed-forward, an expert
    double embed;                        // parameters that the logits are made with
    double vocab, looked_up;             // V; parameters that are only looked up
    double experts, top_k, capacity;     // capacity: slots / even load, 1 where none is dropped
    double hidden, expert_hidden;        // elements between the matrices
    double heads;
    double passes;                       // 3: forward and backward; 4: recomputed as well
    int    adamw;
} work;

typedef struct estimate {
    double flops, parameters, active;                 // of a token, training; all; for a token
    double sent_model, sent_dispatch, sent_dense, sent_replicas;        // bytes of a device
    double compute, model, dispatch, dense, replicas; // seconds
    double low, high;                                 // of a step
    double memory;                                    // bytes of a device
    double mfu_low, mfu_high;                         // 6 active T / (N peak time)
    double joules_low, joules_high;                   // of all devices and a step
    const char *bottleneck;
} estimate;

// FLOPs of a token in training; slots that capacity keeps free are worked on as well.
static double work_flops(const work *w)
{
    double dense = w->layers - w->mixtures, k = w->top_k * w->capacity;
    double matrices = w->layers * w->attention + dense * w->dense + w->embed +
                      w->mixtures * (k * w->expert + w->experts * w->d_model);
    return w->passes * (2 * matrices + 2 * w->layers * w->context * w->width);
}

// What a step is made of: FLOPs, elements of sub-layers, scores and logits, parameters to update,
// sub-layers and experts that are called.  Only small machines feel the last four.
enum { PARTS = 5 };
static void step_parts(const work *w, double *amount)
{
    double dense = w->layers - w->mixtures, k = w->top_k * w->capacity;
    amount[0] = w->tokens * work_flops(w);
    amount[1] = w->tokens * (w->layers * 4 * (w->d_model + w->width) + dense * 2 * w->hidden +
                             w->mixtures * k * (w->expert_hidden + 2 * w->d_model));
    amount[2] = w->tokens * (w->layers * w->context * w->heads + w->vocab);
    amount[3] = w->layers * w->attention + dense * w->dense + w->embed + w->looked_up +
                w->mixtures * w->experts * (w->expert + w->d_model);
    amount[4] = 2 * w->layers + 2 + w->mixtures * w->experts;
}

// Which of the terms is the longest.
static const char *longest(const estimate *e)
{
    static const char *const names[] = {"compute", "sums over the model axis", "dispatch to experts",
                                        "gathering dense weights", "sums of experts' gradients"};
    const double term[] = {e->compute, e->model, e->dispatch, e->dense, e->replicas};
    int most = 0;
    for (int i = 1; i < 5; i++) if (term[i] > term[most]) most = i;
    return names[most];
}

// Bytes per second of an axis of `size`; the far one where they are not all near.
static double bandwidth(const device *d, int size, int model_axis)
{
    if (d->near > 1e6) return model_axis && size > 8 ? 2 * d->inside : d->inside;
    return size <= d->near ? d->inside : d->outside;
}

static void estimate_sent(const work *w, const device *d, int X, int Y, int store, estimate *e)
{
    double t = w->tokens / X, dense = w->layers - w->mixtures, back = w->passes - 1;
    double k = w->top_k * w->capacity, share_x = (X - 1.0) / X, share_y = (Y - 1.0) / Y;
    double plain = w->layers * w->attention + dense * w->dense + w->embed + w->looked_up;
    double ways = 2 * w->layers + 2 * dense + 2 * w->mixtures * k, copies = X / w->experts;
    e->sent_model = t * w->d_model * d->number * share_y * ways * back;
    e->sent_dispatch = 2 * w->mixtures * t * k * w->d_model * d->number / Y * share_x * back;
    e->sent_dense = plain / Y * share_x * (store ? 3 * d->number + 4 : 2 * d->number);
    e->sent_replicas = 0;
    if (w->experts > 0 && copies > 1)
        e->sent_replicas = w->mixtures * w->expert / Y * (store ? 4 : d->number) * 2 *
                           (copies - 1) / copies;
    e->model = e->sent_model / (0.8 * bandwidth(d, Y, 1));
    // rows of X are not near each other where Y is what is near
    int far = Y > 1 && d->near < 1e6 ? (int)d->near + 1 : X;
    e->dispatch = e->sent_dispatch / (d->all_to_all * bandwidth(d, far, 0));
    e->dense = e->sent_dense / (0.8 * bandwidth(d, far, 0));
    e->replicas = e->sent_replicas / (0.8 * bandwidth(d, far, 0));
}

// store: dense weights lie in shares over X too.
static estimate estimate_step(const work *w, const device *d, int X, int Y, int store)
{
    estimate e;
    memset(&e, 0, sizeof e);
    double N = (double)X * Y, t = w->tokens / X;
    double plain = w->layers * w->attention + (w->layers - w->mixtures) * w->dense + w->embed;
    e.parameters = plain + w->looked_up + w->mixtures * w->experts * (w->expert + w->d_model);
    e.active = plain + w->looked_up + w->mixtures * (w->top_k * w->expert +
                                                     w->experts * w->d_model);
    e.flops = work_flops(w);
    double amount[PARTS];
    step_parts(w, amount);
    e.compute = (amount[0] / (d->eta * d->flops) + amount[1] * d->element + amount[2] * d->score +
                 amount[3] * d->update) / N + amount[4] * d->call;
    estimate_sent(w, d, X, Y, store, &e);
    double sent = e.model + e.dispatch + e.dense + e.replicas;
    e.low = fmax(e.compute, sent);
    e.high = e.compute + sent;
    e.bottleneck = longest(&e);
    e.mfu_low = 6 * e.active * w->tokens / (N * d->flops * e.high);
    e.mfu_high = 6 * e.active * w->tokens / (N * d->flops * e.low);
    e.joules_low = e.low * N * d->watts * d->pue;
    e.joules_high = e.high * N * d->watts * d->pue;
    double own = w->experts > 0 && X > w->experts ? w->experts * Y : N;   // who share the experts
    double held = w->mixtures * w->experts * w->expert / own +
                  (plain + w->looked_up) / (store ? N : Y);
    e.memory = held * (4 + 4 + (w->adamw ? 8 : 0)) + w->layers * t * w->d_model / Y * d->number +
               t * (2 * (w->hidden + w->width) + w->vocab) / Y * d->number / 8;
    return e;
}

// == the paper's table, as printed ==========================================================

typedef struct printed { const char *name; double parameters, active; } printed;
static const printed paper_table[] = {
    {"0.1B", 130e6, 130e6}, {"0.1B/64E", 1.9e9, 145e6}, {"1.7B", 1.7e9, 1.700e9},
    {"1.7B/32E", 20e9, 1.878e9}, {"1.7B/64E", 27e9, 1.879e9}, {"1.7B/128E", 53e9, 1.881e9},
    {"1.7B/256E", 105e9, 1.886e9}, {"8B", 8.7e9, 8.7e9}, {"8B/64E", 143e9, 9.8e9},
    {"137B", 137e9, 137e9}, {"64B/64E", 1.2e12, 96.6e9} };
enum { PAPER_ROWS = sizeof paper_table / sizeof paper_table[0] };

static const printed *printed_row(const char *name)
{
    for (int i = 0; i < PAPER_ROWS; i++)
        if (strcmp(paper_table[i].name, name) == 0) return &paper_table[i];
    return NULL;
}

// == energy =================================================================================

// Megawatt-hours of machines that run for some hours.
static double megawatt_hours(double machines, double hours, double watts, double pue)
{
    return machines * hours * watts * pue * 1e-6;
}

// == published systems ======================================================================

// What is known of a run, and how long a step of it took.  eta 0: the device's own.
typedef struct published {
    const char *name, *device, *source;
    int    X, Y, store;
    double eta, all_to_all, step;
    work   w;
} published;

// attention, dense and expert are parameters of one layer: 4 M A, 3 M H or 2 M H, and so on.
static const published cases[] = {
    {"GLaM 64B/64E, 1,024 TPUv4", "tpuv4", "paper: 574 h for 280 B tokens", 64, 16, 1, 0, 0, 7.74,
     {1048576, 1024, 8192, 16384, 64, 32, 4.0 * 8192 * 16384, 3.0 * 8192 * 32768,
      2.0 * 8192 * 32768, 256000.0 * 8192, 256000, 0, 64, 2, 1, 32768, 32768, 128, 4, 0}},
    {"Mixtral 8x7B, 64 H100", "h100", "Megatron-Core: 468 TFLOP/s a GPU", 64, 1, 0, 0, 0, 2.82,
     {1048576, 4096, 4096, 4096, 32, 32, 4096.0 * (2 * 4096 + 2 * 1024), 0, 3.0 * 4096 * 14336,
      32000.0 * 4096, 32000, 32000.0 * 4096, 8, 2, 1, 0, 14336, 32, 3, 1}},
    {"DeepSpeed 6.7B, 128 A100", "a100", "NLG post: 70 samples/s", 128, 1, 0, 0, 0, 7.31,
     {1048576, 2048, 4096, 4096, 32, 0, 4.0 * 4096 * 4096, 2.0 * 4096 * 16384, 0, 50257.0 * 4096,
      50257, 0, 0, 0, 1, 16384, 0, 32, 4, 1}},
    {"DeepSpeed 1.3B+MoE-128, 128 A100", "a100", "NLG post: 372 samples/s", 128, 1, 0, 0, 0, 1.38,
     {1048576, 2048, 2048, 2048, 24, 12, 4.0 * 2048 * 2048, 2.0 * 2048 * 8192, 2.0 * 2048 * 8192,
      50257.0 * 2048, 50257, 0, 128, 1, 1.25, 8192, 8192, 16, 4, 1}},
    {"  the same, eta from the dense run", "a100", "eta 0.25 = what 6.7B reached", 128, 1, 0, 0.25,
     0, 1.38,
     {1048576, 2048, 2048, 2048, 24, 12, 4.0 * 2048 * 2048, 2.0 * 2048 * 8192, 2.0 * 2048 * 8192,
      50257.0 * 2048, 50257, 0, 128, 1, 1.25, 8192, 8192, 16, 4, 1}},
    {"GShard 600B, 2,048 TPUv3 cores", "tpuv3", "paper: 0.72 step/s of 4 M tokens", 2048, 1, 0, 0,
     0.1, 1.39,
     {4e6, 1024, 1024, 2048, 36, 18, 4.0 * 1024 * 2048, 2.0 * 1024 * 8192, 2.0 * 1024 * 8192,
      64000.0 * 1024, 64000, 0, 2048, 2, 1, 8192, 8192, 16, 4, 0}},
};
enum { CASES = sizeof cases / sizeof cases[0] };

static const device *find_device(const char *name)
{
    for (int i = 0; i < DEVICES; i++) if (strcmp(devices[i].name, name) == 0) return &devices[i];
    return NULL;
}

static estimate estimate_case(const published *c)
{
    device d = *find_device(c->device);
    if (c->eta > 0) d.eta = c->eta;
    if (c->all_to_all > 0) d.all_to_all = c->all_to_all;
    return estimate_step(&c->w, &d, c->X, c->Y, c->store);
}

#endif
