/* Room 18: texts and batches.  Kinds: property, failure. */

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
    static const int32_t bad[] = { 37, -1, INT32_MIN, INT32_MAX };
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

static void test_18_data(void)
{
    RUN(data_long);
    RUN(data_extremes);
    RUN(data_out_of_range);
    RUN(data_texts);
    RUN(data_read);
    RUN(data_failures);
    RUN(data_split);
    RUN(data_batches);
    RUN(data_mixture);
}
