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

static int show_colour = 0;      // the terminal understands colours and the user wants them
static int show_utf8 = 0;        // ... and block characters

static void show_begin(int terminal)
{
    const char *none = getenv("NO_COLOR"), *term = getenv("TERM");
    show_colour = terminal && !(none && *none) && !(term && strcmp(term, "dumb") == 0);
    const char *names[3] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (int i = 0; i < 3; i++) {                // the first one that is set decides
        const char *value = getenv(names[i]);
        if (!value || !*value) continue;
        show_utf8 = strstr(value, "UTF-8") || strstr(value, "utf8") || strstr(value, "utf-8");
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

// -- text -----------------------------------------------------------------------------------

// How many bytes the character at text has; 0 when it is no UTF-8 that a terminal could show.
static int show_character(const unsigned char *text, int left)
{
    unsigned char c = text[0];
    if (c < 128) return c >= 32 && c != 127;
    int bytes = c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    if (bytes == 2 && c == 0xc2 && left > 1 && text[1] < 0xa0) return 0;     // more controls
    if (!show_utf8 || bytes == 0 || bytes > left) return 0;
    for (int i = 1; i < bytes; i++)
        if ((text[i] & 0xc0) != 0x80) return 0;
    return bytes;
}

// Writes what stands at text into out (at least 8 bytes), controls as escapes; returns the bytes
// of text that were used.
static int show_visible(const unsigned char *text, int left, char *out)
{
    int bytes = show_character(text, left);
    if (bytes) memcpy(out, text, (size_t)bytes), out[bytes] = 0;
    else if (*text == '\n') strcpy(out, "\\n");
    else if (*text == '\t') strcpy(out, "\\t");
    else snprintf(out, 8, "\\x%02x", *text);
    return bytes ? bytes : 1;
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
        width -= one[0] == '\\' ? (int)strlen(one) : 1;
        if (width >= 0) fputs(one, f);
    }
}

// A text as it is, line ends and all, but nothing that could upset a terminal.
static int show_raw(FILE *f, const char *text, int bytes)
{
    const unsigned char *c = (const unsigned char *)text;
    int used = show_character(c, bytes);
    if (used) fwrite(text, 1, (size_t)used, f);
    else fputc(*c == '\n' || *c == '\t' ? *c : '?', f);
    return used ? used : 1;
}

// -- experts --------------------------------------------------------------------------------

static char show_letter(int expert)
{
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    return expert < 0 ? '-' : letters[expert % 62];
}

static void show_paint(FILE *f, int expert)
{
    static const int palette[16] = {39, 208, 76, 205, 220, 141, 51, 196,
                                    33, 172, 34, 162, 148, 99, 37, 160};
    if (show_colour) fprintf(f, "\033[38;5;%dm", palette[(expert < 0 ? 0 : expert) % 16]);
}

static void show_plain(FILE *f)
{
    if (show_colour) fputs("\033[0m", f);
}

// Each byte of text coloured by expert[i * stride].  Without colours, the expert's letter stands
// under it.
static void show_experts(FILE *f, const char *text, int bytes, const int32_t *expert, int stride)
{
    enum { WIDTH = 72 };
    for (int i = 0; show_colour && i < bytes;) {
        show_paint(f, expert[i * stride]);
        i += show_raw(f, text + i, bytes - i);
    }
    show_plain(f);
    for (int begin = 0; !show_colour && begin < bytes;) {
        int end = begin;
        while (end < bytes && end - begin < WIDTH && text[end] != '\n') end++;
        fputs("  ", f);
        for (int i = begin; i < end; i++)
            fputc(text[i] >= 32 && text[i] < 127 ? text[i] : '?', f);
        fputs("\n  ", f);
        for (int i = begin; i < end; i++) fputc(show_letter(expert[i * stride]), f);
        fputc('\n', f);
        begin = end + (end < bytes && text[end] == '\n');
    }
    if (show_colour) fputc('\n', f);
}

// One cell per expert: half full is an even share, full is twice that or more.
static void show_load(FILE *f, const uint64_t *load, int experts)
{
    static const char *const block[] = {"\xe2\x96\x81", "\xe2\x96\x82", "\xe2\x96\x83",
                                        "\xe2\x96\x84", "\xe2\x96\x85", "\xe2\x96\x86",
                                        "\xe2\x96\x87", "\xe2\x96\x88"};   // UTF-8
    double sum = 0, least = 1e300, most = 0;
    for (int e = 0; e < experts; e++) {
        double one = (double)load[e];
        sum += one;
        if (one < least) least = one;
        if (one > most) most = one;
    }
    double even = sum > 0 ? sum / experts : 1;
    for (int e = 0; e < experts; e++) {
        int level = (int)((double)load[e] / even * 4 + 0.5);
        level = level < 1 ? 1 : level > 8 ? 8 : level;
        show_paint(f, e);
        if (load[e] == 0) fputc('_', f);
        else if (show_utf8) fputs(block[level - 1], f);
        else fputc(".:-=+*#@"[level - 1], f);
    }
    show_plain(f);
    fprintf(f, "  %.2f-%.2f of an even share\n", least / even, most / even);
}

#endif
