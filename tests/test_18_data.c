/* Room 18: texts, documents, batches, the quality filter.  Kinds: value, gradient, same bits, property,
   failure. */

// All tokens of a text; wrong ones when it has not count of them.
static const int32_t *data_ids(const glam_text *text, size_t count)
{
    static int32_t ids[200];
    memset(ids, 0x55, sizeof ids);
    if (count > 200 || glam_text_length(text) != count) return ids;
    CHECK(glam_text_read(text, 0, 200, ids) == count);
    return ids;
}

// Any piece of a text, also across the joints of a mixture; nothing is written past the count.
static void data_read(void)
{
    glam_ctx *ctx = test_ctx();
    glam_text *two[2];
    int32_t out[8];
    two[0] = glam_text_from(ctx, "abcde", 5, NULL);
    two[1] = glam_text_from(ctx, "fgh", 3, NULL);
    glam_text *mix = glam_mix(ctx, two, NULL, 2);
    for (size_t from = 0; from < 10; from++) {
        for (size_t count = 0; count < 8; count++) {
            size_t left = from < 8 ? 8 - from : 0, want = count < left ? count : left;
            for (int i = 0; i < 8; i++) out[i] = -7;
            CHECK(glam_text_read(mix, from, count, out) == want);
            for (size_t i = 0; i < 8; i++) CHECK(out[i] == (i < want ? (int32_t)('a' + from + i) : -7));
        }
    }
    CHECK(glam_text_read(NULL, 0, 4, out) == 0 && glam_text_read(mix, 0, 4, NULL) == 0);
    CLOSE_CLEAN(ctx);
}

static void data_texts(void)
{
    glam_ctx *ctx = test_ctx();
    const char *path = test_path("text.txt");
    FILE *f = fopen(path, "wb");
    if (CHECK(f != NULL)) {
        fwrite("abc\0\n\xff z", 1, 8, f);
        fclose(f);
    }
    glam_text *t = glam_text_open(ctx, path, NULL);
    CHECK(glam_text_length(t) == 8);
    const int32_t *ids = data_ids(t, 8);
    CHECK(ids[0] == 'a' && ids[3] == 0 && ids[4] == '\n' && ids[5] == 255 && ids[7] == 'z');
    remove(path);
    char copied[] = "hello";
    t = glam_text_from(ctx, copied, 5, NULL);
    copied[0] = 'X';
    CHECK(glam_text_length(t) == 5 && data_ids(t, 5)[0] == 'h');
    int32_t tokens[3] = { 500, 0, 70000 };
    t = glam_text_from_tokens(ctx, tokens, 3);
    tokens[0] = 1;
    CHECK(glam_text_length(t) == 3 && data_ids(t, 3)[0] == 500 && data_ids(t, 3)[2] == 70000);
    CLOSE_CLEAN(ctx);
}

static void data_failures(void)
{
    glam_ctx *ctx = test_ctx();
    const char *path = test_path("empty.txt");
    glam_text *a, *b;
    CHECK(glam_text_open(ctx, "no/such/file.txt", NULL) == NULL);
    ERROR_IS(ctx, GLAM_ERR_FILE, "no/such/file.txt");
    FILE *f = fopen(path, "wb");
    if (f) fclose(f);
    CHECK(glam_text_open(ctx, path, NULL) == NULL);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "empty");
    remove(path);
    CHECK(glam_text_open(ctx, ".", NULL) == NULL);          // a folder is no text
    CHECK(glam_error(ctx) == GLAM_ERR_FILE || glam_error(ctx) == GLAM_ERR_VALUE);
    glam_clear_error(ctx);
    CHECK(glam_text_from(ctx, "", 0, NULL) == NULL);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "empty");
    int32_t bad[2] = { 3, -1 };
    CHECK(glam_text_from_tokens(ctx, bad, 2) == NULL);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "-1");
    glam_text *t = glam_text_from(ctx, "0123456789", 10, NULL);
    CHECK(glam_text_split(t, -0.1f, &a, &b) == GLAM_ERR_VALUE && !a && !b);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "fraction");
    CHECK(glam_text_split(t, (float)NAN, &a, &b) == GLAM_ERR_VALUE && !a && !b);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "fraction");
    CHECK(glam_text_split(t, 1.0f, &a, &b) == GLAM_ERR_VALUE);
    glam_clear_error(ctx);
    glam_batch batch;
    CHECK(glam_next_batch(t, 2, 10, 1, 0, &batch) == GLAM_ERR_VALUE && batch.tokens == NULL);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "10");
    CHECK(glam_next_batch(t, 2, 9, 1, 0, &batch) == GLAM_OK);
    float weights[2] = { 0, 0 };
    glam_text *two[2];
    two[0] = two[1] = t;
    CHECK(glam_mix(ctx, two, weights, 2) == NULL);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "weight");
    static const float not_weights[] = { -1, (float)NAN, (float)HUGE_VAL };
    for (int i = 0; i < 3; i++) {
        weights[0] = not_weights[i];
        weights[1] = 1;
        CHECK(glam_mix(ctx, two, weights, 2) == NULL);
        ERROR_IS(ctx, GLAM_ERR_VALUE, "weight");
    }
    two[1] = NULL;
    CHECK(glam_mix(ctx, two, NULL, 2) == NULL);
    CHECK(glam_error(ctx) != GLAM_OK);
    glam_clear_error(ctx);
    CLOSE_CLEAN(ctx);
}

static glam_text *data_numbers(glam_ctx *ctx, int from, int count)
{
    int32_t *ids = (int32_t *)malloc((size_t)count * sizeof(int32_t));
    for (int i = 0; ids && i < count; i++) ids[i] = from + i;
    glam_text *t = glam_text_from_tokens(ctx, ids, (size_t)count);
    free(ids);
    return t;
}

static void data_split(void)
{
    glam_ctx *ctx = test_ctx();
    glam_text *train, *valid;
    CHECK(glam_text_split(data_numbers(ctx, 0, 100), 0.1f, &train, &valid) == GLAM_OK);
    CHECK(glam_text_length(train) == 90 && glam_text_length(valid) == 10);
    CHECK(data_ids(train, 90)[0] == 0 && data_ids(valid, 10)[0] == 90);
    // A mixture is split text by text, not at its end.
    glam_text *two[2];
    two[0] = data_numbers(ctx, 0, 100);
    two[1] = data_numbers(ctx, 1000, 50);
    CHECK(glam_text_split(glam_mix(ctx, two, NULL, 2), 0.2f, &train, &valid) == GLAM_OK);
    CHECK(glam_text_length(train) == 120 && glam_text_length(valid) == 30);
    int seen[2] = { 0, 0 };
    for (uint64_t step = 0; step < 60; step++) {
        glam_batch b;
        CHECK(glam_next_batch(valid, 4, 5, 1, step, &b) == GLAM_OK);
        for (int i = 0; b.tokens && i < 20; i++) {
            int32_t id = b.tokens[i];
            seen[id >= 1000]++;
            CHECK((id >= 80 && id < 100) || (id >= 1040 && id < 1050));
        }
        glam_forget(ctx);
    }
    CHECK(seen[0] > 0 && seen[1] > 0);
    CLOSE_CLEAN(ctx);
}

// Targets are the next tokens, windows stay inside, rows are a function of (seed, step, row).
static void data_batches(void)
{
    glam_ctx *ctx = test_ctx();
    glam_text *t = data_numbers(ctx, 0, 40);
    int start[40] = { 0 };
    for (uint64_t step = 0; step < 300; step++) {
        glam_batch a, b, c;
        CHECK(glam_next_batch(t, 3, 8, 5, step, &a) == GLAM_OK);
        CHECK(glam_next_batch(t, 6, 8, 5, step, &b) == GLAM_OK);
        CHECK(glam_next_batch(t, 3, 8, 6, step, &c) == GLAM_OK);
        if (!CHECK(a.rows == 3 && a.length == 8 && !a.mask && !a.segments)) break;
        for (int i = 0; i < 24; i++) {
            CHECK(a.targets[i] == a.tokens[i] + 1);
            if (i % 8) CHECK(a.tokens[i] == a.tokens[i - 1] + 1);
        }
        CHECK(!memcmp(a.tokens, b.tokens, 24 * sizeof(int32_t)));      // rows do not depend on how many
        for (int r = 0; r < 3; r++) start[a.tokens[r * 8]]++;
        glam_forget(ctx);
    }
    // Every possible start is met, and no impossible one: 40 tokens hold 32 windows of 8 + 1.
    for (int i = 0; i < 40; i++) CHECK((start[i] > 0) == (i < 32));
    CLOSE_CLEAN(ctx);
}

static void data_mixture(void)
{
    glam_ctx *ctx = test_ctx();
    glam_text *two[2];
    float weights[2] = { 3, 1 };
    two[0] = data_numbers(ctx, 0, 60);
    two[1] = data_numbers(ctx, 1000, 540);
    for (int weighted = 0; weighted < 2; weighted++) {
        glam_text *mix = glam_mix(ctx, two, weighted ? weights : NULL, 2);
        int first = 0, rows = 0;
        CHECK(glam_text_length(mix) == 600);
        for (uint64_t step = 0; step < 500; step++) {
            glam_batch b;
            CHECK(glam_next_batch(mix, 8, 10, 2, step, &b) == GLAM_OK);
            for (int r = 0; b.tokens && r < 8; r++) {
                first += b.tokens[r * 10] < 1000;
                rows++;
                CHECK(b.targets[r * 10 + 9] == b.tokens[r * 10] + 10);   // never crosses over
            }
            glam_forget(ctx);
        }
        double p = weighted ? 0.75 : 0.1;
        CHECK_NEAR(first, rows * p, 5 * sqrt(rows * p * (1 - p)) + (weighted ? 0 : 40));
    }
    CLOSE_CLEAN(ctx);
}

// Longer than the first block that is read: each byte is there, once, in its place.
static void data_long(void)
{
    static const size_t lengths[] = { 65535, 65536, 65537, 131072, 200001 };
    test_heap heap;
    glam_options options = test_options();
    test_heap_into(&heap, &options);            // which wipes what is given back
    glam_ctx *ctx = glam_open(&options);
    const char *path = test_path("long.txt");
    unsigned char *bytes = (unsigned char *)malloc(200001);
    int32_t *ids = (int32_t *)malloc(200001 * sizeof *ids);
    if (!CHECK(bytes && ids)) return;
    for (size_t i = 0; i < 200001; i++) bytes[i] = (unsigned char)(i * 7 + i / 251);
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        FILE *f = fopen(path, "wb");
        size_t wrong = 0, length = lengths[k], mark = glam_mark(ctx);
        if (!CHECK(f && fwrite(bytes, 1, length, f) == length)) return;
        fclose(f);
        glam_text *text = glam_text_open(ctx, path, NULL);
        CHECK(glam_text_length(text) == length && glam_text_read(text, 0, length, ids) == length);
        for (size_t i = 0; i < length && text; i++) wrong += ids[i] != bytes[i];
        CHECK(wrong == 0);
        glam_rewind(ctx, mark);
    }
    remove(path);
    free(bytes);
    free(ids);
    CLOSE_CLEAN(ctx);
    CHECK(heap.live == 0 && heap.wrong == 0);
}

// Numbers that nobody means: an error with a sentence, or what they say; never a wild read.
static void data_extremes(void)
{
    static const int wild[] = { 0, 1, -1, INT_MIN, INT_MAX, 65536 };
    const float fractions[] = { 0, -1, 1, 1e30f, -1e30f, (float)HUGE_VAL, (float)-HUGE_VAL, (float)NAN,
                                0.99999994f, 1e-45f };
    const float weights[] = { (float)NAN, (float)HUGE_VAL, -1, 1e38f };
    glam_ctx *ctx = test_ctx();
    glam_text *text = data_numbers(ctx, 0, 100), *train, *valid, *two[2];
    glam_batch batch;
    int32_t out[4];
    for (int r = 0; r < 6; r++)
        for (int l = 0; l < 6; l++)
            for (int k = 0; k < 3; k++) {
                uint64_t far_off = k ? UINT64_MAX - (uint64_t)k + 1 : 0;
                int fine = wild[r] >= 1 && wild[l] >= 1 && wild[l] < 100 && wild[r] < 1 << 24;
                CHECK((glam_next_batch(text, wild[r], wild[l], far_off, far_off, &batch) == GLAM_OK) == fine);
                CHECK((batch.tokens != NULL) == fine);
                glam_clear_error(ctx);
                glam_forget(ctx);
            }
    CHECK(glam_next_batch(text, 1, 1, 1, 1, NULL) != GLAM_OK && glam_next_batch(NULL, 1, 1, 1, 1, &batch) != GLAM_OK);
    glam_clear_error(ctx);
    for (int i = 0; i < 10; i++) {
        int fine = i == 0 || i > 7;
        CHECK((glam_text_split(text, fractions[i], &train, &valid) == GLAM_OK) == fine);
        CHECK((train != NULL) == fine);
        CHECK(!fine || glam_text_length(train) + glam_text_length(valid) == 100);
        glam_clear_error(ctx);
        CHECK((glam_text_split(text, fractions[i], NULL, NULL) == GLAM_OK) == fine);
        glam_clear_error(ctx);
    }
    two[0] = two[1] = text;
    for (int i = 0; i < 4; i++) {
        float w[2] = { 1, weights[i] };
        CHECK(!glam_mix(ctx, two, w, 2));
        ERROR_IS(ctx, GLAM_ERR_VALUE, "mix: text 1");
    }
    CHECK(!glam_mix(ctx, two, NULL, INT_MIN) && !glam_mix(NULL, two, NULL, 2));
    glam_clear_error(ctx);
    CHECK(glam_text_read(text, SIZE_MAX, SIZE_MAX, out) == 0 && glam_text_read(text, 98, SIZE_MAX, out) == 2);
    CHECK(glam_text_read(text, 100, 4, out) == 0 && glam_text_length(NULL) == 0);
    CHECK(!glam_text_from(ctx, NULL, 5, NULL) && glam_error(ctx) == GLAM_ERR_VALUE);
    glam_clear_error(ctx);
    CHECK(!glam_text_from_tokens(ctx, out, 0) && !glam_text_open(ctx, NULL, NULL));
    glam_clear_error(ctx);
    out[0] = INT32_MIN;
    CHECK(!glam_text_from_tokens(ctx, out, 1) && glam_error(ctx) == GLAM_ERR_VALUE);
    glam_clear_error(ctx);
    // more than any machine has: refused, not wrapped around
    CHECK(!glam_text_from_tokens(ctx, out, SIZE_MAX / 2) && glam_error(ctx) != GLAM_OK);
    glam_clear_error(ctx);
    CLOSE_CLEAN(ctx);
}

// A token or a target that the vocabulary has not is found before it is used.
static void data_out_of_range(void)
{
    static const int32_t bad[] = { 37, -2, INT32_MIN, INT32_MAX };
    glam_ctx *ctx = test_ctx();
    glam_config config = test_config();
    glam_model *model = glam_model_new(ctx, &config);
    int32_t tokens[6] = { 0, 1, 2, 3, 4, 36 }, targets[6] = { 36, 5, 4, 3, 2, 0 };
    glam_batch batch = { 2, 3, tokens, targets, NULL, NULL };
    CHECK(glam_loss(model, &batch, GLAM_TRAIN, NULL) != NULL);
    for (int i = 0; i < 4; i++) {
        targets[4] = bad[i];
        CHECK(!glam_loss(model, &batch, GLAM_TRAIN, NULL) && glam_error(ctx) != GLAM_OK);
        glam_clear_error(ctx);
        targets[4] = 2;
        tokens[5] = bad[i];
        CHECK(!glam_loss(model, &batch, GLAM_TRAIN, NULL) && glam_error(ctx) != GLAM_OK);
        glam_clear_error(ctx);
        tokens[5] = 36;
    }
    glam_forget(ctx);
    CHECK(glam_loss(model, &batch, GLAM_TRAIN, NULL) != NULL);
    CLOSE_CLEAN(ctx);
}

// ---- documents in a text

// Texts are looked through 4,096 tokens at a time: a separator may lie on both sides.
static void data_documents_across(void)
{
    static char words[9000];
    const int32_t separator[3] = { '<', '|', '>' };
    for (int at = 4088; at < 4100; at++)
        for (int broken = 0; broken < 4; broken++) {
            glam_ctx *ctx = test_ctx();
            memset(words, 'a', sizeof words);
            for (int i = 0; i < 3; i++) words[at + i] = words[at + 4096 + i] = (char)separator[i];
            if (broken) words[at + broken - 1] = 'b';
            glam_text *text = glam_text_from(ctx, words, sizeof words, NULL);
            CHECK(glam_text_documents(text, separator, 3) == (broken ? 2 : 3));
            CLOSE_CLEAN(ctx);
        }
}

// What a batch of documents must look like, found by looking at the bytes around each token.
static void data_documents_batches(void)
{
    glam_ctx *ctx = test_ctx();
    static const char words[] = "one two||three||||four|five||six seven eight||nine|||ten";
    const int32_t separator[2] = { '|', '|' };
    int n = (int)sizeof words - 1, start[80], document[80], count = 1;
    // slow: a document ends behind "||", or behind several of them
    for (int i = 0, last = -9; i < n; i++) {
        document[i] = count;
        if (i && words[i] == '|' && words[i - 1] == '|' && i - 1 > last) {
            last = i;
            if (!(i + 2 < n && words[i + 1] == '|' && words[i + 2] == '|')) count++;
        }
    }
    count = document[n - 1];
    glam_text *text = glam_text_from(ctx, words, (size_t)n, NULL);
    CHECK(glam_text_documents(text, separator, 2) == (size_t)count && count == 6);
    for (uint64_t step = 0; step < 60; step++) {
        glam_batch b;
        CHECK(glam_next_batch(text, 2, 20, 3, step, &b) == GLAM_OK);
        if (!CHECK(b.tokens && b.segments && b.mask)) break;
        for (int r = 0; r < 2; r++) {
            char row[21] = "";
            for (int i = 0; i < 20; i++) row[i] = (char)b.tokens[r * 20 + i];
            int found = 0;
            for (int at = 0; at + 20 < n; at++) if (!memcmp(words + at, row, 20)) start[found++] = at;
            if (!CHECK(found == 1)) continue;
            for (int i = 0; i < 20; i++) {
                int at = start[0] + i;
                CHECK(b.targets[r * 20 + i] == words[at + 1]);
                CHECK(b.segments[r * 20 + i] == document[at] - document[start[0]] + 1);
                CHECK(b.mask[r * 20 + i] == (document[at + 1] == document[at]));
            }
        }
        glam_forget(ctx);
    }
    CHECK(glam_text_documents(text, separator, 0) == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "separator of 0");
    CHECK(glam_text_documents(text, NULL, 2) == 0 && glam_text_documents(NULL, separator, 2) == 0);
    glam_clear_error(ctx);
    CLOSE_CLEAN(ctx);
}

// What a batch of documents has more than another is known before the first step.
static void data_documents_planned(void)
{
    const int32_t separator = '.';
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    glam_text *text = test_text(ctx, 6000);
    CHECK(glam_text_documents(text, &separator, 1) > 10);
    glam_recipe r = train_recipe(3);
    r.batch = 512;                                         // ids weigh something beside the layers
    glam_trainer *t = glam_trainer_new(glam_model_new(ctx, &c), text, NULL, &r);
    uint64_t before = glam_memory(ctx).allocations;
    while (t && glam_train_step(t, NULL)) {}
    CHECK(t && glam_memory(ctx).allocations == before);
    CLOSE_CLEAN(ctx);
}

// Many documents of random lengths, over the block borders of the scan: ends against a plain loop,
// and no document is on both sides of a split, whatever the fraction.
static void data_documents_split(void)
{
    enum { N = 30000 };
    const float fractions[] = { 0, 1e-5f, 0.1f, 0.25f, 0.5f, 0.9f, 0.99999f };
    glam_ctx *ctx = test_ctx();
    static char bytes[N];
    static int document[N];
    uint64_t s = test_seed(1);
    int documents = 0;
    for (int i = 0; i < N; i++) {
        bytes[i] = (char)(test_next(&s) % 300 ? 'a' + (int)(test_next(&s) % 20) : 0);
        documents += i == 0 || (bytes[i - 1] == 0 && bytes[i] != 0);
        document[i] = documents;
    }
    const int32_t zero = 0;
    for (int i = 0; i < 7; i++) {
        glam_text *train, *valid, *text = glam_text_from(ctx, bytes, N, NULL);
        CHECK(glam_text_documents(text, &zero, 1) == (size_t)documents);
        CHECK(glam_text_split(text, fractions[i], &train, &valid) == GLAM_OK);
        int cut = (int)glam_text_length(train);
        CHECK(cut > 0 && cut + (int)glam_text_length(valid) == N);
        CHECK(cut == N || document[cut] != document[cut - 1]);
        // as much as was asked for, and less than one document more
        int asked = N - (int)((double)N * (double)fractions[i]);
        CHECK(fractions[i] == 0 ? cut == N && !valid : cut <= asked || document[cut - 1] == 1);
        CHECK(cut == N || cut >= asked || document[cut] == document[asked]);
        glam_text *again[2];                     // the run's split is found again from its length
        float found = glam__split_of_count(text, glam_text_length(valid));
        CHECK(glam_text_split(text, found, &again[0], &again[1]) == GLAM_OK);
        CHECK(glam_text_length(again[0]) == (size_t)cut);
    }
    CLOSE_CLEAN(ctx);
}

// A step over packed documents: its loss is that of its real tokens, whatever the parts; validation
// counts the same tokens.
static void data_documents_train(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config config = train_config();
    glam_recipe recipe = train_recipe(3);
    const int32_t blank = ' ';
    double loss[2];
    config.moe.aux_weight = 0;
    for (int parts = 1; parts <= 2; parts++) {
        glam_forget(ctx);
        glam_text *text = test_text(ctx, 3000);
        CHECK(glam_text_documents(text, &blank, 1) > 10);
        glam_model *model = glam_model_new(ctx, &config);
        recipe.accumulate = parts;
        glam_batch b;
        glam_losses want;
        CHECK(glam_next_batch(text, recipe.batch, config.context, recipe.seed, 0, &b) == GLAM_OK);
        CHECK(glam_loss(model, &b, GLAM_TRAIN, &want) != NULL);
        glam_forget(ctx);
        glam_report now;
        glam_trainer *trainer = glam_trainer_new(model, text, text, &recipe);
        CHECK(glam_train_step(trainer, &now) == 1);
        loss[parts - 1] = now.loss;
        CHECK_NEAR(now.loss, want.xent, 1e-5);
        glam_perplexity_report p;
        CHECK(glam_perplexity(model, text, 0, &p) == GLAM_OK);
        size_t windows = (glam_text_length(text) - 1) / (size_t)config.context, real = 0;
        int32_t two[2];
        for (size_t i = 0; i < windows * (size_t)config.context; i++) {
            glam_text_read(text, i, 2, two);
            real += two[0] != ' ' || two[1] == ' ';
        }
        CHECK(p.tokens == real);
        CHECK_NEAR(glam_validate(trainer), p.loss, 1e-12);
    }
    CHECK_NEAR(loss[0], loss[1], 1e-5);
    CLOSE_CLEAN(ctx);
}

// ---- examples

enum { EXAMPLES = 60, EXAMPLE_MOST = 30 };
static int32_t data_example_ids[EXAMPLES][EXAMPLE_MOST];
static unsigned char data_learn[EXAMPLES][EXAMPLE_MOST];
static glam_example data_examples[EXAMPLES];

// Questions and answers of many lengths; the first token says which it is.  Every seventh is learnt whole.
static void data_make_examples(int most)
{
    uint64_t s = test_seed(11);
    for (int i = 0; i < EXAMPLES; i++) {
        int count = 3 + (int)(test_next(&s) % (uint64_t)(most - 2)), answer = 2 + (int)(test_next(&s) % (uint64_t)glam__min(count - 2, 14));
        for (int t = 0; t < count; t++) {
            data_example_ids[i][t] = t ? (int32_t)(test_next(&s) % 200) : i;
            data_learn[i][t] = t >= answer && t != answer + 2;
        }
        data_examples[i].tokens = data_example_ids[i];
        data_examples[i].learn = i % 7 ? data_learn[i] : NULL;
        data_examples[i].count = count;
    }
}

static int data_learns(const glam_example *e, int t) { return t && (!e->learn || e->learn[t]); }

// Every epoch has each example once, whole but for what is past length + 1 tokens, in a segment of its
// own; the windows are nearly full; another epoch has another order, and the first one comes again.
static void data_examples_windows(void)
{
    glam_ctx *ctx = test_ctx();
    data_make_examples(EXAMPLE_MOST);
    static const int32_t pair[2] = { 5, 6 };
    glam_example least;                            // one token is read, one is learnt
    memset(&least, 0, sizeof least);
    least.tokens = pair;
    least.count = 2;
    CHECK(glam_text_windows(glam_text_examples(ctx, &least, 1, 1), 1, NULL) == 1);
    for (int length = 20; length <= 40; length += 20) {
        glam_text *text = glam_text_examples(ctx, data_examples, EXAMPLES, length);
        uint64_t told = 0, want = 0, places = 0, orders[2] = { 0, 0 };
        size_t windows = glam_text_windows(text, length, &told), tokens = 0;
        for (int i = 0; i < EXAMPLES; i++) {
            int count = glam__min(data_examples[i].count, length + 1);
            for (int t = 1; t < count; t++) want += (uint64_t)data_learns(&data_examples[i], t);
            places += (uint64_t)count - 1;
            tokens += (size_t)count;
        }
        CHECK(told == want && glam_text_length(text) == tokens);
        CHECK(windows >= places / (uint64_t)length && (double)places > 0.93 * (double)windows * length);
        for (uint64_t epoch = 0; epoch < 2; epoch++) {
            int seen[EXAMPLES] = { 0 };
            for (uint64_t w = 0; w < windows; w++) {
                glam_batch b, one;
                CHECK(glam_next_batch(text, 1, length, 5, epoch * windows + w, &one) == GLAM_OK);
                // the same as row 1 of the batch that has two of them
                uint64_t at = epoch * windows + w;
                CHECK(glam_next_batch(text, 2, length, 5, at / 2, &b) == GLAM_OK);
                if (!CHECK(b.tokens && one.tokens)) break;
                size_t row = (size_t)(at % 2) * (size_t)length, bytes = (size_t)length * sizeof(int32_t);
                CHECK(!memcmp(b.tokens + row, one.tokens, bytes) && !memcmp(b.targets + row, one.targets, bytes));
                int t = 0;
                for (int segment = 1; t < length && one.segments[t]; segment++) {
                    const glam_example *e = &data_examples[one.tokens[t] % EXAMPLES];
                    seen[one.tokens[t] % EXAMPLES]++;
                    orders[epoch] = test_hash(orders[epoch], &one.tokens[t], sizeof(int32_t));
                    for (int i = 0; i < glam__min(e->count, length + 1) - 1; i++, t++) {
                        if (!CHECK(t < length)) break;
                        CHECK(one.tokens[t] == e->tokens[i] && one.segments[t] == segment && one.mask[t] == 1);
                        CHECK(one.targets[t] == (data_learns(e, i + 1) ? e->tokens[i + 1] : -1));
                    }
                }
                for (; t < length; t++) CHECK(!one.segments[t] && !one.mask[t] && one.targets[t] == -1);
                glam_forget(ctx);
            }
            for (int i = 0; i < EXAMPLES; i++) CHECK(seen[i] == 1);
        }
        CHECK(orders[0] != orders[1]);
        // a split keeps examples whole, and is no run of neighbours
        glam_text *train, *valid;
        CHECK(glam_text_split(text, 0.2f, &train, &valid) == GLAM_OK);
        CHECK(glam_text_length(train) + glam_text_length(valid) == tokens);
        uint64_t a, b;
        CHECK(glam_text_windows(train, length, &a) && glam_text_windows(valid, length, &b) && a + b == want);
        double epochs[1];
        CHECK(glam_mix_epochs(text, 1, length, 5, 0, windows, epochs, 1) == GLAM_OK);
        CHECK_NEAR(epochs[0], 1, 1e-9);
        int32_t first[2] = { 0, 0 };
        int held = 0, jumps = 0;
        for (size_t i = 0; i < glam_text_length(valid); held++, first[0] = first[1]) {
            CHECK(glam_text_read(valid, i, 1, first + 1) == 1 && first[1] >= 0);
            if (!CHECK(first[1] < EXAMPLES)) break;
            i += (size_t)glam__min(data_examples[first[1]].count, length + 1);
            jumps += first[1] - first[0] != 1;
        }
        CHECK(held >= EXAMPLES / 8 && held <= EXAMPLES / 3 && jumps > held / 2);
    }
    glam_text *plain = test_text(ctx, 100);
    uint64_t told;
    CHECK(glam_text_windows(plain, 9, &told) == 11 && told == 99);
    CHECK(glam_text_windows(plain, 0, &told) == 0 && told == 0 && glam_text_windows(NULL, 9, NULL) == 0);
    CLOSE_CLEAN(ctx);
}

// What one epoch of packed windows says, and its gradient, is what the examples say one by one, each in a
// batch of its own, weighted by the tokens that it has to be learnt.
static void data_examples_alone(void)
{
    glam_config config = train_config();
    const int length = 24;
    config.moe.capacity_factor = 0;               // dropless: the route of a token is its own affair
    config.moe.aux_weight = 0;
    config.z_loss = 0;
    data_make_examples(length + 1);
    for (int kind = 0; kind < 2; kind++) {
        glam_ctx *ctx = test_ctx();
        if (kind) test_family(&config, 0);        // rotary positions: each segment has its own
        glam_model *model = glam_model_new(ctx, &config);
        glam_text *text = glam_text_examples(ctx, data_examples, EXAMPLES, length);
        uint64_t told, sum = 0;
        int windows = (int)glam_text_windows(text, length, &told);
        size_t n = (size_t)glam_model_count(model, NULL), at = 0;
        double alone = 0, *want = (double *)calloc(n, sizeof *want);
        float *g = (float *)calloc(n, sizeof *g);
        glam_tensor *t;
        for (int i = 0; i < EXAMPLES; i++) {
            const glam_example *e = &data_examples[i];
            int32_t targets[EXAMPLE_MOST];
            int own = 0;
            for (int k = 1; k < e->count; k++) {
                targets[k - 1] = data_learns(e, k) ? e->tokens[k] : -1;
                own += data_learns(e, k);
            }
            glam_batch b = { 1, e->count - 1, e->tokens, targets, NULL, NULL };
            glam_losses l;
            glam_tensor *y = glam_loss(model, &b, GLAM_TRAIN, &l);
            CHECK(y && glam_backward(ctx, y) == GLAM_OK);
            alone += l.xent * own;
            sum += (uint64_t)own;
            at = 0;
            for (int p = 0; (t = glam_model_tensor_at(model, p)) != NULL; at += glam_size(t), p++)
                for (size_t k = 0; k < glam_size(t) && t->grad; k++)
                    want[at + k] += (double)t->grad[k] * own / (double)told;
            glam_forget(ctx);
        }
        CHECK(sum == told);
        glam_batch b;
        glam_losses l;
        CHECK(glam_next_batch(text, windows, length, 1, 0, &b) == GLAM_OK);
        glam_tensor *y = glam_loss(model, &b, GLAM_TRAIN, &l);
        CHECK(y && glam_backward(ctx, y) == GLAM_OK);
        CHECK_NEAR(l.xent, alone / (double)told, 2e-6);
        at = 0;
        for (int p = 0; (t = glam_model_tensor_at(model, p)) != NULL; at += glam_size(t), p++)
            if (t->grad) memcpy(g + at, t->grad, glam_size(t) * sizeof *g);
        CHECK(test_off(g, want, n) < 1e-5);
        glam_forget(ctx);
        glam_perplexity_report report;            // and so do windows that have room to spare
        for (int spare = 0; spare <= 5; spare += 5) {
            CHECK(glam_perplexity(model, text, length + spare, &report) == GLAM_OK);
            CHECK(report.tokens == told);
            CHECK_NEAR(report.loss, alone / (double)told, 2e-6);
        }
        free(want);
        free(g);
        CLOSE_CLEAN(ctx);
    }
}

// Parts of a batch change nothing; the report counts what is predicted; a run that is stopped after each
// step and finds its split, its windows and its place again has the bits of one that was not, whatever the
// number of threads.
static void data_examples_resume(void)
{
    glam_config config = train_config();
    glam_recipe recipe = train_recipe(7);
    const char *path = test_path("examples.safetensors");
    uint64_t hash[3];
    double loss[3], best[3];
    recipe.context = 20;
    recipe.eval_every = 3;
    data_make_examples(EXAMPLE_MOST);
    for (int run = 0; run < 3; run++) {
        glam_trainer *trainer = NULL;
        glam_ctx *ctx = NULL;
        glam_report now;
        memset(&now, 0, sizeof now);
        for (int step = 0; step < 7; step++) {
            glam_text *train, *valid;
            if (!ctx || run == 1) {
                if (ctx) glam_close(ctx);
                glam_options options = test_options();
                if (run == 2) options.threads = 3;
                ctx = glam_open(&options);
                int length = 20;
                if (step) {
                    glam_recipe found;
                    CHECK(glam_load_recipe(ctx, path, &found) == GLAM_OK && found.batch == recipe.batch);
                    length = found.context;
                }
                glam_text *text = glam_text_examples(ctx, data_examples, EXAMPLES, length);
                if (step) CHECK(glam_load_split(text, path, &train, &valid) == GLAM_OK);
                else CHECK(glam_text_split(text, 0.1f, &train, &valid) == GLAM_OK);
                trainer = step ? glam_load_checkpoint(ctx, path, train, valid)
                               : glam_trainer_new(glam_model_new(ctx, &config), train, valid, &recipe);
            }
            uint64_t before = now.tokens;
            CHECK(glam_train_step(trainer, &now) == 1);
            glam_batch b;
            uint64_t told = 0;
            CHECK(glam_next_batch(trainer->train, recipe.batch, 20, recipe.seed, (uint64_t)step, &b) == GLAM_OK);
            for (int t = 0; t < recipe.batch * 20 && b.targets; t++) told += b.targets[t] >= 0;
            CHECK(now.tokens == before + told && now.tokens < (uint64_t)(step + 1) * (uint64_t)recipe.batch * 20);
            glam_forget(ctx);
            if (run == 1) CHECK(glam_save_checkpoint(trainer, path) == GLAM_OK);
        }
        hash[run] = test_model_hash(glam_trainer_model(trainer));
        loss[run] = now.loss;
        best[run] = now.valid_loss;
        if (run == 1) {                          // another window, or another mask, is another text
            glam_text *train, *valid, *text = glam_text_examples(ctx, data_examples, EXAMPLES, 19);
            CHECK(glam_load_split(text, path, &train, &valid) != GLAM_OK);
            ERROR_IS(ctx, GLAM_ERR_VALUE, "the run");
            data_examples[5].learn = NULL;
            text = glam_text_examples(ctx, data_examples, EXAMPLES, 20);
            CHECK(glam_load_split(text, path, &train, &valid) != GLAM_OK);
            ERROR_IS(ctx, GLAM_ERR_VALUE, "they are other ones");
            data_make_examples(EXAMPLE_MOST);
            glam_recipe found;
            CHECK(glam_load_recipe(ctx, path, NULL) == GLAM_ERR_VALUE);
            glam_clear_error(ctx);
            CHECK(glam_save(glam_trainer_model(trainer), path) == GLAM_OK);
            CHECK(glam_load_recipe(ctx, path, &found) == GLAM_ERR_FORMAT && found.steps == 2000);
            glam_clear_error(ctx);
        }
        CLOSE_CLEAN(ctx);
    }
    CHECK(hash[0] == hash[1] && hash[0] == hash[2]);
    CHECK(loss[0] == loss[1] && loss[0] == loss[2] && best[0] == best[1] && best[0] > 0);
    for (int parts = 1; parts <= 4; parts *= 2) {
        glam_ctx *ctx = test_ctx();
        glam_report now;
        recipe.accumulate = parts;
        config.moe.capacity_factor = 0;
        glam_text *text = glam_text_examples(ctx, data_examples, EXAMPLES, 20);
        glam_trainer *trainer = glam_trainer_new(glam_model_new(ctx, &config), text, text, &recipe);
        CHECK(glam_train_step(trainer, &now) == 1);
        loss[0] = parts == 1 ? now.loss : loss[0];
        CHECK_NEAR(now.loss, loss[0], 2e-6);
        glam_perplexity_report p;
        CHECK(glam_perplexity(glam_trainer_model(trainer), text, 20, &p) == GLAM_OK);
        CHECK_NEAR(glam_validate(trainer), p.loss, 1e-12);
        CLOSE_CLEAN(ctx);
    }
    remove(path);
}

static void data_examples_wrong(void)
{
    glam_ctx *ctx = test_ctx();
    glam_batch b;
    data_make_examples(13);
    CHECK(!glam_text_examples(ctx, NULL, 3, 10) && !glam_text_examples(NULL, data_examples, 3, 10));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "3 of them (or NULL)");
    CHECK(!glam_text_examples(ctx, data_examples, 0, 10) && glam_error(ctx) == GLAM_ERR_VALUE);
    glam_clear_error(ctx);
    CHECK(!glam_text_examples(ctx, data_examples, 3, 0) && glam_error(ctx) == GLAM_ERR_VALUE);
    glam_clear_error(ctx);
    int32_t ids[4] = { 1, 2, -3, 4 };
    unsigned char learn[4] = { 1, 0, 0, 1 };
    glam_example e = { ids, NULL, 4 };
    CHECK(!glam_text_examples(ctx, &e, 1, 10));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "token 2 of example 0 is -3");
    ids[2] = 3;
    e.learn = learn;
    CHECK(!glam_text_examples(ctx, &e, 1, 2));   // what is learnt is cut off
    ERROR_IS(ctx, GLAM_ERR_VALUE, "none behind the first");
    CHECK(glam_text_examples(ctx, &e, 1, 3) != NULL);
    e.count = 1;
    CHECK(!glam_text_examples(ctx, &e, 1, 3) && glam_error(ctx) == GLAM_ERR_VALUE);
    glam_clear_error(ctx);
    e.tokens = NULL;
    CHECK(!glam_text_examples(ctx, &e, 1, 3) && glam_error(ctx) == GLAM_ERR_VALUE);
    glam_clear_error(ctx);
    glam_text *text = glam_text_examples(ctx, data_examples, EXAMPLES, 12);
    CHECK(glam_next_batch(text, 1, 11, 1, 0, &b) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "windows of 12 tokens");
    CHECK(glam_next_batch(text, 1, 13, 1, 0, &b) == GLAM_OK);
    const int32_t zero = 0;
    CHECK(glam_text_documents(text, &zero, 1) == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "examples has its own");
    glam_config config = train_config();
    glam_recipe recipe = train_recipe(2);
    recipe.context = 10;
    glam_model *model = glam_model_new(ctx, &config);
    CHECK(!glam_trainer_new(model, text, NULL, &recipe));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "windows of 12 tokens");
    CHECK(glam_perplexity(model, text, 10, NULL) == GLAM_ERR_VALUE);
    glam_clear_error(ctx);
    glam_text *two[2] = { test_text(ctx, 500), NULL };          // with a plain text beside it
    two[1] = text;
    float weights[2] = { 0.5f, 0.5f };
    glam_text *mix = glam_mix(ctx, two, weights, 2);
    int packed = 0;
    for (uint64_t step = 0; step < 40; step++) {
        CHECK(glam_next_batch(mix, 1, 12, 1, step, &b) == GLAM_OK);
        for (int t = 0; t < 12 && b.targets; t++)
            if (b.targets[t] < 0 || !b.mask[t] || b.segments[t] > 1) { packed++; break; }
        glam_forget(ctx);
    }
    CHECK(packed > 8 && packed < 32);
    recipe.context = 12;
    glam_trainer *trainer = glam_trainer_new(model, mix, text, &recipe);
    CHECK(glam_train_step(trainer, NULL) == 1 && glam_validate(trainer) > 0);
    CLOSE_CLEAN(ctx);
}

// ---- texts that stay in their file

static void data_far(void)
{
    glam_ctx *ctx = test_ctx();
    const char *path = test_path("far.txt");
    static char bytes[50000];
    uint64_t s = test_seed(2);
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (char)(test_next(&s) >> 20);
    FILE *f = fopen(path, "wb");
    if (!CHECK(f && fwrite(bytes, 1, sizeof bytes, f) == sizeof bytes)) return;
    fclose(f);
    glam_text *here = glam_text_open(ctx, path, NULL), *far = glam_text_file(ctx, path), *a[2], *b[2];
    const int32_t separator = 7;
    CHECK(glam_text_documents(here, &separator, 1) == glam_text_documents(far, &separator, 1));
    CHECK(glam__text_checksum(here) == glam__text_checksum(far));
    CHECK(glam_text_split(here, 0.3f, &a[0], &a[1]) == GLAM_OK && glam_text_split(far, 0.3f, &b[0], &b[1]) == GLAM_OK);
    for (int part = 0; part < 2; part++)
        for (uint64_t step = 0; step < 5; step++) {
            glam_batch x, y;
            CHECK(glam_next_batch(a[part], 3, 100, 1, step, &x) == GLAM_OK);
            CHECK(glam_next_batch(b[part], 3, 100, 1, step, &y) == GLAM_OK);
            if (!CHECK(x.tokens && y.tokens)) break;
            CHECK(!memcmp(x.tokens, y.tokens, 300 * sizeof(int32_t)));
            CHECK(!memcmp(x.targets, y.targets, 300 * sizeof(int32_t)));
            CHECK(!memcmp(x.segments, y.segments, 300 * sizeof(int32_t)));
        }
    static int32_t ids[50000];
    CHECK(glam_text_read(far, 49000, 50000, ids) == 1000 && ids[999] == (unsigned char)bytes[49999]);
#ifndef _WIN32                                    // a file that becomes shorter is an error, not a crash
    f = fopen(path, "wb");
    if (f) fclose(f);
    CHECK(glam_text_read(far, 100, 10, ids) == 10 && ids[0] == 0);
    ERROR_IS(ctx, GLAM_ERR_FILE, "shorter");
    CHECK(!glam_text_file(ctx, path));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "empty");
    CHECK(!glam_text_file(ctx, "."));
    ERROR_IS(ctx, GLAM_ERR_FILE, "a folder");
#endif
    CHECK(!glam_text_file(ctx, "no/such/file"));
    ERROR_IS(ctx, GLAM_ERR_FILE, "no/such/file");
    CHECK(!glam_text_file(ctx, NULL) && glam_error(ctx) == GLAM_ERR_VALUE);
    glam_clear_error(ctx);
    glam_close(ctx);                              // before remove: it holds the file
    remove(path);
}

// 5 GB, nearly all of them a hole: places behind 4 GiB are read, and drawn from, in no memory.
static void data_five_gigabytes(void)
{
#if defined(__linux__) && !defined(GLAM_TEST_NO_PTHREADS)
    glam_ctx *ctx = test_ctx();
    const char *path = test_path("five.txt");
    const uint64_t size = 5000000000u;
    int f = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (f >= 0 && sizeof(size_t) == 4 && sizeof(off_t) == 8) {
        CHECK(ftruncate(f, (off_t)size) == 0 && !glam_text_file(ctx, path));
        ERROR_IS(ctx, GLAM_ERR_VALUE, "is larger than the addresses of this machine");
        glam_clear_error(ctx);
    }
    int made = f >= 0 && sizeof(size_t) > 4 && ftruncate(f, (off_t)size) == 0 &&
               pwrite(f, "here", 4, (off_t)4999990000) == 4;
    CHECK(f >= 0);
    if (made) {
        int32_t ids[6];
        glam_text *text = glam_text_file(ctx, path), *train, *valid;
        CHECK(glam_text_length(text) == (size_t)size && glam_memory(ctx).total < 1000000);
        CHECK(glam_text_read(text, (size_t)4999989999u, 6, ids) == 6);
        CHECK(ids[0] == 0 && ids[1] == 'h' && ids[4] == 'e' && ids[5] == 0);
        CHECK(glam_text_split(text, 1e-5f, &train, &valid) == GLAM_OK);
        CHECK(glam_text_length(valid) == 49999 || glam_text_length(valid) == 50000);
        int seen = 0;
        for (uint64_t step = 0; step < 40; step++) {
            glam_batch b;
            CHECK(glam_next_batch(valid, 4, 5000, 1, step, &b) == GLAM_OK);
            for (int i = 0; b.tokens && i < 20000; i++) seen += b.tokens[i] == 'h' && b.targets[i] == 'e';
            glam_forget(ctx);
        }
        CHECK(seen > 3);
    }
    glam_close(ctx);
    if (f >= 0) close(f);
    remove(path);
#else
    CHECK(1);
#endif
}

// ---- mixtures of sources

static void data_sources(void)
{
    double weights = 0, tokens = 0;
    const double epochs[] = { 1.76, 12, 0.97, 0.05, 0.31, 0.018 };       // of 600 billion tokens
    glam_text *three[3], *other;
    float w[3] = { 0.5f, 0.2f, 0.3f };
    double seen[3], drawn[3] = { 0, 0, 0 };
    glam_ctx *ctx = test_ctx();
    for (int i = 0; i < 6; i++) {
        const glam_source *s = glam_mix_preset(i);
        if (!CHECK(s && s->name)) return;
        weights += s->weight;
        tokens += s->tokens;
        CHECK_NEAR(s->weight * 600 / s->tokens, epochs[i], epochs[i] * 0.1);
    }
    CHECK_NEAR(weights, 1, 1e-12);
    CHECK(tokens == 1607 && !glam_mix_preset(6) && !glam_mix_preset(-1));
    three[0] = data_numbers(ctx, 0, 100);
    three[1] = data_numbers(ctx, 1000, 50);
    three[2] = data_numbers(ctx, 2000, 1000);
    glam_text *mix = glam_mix(ctx, three, w, 3), *valid;
    CHECK(glam_text_split(mix, 0.1f, &mix, &valid) == GLAM_OK);
    for (uint64_t step = 5; step < 405; step++) {
        glam_batch b;
        CHECK(glam_next_batch(mix, 8, 10, 3, step, &b) == GLAM_OK);
        for (int r = 0; b.tokens && r < 8; r++) drawn[b.tokens[r * 10] / 1000] += 10;
        glam_forget(ctx);
    }
    CHECK(glam_mix_epochs(mix, 8, 10, 3, 5, 405, seen, 3) == GLAM_OK);
    for (int i = 0; i < 3; i++) {
        CHECK_NEAR(seen[i], drawn[i] / (i == 0 ? 90 : i == 1 ? 45 : 900), 1e-9);
        CHECK_NEAR(drawn[i] / 32000, (double)w[i], 5 * sqrt(0.25 / 3200));
    }
    // in two parts it is the same: a run that was stopped counts on
    CHECK(glam_mix_epochs(mix, 8, 10, 3, 5, 100, seen, 3) == GLAM_OK);
    double before = seen[1];
    CHECK(glam_mix_epochs(mix, 8, 10, 3, 100, 405, seen, 3) == GLAM_OK);
    CHECK_NEAR(before + seen[1], drawn[1] / 45, 1e-9);
    CHECK(glam_mix_epochs(mix, 8, 1, 3, 5, 6, seen, 3) == GLAM_OK);                  // the least that there is
    CHECK(glam_mix_epochs(mix, 0, 10, 3, 0, 1, seen, 3) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "epochs");
    CHECK(glam_mix_epochs(NULL, 8, 10, 3, 0, 1, seen, 3) != GLAM_OK);
    other = data_numbers(ctx, 5, 10);
    CHECK(glam_mix_epochs(other, 1, 10, 3, 0, 1, seen, 1) == GLAM_OK && seen[0] == 0);   // too short
    CLOSE_CLEAN(ctx);
}

// A run over a weighted mixture of documents, stopped after each step and resumed from its
// checkpoint, has the bits of one that was not.
static void data_sources_resume(void)
{
    glam_config config = train_config();
    glam_recipe recipe = train_recipe(4);
    const char *path = test_path("sources.safetensors");
    const int32_t line = '\n';
    uint64_t hash[2];
    for (int stopped = 0; stopped < 2; stopped++) {
        glam_trainer *trainer = NULL;
        glam_ctx *ctx = NULL;
        for (int step = 0; step < 4; step++) {
            if (!ctx || stopped) {
                if (ctx) glam_close(ctx);
                ctx = test_ctx();
                float w[2] = { 0.7f, 0.3f };
                glam_text *two[2];
                two[0] = test_text(ctx, 2000);
                two[1] = glam_text_from(ctx, test_rhyme, strlen(test_rhyme), NULL);
                glam_text *mix = glam_mix(ctx, two, w, 2);
                CHECK(glam_text_documents(mix, &line, 1) > 0);
                trainer = step ? glam_load_checkpoint(ctx, path, mix, NULL)
                               : glam_trainer_new(glam_model_new(ctx, &config), mix, NULL, &recipe);
            }
            CHECK(glam_train_step(trainer, NULL) == 1);
            if (stopped) CHECK(glam_save_checkpoint(trainer, path) == GLAM_OK);
        }
        hash[stopped] = test_model_hash(glam_trainer_model(trainer));
        if (stopped) {                           // without its documents it is another text
            glam_text *two[2], *plain;
            float w[2] = { 0.7f, 0.3f };
            two[0] = test_text(ctx, 2000);
            two[1] = glam_text_from(ctx, test_rhyme, strlen(test_rhyme), NULL);
            plain = glam_mix(ctx, two, w, 2);
            CHECK(!glam_load_checkpoint(ctx, path, plain, NULL));
            ERROR_IS(ctx, GLAM_ERR_VALUE, "other pieces");
        }
        CLOSE_CLEAN(ctx);
    }
    CHECK(hash[0] == hash[1]);
    remove(path);
}

// ---- the quality filter

// Documents of two kinds: positives prefer low words in order, negatives draw any.
enum { DATA_DOCS = 120, DATA_BYTES = 700 };
static char data_pages[DATA_DOCS][DATA_BYTES];
static glam_document data_docs[DATA_DOCS];
static float data_labels[DATA_DOCS];

static void data_make_documents(uint64_t seed)
{
    uint64_t s = test_seed(seed);
    for (int d = 0; d < DATA_DOCS; d++) {
        size_t at = 0;
        int good = (int)(test_next(&s) % 2), words = 3 + (int)(test_next(&s) % 100), word = 0;
        for (int i = 0; i < words && at + 20 < DATA_BYTES; i++) {
            word = good && test_next(&s) % 3 ? (word + 1) % 30 : (int)(test_next(&s) % 60);
            at += (size_t)sprintf(data_pages[d] + at, "%s%d%s", i % 7 ? "w" : "W", word, i % 5 ? " " : ", ");
        }
        data_docs[d].text = data_pages[d];
        data_docs[d].bytes = at;
        data_labels[d] = (float)good;
    }
}

static void data_words(void)
{
    static const char text[] = "The the THE, caf\xc3\xa9 x2!";
    glam_document d = { text, sizeof text - 1 };
    uint64_t word[12];
    for (int signs = 0; signs < 2; signs++) {
        size_t at = 0;
        int n = 0;
        while (n < 12 && (word[n] = glam_next_word(&d, signs, &at)) != 0) n++;
        CHECK(n == (signs ? 7 : 5) && word[0] == word[1] && word[1] == word[2] && at == d.bytes);
        for (int i = 2; i < n; i++)
            for (int k = i + 1; k < n; k++) CHECK(word[i] != word[k]);
    }
    size_t at = 0;
    CHECK(glam_next_word(NULL, 0, &at) == 0 && glam_next_word(&d, 0, NULL) == 0);
}

// Its twin in double precision: plain tables, one document after the other.
static void data_filter_twin(void)
{
    enum { BITS = 10, SIZE = 1 << BITS };
    static double w[SIZE + 1], s[SIZE + 1], x[SIZE];
    glam_ctx *ctx = test_ctx();
    glam_filter_config config = glam_filter_config_default();
    config.bits = BITS;
    config.lr = 0.5;                             // few documents
    glam_filter *f = glam_filter_new(ctx, &config);
    float weights[DATA_DOCS], scores[DATA_DOCS];
    double loss, mean = 0, total = 0, accuracy = 0;
    memset(w, 0, sizeof w);
    memset(s, 0, sizeof s);
    data_make_documents(3);
    for (int d = 0; d < DATA_DOCS; d++) {
        uint64_t before = 0, word, features = 0;
        size_t at = 0;
        weights[d] = data_labels[d] > 0 ? 2.0f : 0.5f;
        memset(x, 0, sizeof x);
        for (; (word = glam_next_word(&data_docs[d], 1, &at)) != 0; before = word, features++) {
            x[word >> (64 - BITS)]++;
            if (!before) continue;
            x[glam__mix64(3 * before + word) >> (64 - BITS)]++;
            features++;
        }
        double z = w[SIZE];
        for (int i = 0; i < SIZE; i++) z += w[i] * (x[i] = sqrt(x[i] / (double)features));
        double p = 1 / (1 + exp(-z)), y = (double)data_labels[d], v = (double)weights[d];
        mean -= v * (y * log(p) + (1 - y) * log(1 - p));
        total += v;
        accuracy += (p > 0.5) == (y > 0.5);
        for (int i = 0; i <= SIZE; i++) {
            double g = v * (p - y) * (i < SIZE ? x[i] : 1);
            s[i] += g * g;
            if (s[i] > 0) w[i] -= config.lr * g / sqrt(s[i]);
        }
    }
    CHECK(glam_filter_train(f, data_docs, data_labels, weights, DATA_DOCS, &loss) == GLAM_OK);
    CHECK_NEAR(loss, mean / total, 1e-4);
    const glam_tensor *got = glam_filter_weights(f);
    double worst = 0;
    for (int i = 0; i <= SIZE && got; i++) worst = fmax(worst, fabs((double)got->data[i] - w[i]));
    CHECK_NEAR(worst, 0, 1e-3);
    CHECK(accuracy > 0.6 * DATA_DOCS);           // and it learns
    data_make_documents(4);
    int right = 0;
    CHECK(glam_filter_score(f, data_docs, DATA_DOCS, scores) == GLAM_OK);
    for (int d = 0; d < DATA_DOCS; d++) right += (scores[d] > 0.5f) == (data_labels[d] > 0.5f);
    CHECK(right > 0.8 * DATA_DOCS);
    CLOSE_CLEAN(ctx);
}

// The gradient of one step, which AdaGrad's sums hold, against differences of the loss.
static void data_filter_gradient(void)
{
    enum { BITS = 8, SIZE = 1 << BITS };
    glam_filter_config config = glam_filter_config_default();
    config.bits = BITS;
    config.lr = 1e-9;                            // a step that moves nothing
    data_make_documents(5);
    for (int d = 0; d < 3; d++) {
        glam_ctx *ctx = test_ctx();
        glam_filter *f = glam_filter_new(ctx, &config);
        float weight = 1.5f;
        float *w = glam_filter_weights(f)->data;
        test_fill(w, SIZE + 1, 7, -1, 1);
        CHECK(glam_filter_train(f, &data_docs[d], &data_labels[d], &weight, 1, NULL) == GLAM_OK);
        double sums[SIZE + 1], loss[2];
        for (int i = 0; i <= SIZE; i++) sums[i] = sqrt((double)f->squares[i]);
        for (int i = 0; i <= SIZE; i++) {
            float keep = w[i];
            for (int k = 0; k < 2; k++) {
                w[i] = keep + (k ? 0.01f : -0.01f);
                glam_filter_train(f, &data_docs[d], &data_labels[d], &weight, 1, &loss[k]);
            }
            CHECK_NEAR(fabs(loss[1] - loss[0]) * (double)weight / 0.02, sums[i], 2e-4);
            w[i] = keep;
        }
        CLOSE_CLEAN(ctx);
    }
}

// The same bits for any number of threads, and however a stream is cut into calls.
static void data_filter_bits(void)
{
    static float scores[DATA_DOCS];
    uint64_t hash[4];
    data_make_documents(6);
    for (int run = 0; run < 4; run++) {
        glam_options options = test_options();
        options.threads = run == 1 ? 3 : 1;
        glam_ctx *ctx = glam_open(&options);
        glam_filter *f = glam_filter_new(ctx, NULL);
        int step = run == 2 ? 1 : run == 3 ? 37 : DATA_DOCS;
        for (int at = 0; at < DATA_DOCS; at += step) {
            int n = DATA_DOCS - at < step ? DATA_DOCS - at : step;
            CHECK(glam_filter_train(f, data_docs + at, data_labels + at, NULL, n, NULL) == GLAM_OK);
        }
        CHECK(glam_filter_score(f, data_docs, DATA_DOCS, scores) == GLAM_OK);
        const glam_tensor *w = glam_filter_weights(f);
        hash[run] = test_hash(test_hash(1, w->data, glam_size(w) * sizeof *w->data), scores, sizeof scores);
        CHECK(hash[run] == hash[0]);
        CLOSE_CLEAN(ctx);
    }
}

// Kept with the chance (2 - score)^-alpha; each document by its number alone.
static void data_filter_keep(void)
{
    const double scores[] = { 0, 0.25, 0.5, 0.75, 0.9, 1 }, paper[] = { .00195, .00650, .0260, .134, .424, 1 };
    enum { DRAWS = 100000 };
    for (int i = 0; i < 6; i++)
        for (int a = 1; a <= 9; a += 4) {
            double p = pow(2 - scores[i], -a);
            int kept = 0;
            for (uint64_t k = 0; k < DRAWS; k++) kept += glam_filter_keep(scores[i], a, 11, k);
            CHECK_NEAR(kept, p * DRAWS, 5 * sqrt(p * (1 - p) * DRAWS) + 1);
            if (a == 9) CHECK_NEAR(p, paper[i], paper[i] * 0.005);
        }
    int same = 0;                                // a higher score never loses a document
    for (uint64_t k = 0; k < 2000; k++) {
        CHECK(glam_filter_keep(0.8, 9, 1, k) >= glam_filter_keep(0.7, 9, 1, k));
        CHECK(!glam_filter_keep(1, 0, 1, k) && !glam_filter_keep(1, -1, 1, k));
        CHECK(!glam_filter_keep(1, NAN, 1, k) && !glam_filter_keep(NAN, 9, 1, k));
        same += glam_filter_keep(0.9, 9, 1, k) == glam_filter_keep(0.9, 9, 2, k);
    }
    CHECK(same < 1500);
}

static void data_filter_failures(void)
{
    glam_ctx *ctx = test_ctx();
    glam_filter_config config = glam_filter_config_default();
    float label = 1, score;
    glam_document d = { "a b", 3 }, none = { NULL, 0 }, bad = { NULL, 4 };
    config.bits = 25;
    CHECK(!glam_filter_new(ctx, &config));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "25");
    config.bits = 12;
    config.lr = NAN;
    CHECK(!glam_filter_new(ctx, &config));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "lr");
    glam_filter *f = glam_filter_new(ctx, NULL);
    CHECK(glam_filter_score(f, &none, 1, &score) == GLAM_OK && score == 0.5f);     // nothing is known of it
    CHECK(glam_filter_train(f, &none, &label, NULL, 1, NULL) == GLAM_OK);
    CHECK(glam_filter_train(f, NULL, NULL, NULL, 0, NULL) == GLAM_OK);
    CHECK(glam_filter_score(f, &bad, 1, &score) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "document 0 is NULL");
    CHECK(glam_filter_score(f, &d, 1, NULL) == GLAM_ERR_VALUE);
    glam_clear_error(ctx);
    CHECK(glam_filter_score(f, &d, -1, &score) == GLAM_ERR_VALUE);
    glam_clear_error(ctx);
    label = 2;
    CHECK(glam_filter_train(f, &d, &label, NULL, 1, NULL) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "label");
    CHECK(!glam_filter_new(NULL, NULL) && !glam_filter_weights(NULL));
    CHECK(glam_filter_train(NULL, &d, &label, NULL, 1, NULL) != GLAM_OK && glam_filter_score(NULL, &d, 1, &score) != GLAM_OK);
    CLOSE_CLEAN(ctx);
}

// Every allocation is refused once: an error that says so, nothing lost, nothing held.
static void data_no_memory(void)
{
    const char *path = test_path("refused.txt");
    const int32_t blank = ' ';
    glam_filter_config config = glam_filter_config_default();
    static char many[20000];
    memset(many, ' ', sizeof many);              // more ends than the first block has room for
    for (size_t i = 0; i < sizeof many; i += 2) many[i] = 'a';
    FILE *f = fopen(path, "wb");
    if (!CHECK(f && fwrite(many, 1, sizeof many, f) == sizeof many)) return;
    fclose(f);
    config.bits = 10;
    data_make_documents(8);
    for (long k = 1, failed = 1; failed; k++) {
        test_heap heap;
        glam_options options = test_options();
        test_heap_into(&heap, &options);
        heap.fail_at = k;
        float scores[DATA_DOCS];
        double epochs[2];
        glam_batch b;
        glam_text *two[2];
        glam_ctx *ctx = glam_open(&options);
        two[0] = glam_text_file(ctx, path);
        two[1] = glam_text_from(ctx, many, sizeof many, NULL);
        glam_text *mix = two[0] && two[1] ? glam_mix(ctx, two, NULL, 2) : NULL, *train, *valid;
        glam_text_documents(mix, &blank, 1);
        glam_text_split(mix, 0.1f, &train, &valid);
        glam_next_batch(mix, 2, 30, 1, 1, &b);
        glam_mix_epochs(mix, 2, 30, 1, 0, 2, epochs, 2);
        glam_filter *filter = glam_filter_new(ctx, &config);
        glam_filter_train(filter, data_docs, data_labels, NULL, DATA_DOCS, NULL);
        glam_filter_score(filter, data_docs, DATA_DOCS, scores);
        failed = heap.calls >= k;
        CHECK(glam_error(ctx) == (failed ? GLAM_ERR_MEMORY : GLAM_OK));
        glam_close(ctx);
        CHECK(heap.live == 0 && heap.wrong == 0 && k < 200);
    }
    remove(path);
}

static void test_18_data(void)
{
    RUN(data_no_memory);
    RUN(data_long);
    RUN(data_extremes);
    RUN(data_out_of_range);
    RUN(data_texts);
    RUN(data_read);
    RUN(data_failures);
    RUN(data_split);
    RUN(data_batches);
    RUN(data_mixture);
    RUN(data_documents_across);
    RUN(data_documents_batches);
    RUN(data_documents_planned);
    RUN(data_documents_split);
    RUN(data_documents_train);
    RUN(data_examples_windows);
    RUN(data_examples_alone);
    RUN(data_examples_resume);
    RUN(data_examples_wrong);
    RUN(data_far);
    RUN(data_five_gigabytes);
    RUN(data_sources);
    RUN(data_sources_resume);
    RUN(data_words);
    RUN(data_filter_twin);
    RUN(data_filter_gradient);
    RUN(data_filter_bits);
    RUN(data_filter_keep);
    RUN(data_filter_failures);
}
