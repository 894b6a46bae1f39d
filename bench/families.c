/* families.c - a model file and tokens in, logits, loss and gradients out, as raw floats: what families.py
   compares with PyTorch.

       cc -O2 -fopenmp bench/families.c -o families -lm
       families MODEL.safetensors TOKENS ROWS OUT [THREADS]

   TOKENS: int32 ids [ROWS,S], then as many targets.  OUT: logits [ROWS,S,V], the loss, then the gradient
   of every tensor in the order of the file, whose names are printed; last how far cached logits are from
   those of the full pass in bits (0 or 1). */
#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    static int32_t ids[1 << 16];
    if (argc < 5) return fprintf(stderr, "usage: families MODEL TOKENS ROWS OUT [THREADS]\n"), 2;
    glam_options o = glam_options_default();
    if (argc > 5) o.threads = atoi(argv[5]);
    glam_ctx *ctx = glam_open(&o);
    FILE *f = fopen(argv[2], "rb"), *out = fopen(argv[4], "wb");
    if (!f || !out) return fprintf(stderr, "cannot open %s or %s\n", argv[2], argv[4]), 1;
    int count = (int)fread(ids, sizeof *ids, sizeof ids / sizeof *ids, f) / 2, rows = atoi(argv[3]);
    glam_model *model = glam_load(ctx, argv[1]);
    glam_batch b = { rows, count / rows, ids, ids + count, NULL, NULL };
    glam_tensor *y = glam_forward(model, &b, GLAM_INFER);
    if (y) fwrite(y->data, sizeof(float), glam_size(y), out);
    float *last = y ? y->data + (size_t)(b.length - 1) * (size_t)y->shape.dim[2] : NULL, differs = 0;
    glam_session *s = glam_session_new(model, b.length);
    for (int i = 0; last && i < b.length; i++) {
        const float *l = glam_next(s, ids + i, 1);
        if (i + 1 == b.length)
            differs = !l || memcmp(l, last, (size_t)y->shape.dim[2] * sizeof *l) != 0;
    }
    glam_forget(ctx);
    glam_losses losses;
    glam_tensor *loss = glam_loss(model, &b, GLAM_TRAIN, &losses);
    float value = (float)losses.xent;
    fwrite(&value, sizeof value, 1, out);
    glam_backward(ctx, loss);
    for (int i = 0; glam_model_tensor_at(model, i); i++) {
        const glam_tensor *t = glam_model_tensor_at(model, i);
        for (size_t e = 0; e < glam_size(t); e++) {
            float g = t->grad ? t->grad[e] : 0;
            fwrite(&g, sizeof g, 1, out);
        }
        printf("%s", t->name);
        for (int d = 0; d < t->shape.dims; d++) printf(" %d", t->shape.dim[d]);
        printf("\n");
    }
    fwrite(&differs, sizeof differs, 1, out);
    fclose(out);
    if (glam_error(ctx) != GLAM_OK) fprintf(stderr, "families: %s\n", glam_error_text(ctx));
    int failed = glam_error(ctx) != GLAM_OK;
    glam_close(ctx);
    return failed;
}
