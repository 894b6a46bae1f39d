/* 12_lora - teach a mixture another text with a twelfth of its numbers.

   You learn: adapters by role, that they begin as nothing, what trains then, that the model is as it
   was without them, a file that holds them alone, and merging.  y = x W + s (x A) B: W stays, A and B
   learn; an expert has a pair of its own (Hu et al. 2021, "LoRA").

   Build: cc -O2 -fopenmp examples/12_lora.c -o lora -lm && ./lora

   ./lora MODEL.safetensors TEXT.txt 300 adapts a model of your own (glam import, glam train).

   Prints:
       a small model learns glam.h ...
       layers.0.attn.q    64 x 64    A 64 x 4, B 4 x 64
       layers.0.moe.up    8 x 64 x 128    A 8 x 64 x 4, B 8 x 4 x 128
       trains 41.0 of 484.8 thousand parameters: attention, adapters
       loss of README.md  ... with adapters that know nothing: the model's own
                          ... after 100 steps
                          ... without them: the model is as it was
                          ... merged: the same without adapters */

#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double loss_on(glam_model *model, glam_text *text)
{
    glam_perplexity_report report;
    glam_perplexity(model, text, 0, &report);
    return report.loss;
}

// A model that has learnt one text: what you would download.
static void make_base(glam_ctx *ctx, const char *path)
{
    glam_text *text = glam_text_open(ctx, "glam.h", NULL);
    glam_config size = glam_config_default();
    size.layers = 2;
    size.d_model = 64;
    glam_recipe recipe = glam_recipe_quick();
    recipe.steps = 100;
    recipe.batch = 8;
    glam_model *model = glam_model_new(ctx, &size);
    glam_trainer *trainer = glam_trainer_new(model, text, NULL, &recipe);
    printf("a small model learns glam.h ...\n");
    while (glam_train_step(trainer, NULL)) {}
    glam_save(model, path);
}

static void print_shape(const char *before, const glam_tensor *t)
{
    printf("%s", before);
    for (int i = 0; i < t->shape.dims; i++) printf("%s%d", i ? " x " : "", t->shape.dim[i]);
}

// The adapters of the first attention and the first mixture.
static void show_adapters(const glam_model *model)
{
    const char *shown[] = {".attn.q", ".moe.up"};
    glam_adapter a;
    for (int k = 0; k < 2; k++)
        for (int i = 0; glam_model_tensor_at(model, i); i++) {
            const glam_tensor *w = glam_model_tensor_at(model, i);
            if (!strstr(w->name, shown[k]) || !glam_adapter_of(model, w->name, &a)) continue;
            printf("%s", w->name);
            print_shape("    ", w);
            print_shape("    A ", a.a);
            print_shape(", B ", a.b);
            printf("\n");
            break;
        }
}

int main(int argc, char **argv)
{
    const char *base = argc > 2 ? argv[1] : "base.safetensors", *path = argc > 2 ? argv[2] : "README.md";
    glam_ctx *ctx = glam_open(NULL);
    if (argc <= 2) make_base(ctx, base);

    glam_model *model = glam_load(ctx, base);
    glam_text *text = glam_text_open(ctx, path, glam_model_tokenizer(model)), *train, *valid;
    glam_text_split(text, 0.1f, &train, &valid);

    // Roles, not names: a role that the model has not is an error.  All but the adapters is frozen.
    glam_lora lora = glam_lora_default();
    lora.roles = GLAM_ROLE_ATTENTION | GLAM_ROLE_EXPERTS;
    lora.rank = 4;
    glam_model_adapt(model, &lora);
    show_adapters(model);

    glam_recipe recipe = glam_recipe_quick();
    recipe.optimizer = GLAM_ADAMW;                  // B begins as 0: a rate relative to it would be none
    recipe.lr = 2e-3;
    recipe.batch = 8;
    recipe.steps = argc > 3 ? atoi(argv[3]) : 100;
    glam_trainer *trainer = glam_trainer_new(model, train, valid, &recipe);
    printf("%s\n", glam_trainer_summary(trainer));
    printf("loss of %s  %.4f with adapters that know nothing: the model's own\n", path, loss_on(model, valid));
    while (glam_train_step(trainer, NULL)) {}
    const char *skip = "                   ";
    printf("%s%.4f after %d steps\n", skip, loss_on(model, valid), glam_trainer_done(trainer));

    glam_model_use_adapters(model, 0);
    printf("%s%.4f without them: the model is as it was\n", skip, loss_on(model, valid));
    glam_model_use_adapters(model, 1);
    glam_save_adapter(model, "adapter.safetensors");

    // As another program would: the base, the adapter onto it, one model out of both.
    glam_model *merged = glam_load(ctx, base);
    glam_load_adapter(merged, "adapter.safetensors");
    glam_model_merge(merged);
    printf("%s%.4f merged: the same without adapters\n", skip, loss_on(merged, valid));
    glam_save(merged, "merged.safetensors");

    int failed = glam_error(ctx) != GLAM_OK;
    if (failed) fprintf(stderr, "%s\n", glam_error_text(ctx));
    glam_close(ctx);
    return failed;
}
