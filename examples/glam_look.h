/* glam_look.h - a model at work on a text: what its routers did with each token.  A part of
   glam.c. */

#ifndef GLAM_LOOK_H
#define GLAM_LOOK_H

// A saved model.  One of whose weights is no number computes nothing but nonsense: an error.
static glam_model *load_model(glam_ctx *ctx, const char *path)
{
    glam_model *model = glam_load(ctx, path);
    glam_tensor *t;
    for (int i = 0; (t = glam_model_tensor_at(model, i)) != NULL; i++)
        for (size_t k = 0, size = t->data ? glam_size(t) : 0; k < size; k++) {
            if (isfinite(t->data[k])) continue;
            glam_fail(ctx, GLAM_ERR_NUMERIC, "%s: the weights are not finite: %s has %g at place "
                      "%.0f; the run that saved it went wrong, an earlier file may be well", path,
                      t->name, (double)t->data[k], (double)k);
            return NULL;
        }
    return model;
}

// What a token stands for; one that is a byte is put into *byte.
static const char *piece_of(const glam_tokenizer *tokenizer, int32_t id, char *byte, int *bytes)
{
    const char *piece = tokenizer ? glam_tokenizer_piece(tokenizer, id, bytes) : NULL;
    if (piece) return piece;
    *byte = (char)(id >= 0 && id < BYTES ? id : '?');
    *bytes = 1;
    return byte;
}

enum { NAME = 32 };                              // a token's name, with its 0

// A token as it can be printed, cut where it is long: e, ' ', \n, ' the'.
static const char *token_name(const glam_tokenizer *tokenizer, int32_t id, char out[NAME])
{
    char byte, one[8];
    int bytes, length = 0;
    const char *piece = piece_of(tokenizer, id, &byte, &bytes);
    int blanks = bytes == 0 || piece[0] == ' ' || piece[bytes - 1] == ' ';
    if (blanks) out[length++] = '\'';
    for (int i = 0; i < bytes;) {
        i += show_visible((const unsigned char *)piece + i, bytes - i, one);
        if (length + (int)strlen(one) > NAME - 6) {
            memcpy(out + length, "..", 2);
            length += 2;
            break;
        }
        memcpy(out + length, one, strlen(one));
        length += (int)strlen(one);
    }
    if (blanks) out[length++] = '\'';
    out[length] = 0;
    return out;
}

enum { LOOK_ROWS = 16 };                         // windows in a pass

// What one mixture did with each token of a text.
typedef struct looked_layer {
    int      capacity;                           // slots; 0: as many as it takes
    int32_t *expert, *slot, *kept, *fate;        // [N,k]; expert NULL: a dense layer
    float   *weight, *before;                    // [N,k] after drops and before
    float   *probability, *logit;                // [N,E]
} looked_layer;

// A text that went through a model in windows, and its routing.
typedef struct look {
    const glam_tokenizer *tokenizer;             // NULL: bytes
    int32_t *ids;                                // [N]
    float   *loss;                               // [N] given the tokens before; NAN: the first of a
                                                 // window
    int      tokens, window, layers, experts, top_k;
    int      at, count;                          // of the pass that runs
    looked_layer *of;                            // [layers]
    const int32_t *text;                         // [places of a pass] whose its tokens are
    int      number;                             // of this text
    tally   *total;                              // where it is counted
} look;

static look *looking = NULL;                     // what the trace of a context fills

static void look_close(look *k)
{
    for (int layer = 0; k->of && layer < k->layers; layer++) {
        free(k->of[layer].expert);
        free(k->of[layer].weight);
    }
    free(k->of);
    free(k->ids);
    free(k->loss);
    memset(k, 0, sizeof *k);
}

// Takes over the tokens.  total NULL: nothing is counted.
static void look_open(look *k, const glam_model *model, int32_t *ids, int count, int window,
                      tally *total)
{
    const glam_config *c = glam_model_config(model);
    size_t N = (size_t)count, top = (size_t)c->moe.top_k, E = (size_t)c->moe.experts;
    memset(k, 0, sizeof *k);
    k->tokenizer = glam_model_tokenizer(model);
    k->ids = ids;
    k->tokens = count;
    k->total = total;
    k->window = window < 1 || window > count ? count : window;
    k->layers = c->layers;
    k->experts = c->moe.experts;
    k->top_k = c->moe.top_k;
    k->loss = (float *)need(N * sizeof *k->loss);
    k->of = (looked_layer *)need((size_t)k->layers * sizeof *k->of);
    memset(k->of, 0, (size_t)k->layers * sizeof *k->of);
    for (int layer = 0; layer < k->layers; layer++) {
        looked_layer *l = &k->of[layer];
        if (!is_mixture(c, layer)) continue;
        l->expert = (int32_t *)need(4 * N * top * sizeof *l->expert);
        l->slot = l->expert + N * top;
        l->kept = l->slot + N * top;
        l->fate = l->kept + N * top;
        l->weight = (float *)need(2 * N * (top + E) * sizeof *l->weight);
        l->before = l->weight + N * top;
        l->probability = l->before + N * top;
        l->logit = l->probability + N * E;
    }
}

// One mixture at work on the pass.  Padding comes behind its tokens.
static void look_trace(void *user, const glam_trace *trace)
{
    look *k = looking;
    (void)user;
    if (!k || trace->layer < 0 || trace->layer >= k->layers || !k->of[trace->layer].expert) return;
    looked_layer *l = &k->of[trace->layer];
    const glam_routing *g = trace->routing;
    size_t chosen = (size_t)k->count * (size_t)k->top_k, to = (size_t)k->at * (size_t)k->top_k;
    size_t scored = (size_t)k->count * (size_t)k->experts;
    size_t from = (size_t)k->at * (size_t)k->experts;
    l->capacity = g->capacity;
    memcpy(l->expert + to, g->expert, chosen * sizeof *l->expert);
    memcpy(l->slot + to, g->slot, chosen * sizeof *l->slot);
    memcpy(l->kept + to, g->kept, chosen * sizeof *l->kept);
    memcpy(l->fate + to, trace->fate, chosen * sizeof *l->fate);
    memcpy(l->weight + to, g->weight, chosen * sizeof *l->weight);
    memcpy(l->before + to, trace->weight, chosen * sizeof *l->before);
    memcpy(l->probability + from, g->probability, scored * sizeof *l->weight);
    memcpy(l->logit + from, trace->logit, scored * sizeof *l->logit);
    if (k->total) tally_add(k->total, trace, k->text);
}

// The tokens from k->at on, in as many windows as a pass takes, and what they cost.
static void look_pass(look *k, glam_model *model, glam_mode mode)
{
    int left = k->tokens - k->at, most = (left + k->window - 1) / k->window;
    int rows = most < LOOK_ROWS ? most : LOOK_ROWS, places = rows * k->window;
    int V = glam_model_config(model)->vocab;
    int32_t *ids = (int32_t *)need(3 * (size_t)places * sizeof *ids), *mask = ids + places;
    int32_t *text = mask + places;
    k->count = left < places ? left : places;
    memset(ids, 0, (size_t)places * sizeof *ids);
    memcpy(ids, k->ids + k->at, (size_t)k->count * sizeof *ids);
    for (int t = 0; t < places; t++) mask[t] = t < k->count, text[t] = k->number;
    k->text = text;
    glam_batch batch = {rows, k->window, ids, NULL, mask, NULL};
    looking = k;
    glam_tensor *p = glam_softmax(glam_model_ctx(model), glam_forward(model, &batch, mode));
    looking = NULL;
    for (int t = 0; p && t < k->count; t++)
        k->loss[k->at + t] = t % k->window == 0 ? NAN
                           : -logf(p->data[(size_t)(t - 1) * (size_t)V + (size_t)ids[t]]);
    free(ids);
}

// Runs the text through the model, window by window: as in use (nothing is dropped), or as in
// training.
static glam_status look_run(look *k, glam_model *model, glam_mode mode)
{
    glam_ctx *ctx = glam_model_ctx(model);
    int before = glam_no_grad(ctx, 1);
    for (k->at = 0; k->at < k->tokens && glam_error(ctx) == GLAM_OK; k->at += k->count) {
        look_pass(k, model, mode);
        glam_forget(ctx);
    }
    glam_no_grad(ctx, before);
    return glam_error(ctx);
}

// A context for a command that works on a model.
static glam_ctx *open_context(const settings *s)
{
    glam_options options = glam_options_default();
    set_machine(s, &options);
    options.trace = look_trace;
    // pairs are made once, not for every token
    if (options.arithmetic != GLAM_F32 && options.arithmetic != GLAM_AUTO) options.pack_bytes = SIZE_MAX;
    glam_ctx *ctx = glam_open(&options);
    if (options.arithmetic != GLAM_AUTO || !strcmp(glam_arithmetic_name(ctx), "f32")) return ctx;
    glam_close(ctx);                                 // on such a chip alone, which only a context knows
    options.pack_bytes = SIZE_MAX;
    return glam_open(&options);
}

// The end of a command that saves one file: says where it is, unless something failed.
static int end_saving(glam_ctx *ctx, const char *path)
{
    int status = failure(ctx);
    if (status == DONE) {
        printf("saved     ");
        print_path(stdout, path);
        printf("\n");
    }
    end_reservations();
    glam_close(ctx);
    return status;
}

// The last mixture; -1: every layer is dense.
static int last_mixture(const look *k)
{
    int last = -1;
    for (int layer = 0; layer < k->layers; layer++) if (k->of[layer].expert) last = layer;
    return last;
}

// All of standard input, as far as memory goes.
static char *read_input(size_t *bytes)
{
    json_out all = {NULL, 0, 0};
    char some[4096];
    size_t got;
    json_put(&all, "", 0);
    while ((got = fread(some, 1, sizeof some, stdin)) > 0) json_put(&all, some, got);
    *bytes = all.length;
    return all.text;
}

// The tokens of a word of the command line: what is in a file of that name, standard input (-), or
// the word itself; at most so many, the first or the last.  NULL: an error.
static int32_t *text_tokens(const glam_model *model, const char *word, int most, int last,
                            int *count)
{
    glam_ctx *ctx = glam_model_ctx(model);
    const glam_tokenizer *tokenizer = glam_model_tokenizer(model);
    size_t bytes = strlen(word), all, from = 0;
    char *input = NULL;
    glam_text *text = NULL;
    if (kind_of(word) == FOLDER)
        glam_fail(ctx, GLAM_ERR_VALUE, "%s is a folder; a text or a file is wanted", word);
    else if (kind_of(word) != NOTHING) text = glam_text_open(ctx, word, tokenizer);
    else {
        if (strcmp(word, "-") == 0) word = input = read_input(&bytes);
        else if (strpbrk(word, "./\\") && !strpbrk(word, " \t\n"))
            warn("there is no file %s: its name is taken for the text", word);
        text = glam_text_from(ctx, word, bytes, tokenizer);
    }
    free(input);
    if (glam_error(ctx) != GLAM_OK) return NULL;
    all = glam_text_length(text);
    *count = all > (size_t)most ? most : (int)all;
    if (last) from = all - (size_t)*count;
    else if (all > (size_t)most) warn("the text is long: its first %d tokens are looked at", most);
    int32_t *ids = (int32_t *)need((size_t)*count * sizeof *ids);
    glam_text_read(text, from, (size_t)*count, ids);
    return ids;
}

// The letters of the text over the number of their token's first expert, or, where one is asked
// for, over its weight in percent.  A token of several letters has it under the first.
static void print_letters(const look *k, int layer, int expert, int count)
{
    const looked_layer *l = &k->of[layer];
    json_out text = {NULL, 0, 0};
    int bytes, at = 0;
    char byte;
    for (int i = 0; i < count; i++) {
        const char *piece = piece_of(k->tokenizer, k->ids[i], &byte, &bytes);
        json_put(&text, piece, (size_t)bytes);
    }
    show_mark *mark = (show_mark *)need(text.length * sizeof *mark);
    for (int i = 0; i < count; i++) {
        show_mark one = {-1, -1, 0};
        if (expert < 0) one.number = one.ground = l->expert[i * k->top_k];
        for (int j = 0; j < k->top_k && expert >= 0; j++)
            if (l->expert[i * k->top_k + j] == expert) {
                one.shade = (double)l->weight[i * k->top_k + j];
                one.number = (int)(99.99 * one.shade);
            }
        piece_of(k->tokenizer, k->ids[i], &byte, &bytes);
        for (int b = 0; b < bytes; b++, at++) {
            mark[at] = one;
            one.number = -1;
        }
    }
    if (text.length) show_marks(stdout, text.text, (int)text.length, mark, k->experts,
                                expert < 0 ? k->experts - 1 : 99);
    free(mark);
    free(text.text);
}

// What token t of a look stands for, as a JSON string.  The caller frees it.
static char *piece_as_json(const look *k, int t)
{
    char byte;
    int bytes;
    json_out text = {NULL, 0, 0};
    const char *piece = piece_of(k->tokenizer, k->ids[t], &byte, &bytes);
    json_put_text(&text, piece, (size_t)bytes);
    return text.text;
}

// A few tokens in colours: the look of a run at what it has just written.
static void print_look(glam_model *model, const int32_t *tokens, int count)
{
    look k;
    int32_t *ids = (int32_t *)need((size_t)count * sizeof *ids);
    memcpy(ids, tokens, (size_t)count * sizeof *ids);
    look_open(&k, model, ids, count, count, NULL);
    int layer = look_run(&k, model, GLAM_INFER) == GLAM_OK ? last_mixture(&k) : -1;
    if (layer < 0) {
        show_stream plain = {{0}, 0};
        for (int i = 0; i < count; i++) {
            char byte;
            int bytes;
            const char *piece = piece_of(k.tokenizer, ids[i], &byte, &bytes);
            show_more(&plain, piece, bytes, i + 1 == count);
        }
        printf("\n");
    } else {
        printf("(under each letter its first expert in layer %d)\n", layer);
        print_letters(&k, layer, -1, count);
    }
    look_close(&k);
}

#endif
