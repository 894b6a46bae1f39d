/* 06_finetune - teach a trained model another text, with its experts frozen.

   You learn: validation text, saving and loading, glam_freeze, what "trains n of m parameters"
   means, the fine-tuning recipe, and to measure both texts before and after: a model that
   learns one text forgets some of the other.

   Build: cc -O2 -fopenmp examples/06_finetune.c -o finetune -lm && ./finetune

   ./finetune FIRST.txt SECOND.txt 2000 500 takes your own texts and step counts.

   Prints:
       glam.h: trains 443.8 of 443.8 thousand parameters
       README.md: trains 50.6 of 443.8 thousand parameters: router, attention, ...
       validation loss           before    after
       glam.h                    ...   1.5   1.7: a part of it is forgotten
       README.md                 ...   2.8   2.4: the new text is learnt
       experts unchanged: yes */

#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A text in two parts: the last tenth is never trained on.
typedef struct source {
    const char *path;
    glam_text *train, *valid;
} source;

static source open_source(glam_ctx *ctx, const char *path)
{
    source s = {path, NULL, NULL};
    glam_text *text = glam_text_open(ctx, path, NULL);
    glam_text_split(text, 0.1f, &s.train, &s.valid);
    return s;
}

static double loss_on(glam_model *model, const source *s)
{
    glam_perplexity_report report;
    glam_perplexity(model, s->valid, 0, &report);        // 0: windows of the model's context
    return report.loss;
}

static void train(glam_model *model, const source *s, const glam_recipe *recipe)
{
    glam_trainer *trainer = glam_trainer_new(model, s->train, s->valid, recipe);
    if (trainer) printf("%s: %s\n", s->path, glam_trainer_summary(trainer));
    while (glam_train_step(trainer, NULL)) {}
}

// A sum over all expert weights, to show that freezing means what it says.
static double fingerprint(const glam_model *model)
{
    double sum = 0;
    glam_tensor *t;
    for (int i = 0; (t = glam_model_tensor_at(model, i)) != NULL; i++) {
        if (!strstr(t->name, ".moe.up") && !strstr(t->name, ".moe.down")) continue;
        for (size_t k = 0; k < glam_size(t); k++) sum += (double)t->data[k] * (double)(k % 97);
    }
    return sum;
}

int main(int argc, char **argv)
{
    const char *first_path  = argc > 2 ? argv[1] : "glam.h";
    const char *second_path = argc > 2 ? argv[2] : "README.md";
    glam_ctx *ctx = glam_open(NULL);
    source first = open_source(ctx, first_path), second = open_source(ctx, second_path);

    // Part one: a model from nothing.
    glam_config size = glam_config_default();
    if (argc <= 3) size.layers = 2;                      // small, to be done in seconds
    if (argc <= 3) size.d_model = 64;
    glam_model *model = glam_model_new(ctx, &size);
    glam_recipe recipe = glam_recipe_default();
    recipe.steps  = argc > 3 ? atoi(argv[3]) : 250;
    recipe.warmup = recipe.steps / 10;
    train(model, &first, &recipe);
    glam_save(model, "first.safetensors");

    // Part two: as another program would start, from the file.
    glam_model *tuned = glam_load(ctx, "first.safetensors");
    double before[2] = {loss_on(tuned, &first), loss_on(tuned, &second)};
    double experts   = fingerprint(tuned);

    // Most of the parameters are in the experts.  Frozen, they take no gradient, no optimiser
    // memory and no backward work; attention, router, norms and embedding adapt around them.
    glam_freeze(tuned, "experts", 1);
    glam_recipe fine = glam_recipe_finetune();           // lower rate, short warm-up, early stop
    fine.steps = argc > 4 ? atoi(argv[4]) : 120;
    train(tuned, &second, &fine);

    double after[2] = {loss_on(tuned, &first), loss_on(tuned, &second)};
    printf("%-24s %7s  %7s\n", "validation loss", "before", "after");
    printf("%-24s %7.3f  %7.3f\n", first_path, before[0], after[0]);
    printf("%-24s %7.3f  %7.3f\n", second_path, before[1], after[1]);
    printf("experts unchanged: %s\n", fingerprint(tuned) == experts ? "yes" : "no");
    glam_save(tuned, "tuned.safetensors");

    int failed = glam_error(ctx) != GLAM_OK;
    if (failed) fprintf(stderr, "%s\n", glam_error_text(ctx));
    glam_close(ctx);
    return failed;
}
