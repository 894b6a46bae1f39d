/* recipe.c - one training run of the search behind glam_recipe_default().

   Build: cc -O2 -fopenmp bench/recipe.c -o recipe -lm
   Run:   ./recipe TEXT [name=value ...]
   Names: steps seed optimizer (adamw, adafactor) lr embed_lr warmup min_lr decay clip beta2
          batch experts moe_hidden activation (relu, geglu, swiglu) dense shape (nano, small) threads
          aux every eval_every
   Prints one line: the settings and the loss on the whole validation part (last 10 %), in nats. */

#define GLAM_IMPLEMENTATION
#include "../glam.h"

static const char *value(int argc, char **argv, const char *name, const char *otherwise)
{
    size_t n = strlen(name);
    for (int i = 2; i < argc; i++)
        if (!strncmp(argv[i], name, n) && argv[i][n] == '=') return argv[i] + n + 1;
    return otherwise;
}

static double number(int argc, char **argv, const char *name, double otherwise)
{
    const char *v = value(argc, argv, name, NULL);
    return v ? atof(v) : otherwise;
}

static glam_config shape(int argc, char **argv)
{
    glam_config c = glam_config_default();
    const char *expert = value(argc, argv, "activation", "");
    if (!strcmp(value(argc, argv, "shape", "nano"), "small")) {
        c.layers = 6;
        c.d_model = 384;
        c.heads = 6;
        c.context = 256;
    }
    c.moe.experts = number(argc, argv, "dense", 0) > 0 ? 0
                  : (int)number(argc, argv, "experts", c.moe.experts);
    c.moe.hidden = (int)number(argc, argv, "moe_hidden", c.moe.hidden);
    c.moe.every = (int)number(argc, argv, "every", c.moe.every);
    c.moe.aux_weight = (float)number(argc, argv, "aux", (double)c.moe.aux_weight);
    if (!strcmp(expert, "relu")) c.moe.activation = GLAM_RELU;
    if (!strcmp(expert, "swiglu")) c.moe.activation = GLAM_SWIGLU;
    return c;
}

static glam_recipe recipe(int argc, char **argv)
{
    glam_recipe r = glam_recipe_default();
    const char *optimizer = value(argc, argv, "optimizer", "");
    if (!strcmp(optimizer, "adamw")) r.optimizer = GLAM_ADAMW;
    if (!strcmp(optimizer, "adafactor")) r.optimizer = GLAM_ADAFACTOR;
    r.steps = (int)number(argc, argv, "steps", r.steps);
    r.seed = (uint64_t)number(argc, argv, "seed", 1);
    r.lr = number(argc, argv, "lr", r.lr);
    r.embed_lr = number(argc, argv, "embed_lr", r.embed_lr);
    r.warmup = (int)number(argc, argv, "warmup", r.warmup);
    r.min_lr = number(argc, argv, "min_lr", r.min_lr);
    r.weight_decay = number(argc, argv, "decay", r.weight_decay);
    r.clip = number(argc, argv, "clip", r.clip);
    r.beta2 = number(argc, argv, "beta2", r.beta2);
    r.batch = (int)number(argc, argv, "batch", r.batch);
    r.eval_every = (int)number(argc, argv, "eval_every", 0);
    return r;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: recipe TEXT [name=value ...]\n");
        return 2;
    }
    glam_options options = glam_options_default();
    options.threads = (int)number(argc, argv, "threads", 1);
    options.seed = (uint64_t)number(argc, argv, "seed", 1);
    glam_ctx *ctx = glam_open(&options);
    glam_text *train = NULL, *valid = NULL;
    glam_text_split(glam_text_open(ctx, argv[1], NULL), 0.1f, &train, &valid);
    glam_config c = shape(argc, argv);
    glam_recipe r = recipe(argc, argv);
    glam_model *model = glam_model_new(ctx, &c);
    glam_trainer *trainer = glam_trainer_new(model, train, valid, &r);
    glam_report now;
    memset(&now, 0, sizeof now);
    printf("%s", strrchr(argv[1], '/') ? strrchr(argv[1], '/') + 1 : argv[1]);
    for (int i = 2; i < argc; i++) printf(" %s", argv[i]);
    while (glam_train_step(trainer, &now))
        if (r.eval_every && now.step % r.eval_every == 0)
            printf(" @%d=%.4f", now.step, now.valid_loss);
    printf(" | valid %.4f train %.4f seconds %.1f\n", glam_validate(trainer), now.loss, now.seconds);
    int failed = glam_error(ctx) != GLAM_OK;
    if (failed) fprintf(stderr, "recipe: %s\n", glam_error_text(ctx));
    glam_close(ctx);
    return failed;
}
