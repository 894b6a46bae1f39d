/* glam_route.h - the command route: which experts work on which token.  A part of glam.c. */

#ifndef GLAM_ROUTE_H
#define GLAM_ROUTE_H

// One token: what it is, then for every mixture its experts and their weights.
static void print_route(const glam_model *model, const char *text, int t)
{
    char name[8];
    show_visible((const unsigned char *)text + t, 1, name);
    printf("%5d  %-5s", t, strcmp(name, " ") == 0 ? "' '" : name);
    for (int layer = 0; layer < glam_model_config(model)->layers; layer++) {
        const glam_routing *g = glam_model_routing(model, layer);
        for (int k = 0; g && k < g->top_k; k++) {
            int e = g->expert[t * g->top_k + k];
            printf("%s", k ? " " : " | ");
            show_paint(stdout, e);
            printf("%3d", e);
            show_plain(stdout);
            printf(" %.2f", (double)g->gate[t * g->top_k + k]);
        }
    }
    printf("\n");
}

static int run_route(settings *s, char **words, int count)
{
    if (count != 2) return complain(USAGE, "route wants a model and a text in quotes: %s route "
                                    "model.safetensors \"To be\"", program);
    if (strlen(words[1]) > 1000000) return complain(FAILED, "route: a million bytes at most");
    int length = (int)strlen(words[1]);
    if (length == 0) return complain(FAILED, "route: the text is empty");
    glam_ctx *ctx = open_context(s);
    glam_model *model = load_model(ctx, words[0]);
    int32_t *tokens = (int32_t *)malloc((size_t)length * sizeof *tokens);
    int layer = 0;
    const glam_routing *g = NULL;
    if (tokens && model) {
        glam_encode(NULL, words[1], (size_t)length, tokens, (size_t)length);
        if (look_at(model, tokens, length) == GLAM_OK) g = last_routing(model, &layer);
    }
    int status = failure(ctx);
    if (status == DONE && !g)
        status = complain(FAILED, "%s: every layer is dense, so nothing is routed", words[0]);
    if (status == DONE) {
        print_experts(model, tokens, length);
        printf("\ntoken       ");
        for (layer = 0; layer < glam_model_config(model)->layers; layer++)
            if ((g = glam_model_routing(model, layer)) != NULL)
                printf(" | layer %-*d", 9 * g->top_k - 7, layer);
        printf("\n");
        for (int t = 0; t < length; t++) print_route(model, words[1], t);
    }
    free(tokens);
    glam_close(ctx);
    return status;
}

#endif
