/* glam_import.h - the commands import and export: folders of other people's models.  A part of
   glam.c. */

#ifndef GLAM_IMPORT_H
#define GLAM_IMPORT_H

static void print_import(void *user, int done, int all)
{
    static time_t next;
    time_t now = time(NULL);
    (void)user;
    if (!show_terminal || (now < next && done < all)) return;
    next = now + 1;
    printf("\r%d of %d tensors", done, all);
    if (done == all) printf("\r                              \r");
    fflush(stdout);
}

static void print_model(const glam_model *model)
{
    uint64_t active, all = glam_model_count(model, &active);
    const glam_config *c = glam_model_config(model);
    printf("model     %s parameters, %s active: %d layers, width %d, %d heads", show_count((double)all),
           show_count((double)active), c->layers, c->d_model, c->heads);
    if (c->kv_heads < c->heads) printf(" (%d of keys and values)", c->kv_heads);
    if (c->moe.experts) printf(", %d experts, %d at work", c->moe.experts, c->moe.top_k);
    printf("\n");
    const glam_vocabulary *v = glam_tokenizer_vocabulary(glam_model_tokenizer(model));
    if (v) printf("tokens    %s pieces\n", show_commas((uint64_t)v->size));
    else printf("tokens    no tokenizer: ids only (eval --tokens), or bytes\n");
}

static const char *const weight_forms[] = {"f32", "bf16", "q8"};

// What a narrow form costs is measured on this unless a text is given.
static const char loss_text[] =
    "The lighthouse stood at the end of the long stone pier, where the water was deep and cold. Every evening "
    "the keeper climbed its stairs, counted the ships that lay in the harbour, and lit the lamp. He wrote down "
    "the time, the wind, and the names of those he knew. In winter the waves broke over the wall, and nobody "
    "came to see him for weeks; then he read the old books again, and listened to the storm.\n";

// Nats a token on the text, in windows of at most 512; negative: it cannot be had, which is told.
static double probe_loss(const settings *s, glam_model *model, uint64_t *tokens)
{
    glam_ctx *ctx = glam_model_ctx(model);
    const glam_tokenizer *t = glam_model_tokenizer(model);
    glam_text *text = GIVEN(probe) ? glam_text_open(ctx, s->probe, t)
                                   : glam_text_from(ctx, loss_text, sizeof loss_text - 1, t);
    glam_perplexity_report p;
    size_t length = glam_text_length(text);
    int context = glam_model_config(model)->context;
    if (context > 512) context = 512;
    if (length <= (size_t)context) context = (int)length - 1;
    memset(&p, 0, sizeof p);
    if (context > 0) glam_perplexity(model, text, context, &p);
    if (failure(ctx) || !p.tokens) return -1;
    *tokens = p.tokens;
    return p.loss;
}

static glam_ctx *open_form(const settings *s, int form)
{
    glam_options options = glam_options_default();
    set_machine(s, &options);
    options.weights = (glam_type)form;
    return glam_open(&options);
}

// The loss in f32; negative: f32 does not fit into memory, or the model has no tokenizer.
static double wide_loss(const settings *s, const char *folder)
{
    glam_ctx *ctx = open_form(s, GLAM_TYPE_F32);
    glam_model *model = hub_import(ctx, folder, print_import, NULL);
    uint64_t tokens;
    double loss = -1;
    if (model && glam_model_tokenizer(model)) loss = probe_loss(s, model, &tokens);
    else if (glam_error(ctx) == GLAM_ERR_MEMORY) warn("f32 does not fit into memory: no loss to compare with");
    glam_close(ctx);
    return loss;
}

static int run_import(settings *s, char **words, int count)
{
    int form = 0;
    while (GIVEN(narrow) && form < 3 && strcmp(s->narrow, weight_forms[form])) form++;
    if (form == 3)
        return complain(USAGE, "--weights is %s; f32, bf16 and q8 are possible", s->narrow);
    if (GIVEN(probe) && kind_of(s->probe) != PLAIN) return complain(FAILED, "--text %s: no such file", s->probe);
    if (GIVEN(probe) && !form) return complain(USAGE, "--text is about --weights bf16 or q8");
    if (count != 1)
        return complain(USAGE, "import wants the folder of a model: %s import folder --out "
                        "model.safetensors", program);
    const char *out = GIVEN(import_out) ? s->import_out : "model.safetensors";
    if (kind_of(words[0]) != FOLDER)
        return complain(FAILED, "%s is no folder; a model's folder has config.json and weights", words[0]);
    char *folder = folder_of(out);
    int inside = kind_of(out) != NOTHING && same_thing(folder, words[0]) == 1;
    free(folder);
    if (inside)
        return complain(USAGE, "--out %s is in the folder that is read, and would be overwritten; "
                        "another name, please", out);
    catch_and_leave_nothing();
    if (check_writable("out", out, s->force)) return FAILED;
    double wide = form ? wide_loss(s, words[0]) : -1;        // before the other needs its memory
    glam_ctx *ctx = open_form(s, form);
    glam_model *model = hub_import(ctx, words[0], print_import, NULL);
    uint64_t tokens = 0;
    if (model) {
        print_model(model);
        double loss = wide >= 0 ? probe_loss(s, model, &tokens) : -1;
        if (loss >= 0)
            printf("weights   %s: loss %.6f nats, f32 %.6f: %+.6f (%s tokens)\n", weight_forms[form], loss,
                   wide, loss - wide, show_commas(tokens));
        else if (form)
            printf("weights   %s\n", weight_forms[form]);
        save_whole(model, out);
    }
    return end_saving(ctx, out);
}

static int run_export(settings *s, char **words, int count)
{
    if (count != 1 || !GIVEN(folder_out))
        return complain(USAGE, "export wants a model and --out FOLDER: %s export model.safetensors "
                        "--out folder", program);
    if (GIVEN(as) && !GIVEN(adapter)) return complain(USAGE, "--as is about --adapter");
    catch_and_leave_nothing();
    if (GIVEN(adapter)) return export_adapter(s, words[0]);
    static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json", NULL};
    int made, status = check_folder("out", s->folder_out, names, words[0], s->force, &made);
    if (status != DONE) return status;
    glam_ctx *ctx = open_context(s);
    glam_model *model = load_model(ctx, words[0]);
    if (model && hub_export(model, s->folder_out) == GLAM_OK) {
        printf("saved     config.json and model.safetensors in ");
        print_path(stdout, s->folder_out);
        printf("\n");
    }
    status = failure(ctx);
    if (status != DONE && made) remove_folder(s->folder_out);
    glam_close(ctx);
    return status;
}

#endif
