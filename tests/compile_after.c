/* The implementation behind other headers: it must not need to come first, whatever these were asked
   to show or hide.  Then it reads and writes beyond 2 GiB, in a file that is mostly a hole.
   Usage: compile_after FOLDER */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GLAM_IMPLEMENTATION
#include "../glam.h"

#include "test.h"

enum { AFTER__ROOM = 1 << 16 };

// A model's file whose numbers lie behind an optimizer's tensor of 3 GiB.
static int after_write(const char *path, const char *model, size_t size)
{
    static char header[AFTER__ROOM];
    const uint64_t hole = (uint64_t)3 << 30;
    uint64_t length = 0;
    size_t at = 0, end = 0;
    unsigned char raw[8];
    glam__file f;
    for (int i = 7; i >= 0; i--) length = length << 8 | (unsigned char)model[i];
    const char *from = model + 8, *stop = from + length;
    while (from < stop) {                       // every offset moves by the hole
        if (!strncmp(from, "\"glam.checksum\":\"", 17)) {
            at += (size_t)sprintf(header + at, "\"glam.checksum\":\"none");
            from += 17 + 16;
        } else if (!strncmp(from, "\"data_offsets\":[", 16)) {
            char *next;
            uint64_t a = strtoul(from + 16, &next, 10), b = strtoul(next + 1, &next, 10);
            at += (size_t)sprintf(header + at, "\"data_offsets\":[%.0f,%.0f", (double)(a + hole),
                                  (double)(b + hole));
            end = at;
            from = next;
        } else header[at++] = *from++;
    }
    end += 2;                                   // behind the last entry: ]}
    at = end + (size_t)sprintf(header + end, ",\"optimizer.x\":{\"dtype\":\"F32\",\"shape\":[805306368],"
                               "\"data_offsets\":[0,3221225472]}}");
    for (int i = 0; i < 8; i++) raw[i] = (unsigned char)((uint64_t)at >> 8 * i);
    memset(&f, 0, sizeof f);
    f.handle = glam__open_file(path, GLAM__MAKE, 1);
    size_t numbers = size - 8 - (size_t)length;
    int ok = f.handle >= 0 && glam__file_move(&f, 0, raw, 8, 1) && glam__file_move(&f, 8, header, at, 1) &&
             glam__file_move(&f, 8 + at + hole, (void *)(uintptr_t)stop, numbers, 1);
    glam__file_close(&f);
    return ok;
}

static const char *after_folder;

static void after_large(void)
{
    char path[600];
    glam_ctx *ctx = glam_open(NULL);
    glam_config config = glam_config_default();
    config.layers = 1;
    config.d_model = 8;
    config.heads = 1;
    config.hidden = 4;
    config.moe.experts = 2;
    glam_model *model = glam_model_new(ctx, &config);
    size_t size = glam_save_memory(model, NULL, 0);
    char *memory = (char *)malloc(size);
    CHECK(memory && glam_save_memory(model, memory, size) == size);
    snprintf(path, sizeof path, "%.500s/glam_test_large", after_folder);
    remove(path);
    CHECK(after_write(path, memory, size));
    glam_model *back = glam_load(ctx, path);
    if (!CHECK(back)) printf("%s\n", glam_error_text(ctx));
    for (int i = 0; back && glam_model_tensor_at(model, i); i++) {
        const glam_tensor *a = glam_model_tensor_at(model, i), *b = glam_model_tensor_at(back, i);
        CHECK(!memcmp(a->data, b->data, glam_size(a) * sizeof(float)));
    }
#ifndef _WIN32
    // over it; where the size of a file has 32 bits we cannot know what would be lost, and say so
    int wide = sizeof(off_t) > 4;
    CHECK((glam_save(model, path) == GLAM_OK) == wide && (glam_load(ctx, path) != NULL) == wide);
    if (!wide) glam_clear_error(ctx);
#endif
    remove(path);
    free(memory);
    if (glam_error(ctx)) printf("%s\n", glam_error_text(ctx));
    CHECK(glam_error(ctx) == GLAM_OK);
    glam_close(ctx);
}

// errno is that of the call that failed; a clock moves.
static void after_errors(void)
{
    glam_ctx *ctx = glam_open(NULL);
    CHECK(!glam_load(ctx, "/no/such/file") && strstr(glam_error_text(ctx), "No such file"));
    double then = glam__seconds();
    for (int i = 0; i < 100000000 && !(glam__seconds() > then); i++) continue;
    CHECK(glam__seconds() > then);
    CHECK_NEAR(glam__seconds(), then, 60);
    glam_close(ctx);
}

int main(int argc, char **argv)
{
    after_folder = argc > 1 ? argv[1] : ".";
    test__open(1, argv);
    RUN(after_large);
    RUN(after_errors);
    return test__close();
}
