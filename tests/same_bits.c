/* The bits of many short runs, one line each: what a change that only moves code must leave as it was.
   same_bits.sh builds it with two headers and compares.  Usage: same_bits [SIMD] */
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GLAM__WORTH 0
#define GLAM_IMPLEMENTATION
#ifndef GLAM_HEADER
#define GLAM_HEADER "../glam.h"
#endif
#include GLAM_HEADER

#include "test.h"
#include "helpers.h"
#include "threads_comm.h"
#include "mesh.h"

enum { SAME_STEPS = 24 };

// Every case of the mesh: both optimisers, all positions, activations and normalisations, capacity and
// dropless, frozen parts, caps.
static void same_mesh(const char *mesh)
{
    for (int i = 0; i < MESH_CASES; i++) {
        printf("%s ", mesh);
        mesh_hash_case(&mesh_cases[i], mesh_read(mesh), 2, SAME_STEPS);
    }
}

// One run of a recipe on three threads: weights, losses, a checkpoint, a continuation of a text.
static void same_recipe(const char *name, const glam_recipe *recipe, const glam_config *config)
{
    glam_options options = test_options();
    options.threads = 3;
    glam_ctx *ctx = glam_open(&options);
    glam_text *text = test_text(ctx, 6000), *train = NULL, *valid = NULL;
    glam_text_split(text, 0.1f, &train, &valid);
    glam_model *model = glam_model_new(ctx, config);
    glam_trainer *trainer = glam_trainer_new(model, train, valid, recipe);
    uint64_t hash = 14695981039346656037ull;
    glam_report report;
    while (glam_train_step(trainer, &report)) {
        double x[15];
        hash = test_hash(hash, x, (size_t)mesh_numbers(&report, x) * sizeof x[0]);
        hash = test_hash(hash, &report.valid_loss, sizeof report.valid_loss);
    }
    double valid_loss = glam_validate(trainer);
    uint64_t weights = test_model_hash(model);
    char story[64] = "";
    glam_complete(model, "one two", story, sizeof story, NULL);
    if (glam_error(ctx) != GLAM_OK) printf("%s failed: %s\n", name, glam_error_text(ctx));
    else printf("%s steps %016llx weights %016llx valid %.17g text %016llx\n", name,
                (unsigned long long)hash, (unsigned long long)weights, valid_loss,
                (unsigned long long)test_hash(1, story, strlen(story)));
    fflush(stdout);
    glam_close(ctx);
}

static void same_recipes(void)
{
    glam_config plain = glam_config_default(), paper = glam_config_default();
    plain.context = paper.context = 32;
    plain.d_model = paper.d_model = 40;            // no multiple of a register: ragged edges
    paper.position = GLAM_POSITION_TRANSFORMER_XL;
    paper.moe.activation = GLAM_RELU;
    paper.moe.capacity_factor = 1.25f;
    paper.moe.group = 64;
    glam_recipe all[6];
    static const char *const name[6] = { "default", "paper", "finetune", "quick", "early", "adamw" };
    all[0] = glam_recipe_default();
    all[1] = glam_recipe_paper();
    all[2] = glam_recipe_finetune();
    all[3] = glam_recipe_quick();
    all[4] = glam_recipe_default();
    all[4].update_in_backward = 1;
    all[4].clip = 0;
    all[4].recompute = 1;
    all[5] = glam_recipe_default();
    all[5].optimizer = GLAM_ADAMW;
    all[5].lr = 2e-3;
    for (int i = 0; i < 12; i++) {
        glam_recipe r = all[i / 2];
        char title[64];
        r.steps = SAME_STEPS;
        r.batch = 4;
        r.eval_every = 7;
        snprintf(title, sizeof title, "%s %s", name[i / 2], i % 2 ? "xl capacity" : "buckets dropless");
        same_recipe(title, &r, i % 2 ? &paper : &plain);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1) setenv("GLAM_TEST_SIMD", argv[1], 1);    // helpers.h reads it
    same_recipes();
    same_mesh("1x1");
    same_mesh("2x1");
    same_mesh("2x2s");
    return 0;
}
