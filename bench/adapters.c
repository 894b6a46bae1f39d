/* adapters.c - steps of adapters on a model, timed: our side of bench/adapters.py.

       cc -O2 -fopenmp bench/adapters.c -o adapters -lm
       adapters MODEL|FOLDER|random attention[,experts] f32|bf16|q8 STEPS

   MODEL: a file of glam.h; FOLDER: one of transformers; random: numbers of SmolLM2-135M's shape.
   The weights, which stay as they are, are held so; but for f32 the arithmetic is bf16's where the chip has it. */
#define GLAM_IMPLEMENTATION
#include "../glam.h"
#define GLAM_HUB_IMPLEMENTATION
#include "../examples/glam_hub.h"

static glam_model *smol(glam_ctx *ctx)
{
    glam_config c = glam_config_default();
    c.vocab = 49152;
    c.context = 8192;
    c.layers = 30;
    c.d_model = 576;
    c.heads = 9;
    c.d_head = 64;
    c.kv_heads = 3;
    c.hidden = 1536;
    c.position = GLAM_POSITION_ROTARY;
    c.rotary.theta = 1e5f;
    c.attention_sink = 0;
    c.activation = GLAM_SWIGLU;
    c.tied = 1;
    c.moe.experts = 0;
    return glam_model_new(ctx, &c);
}

int main(int argc, char **argv)
{
    if (argc != 5) return fprintf(stderr, "usage: adapters MODEL ROLES f32|bf16|q8 STEPS\n"), 2;
    enum { S = 256 };
    static int32_t ids[1 << 16];
    glam_options o = glam_options_default();
    if (strcmp(argv[3], "f32")) o.arithmetic = GLAM_AUTO;
    o.weights = !strcmp(argv[3], "q8") ? GLAM_TYPE_Q8 : !strcmp(argv[3], "bf16") ? GLAM_TYPE_BF16 : GLAM_TYPE_F32;
    glam_ctx *ctx = glam_open(&o);
    size_t length = strlen(argv[1]);
    int file = length > 8 && (strstr(argv[1], "/granite") || !strcmp(argv[1] + length - 11, "safetensors"));
    glam_model *model = !strcmp(argv[1], "random") ? smol(ctx) : file ? glam_load(ctx, argv[1])
                      : hub_import(ctx, argv[1], NULL, NULL);
    glam_lora lora = glam_lora_default();
    lora.roles = GLAM_ROLE_ATTENTION | (strstr(argv[2], "experts") ? GLAM_ROLE_EXPERTS : 0);
    if (model) glam_model_adapt(model, &lora);
    for (int i = 0; i < 1 << 16; i++) ids[i] = (int32_t)((uint32_t)i * 2654435761u >> 8) % 49152;
    glam_text *text = glam_text_from_tokens(ctx, ids, 1 << 16);
    glam_recipe r = glam_recipe_finetune();
    r.optimizer = GLAM_ADAMW;
    r.lr = 1e-4;
    r.batch = 1;
    r.context = S;
    r.steps = atoi(argv[4]);
    glam_trainer *t = glam_trainer_new(model, text, NULL, &r);
    glam_report now;
    double best = 1e30, before = 0;
    while (glam_train_step(t, &now)) {
        if (now.seconds - before < best) best = now.seconds - before;
        before = now.seconds;
    }
    int failed = glam_error(ctx) != GLAM_OK;
    if (failed) fprintf(stderr, "%s\n", glam_error_text(ctx));
    else printf("tokens/s %.2f  loss %.4f  peak %.0f bytes\n", S / best, now.loss, (double)glam_memory(ctx).peak);
    glam_close(ctx);
    return failed;
}
