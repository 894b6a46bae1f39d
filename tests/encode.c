/* Texts from the input, a zero behind each, as tests/unicode.py and tests/vectors.py want them:

       cc -O2 tests/encode.c -o encode -lm
       encode                      each in Unicode's form C, as glam_encode takes it, a zero behind
       encode tokenizer.json       each as a line of ids; a text that does not come back from them is told

   With a tokenizer the time of it all is told, too. */

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GLAM_IMPLEMENTATION
#include "../glam.h"
#define GLAM_HUB_IMPLEMENTATION
#include "../examples/glam_hub.h"

// Bytes are its pieces.
static glam_tokenizer *composing_bytes(glam_ctx *ctx)
{
    char bytes[256];
    uint32_t ends[256];
    int32_t none[2] = { 0, 0 };
    glam_vocabulary v = { 256, bytes, ends, NULL, 0, none, NULL, GLAM_SPLIT_GPT2, 0, 0, 1, -1, -1 };
    for (int i = 0; i < 256; i++) {
        bytes[i] = (char)(unsigned char)i;
        ends[i] = (uint32_t)i + 1;
    }
    return glam_tokenizer_new(ctx, &v);
}

int main(int argc, char **argv)
{
    static char line[1 << 20], back[6 << 20];
    static int32_t ids[6 << 20];
    const size_t most = sizeof ids / sizeof *ids;
    glam_ctx *ctx = glam_open(NULL);
    glam_tokenizer *t = argc > 1 ? hub_tokenizer_open(ctx, argv[1]) : composing_bytes(ctx);
    double bytes = 0, ticks = 0;
    for (size_t at = 0; t && !glam_error(ctx); at = 0) {
        int c;
        while ((c = getchar()) != EOF && c && at < sizeof line) line[at++] = (char)c;
        if (c == EOF) break;
        clock_t began = clock();
        size_t n = glam_encode(t, line, at, ids, most);
        ticks += (double)(clock() - began);
        bytes += (double)at;
        for (size_t i = 0; i < n; i++)
            if (argc > 1) printf("%s%d", i ? " " : "", (int)ids[i]);
            else putchar((int)ids[i]);
        putchar(argc > 1 ? '\n' : 0);
        if (argc > 1 && !glam_tokenizer_vocabulary(t)->composed &&
            (glam_decode(t, ids, n, back, sizeof back) != at || memcmp(back, line, at) != 0))
            fprintf(stderr, "encode: the %d ids of a text give another one back: %.60s\n", (int)n, line);
    }
    if (argc > 1) fprintf(stderr, "encode: %.2f MB at %.1f MB/s\n", bytes / 1e6, bytes / ticks * CLOCKS_PER_SEC / 1e6);
    if (argc > 2) hub_tokenizer_save(ctx, t, argv[2]);
    if (glam_error(ctx)) fprintf(stderr, "encode: %s\n", glam_error_text(ctx));
    int failed = glam_error(ctx) != GLAM_OK;
    glam_close(ctx);
    return failed;
}
