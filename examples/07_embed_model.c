/* 07_embed_model - the second file of 07_embed: where the model comes from.

   It includes glam.h without GLAM_IMPLEMENTATION, as every file but one does.  In a real program
   the bytes of a model would be an array made with `xxd -i model.safetensors`, or part of an
   asset file; here a tiny model learns one sentence and is written to memory first. */

#include "../glam.h"
#include <stdlib.h>

glam_model *embedded_model(glam_ctx *ctx, size_t *bytes);

static const char sentence[] = "the quick brown fox jumps over the lazy dog and ";

// A text of repeated sentences: learnt by heart in some hundred steps.
static glam_model *teach(glam_ctx *ctx)
{
    static char text[sizeof sentence * 40];
    size_t length = sizeof sentence - 1;
    for (size_t i = 0; i < length * 40; i++) text[i] = sentence[i % length];

    glam_config size = glam_config_default();
    size.layers  = 2;
    size.d_model = 32;
    size.context = 64;
    glam_recipe recipe = glam_recipe_default();
    recipe.steps    = 300;
    recipe.warmup   = 30;
    glam_model *model = glam_model_new(ctx, &size);
    glam_trainer *trainer = glam_trainer_new(model, glam_text_from(ctx, text, length * 40, NULL),
                                             NULL, &recipe);
    while (glam_train_step(trainer, NULL)) {}
    return model;
}

glam_model *embedded_model(glam_ctx *ctx, size_t *bytes)
{
    size_t mark = glam_mark(ctx);                    // what is made from here can be given back
    glam_model *teacher = teach(ctx);
    *bytes = glam_save_memory(teacher, NULL, 0);     // asks for the size
    void *file = malloc(*bytes + 1);
    if (!file) return NULL;
    *bytes = glam_save_memory(teacher, file, *bytes);
    glam_rewind(ctx, mark);                          // teacher, trainer and text are gone
    glam_model *model = glam_load_memory(ctx, file, *bytes);
    free(file);                                      // the model has copied what it needs
    return model;
}
