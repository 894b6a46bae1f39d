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

static int run_import(settings *s, char **words, int count)
{
    if (count != 1)
        return complain(USAGE, "import wants the folder of a model: %s import folder --out "
                        "model.safetensors", program);
    const char *out = GIVEN(import_out) ? s->import_out : "model.safetensors";
    if (kind_of(words[0]) != FOLDER)
        return complain(FAILED, "%s is no folder; a model's folder has config.json and weights", words[0]);
    if (check_writable("out", out, s->force)) return FAILED;
    glam_ctx *ctx = open_context(s);
    glam_model *model = hub_import(ctx, words[0], print_import, NULL);
    if (model) {
        print_model(model);
        glam_save(model, out);
    }
    int status = failure(ctx);
    if (status == DONE) {
        printf("saved     ");
        print_path(stdout, out);
        printf("\n");
    }
    glam_close(ctx);
    return status;
}

static int run_export(settings *s, char **words, int count)
{
    if (count != 1 || !GIVEN(folder_out))
        return complain(USAGE, "export wants a model and --out FOLDER: %s export model.safetensors "
                        "--out folder", program);
    if (GIVEN(as) && !GIVEN(adapter)) return complain(USAGE, "--as is about --adapter");
    if (GIVEN(adapter)) return export_adapter(s, words[0]);
    if (make_folder("out", s->folder_out)) return FAILED;
    char *config = in_folder(s->folder_out, "config.json");
    int there = kind_of(config) != NOTHING;
    free(config);
    if (there && !s->force)
        return complain(FAILED, "%s has a config.json already; --force writes over it", s->folder_out);
    glam_ctx *ctx = open_context(s);
    glam_model *model = load_model(ctx, words[0]);
    if (model && hub_export(model, s->folder_out) == GLAM_OK) {
        printf("saved     config.json and model.safetensors in ");
        print_path(stdout, s->folder_out);
        printf("\n");
    }
    int status = failure(ctx);
    glam_close(ctx);
    return status;
}

#endif
