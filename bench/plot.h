/* plot.h - plots as SVG, drawn line by line: panels with axes, curves, dots and labels.
   Used by study.c.

   A curve is told apart by its mark and its dashes as well as by its colour, and has its name at
   its end.  Number of experts is an order, so mixtures are one hue from light to dark; the dense
   model, which is what they are compared with, has another. */

#ifndef PLOT_H
#define PLOT_H

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

typedef struct plot {                  // one panel
    FILE  *f;
    double left, top, width, height;   // of the inside, in pixels
    double x0, x1, y0, y1;             // the numbers at its edges
    int    log_x;
    double tick;                       // of a logarithmic x: the first, others are 2, 4 .. times it
} plot;

typedef struct style { const char *colour, *dash; char mark; } style;

#define INK "#1f2328"
#define PALE "#59636e"
#define GRID "#e3e6ea"

// A value as plots show it: 1.5k, 800k, 3.2M, 4.1G.
static const char *plot_short(double v, char *out, size_t size)
{
    static const struct { double of; const char *letter; } unit[] = {
        {1e15, "P"}, {1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}, {1, ""} };
    int i = 0;
    while (i < 5 && fabs(v) < unit[i].of) i++;
    snprintf(out, size, "%.3g%s", v / unit[i].of, unit[i].letter);
    return out;
}

static FILE *plot_open(const char *path, int width, int height, const char *title,
                       const char *under)
{
    FILE *f = fopen(path, "w");
    if (!f) return NULL;
    fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
            "height=\"%d\" font-family=\"system-ui,sans-serif\" font-size=\"12\" fill=\"" INK
            "\" role=\"img\">\n<title>%s</title>\n<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n"
            "<text x=\"16\" y=\"24\" font-size=\"15\" font-weight=\"600\">%s</text>\n"
            "<text x=\"16\" y=\"42\" fill=\"" PALE "\">%s</text>\n", width, height, width, height,
            title, width, height, title, under);
    return f;
}

static int plot_close(FILE *f)
{
    fputs("</svg>\n", f);
    return fclose(f) == 0;
}

static double plot_x(const plot *p, double x)
{
    double part = p->log_x ? log(x / p->x0) / log(p->x1 / p->x0) : (x - p->x0) / (p->x1 - p->x0);
    return p->left + part * p->width;
}

static double plot_y(const plot *p, double y)
{
    return p->top + p->height * (1 - (y - p->y0) / (p->y1 - p->y0));
}

static void plot_text(const plot *p, double x, double y, const char *anchor, const char *colour,
                      const char *format, ...)
{
    va_list args;
    fprintf(p->f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" fill=\"%s\">", x, y, anchor,
            colour);
    va_start(args, format);
    vfprintf(p->f, format, args);
    va_end(args);
    fputs("</text>\n", p->f);
}

// 1, 2 or 5 times a power of ten, so that `most` ticks or fewer fit.
static double plot_tick(double range, int most)
{
    double unit = pow(10, floor(log10(range / most)));
    for (int i = 0; i < 3; i++) {
        double step = unit * (i == 0 ? 1 : i == 1 ? 2 : 5);
        if (range / step <= most) return step;
    }
    return 10 * unit;
}

static void plot_x_tick(const plot *p, double x)
{
    char text[32];
    double at = plot_x(p, x), bottom = p->top + p->height;
    fprintf(p->f, "<path d=\"M%.1f %.1fv4\" stroke=\"" PALE "\"/>\n", at, bottom);
    plot_text(p, at, bottom + 17, "middle", PALE, "%s", plot_short(x, text, sizeof text));
}

static void plot_axes(const plot *p, const char *x_name, const char *y_name, int y_numbers)
{
    double step = plot_tick(p->y1 - p->y0, 6), bottom = p->top + p->height;
    for (double y = ceil(p->y0 / step - 1e-9) * step; y <= p->y1 + 1e-9 * step; y += step) {
        double at = plot_y(p, y);
        fprintf(p->f, "<path d=\"M%.1f %.1fh%.1f\" stroke=\"" GRID "\"/>\n", p->left, at, p->width);
        if (y_numbers) plot_text(p, p->left - 7, at + 4, "end", PALE, "%.*f",
                                 step < 0.1 ? 2 : step < 1 ? 1 : 0, fabs(y) < 1e-9 ? 0 : y);
    }
    if (p->log_x) {
        double factor = pow(2, ceil(log2(p->x1 / p->x0) / 7));
        for (double x = p->tick > 0 ? p->tick : p->x0; x <= p->x1 * 1.0001; x *= factor) plot_x_tick(p, x);
    } else {
        double wide = plot_tick(p->x1 - p->x0, 6);
        for (double x = ceil(p->x0 / wide - 1e-9) * wide; x <= p->x1 + 1e-9 * wide; x += wide)
            plot_x_tick(p, fabs(x) < 1e-9 * wide ? 0 : x);
    }
    fprintf(p->f, "<path d=\"M%.1f %.1fh%.1f\" stroke=\"" PALE "\"/>\n", p->left, bottom, p->width);
    plot_text(p, p->left + p->width / 2, bottom + 36, "middle", PALE, "%s", x_name);
    if (!*y_name) return;
    double middle = p->top + p->height / 2;
    fprintf(p->f, "<text transform=\"translate(18 %.1f) rotate(-90)\" text-anchor=\"middle\" "
            "fill=\"" PALE "\">%s</text>\n", middle, y_name);
}

// o: circle, s: square, d: diamond, t: triangle, x: cross; hollow ones are single runs.
static void plot_mark(const plot *p, double x, double y, style s, double r, int hollow)
{
    const char *fill = hollow || s.mark == 'x' ? "none" : s.colour;
    double a = plot_x(p, x), b = plot_y(p, y);
    if (s.mark == 'o') fprintf(p->f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"", a, b, r);
    else if (s.mark == 's')
        fprintf(p->f, "<path d=\"M%.1f %.1fh%.1fv%.1fh%.1fz\"", a - r, b - r, 2 * r, 2 * r, -2 * r);
    else if (s.mark == 'd')
        fprintf(p->f, "<path d=\"M%.1f %.1fl%.1f %.1fl%.1f %.1fl%.1f %.1fz\"", a, b - 1.3 * r,
                1.3 * r, 1.3 * r, -1.3 * r, 1.3 * r, -1.3 * r, -1.3 * r);
    else if (s.mark == 't')
        fprintf(p->f, "<path d=\"M%.1f %.1fl%.1f %.1fh%.1fz\"", a, b - 1.2 * r, 1.2 * r, 2.2 * r,
                -2.4 * r);
    else
        fprintf(p->f, "<path d=\"M%.1f %.1fl%.1f %.1fm0 %.1fl%.1f %.1f\"", a - r, b - r, 2 * r,
                2 * r, -2 * r, -2 * r, 2 * r);
    fprintf(p->f, " fill=\"%s\" stroke=\"%s\" stroke-width=\"1.5\"/>\n", fill, s.colour);
}

// Points outside the panel are left out.
static void plot_curve(const plot *p, const double *x, const double *y, int n, style s)
{
    char letter = 'M';
    fprintf(p->f, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\"%s%s%s d=\"", s.colour,
            *s.dash ? " stroke-dasharray=\"" : "", s.dash, *s.dash ? "\"" : "");
    for (int i = 0; i < n; i++) {
        if (x[i] < p->x0 || y[i] > p->y1) continue;
        fprintf(p->f, "%c%.1f %.1f", letter, plot_x(p, x[i]), plot_y(p, y[i]));
        letter = 'L';
    }
    fputs("\"/>\n", p->f);
    for (int i = 0; i < n; i++)
        if (x[i] >= p->x0 && y[i] <= p->y1) plot_mark(p, x[i], y[i], s, 3, 0);
}

// Names at the right edge with their marks, each at its height, or as near as they fit.
typedef struct plot_name { double at; const char *text; style s; } plot_name;

static void plot_names(const plot *p, plot_name *name, int n)
{
    for (int i = 1; i < n; i++)                                   // by height, from the top
        for (int k = i; k > 0 && name[k].at < name[k - 1].at; k--) {
            plot_name t = name[k];
            name[k] = name[k - 1];
            name[k - 1] = t;
        }
    for (int pass = 0; pass < 200; pass++) {
        double low = p->top + p->height - 6;                      // clear of the numbers below
        if (n && name[n - 1].at > low) name[n - 1].at = low;
        for (int i = 1; i < n; i++) {
            double lack = 14 - (name[i].at - name[i - 1].at);
            if (lack <= 0) continue;
            name[i].at += lack / 2;
            name[i - 1].at -= lack / 2;
        }
    }
    for (int i = 0; i < n; i++) {
        plot at = *p;
        at.x0 = at.y0 = at.log_x = 0;                             // pixels
        at.x1 = at.width;
        at.y1 = at.height;
        plot_mark(&at, at.width + 13, at.height - (name[i].at - at.top), name[i].s, 3.5, 0);
        plot_text(p, p->left + p->width + 21, name[i].at + 4, "start", INK, "%s", name[i].text);
    }
}

#endif
