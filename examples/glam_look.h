/* glam_look.h - a model at work on a few tokens: which expert takes which.  A part of glam.c. */

#ifndef GLAM_LOOK_H
#define GLAM_LOOK_H

// A context for a command that works on a model.
static glam_ctx *open_context(const settings *s)
{
    glam_options options = glam_options_default();
    set_machine(s, &options);
    return glam_open(&options);
}

// A saved model.  One of whose weights is no number computes nothing but nonsense: an error.
static glam_model *load_model(glam_ctx *ctx, const char *path)
{
    glam_model *model = glam_load(ctx, path);
    glam_tensor *t;
    for (int i = 0; (t = glam_model_tensor_at(model, i)) != NULL; i++)
        for (size_t k = 0, size = t->data ? glam_size(t) : 0; k < size; k++) {
            if (isfinite(t->data[k])) continue;
            glam_fail(ctx, GLAM_ERR_NUMERIC, "%s: the weights are not finite: %s has %g at place "
                      "%.0f; the run that saved it went wrong, an earlier file may be well", path,
                      t->name, (double)t->data[k], (double)k);
            return NULL;
        }
    return model;
}

static void tokens_to_text(const int32_t *tokens, int count, char *text)
{
    for (int i = 0; i < count; i++)
        text[i] = (char)(tokens[i] >= 0 && tokens[i] < BYTES ? tokens[i] : '?');
}

// The mixture of the last such layer in the last forward; NULL: every layer is dense.
static const glam_routing *last_routing(const glam_model *model, int *at)
{
    const glam_routing *found = NULL, *one;
    for (int layer = 0; layer < glam_model_config(model)->layers; layer++)
        if ((one = glam_model_routing(model, layer)) != NULL) found = one, *at = layer;
    return found;
}

// Runs tokens through the model as in use: no drops, no tape.
static glam_status look_at(glam_model *model, const int32_t *tokens, int count)
{
    glam_batch batch = {1, count, tokens, NULL, NULL, NULL};
    glam_ctx *ctx = glam_model_ctx(model);
    int before = glam_no_grad(ctx, 1);
    glam_forward(model, &batch, GLAM_INFER);
    glam_no_grad(ctx, before);
    return glam_error(ctx);
}

static void print_experts(glam_model *model, const int32_t *tokens, int count)
{
    char text[4096];
    int layer = 0;
    if (count > (int)sizeof text) count = (int)sizeof text;
    tokens_to_text(tokens, count, text);
    const glam_routing *g = last_routing(model, &layer);
    if (!g) {
        for (int i = 0; i < count;) i += show_raw(stdout, text + i, count - i);
        printf("\n");
        return;
    }
    printf(show_colour ? "(each letter has the colour of its first expert in layer %d)\n"
                       : "(under each letter its first expert in layer %d)\n", layer);
    show_experts(stdout, text, count, g->expert, g->top_k);
}

#endif
