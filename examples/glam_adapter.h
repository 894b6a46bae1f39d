/* glam_adapter.h - adapters (LoRA) of a model that is there: loaded beside its weights, merged into
   them, written for other programs; the command merge.  A part of glam.c. */

#ifndef GLAM_ADAPTER_H
#define GLAM_ADAPTER_H

// An adapter onto a model: a file of ours, or a folder of PEFT.
static glam_status take_adapter(glam_model *model, const char *path)
{
    if (!model) return GLAM_ERR_MEMORY;
    if (kind_of(path) == FOLDER) return hub_import_adapter(model, path);
    return glam_load_adapter(model, path);
}

// A saved model with the adapter that --adapter names, if it does.
static glam_model *load_adapted(glam_ctx *ctx, const char *path, const settings *s)
{
    glam_model *model = load_model(ctx, path);
    if (model && GIVEN(adapter)) take_adapter(model, s->adapter);
    return glam_error(ctx) ? NULL : model;
}

// Weights with an adapter; x becomes its name.
static int is_adapted(const glam_model *model, int i, glam_adapter *a)
{
    const glam_tensor *t = glam_model_tensor_at(model, i);
    return t && glam_adapter_of(model, t->name, a);
}

static int count_adapters(const glam_model *model)
{
    glam_adapter a;
    int count = 0;
    for (int i = 0; glam_model_tensor_at(model, i); i++) count += is_adapted(model, i, &a);
    return count;
}

// == merge ==================================================================================

static const char probe_text[] = "Once upon a time there was a small house at the edge of a wood. "
                                 "What is 12 times 7? The answer is 84.";

// Logits of the last row of the probe, in memory of their own; NULL: an error.
static float *probe(glam_model *model, const int32_t *ids, int count)
{
    const glam_batch batch = {1, count, ids, NULL, NULL, NULL};
    glam_ctx *ctx = glam_model_ctx(model);
    int before = glam_no_grad(ctx, 1);
    glam_tensor *y = glam_forward(model, &batch, GLAM_INFER);
    float *out = y ? (float *)need(glam_size(y) * sizeof *out) : NULL;
    if (out) memcpy(out, y->data, glam_size(y) * sizeof *out);
    glam_no_grad(ctx, before);
    glam_forget(ctx);
    return out;
}

// The tokens of the probe, or any where a model has no bytes; returns how many.
static int probe_ids(const glam_model *model, int32_t *ids /* [sizeof probe_text] */)
{
    const glam_config *c = glam_model_config(model);
    const glam_tokenizer *t = glam_model_tokenizer(model);
    int most = c->context < 64 ? c->context : 64;
    int count = t || c->vocab >= BYTES ? (int)glam_encode(t, probe_text, strlen(probe_text), ids,
                                                          sizeof probe_text) : 0;
    if (count > most || count == 0) count = most;
    for (int i = 0; !t && c->vocab < BYTES && i < count; i++) ids[i] = i * 37 % c->vocab;
    return count;
}

// The largest difference of so many logits, and their largest.
static double logits_apart(const float *a, const float *b, size_t count, double *largest)
{
    double apart = 0;
    *largest = 0;
    for (size_t i = 0; i < count; i++) {
        double d = fabs((double)b[i] - (double)a[i]), l = fabs((double)a[i]);
        if (!(d <= apart)) apart = d;
        if (l > *largest) *largest = l;
    }
    return apart;
}

// Merges, and tells how far the logits of a text are from those before.
static glam_status merge_and_tell(glam_model *model)
{
    int32_t ids[sizeof probe_text];
    int adapters = count_adapters(model), count = probe_ids(model, ids);
    float *before = probe(model, ids, count), *after = NULL;
    double largest;
    if (before && glam_model_merge(model) == GLAM_OK) after = probe(model, ids, count);
    if (after) {
        double apart = logits_apart(before, after, (size_t)count *
                                    (size_t)glam_model_config(model)->vocab, &largest);
        printf("merged    %d adapters, in f32; on a text of %d tokens logits differ by at most\n"
               "          %.2g from those of the adapter beside the model (they reach %.3g)\n",
               adapters, count, apart, largest);
    }
    free(before);
    free(after);
    return glam_error(glam_model_ctx(model));
}

static int run_merge(settings *s, char **words, int count)
{
    if (count != 2)
        return complain(USAGE, "merge wants a model and an adapter: %s merge model.safetensors "
                        "adapter.safetensors --out merged.safetensors", program);
    const char *out = GIVEN(merged_out) ? s->merged_out : "merged.safetensors";
    if (check_apart("out", out, words, 2)) return USAGE;
    catch_and_leave_nothing();
    if (check_writable("out", out, s->force)) return FAILED;
    glam_ctx *ctx = open_context(s);
    glam_model *model = load_model(ctx, words[0]);
    if (model && take_adapter(model, words[1]) == GLAM_OK && merge_and_tell(model) == GLAM_OK)
        save_whole(model, out);
    return end_saving(ctx, out);
}

// == export =================================================================================

static const char *const adapter_forms[] = {"peft", "gguf", NULL};

// The adapter alone, for other programs.
static int export_adapter(const settings *s, char *path)
{
    int gguf = GIVEN(as) ? find_word("as", s->as, adapter_forms) : 0;
    if (gguf < 0) return USAGE;
    static const char *const names[] = {"adapter_config.json", "adapter_model.safetensors", NULL};
    char *adapter = joined("%s", s->adapter), *read[2] = {path, adapter};
    int made = 0, status = check_apart("out", s->folder_out, read, 2);
    free(adapter);
    if (status == DONE)
        status = gguf ? check_writable("out", s->folder_out, s->force)
                      : check_folder("out", s->folder_out, names, path, s->force, &made);
    if (status != DONE) return status;
    glam_ctx *ctx = open_context(s);
    glam_model *model = load_adapted(ctx, path, s);
    if (model && gguf) hub_export_gguf_adapter(model, s->folder_out);
    else if (model) hub_export_adapter(model, s->folder_out);
    status = failure(ctx);
    if (status == DONE) {
        printf("saved     %d adapters in ", count_adapters(model));
        print_path(stdout, s->folder_out);
        printf("\n");
    } else if (made) remove_folder(s->folder_out);
    glam_close(ctx);
    return status;
}

#endif
