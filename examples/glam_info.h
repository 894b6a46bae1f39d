/* glam_info.h - the command info: sizes, memory and work, without any weights.
   A part of glam.c. */

#ifndef GLAM_INFO_H
#define GLAM_INFO_H

// 3.1 %, from whole numbers too large for a float
static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

static void show_shape(const char *name, glam_config *c)
{
    if (c->d_head == 0 && c->heads > 0) c->d_head = c->d_model / c->heads;
    if (c->hidden == 0) c->hidden = 4 * c->d_model;
    if (c->moe.hidden == 0)
        c->moe.hidden = gated(c->moe.activation) ? c->hidden / 2 : c->hidden;
    printf("%s\n", name);
    printf("paper     L %d  M %d  H %d  heads %d  d_head %d  E %d\n", c->layers, c->d_model,
           c->hidden, c->heads, c->d_head, c->moe.experts);
    show_model("model", c);
    fflush(stdout);                                      // before anything that takes time
}

static void show_sums(const glam_plan *p)
{
    printf("total     %" PRIu64 " parameters (%s)\n", p->parameters,
           show_count((double)p->parameters));
    printf("active    %" PRIu64 " for a token (%s, %.2f %%)\n", p->active,
           show_count((double)p->active), percent(p->active, p->parameters));
    printf("work      %s per token forward, %s training\n", show_flops(p->flops_forward),
           show_flops(p->flops_train));
}

static int run_info(settings *s, char **words, int count)
{
    if (count + (GIVEN(preset) ? 1 : 0) != 1)
        return complain(USAGE, "info wants a model or a preset: %s info --preset 64B/64E",
                        program);
    glam_config c = glam_config_default();
    glam_options options = glam_options_default();
    if (plan_ranks(s, &options)) return USAGE;
    if (GIVEN(preset) && glam_config_preset(s->preset, &c) != GLAM_OK)
        return unknown_preset(s->preset);
    glam_ctx *ctx = glam_open(NULL);
    if (!GIVEN(preset) && !GIVEN(mesh)) options.weights = glam_load_type(ctx, words[0]);
    glam_ctx *mesh = glam_open(&options);
    glam_recipe recipe = GIVEN(preset) ? glam_recipe_paper() : glam_recipe_default();
    glam_plan plan;
    if (!GIVEN(preset)) glam_load_config(ctx, words[0], &c);
    // a long context in fewer rows: even the plan of a step holds its tokens
    while (recipe.batch > 1 && (double)recipe.batch * c.context > 4e6) recipe.batch /= 2;
    if (GIVEN(mesh)) {                                    // a part of the batch, at least, for each
        recipe.accumulate = options.mesh_x;
        recipe.batch += (options.mesh_x - recipe.batch % options.mesh_x) % options.mesh_x;
    }
    int status = failure(ctx);
    if (status == DONE) {
        glam_config whole = c;
        show_shape(GIVEN(preset) ? s->preset : words[0], &whole);
        glam_plan_for(mesh, &c, &recipe, &plan);
        status = failure(mesh);
    }
    if (status == DONE) {
        show_sums(&plan);
        if (GIVEN(mesh))
            printf("mesh      %d ranks: %d share batch and experts, %d heads and widths%s; each:\n",
                   ranks.size, options.mesh_x, options.mesh_y,
                   s->mesh_store ? "; other weights split over both" : "");
        printf("to train  ");
        show_memory(&plan);
        printf("          (%s, %d x %d tokens per step)\n", optimizer_names[recipe.optimizer],
               recipe.batch, recipe.context ? recipe.context : c.context);
        printf("to run    needs %s%s\n", show_bytes((double)plan.run_bytes),
               options.weights == GLAM_TYPE_Q8 ? ", weights in q8"
               : options.weights ? ", weights in bf16" : "");
    }
    glam_close(mesh);
    glam_close(ctx);
    return status;
}

#endif
