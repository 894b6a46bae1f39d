/* recipe.c - one training run of the searches behind glam_config_default() and the recipes.

   Build: cc -O2 -fopenmp bench/recipe.c -o recipe -lm
   Run:   ./recipe TEXT [name=value ...]
   Names: steps seed optimizer (adamw, adafactor) lr embed_lr bias_lr warmup min_lr decay clip beta1
          beta2 batch
          shape (nano, small) layers d_model heads hidden context buckets max_distance dense experts
          top_k every moe_hidden activation (relu, geglu, swiglu) aux router_z init threads
          eval_every sample (tokens of the validation part to use; 0: all) stop_at (a step)
          piece (seconds) with file (checkpoint): ends with status 3 after so long, goes on when
          run again
   Prints one line: the settings and the loss on the validation part (last 10 %), in nats. */

#define GLAM_IMPLEMENTATION
#include "../glam.h"

static int    words;
static char **word;

static const char *value(const char *name, const char *otherwise)
{
    size_t n = strlen(name);
    for (int i = 2; i < words; i++)
        if (!strncmp(word[i], name, n) && word[i][n] == '=') return word[i] + n + 1;
    return otherwise;
}

static double number(const char *name, double otherwise)
{
    const char *v = value(name, NULL);
    return v ? atof(v) : otherwise;
}

static int whole(const char *name, int otherwise) { return (int)number(name, otherwise); }

static glam_config shape(void)
{
    glam_config c = glam_config_default();
    const char *expert = value("activation", "");
    if (!strcmp(value("shape", ""), "nano")) {
        c.d_model = 128;
        c.heads = 4;
        c.context = 64;
    }
    if (!strcmp(value("shape", ""), "small")) {
        c.layers = 6;
        c.d_model = 384;
        c.heads = 6;
        c.context = 256;
    }
    c.layers = whole("layers", c.layers);
    c.d_model = whole("d_model", c.d_model);
    c.heads = whole("heads", c.heads);
    c.hidden = whole("hidden", c.hidden);
    c.context = whole("context", c.context);
    c.buckets = whole("buckets", c.buckets);
    c.max_distance = whole("max_distance", c.max_distance);
    c.moe.experts = whole("dense", 0) ? 0 : whole("experts", c.moe.experts);
    c.moe.top_k = whole("top_k", c.moe.top_k);
    c.moe.hidden = whole("moe_hidden", c.moe.hidden);
    c.moe.every = whole("every", c.moe.every);
    c.moe.aux_weight = (float)number("aux", (double)c.moe.aux_weight);
    c.moe.router_z_weight = (float)number("router_z", (double)c.moe.router_z_weight);
    if (!strcmp(expert, "relu")) c.moe.activation = GLAM_RELU;
    if (!strcmp(expert, "geglu")) c.moe.activation = GLAM_GEGLU;
    if (!strcmp(expert, "swiglu")) c.moe.activation = GLAM_SWIGLU;
    return c;
}

static glam_recipe recipe(void)
{
    glam_recipe r = glam_recipe_default();
    const char *optimizer = value("optimizer", "");
    if (!strcmp(optimizer, "adamw")) r.optimizer = GLAM_ADAMW;
    if (!strcmp(optimizer, "adafactor")) r.optimizer = GLAM_ADAFACTOR;
    r.steps = whole("steps", r.steps);
    r.seed = (uint64_t)number("seed", 1);
    r.lr = number("lr", r.lr);
    r.embed_lr = number("embed_lr", r.embed_lr);
    r.bias_lr = number("bias_lr", r.bias_lr);
    r.warmup = whole("warmup", r.warmup);
    r.min_lr = number("min_lr", r.min_lr);
    r.weight_decay = number("decay", r.weight_decay);
    r.clip = number("clip", r.clip);
    r.beta1 = number("beta1", r.beta1);
    r.beta2 = number("beta2", r.beta2);
    r.batch = whole("batch", r.batch);
    return r;
}

// Some tokens of the text from places spread evenly over it; all of it when it has no more.
static glam_text *take_sample(glam_ctx *ctx, glam_text *text, int context, int tokens)
{
    int size = (1024 / context < 1 ? 1 : 1024 / context) * context + 1, chunks = tokens / size;
    size_t all = glam_text_length(text);
    if (chunks < 1 || all < (size_t)tokens) return text;
    glam_text **part = (glam_text **)calloc((size_t)chunks, sizeof *part);
    int32_t *token = (int32_t *)malloc((size_t)size * sizeof *token);
    for (int i = 0; part && token && i < chunks; i++) {
        glam_text_read(text, (all - (size_t)size) / (size_t)chunks * (size_t)i, (size_t)size,
                       token);
        part[i] = glam_text_from_tokens(ctx, token, (size_t)size);
    }
    text = part && token ? glam_mix(ctx, part, NULL, chunks) : NULL;
    free(part);
    free(token);
    return text;
}

static int exists(const char *path)
{
    FILE *f = path ? fopen(path, "rb") : NULL;
    if (f) fclose(f);
    return f != NULL;
}

int main(int argc, char **argv)
{
    words = argc;
    word = argv;
    if (argc < 2) {
        fprintf(stderr, "usage: recipe TEXT [name=value ...]\n");
        return 2;
    }
    glam_options options = glam_options_default();
    options.threads = whole("threads", 1);
    options.seed = (uint64_t)number("seed", 1);
    glam_ctx *ctx = glam_open(&options);
    glam_text *train = NULL, *valid = NULL;
    glam_text_split(glam_text_open(ctx, argv[1], NULL), 0.1f, &train, &valid);
    glam_config c = shape();
    glam_recipe r = recipe();
    valid = take_sample(ctx, valid, c.context, whole("sample", 0));
    const char *file = value("file", NULL);
    int every = whole("eval_every", 0), stop_at = whole("stop_at", r.steps);
    int fresh = !exists(file);
    glam_trainer *trainer;
    glam_report now;
    memset(&now, 0, sizeof now);
    if (fresh) trainer = glam_trainer_new(glam_model_new(ctx, &c), train, valid, &r);
    else trainer = glam_load_checkpoint(ctx, file, train, valid);
    if (fresh) {
        printf("%s", strrchr(argv[1], '/') ? strrchr(argv[1], '/') + 1 : argv[1]);
        for (int i = 2; i < argc; i++) printf(" %s", argv[i]);
    }
    double spent = 0, piece = number("piece", 0);
    while (now.step < stop_at && glam_train_step(trainer, &now)) {
        spent += now.tokens_per_second > 0 ? r.batch * c.context / now.tokens_per_second : 0;
        if (every && now.step % every == 0 && now.step < stop_at)
            printf(" @%d=%.4f", now.step, glam_validate(trainer));
        if (piece > 0 && file && spent > piece && now.step < stop_at) {
            glam_save_checkpoint(trainer, file);
            fflush(stdout);
            return glam_error(ctx) ? 1 : 3;
        }
    }
    printf(" | valid %.4f train %.4f seconds %.1f\n", glam_validate(trainer), now.loss,
           now.seconds);
    int failed = glam_error(ctx) != GLAM_OK;
    if (failed) fprintf(stderr, "recipe: %s\n", glam_error_text(ctx));
    if (file && !failed) remove(file);
    glam_close(ctx);
    return failed;
}
