/* Room 16: bytes and tokens.  Kinds: property. */

static void text_round_trip(void)
{
    glam_ctx *ctx = test_ctx();
    glam_tokenizer *given = glam_tokenizer_bytes(ctx);
    unsigned char all[256], back[257];
    int32_t ids[256];
    for (int i = 0; i < 256; i++) all[i] = (unsigned char)(255 - i);
    for (int pass = 0; pass < 2; pass++) {
        const glam_tokenizer *t = pass ? given : NULL;
        CHECK(glam_tokenizer_size(t) == 256);
        CHECK(glam_encode(t, (const char *)all, 256, NULL, 0) == 256);
        CHECK(glam_encode(t, (const char *)all, 256, ids, 256) == 256);
        for (int i = 0; i < 256; i++) CHECK(ids[i] == 255 - i);
        CHECK(glam_decode(t, ids, 256, (char *)back, sizeof back) == 256);
        CHECK(!memcmp(all, back, 256) && back[256] == 0);
    }
    CLOSE_CLEAN(ctx);
}

// Neither direction writes more than it was given room for.
static void text_bounds(void)
{
    int32_t ids[6] = { -7, -7, -7, -7, -7, -7 };
    char out[8] = "xxxxxxx";
    CHECK(glam_encode(NULL, "hello", 5, ids, 3) == 5);
    CHECK(ids[0] == 'h' && ids[2] == 'l' && ids[3] == -7);
    glam_encode(NULL, "hello", 5, ids, 6);
    CHECK(glam_decode(NULL, ids, 5, out, 4) == 5);
    CHECK(!strcmp(out, "hel") && out[4] == 'x');
    CHECK(glam_decode(NULL, ids, 5, out, 1) == 5 && out[0] == 0);
    out[0] = 'y';
    CHECK(glam_decode(NULL, ids, 5, out, 0) == 5 && out[0] == 'y');
    CHECK(glam_decode(NULL, ids, 5, NULL, 0) == 5);
    CHECK(glam_encode(NULL, "", 0, ids, 6) == 0);
    CHECK(glam_decode(NULL, ids, 0, out, 8) == 0 && out[0] == 0);
}

// An id that is no byte must not become one by wrapping around.
static void text_wild_ids(void)
{
    int32_t ids[3] = { 'a', 256 + 'b', -3 };
    char out[16];
    memset(out, 'x', sizeof out);
    size_t n = glam_decode(NULL, ids, 3, out, sizeof out);
    CHECK(n <= 3 && out[0] == 'a' && !strchr(out, 'b'));
}

// Sizes that nobody means, and nothing at all.
static void text_extremes(void)
{
    int32_t ids[4] = { INT32_MIN, INT32_MAX, -1, 255 };
    char out[8] = "xxxxxxx";
    CHECK(glam_encode(NULL, NULL, SIZE_MAX, ids, 4) == 0 && ids[3] == 255);
    CHECK(glam_encode(NULL, "ab", 2, NULL, SIZE_MAX) == 2);
    CHECK(glam_encode(NULL, "ab", 2, ids, SIZE_MAX) == 2 && ids[0] == 'a' && ids[2] == -1);
    ids[0] = INT32_MIN;
    ids[1] = INT32_MAX;
    CHECK(glam_decode(NULL, ids, 4, out, SIZE_MAX) == 4 && !strcmp(out, "???\xff"));
    CHECK(glam_decode(NULL, NULL, SIZE_MAX, out, 8) == 0 && out[0] == 0);
    CHECK(glam_decode(NULL, ids, 4, NULL, SIZE_MAX) == 4);
    CHECK(glam_tokenizer_bytes(NULL) == NULL && glam_tokenizer_size(NULL) == 256);
}

static void test_16_text(void)
{
    RUN(text_extremes);
    RUN(text_round_trip);
    RUN(text_bounds);
    RUN(text_wild_ids);
}
