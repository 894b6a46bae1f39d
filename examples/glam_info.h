/* glam_info.h - the command info: sizes, memory and work, without any weights.
   A part of glam.c. */

#ifndef GLAM_INFO_H
#define GLAM_INFO_H

// 3.1 %, from whole numbers too large for a float
static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

static int run_info(settings *s, char **words, int count)
{
    if (count + (GIVEN(preset) ? 1 : 0) != 1)
        return complain(USAGE, "info wants a model or a preset: %s info --preset 64B/64E",
                        program);
    glam_config c = glam_config_default();
    glam_options options = glam_options_default();
    if (plan_ranks(s, &options)) return USAGE;
    glam_ctx *ctx = glam_open(NULL), *mesh = glam_open(&options);
    glam_recipe recipe = GIVEN(preset) ? glam_recipe_paper() : glam_recipe_default();
    glam_plan plan;
    int status = DONE;
    if (GIVEN(preset) && glam_config_preset(s->preset, &c) != GLAM_OK)
        status = unknown_preset(s->preset);
    if (!GIVEN(preset)) glam_load_config(ctx, words[0], &c);
    if (GIVEN(mesh)) {                                    // a part of the batch, at least, for each
        recipe.accumulate = options.mesh_x;
        recipe.batch += (options.mesh_x - recipe.batch % options.mesh_x) % options.mesh_x;
    }
    if (status == DONE) status = failure(ctx);
    if (status == DONE) glam_plan_for(mesh, &c, &recipe, &plan);
    if (status == DONE) status = failure(mesh);
    if (status == DONE) {
        int d_head = c.d_head ? c.d_head : c.d_model / c.heads;
        int hidden = c.hidden ? c.hidden : 4 * c.d_model, E = c.moe.experts;
        if (c.moe.hidden == 0) c.moe.hidden = gated(c.moe.activation) ? hidden / 2 : hidden;
        c.d_head = d_head;
        c.hidden = hidden;
        printf("%s\n", GIVEN(preset) ? s->preset : words[0]);
        printf("paper     L %d  M %d  H %d  heads %d  d_head %d  E %d\n", c.layers, c.d_model,
               hidden, c.heads, d_head, E);
        show_model("model", &c);
        printf("total     %" PRIu64 " parameters (%s)\n", plan.parameters,
               show_count((double)plan.parameters));
        printf("active    %" PRIu64 " for a token (%s, %.2f %%)\n", plan.active,
               show_count((double)plan.active), percent(plan.active, plan.parameters));
        printf("work      %s per token forward, %s training\n", show_flops(plan.flops_forward),
               show_flops(plan.flops_train));
        if (GIVEN(mesh))
            printf("mesh      %d ranks: %d share batch and experts, %d heads and widths%s; each:\n",
                   ranks.size, options.mesh_x, options.mesh_y,
                   s->mesh_store ? "; other weights split over both" : "");
        printf("to train  ");
        show_memory(&plan);
        printf("          (%s, %d x %d tokens per step)\n", optimizer_names[recipe.optimizer],
               recipe.batch, recipe.context ? recipe.context : c.context);
        printf("to run    needs %s\n", show_bytes((double)plan.run_bytes));
    }
    glam_close(mesh);
    glam_close(ctx);
    return status;
}

#endif
