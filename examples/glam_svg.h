/* glam_svg.h - charts as SVG: lines over steps, and tables of shares as heat maps.  Each stands in
   a page, whose colours it takes, or alone, with its own.  A part of glam.c.

   A colour never says anything alone: lines end in their name, the second kind is dashed, cells
   have their number. */

#ifndef GLAM_SVG_H
#define GLAM_SVG_H

// The colours of both themes.  --l0 to --l7 are lines, as dark or as light as the ground wants.
static const char svg_colours[] =
    "--ground:#fff;--ink:#1a1a1a;--soft:#595959;--rule:#d8d8d8;--hot:#2f6db3;"
    "--l0:#2f6db3;--l1:#b8441a;--l2:#8a6d00;--l3:#b02f73;--l4:#14799b;--l5:#1a7354;--l6:#5f6d00;"
    "--l7:#666;color-scheme:light dark";
static const char svg_dark[] =
    "--ground:#15171a;--ink:#e9e9e6;--soft:#a9abad;--rule:#3d4145;--hot:#2f6db3;"
    "--l0:#77aadd;--l1:#ee8866;--l2:#eedd88;--l3:#ffaabb;--l4:#99ddff;--l5:#44bb99;--l6:#bbcc33;"
    "--l7:#ddd";
static const char svg_rules[] =
    ".chart{font:11px system-ui,sans-serif;background:var(--ground)}"
    ".chart text{fill:var(--soft)}.chart .head{fill:var(--ink);font-size:12px;font-weight:600}"
    ".chart .number{fill:var(--ink)}.chart .over{paint-order:stroke;stroke:var(--ground);"
    "stroke-width:3px}.chart .rule{stroke:var(--rule)}"
    ".chart .level{stroke:var(--ink);stroke-dasharray:1 3}"
    ".chart .line{fill:none;stroke-width:1.7;stroke-linejoin:round}"
    ".chart .dash{stroke-dasharray:6 4}.chart .faint{stroke:var(--soft);opacity:.35;stroke-width:1}"
    ".chart .cell{fill:var(--hot)}.chart .dot{stroke:none}";

enum { CHART_WIDE = 360, CHART_HIGH = 220,       // a telephone's width, unscaled
       CHART_LEFT = 44, CHART_RIGHT = 316, CHART_TOP = 26, CHART_BOTTOM = 190,
       LINE_NAME = 16 };

static void put(json_out *o, const char *text)
{
    json_put(o, text, strlen(text));
}

// What printf would print, as long as it is.
static void put_format(json_out *o, const char *format, ...) GLAM_FORMAT(2, 3);
static void put_format(json_out *o, const char *format, ...)
{
    char some[200], *all = some;
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(some, sizeof some, format, args);
    if (length >= (int)sizeof some) {
        all = (char *)need((size_t)length + 1);
        vsnprintf(all, (size_t)length + 1, format, again);
    }
    va_end(again);
    va_end(args);
    if (length > 0) json_put(o, all, (size_t)length);
    if (all != some) free(all);
}

// Text inside HTML and SVG.
static void put_escaped(json_out *o, const char *text)
{
    for (; *text; text++) {
        if (*text == '<') put(o, "&lt;");
        else if (*text == '>') put(o, "&gt;");
        else if (*text == '&') put(o, "&amp;");
        else if (*text == '"') put(o, "&quot;");
        else json_put(o, text, 1);
    }
}

// From <svg on.  alone: with a name space and colours of its own.
static void svg_begin(json_out *o, int wide, int high, const char *title, int alone)
{
    put_format(o, "<svg class=\"chart\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" "
               "role=\"img\"", wide, high, wide, high);
    if (alone) put(o, " xmlns=\"http://www.w3.org/2000/svg\"");
    put(o, " aria-label=\"");
    put_escaped(o, title);
    put(o, "\">");
    if (!alone) return;
    put(o, "<style>.chart{");
    put(o, svg_colours);
    put(o, "}@media(prefers-color-scheme:dark){.chart{");
    put(o, svg_dark);
    put(o, "}}");
    put(o, svg_rules);
    put(o, "</style>");
}

static void svg_text(json_out *o, double x, double y, const char *class_name, const char *anchor,
                     const char *text)
{
    put_format(o, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\" text-anchor=\"%s\">", x, y, class_name,
               anchor);
    put_escaped(o, text);
    put(o, "</text>");
}

static void svg_line(json_out *o, double x0, double y0, double x1, double y1,
                     const char *class_name)
{
    put_format(o, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"%s\"/>", x0, y0,
               x1, y1, class_name);
}

// == lines over steps =======================================================================

typedef struct chart_line {
    char    name[LINE_NAME];                     // at its end
    double *x, *y;
    int     count, colour, dashed, faint, dots;
} chart_line;

typedef struct chart {
    const char *file, *title, *unit;             // file: of --svg, without .svg
    chart_line *line;
    int         lines, digits;                   // of the numbers that are read off
    int         from_zero, whole;                // the axis begins at 0; has whole numbers
    int         cut;                             // its top is what the first tenth leaves below it
    double      level, slots;                    // a dotted line each; 0: none
    double      x0, x1, y0, y1, over;            // over: the largest value above the top, if any
    const char *across;                          // what x is; NULL: steps
} chart;

// 1, 2, 2.5 or 5 times a power of ten, so that about `count` steps cover the range.
static double nice_step(double range, int count)
{
    double raw = range / count, power = pow(10, floor(log10(raw))), part = raw / power;
    return power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 2.5 ? 2.5 : part <= 5 ? 5 : 10);
}

static void chart_range(chart *c)
{
    c->x0 = c->y0 = 1e300;
    c->x1 = c->y1 = -1e300;
    for (int i = 0; i < c->lines; i++)
        for (int k = 0; k < c->line[i].count; k++) {
            include(c->line[i].x[k], &c->x0, &c->x1);
            if (isfinite(c->line[i].y[k])) include(c->line[i].y[k], &c->y0, &c->y1);
        }
    if (c->from_zero) include(0, &c->y0, &c->y1);
    if (c->level > 0) include(c->level, &c->y0, &c->y1);
    if (c->slots > 0) include(c->slots, &c->y0, &c->y1);
    if (!(c->x1 > c->x0)) c->x1 = c->x0 + 1;
    if (!(c->y1 > c->y0)) c->y1 = c->y0 + (c->y0 > 0 ? c->y0 : 1);
}

// A loss falls from 5.5 to 2 in its first steps: little of the axis is then left for all that comes
// after them, where two runs differ by hundredths.
static void chart_cut(chart *c)
{
    double low = 1e300, top = -1e300, from = c->x0 + (c->x1 - c->x0) / 10;
    for (int i = 0; i < c->lines; i++)
        for (int k = 0; k < c->line[i].count; k++)
            if (c->line[i].x[k] >= from && isfinite(c->line[i].y[k]))
                include(c->line[i].y[k], &low, &top);
    if (!(top > c->y0) || top >= c->y1) return;
    c->over = c->y1;
    c->y1 = top;
}

static double chart_x(const chart *c, double x)
{
    return CHART_LEFT + (CHART_RIGHT - CHART_LEFT) * (x - c->x0) / (c->x1 - c->x0);
}

static double chart_y(const chart *c, double y)
{
    double high = CHART_BOTTOM - (CHART_BOTTOM - CHART_TOP) * (y - c->y0) / (c->y1 - c->y0);
    return high < CHART_TOP ? CHART_TOP : high;
}

static void chart_axes(json_out *o, const chart *c)
{
    char number[40];
    double step = nice_step(c->y1 - c->y0, 4);
    if (c->whole) step = ceil(step);
    for (double y = ceil(c->y0 / step - 1e-9) * step; y <= c->y1 + step * 1e-9; y += step) {
        svg_line(o, CHART_LEFT, chart_y(c, y), CHART_RIGHT, chart_y(c, y), "rule");
        snprintf(number, sizeof number, "%.4g", fabs(y) < step * 1e-6 ? 0.0 : y);
        svg_text(o, CHART_LEFT - 5, chart_y(c, y) + 4, "", "end", number);
    }
    step = nice_step(c->x1 - c->x0, 4);
    for (double x = ceil(c->x0 / step - 1e-9) * step; x <= c->x1 + step * 1e-9; x += step) {
        snprintf(number, sizeof number, "%.6g", x);
        svg_text(o, chart_x(c, x), CHART_BOTTOM + 15, "", "middle", number);
    }
    svg_text(o, CHART_RIGHT, CHART_BOTTOM + 27, "", "end",
             c->across ? c->across : "step");
    svg_text(o, 2, 14, "head", "start", c->title);
    svg_text(o, CHART_WIDE - 2, 14, "", "end", c->unit);
    if (c->over > c->y1) {
        snprintf(number, sizeof number, "from %.3g, above", c->over);
        svg_text(o, CHART_LEFT + 60, CHART_TOP + 9, "number over", "start", number);
    }
}

// Dotted lines with their names, which stand above the curves.
static void chart_rules(json_out *o, const chart *c)
{
    struct { double at; const char *what; } rules[2] = {{c->level, "even"}, {c->slots, "slots"}};
    for (int i = 0; i < 2; i++) {
        if (rules[i].at <= 0) continue;
        svg_line(o, CHART_LEFT, chart_y(c, rules[i].at), CHART_RIGHT, chart_y(c, rules[i].at),
                 "level");
        int below = i == 0 && c->slots > c->level;       // its name would lie on the other's
        svg_text(o, CHART_LEFT + 3, chart_y(c, rules[i].at) + (below ? 11 : -3), "number over",
                 "start", rules[i].what);
    }
}

// The values go with the line, so that the page can tell them as they are.
static void chart_curve(json_out *o, const chart *c, const chart_line *l)
{
    const char *kind = l->dashed ? "line dash" : l->faint ? "line faint" : "line";
    put_format(o, "<g data-n=\"%s\" data-x=\"", l->name);
    for (int k = 0; k < l->count; k++) put_format(o, "%s%.7g", k ? " " : "", l->x[k]);
    put(o, "\" data-y=\"");
    for (int k = 0; k < l->count; k++) {
        if (k) put(o, " ");
        if (isfinite(l->y[k])) put_format(o, "%.*g", c->digits, l->y[k]);
        else put(o, "-");
    }
    put_format(o, "\"><polyline class=\"%s\"", kind);
    if (!l->faint) put_format(o, " stroke=\"var(--l%d)\"", l->colour % 8);
    put(o, " points=\"");
    for (int k = 0; k < l->count; k++) {                 // above the top: where it comes from alone
        int above = l->y[k] > c->y1 && (k + 1 == l->count || l->y[k + 1] > c->y1);
        if (isfinite(l->y[k]) && !above)
            put_format(o, "%.1f,%.1f ", chart_x(c, l->x[k]), chart_y(c, l->y[k]));
    }
    put(o, "\"/>");
    for (int k = 0; k < l->count && l->dots; k++)
        if (isfinite(l->y[k]))
            put_format(o, "<circle class=\"dot\" fill=\"var(--l%d)\" r=\"2.5\" cx=\"%.1f\" "
                       "cy=\"%.1f\"/>", l->colour % 8, chart_x(c, l->x[k]),
                       chart_y(c, l->y[k]));
    put(o, "</g>");
}

// The names of the lines at their ends, none on another.
static void chart_names(json_out *o, const chart *c)
{
    struct { int line; double y; } at[64];
    int count = 0;
    for (int i = 0; i < c->lines && count < 64; i++) {
        const chart_line *l = &c->line[i];
        int last = l->count - 1;
        while (last >= 0 && !isfinite(l->y[last])) last--;
        if (l->faint || last < 0) continue;
        double y = chart_y(c, l->y[last]);
        int place = count++;
        for (; place > 0 && at[place - 1].y > y; place--) at[place] = at[place - 1];
        at[place].line = i;
        at[place].y = y;
    }
    for (int pass = 0; pass < 50; pass++)
        for (int i = 0; i + 1 < count; i++) {
            double close = 11 - (at[i + 1].y - at[i].y);
            if (close <= 0) continue;
            at[i].y -= close / 2;
            at[i + 1].y += close / 2;
        }
    double floor = CHART_BOTTOM;                         // below are the steps
    for (int i = count - 1; i >= 0; i--) {
        if (at[i].y > floor) at[i].y = floor;
        floor = at[i].y - 11;
    }
    for (int i = 0; i < count; i++) {
        const chart_line *l = &c->line[at[i].line];
        put_format(o, "<text x=\"%d\" y=\"%.1f\" style=\"fill:var(--l%d);font-weight:600\">",
                   CHART_RIGHT + 4, at[i].y + 4, l->colour % 8);
        put_escaped(o, l->name);
        put(o, "</text>");
    }
}

static void chart_draw(json_out *o, chart *c, int alone)
{
    char label[300];
    chart_range(c);
    if (c->cut) chart_cut(c);
    const chart_line *l = &c->line[0];
    snprintf(label, sizeof label, "%s, %s %.4g to %.4g; %s from %.4g to %.4g", c->title,
             c->across ? c->across : "steps", c->x0, c->x1, l->name, l->count ? l->y[0] : 0, l->count ? l->y[l->count - 1] : 0);
    svg_begin(o, CHART_WIDE, CHART_HIGH, label, alone);
    chart_axes(o, c);
    for (int i = 0; i < c->lines; i++) if (c->line[i].faint) chart_curve(o, c, &c->line[i]);
    for (int i = 0; i < c->lines; i++) if (!c->line[i].faint) chart_curve(o, c, &c->line[i]);
    chart_rules(o, c);
    chart_names(o, c);
    put(o, "</svg>\n");
}

// == heat maps ==============================================================================

// Shares of rows x columns, each with its number in percent.
typedef struct heat {
    const char  *file, *title, *corner;
    const char *const *row;                      // names
    const double *share;                         // [rows,columns] 0 to 1; NAN: no cell
    const char *const *note;                     // behind each row; NULL: none
    int          rows, columns, name_wide;       // pixels for the names
} heat;

static void heat_draw(json_out *o, const heat *h, int alone)
{
    enum { CELL = 29, ROW = 21, TOP = 40 };
    char number[40];
    int wide = h->name_wide + h->columns * CELL + (h->note ? 52 : 4);
    int title = 7 * (int)strlen(h->title);
    if (wide < title) wide = title;
    svg_begin(o, wide, TOP + h->rows * ROW + 4, h->title, alone);
    svg_text(o, 2, 14, "head", "start", h->title);
    svg_text(o, 2, TOP - 7, "", "start", h->corner);
    for (int e = 0; e < h->columns; e++) {
        snprintf(number, sizeof number, "%d", e);
        svg_text(o, h->name_wide + e * CELL + CELL / 2, TOP - 7, "number", "middle", number);
    }
    for (int r = 0; r < h->rows; r++) {
        double y = TOP + r * ROW;
        svg_text(o, 2, y + 15, "number", "start", h->row[r]);
        for (int e = 0; e < h->columns; e++) {
            double share = h->share[r * h->columns + e];
            if (!isfinite(share)) continue;
            put_format(o, "<rect class=\"cell\" x=\"%d\" y=\"%.0f\" width=\"%d\" height=\"%d\" "
                       "rx=\"2\" fill-opacity=\"%.2f\"/>", h->name_wide + e * CELL + 1, y,
                       CELL - 2, ROW - 2, 0.05 + 0.75 * share);
            snprintf(number, sizeof number, "%.0f", 100 * share);
            svg_text(o, h->name_wide + e * CELL + CELL / 2, y + 14, "number", "middle", number);
        }
        if (h->note)
            svg_text(o, h->name_wide + h->columns * CELL + 50, y + 15, "", "end", h->note[r]);
    }
    put(o, "</svg>\n");
}

#endif
