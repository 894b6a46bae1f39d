/* glam_show.h - what the tool writes: numbers with units, text with its control characters made
   visible, load bars, tokens coloured by expert.  A part of glam.c. */

#ifndef GLAM_SHOW_H
#define GLAM_SHOW_H

#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int show_terminal = 0;    // standard output is a terminal: nothing may upset it
static int show_colour = 0;      // ... that understands colours, and the user wants them
static int show_utf8 = 0;        // the user's locale is UTF-8

// "en_GB.UTF-8", "C.utf8"
static int names_utf8(const char *locale)
{
    for (; *locale; locale++)
        if ((locale[0] | 32) == 'u' && (locale[1] | 32) == 't' && (locale[2] | 32) == 'f')
            return locale[3] == '8' || (locale[3] == '-' && locale[4] == '8');
    return 0;
}

static void show_begin(int terminal)
{
    const char *none = getenv("NO_COLOR"), *term = getenv("TERM");
    show_terminal = terminal;
    show_colour = terminal && !(none && *none) && term && *term && strcmp(term, "dumb") != 0;
    const char *names[3] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (int i = 0; i < 3; i++) {                // the first one that is set decides
        const char *value = getenv(names[i]);
        if (!value || !*value) continue;
        show_utf8 = names_utf8(value);
        break;
    }
}

// -- numbers --------------------------------------------------------------------------------

// One of eight buffers in turn, so that a printf may use several.
static char *show_buffer(void)
{
    static char ring[8][40];
    static int next = 0;
    return ring[next++ % 8];
}

// value divided by the largest unit that leaves at least 1, with about three digits.
static const char *show_scaled(double value, double step, const char *const *units, int count)
{
    int unit = 0;
    while (unit + 1 < count && value >= step * 0.9995) {
        value /= step;
        unit++;
    }
    char *out = show_buffer();
    snprintf(out, 40, unit == 0 || value >= 99.95 ? "%.0f%s%s" : value >= 9.995 ? "%.1f%s%s"
             : "%.2f%s%s", value, *units[unit] ? " " : "", units[unit]);
    return out;
}

static const char *show_count(double n)
{
    static const char *const units[] = {"", "thousand", "million", "billion", "trillion"};
    return show_scaled(n, 1e3, units, 5);
}

static const char *show_bytes(double n)
{
    static const char *const units[] = {"bytes", "KB", "MB", "GB", "TB", "PB"};
    return show_scaled(n, 1e3, units, 6);
}

static const char *show_flops(double n)
{
    static const char *const units[] = {"FLOPs", "kFLOPs", "MFLOPs", "GFLOPs", "TFLOPs"};
    return show_scaled(n, 1e3, units, 5);
}

static const char *show_joules(double n)
{
    static const char *const units[] = {"J", "kJ", "MJ", "GJ", "TJ"};
    return show_scaled(n, 1e3, units, 5);
}

// 1234567 as 1,234,567
static const char *show_commas(uint64_t n)
{
    char *out = show_buffer() + 39;
    *out = 0;
    for (int digits = 0; n || !digits; digits++, n /= 10) {
        if (digits && digits % 3 == 0) *--out = ',';
        *--out = (char)('0' + n % 10);
    }
    return out;
}

static const char *show_time(double seconds)
{
    char *out = show_buffer();
    int s = seconds < 0 ? 0 : seconds > 3.5e8 ? 350000000 : (int)(seconds + 0.5);
    if (s < 3600) snprintf(out, 40, "%d:%02d", s / 60, s % 60);
    else snprintf(out, 40, "%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60);
    return out;
}

// Widens a range.
static void include(double value, double *least, double *most)
{
    if (value < *least) *least = value;
    if (value > *most) *most = value;
}

// -- text -----------------------------------------------------------------------------------

// The bytes of the UTF-8 character at text, and its code; 0: it is none, -1: its end is missing.
static int utf8_character(const unsigned char *text, int left, uint32_t *code)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};   // or fewer would do
    unsigned char c = text[0];
    int bytes = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    *code = bytes < 2 ? c : c & (0x7fu >> bytes);
    for (int i = 1; i < bytes; i++) {
        if (i == left) {
            uint32_t top = (*code + 1) << 6 * (bytes - i);              // one more than can come
            uint32_t bottom = *code << 6 * (bytes - i);
            return top <= least[bytes] || bottom > 0x10ffff ||
                   (bottom >= 0xd800 && top <= 0xe000) ? 0 : -1;
        }
        if ((text[i] & 0xc0) != 0x80) return 0;
        *code = *code << 6 | (text[i] & 0x3fu);
    }
    if (*code < least[bytes] || *code > 0x10ffff || (*code >= 0xd800 && *code < 0xe000)) return 0;
    return bytes;
}

// How many columns it takes, roughly: 2 for East Asian and pictures, 0 for what joins the letter
// before it.
static int utf8_columns(uint32_t c)
{
    static const uint32_t wide[][2] = {{0x1100, 0x115f}, {0x2e80, 0xa4cf}, {0xac00, 0xd7a3},
        {0xf900, 0xfaff}, {0xfe30, 0xfe6f}, {0xff00, 0xff60}, {0xffe0, 0xffe6},
        {0x1f300, 0x1faff}, {0x20000, 0x3fffd}};
    if ((c >= 0x300 && c <= 0x36f) || c == 0x200d || (c >= 0xfe00 && c <= 0xfe0f)) return 0;
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++)
        if (c >= wide[i][0] && c <= wide[i][1]) return 2;
    return 1;
}

// Nothing that moves the cursor, changes the direction of writing or is a control otherwise.
static int is_harmless(uint32_t c)
{
    return c >= 32 && !(c >= 127 && c < 160) && !(c >= 0x200e && c <= 0x200f) &&
           !(c >= 0x2028 && c <= 0x202e) && !(c >= 0x2066 && c <= 0x2069);
}

// How many bytes the character at text has; 0 when a terminal had better not have it.
static int show_character(const unsigned char *text, int left)
{
    uint32_t code;
    int bytes = utf8_character(text, left, &code);
    return bytes > 0 && is_harmless(code) && (bytes == 1 || show_utf8) ? bytes : 0;
}

// Writes what stands at text into out (at least 8 bytes), controls as escapes; returns the bytes
// of text that were used.
static int show_visible(const unsigned char *text, int left, char *out)
{
    int bytes = show_character(text, left);
    if (bytes) memcpy(out, text, (size_t)bytes), out[bytes] = 0;
    else if (*text == '\n') strcpy(out, "\\n");
    else if (*text == '\t') strcpy(out, "\\t");
    else if (*text == '\r') strcpy(out, "\\r");
    else snprintf(out, 8, "\\x%02x", *text);
    return bytes ? bytes : 1;
}

static int columns_of(const char *shown)
{
    uint32_t code;
    int bytes = utf8_character((const unsigned char *)shown, (int)strlen(shown), &code);
    return bytes > 1 ? utf8_columns(code) : (int)strlen(shown);
}

// The first `width` columns of a text in one line; runs of blanks, of which code is full, become
// one.
static void show_line(FILE *f, const char *text, int bytes, int width)
{
    char one[8];
    for (int i = 0; i < bytes && width > 0;) {
        int blank = text[i] == ' ';
        i += show_visible((const unsigned char *)text + i, bytes - i, one);
        while (blank && i < bytes && text[i] == ' ') i++;
        width -= columns_of(one);
        if (width >= 0) fputs(one, f);
    }
}

// A text as it is, line ends and all, but nothing that could upset a terminal.
static int show_raw(FILE *f, const char *text, int bytes)
{
    const unsigned char *c = (const unsigned char *)text;
    uint32_t code;
    int whole = utf8_character(c, bytes, &code), used = whole > 0 ? whole : 1;
    if (*c == '\n' || *c == '\t') fputc(*c, f);
    else if (*c == '\r') fputs("\\r", f);
    else if (show_character(c, bytes)) fwrite(text, 1, (size_t)used, f);
    else if (whole <= 0 && show_utf8) fputs("\xef\xbf\xbd", f);     // the sign for no text
    else for (int i = 0; i < used; i++) fprintf(f, "\\x%02x", c[i]);
    return used;
}

// A text that comes in pieces, of which a character may be cut.
typedef struct show_stream {
    char held[8];
    int  count;
} show_stream;

// Its next bytes.  A file or a pipe gets them untouched; a terminal gets whole characters, and
// controls as escapes.  last: nothing follows.
static void show_more(show_stream *s, const char *bytes, int count, int last)
{
    if (!show_terminal) {
        if (count) fwrite(bytes, 1, (size_t)count, stdout);
        return;
    }
    for (int i = 0; i < count || last; i++) {
        uint32_t code;
        if (i < count) s->held[s->count++] = bytes[i];
        while (s->count > 0 && ((last && i >= count) ||
               utf8_character((const unsigned char *)s->held, s->count, &code) >= 0)) {
            int used = show_raw(stdout, s->held, s->count);
            s->count -= used;
            memmove(s->held, s->held + used, (size_t)s->count);
        }
        if (i >= count) return;
    }
}

// -- experts --------------------------------------------------------------------------------

static void show_paint(FILE *f, int expert)
{
    static const int palette[16] = {33, 202, 64, 199, 136, 135, 30, 196,  // each has 3 to 1 on
                                    69, 166, 29, 164, 100, 99, 67, 167};  // white, 4.5 on black
    if (show_colour) fprintf(f, "\033[38;5;%dm", palette[(expert < 0 ? 0 : expert) % 16]);
}

static void show_plain(FILE *f)
{
    if (show_colour) fputs("\033[0m", f);
}

// The background of a letter under black: Tol's light set, for up to eight experts.  Two of them
// look alike to some eyes, and without colours there are none: the digits below tell.
static void show_ground(FILE *f, int expert, int experts)
{
    static const int light[8] = {110, 209, 222, 217, 117, 79, 148, 253};
    if (show_colour && expert >= 0 && experts <= 8)
        fprintf(f, "\033[38;5;16;48;5;%dm", light[expert]);
}

// How dark a share of the weight is, from 0 to 1.
static void show_shade(FILE *f, double weight)
{
    static const int blue[5] = {153, 117, 75, 32, 25};
    int step = (int)(weight * 5);
    step = step < 0 ? 0 : step > 4 ? 4 : step;
    if (show_colour && weight > 0)
        fprintf(f, "\033[38;5;%d;48;5;%dm", step < 3 ? 16 : 231, blue[step]);
}

// What stands under a byte: a number, read downwards; -1: nothing.  And what lies behind it.
typedef struct show_mark { int number, ground; double shade; } show_mark;

static void show_marked(FILE *f, const char *text, int begin, int end, const show_mark *mark,
                        int experts)
{
    fputs("  ", f);
    for (int i = begin; i < end;) {                      // a byte has a column, a character several
        uint32_t code = 0;
        int used = show_character((const unsigned char *)text + i, end - i), columns = 1;
        utf8_character((const unsigned char *)text + i, end - i, &code);
        if (used > 1) columns = utf8_columns(code);
        if (mark[i].shade > 0) show_shade(f, mark[i].shade);
        else show_ground(f, mark[i].ground, experts);
        if (used) fwrite(text + i, 1, (size_t)used, f);
        else fputc('?', f);
        if (used > columns) fprintf(f, "%*s", used - columns, "");
        show_plain(f);
        i += used ? used : 1;
    }
    fputc('\n', f);
}

// A text in lines of 56 bytes, its marks under it: digits always, colours where there are any.
static void show_marks(FILE *f, const char *text, int bytes, const show_mark *mark, int experts,
                       int most)
{
    enum { WIDTH = 56 };
    int top = 1;
    while (most > 9) {
        most /= 10;
        top *= 10;
    }
    for (int begin = 0; begin < bytes;) {
        int end = begin, cut = 0, shown = begin;
        while (end < bytes && end - begin < WIDTH && text[end] != '\n') end++;
        for (int i = begin; i < end; i++) cut = text[i] == ' ' ? i : cut;
        if (end < bytes && text[end] != '\n' && cut > begin + WIDTH / 2) end = cut + 1;
        while (end > begin + 4 && end < bytes && (text[end] & 0xc0) == 0x80) end--;
        show_marked(f, text, begin, end, mark, experts);
        for (int unit = top; unit > 0; unit /= 10) {
            fputs("  ", f);
            for (shown = begin; shown < end; shown++) {
                int n = mark[shown].number;
                fputc(n < 0 || (n < unit && unit > 1) ? ' ' : '0' + n / unit % 10, f);
            }
            fputc('\n', f);
        }
        begin = end + (end < bytes && text[end] == '\n');
    }
}

// One cell per expert: half full is an even share, full is twice that or more.  So many in a line;
// the next begins in that column.
static void show_load(FILE *f, const uint64_t *load, int experts, int most,
                      int column)
{
    static const char *const block[] = {"\xe2\x96\x81", "\xe2\x96\x82", "\xe2\x96\x83",
                                        "\xe2\x96\x84", "\xe2\x96\x85", "\xe2\x96\x86",
                                        "\xe2\x96\x87", "\xe2\x96\x88"};   // UTF-8
    double sum = 0;
    for (int e = 0; e < experts; e++) sum += (double)load[e];
    double even = sum > 0 ? sum / experts : 1;
    for (int e = 0; e < experts; e++) {
        int level = (int)((double)load[e] / even * 4 + 0.5);
        level = level < 1 ? 1 : level > 8 ? 8 : level;
        if (e && e % most == 0) fprintf(f, "\n%*s", column, "");
        show_paint(f, e);
        if (load[e] == 0) fputc('_', f);
        else if (show_utf8) fputs(block[level - 1], f);
        else fputc(".:-=+*#@"[level - 1], f);
    }
    show_plain(f);
}

#endif
