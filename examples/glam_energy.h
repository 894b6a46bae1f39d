/* glam_energy.h - joules: read where the machine counts them, reckoned from the work elsewhere.
   A part of glam.c and of bench/study.c.

   Linux shows the counters of a processor (RAPL) as folders under /sys/class/powercap: intel-rapl:0
   is the first package, whoever made it, intel-rapl:0:0 a part of it.  Packages are added up, and
   memory ("dram"), which no package includes; other parts lie inside a package, and "psys" holds
   everything once more.  A counter says how far it goes before it begins again, often after some
   twenty minutes of work, so it is read at every step.  It counts the whole package: what else the
   machine does is in it.

   Where nothing can be read (a guest, no rights: the files are root's on most systems) joules are
   FLOPs times a stated figure, and whoever prints them says so. */

#ifndef GLAM_ENERGY_H
#define GLAM_ENERGY_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { ENERGY_COUNTERS = 16, ENERGY_PATH = 512 };

// Joules for 1e9 floating-point operations where no counter can be read.  A server core does some
// 50 GFLOP/s of the small float products of these models at about 5 W of its package.
static const double ENERGY_FIGURE = 0.1;

typedef struct energy_counter {
    char     path[ENERGY_PATH];               // of energy_uj
    uint64_t last, range;                     // microjoules; the largest that it shows
} energy_counter;

typedef struct energy {
    int            counters;                  // 0: joules come from the figure
    energy_counter counter[ENERGY_COUNTERS];
    double         figure;                    // joules for 1e9 FLOPs
    double         flops;                     // at the last reading
    double         joules;                    // so far
} energy;

// The one number that such a file holds.
static int energy_number(const char *path, uint64_t *value)
{
    char text[32] = "";
    FILE *f = fopen(path, "rb");
    if (!f) return 0;
    size_t n = fread(text, 1, sizeof text - 1, f), at = 0;
    fclose(f);
    text[n] = 0;
    for (*value = 0; text[at] >= '0' && text[at] <= '9'; at++)
        *value = *value * 10 + (uint64_t)(text[at] - '0');
    return at > 0;
}

// How far a counter went from one reading to the next; it begins again behind `range`.
static uint64_t energy_since(uint64_t last, uint64_t now, uint64_t range)
{
    return now >= last ? now - last : now + (range - last) + 1;
}

static void energy_add(energy *e, const char *folder)
{
    char path[ENERGY_PATH], name[16] = "";
    if (e->counters == ENERGY_COUNTERS) return;
    energy_counter *c = &e->counter[e->counters];
    if (snprintf(path, sizeof path, "%s/name", folder) >= (int)sizeof path) return;
    FILE *f = fopen(path, "rb");
    if (f && !fgets(name, sizeof name, f)) name[0] = 0;
    if (f) fclose(f);
    int part = strchr(strrchr(folder, '/'), ':') != strrchr(folder, ':');
    if (part ? strncmp(name, "dram", 4) != 0 : strncmp(name, "psys", 4) == 0) return;
    if (snprintf(c->path, sizeof c->path, "%s/energy_uj", folder) >= (int)sizeof c->path) return;
    if (!energy_number(c->path, &c->last)) return;
    if (snprintf(path, sizeof path, "%s/max_energy_range_uj", folder) >= (int)sizeof path) return;
    if (!energy_number(path, &c->range) || c->range < c->last)      // not told: of its own width
        c->range = c->last <= UINT32_MAX ? UINT32_MAX : UINT64_MAX;
    e->counters++;
}

// root NULL: /sys/class/powercap.  figure: joules for 1e9 FLOPs where nothing can be read.
static void energy_open(energy *e, const char *root, double figure)
{
    char folder[ENERGY_PATH - 32];
    memset(e, 0, sizeof *e);
    e->figure = figure;
    for (int package = 0; package < ENERGY_COUNTERS; package++)
        for (int part = -1; part < 4; part++) {
            int n = snprintf(folder, sizeof folder, "%s/intel-rapl:%d",
                             root ? root : "/sys/class/powercap", package);
            if (n < 0 || n + 4 > (int)sizeof folder) return;
            if (part >= 0) snprintf(folder + n, sizeof folder - (size_t)n, ":%d", part);
            energy_add(e, folder);
        }
}

// flops: done so far.  Returns the joules since the last reading, and adds them up.
static double energy_take(energy *e, double flops)
{
    double more = 0;
    for (int i = 0; i < e->counters; i++) {
        energy_counter *c = &e->counter[i];
        uint64_t now;
        if (!energy_number(c->path, &now)) continue;                // its joules come next time
        more += 1e-6 * (double)energy_since(c->last, now, c->range);
        c->last = now;
    }
    if (e->counters == 0) more = e->figure * 1e-9 * (flops - e->flops);
    e->flops = flops;
    e->joules += more;
    return more;
}

// What was used since the last reading is somebody else's.
static void energy_skip(energy *e, double flops)
{
    double ours = e->joules;
    energy_take(e, flops);
    e->joules = ours;
}

static const char *energy_words(const energy *e)
{
    static char words[64];
    if (e->counters) return "counted by the machine";
    snprintf(words, sizeof words, "FLOPs at %g J for 1e9", e->figure);
    return words;
}

static const char *energy_source(const energy *e)
{
    return e->counters ? "rapl" : "figure";
}

#endif
