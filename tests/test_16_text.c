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

// ---- byte-pair encoding

// The vocabulary of all bytes and some merges, as plain data.
typedef struct test_pieces { glam_vocabulary v; char bytes[4096]; uint32_t ends[600]; uint8_t kinds[600]; } test_pieces;

static void pieces_add(test_pieces *p, const char *text, int kind)
{
    size_t n = strlen(text), at = p->v.size ? p->ends[p->v.size - 1] : 0;
    memcpy(p->bytes + at, text, n);
    p->ends[p->v.size] = (uint32_t)(at + n);
    p->kinds[p->v.size++] = (uint8_t)kind;
}

static void pieces_of_bytes(test_pieces *p, glam_split split)
{
    memset(p, 0, sizeof *p);
    p->v.begin = p->v.end = -1;
    p->v.split = split;
    p->v.bytes = p->bytes;
    p->v.ends = p->ends;
    p->v.kinds = p->kinds;
    for (int i = 0; i < 256; i++) {
        p->bytes[i] = (char)(unsigned char)i;
        p->ends[i] = (uint32_t)i + 1;
    }
    p->v.size = 256;
}

// "he": h e, "hell": he ll ... in this order of urgency.
static const int32_t text_merges[][2] = { {'l', 'l'}, {'h', 'e'}, {257, 256}, {258, 'o'}, {' ', 259},
    {'o', 'o'}, {'l', 'o'}, {257, 'l'} };
static const char *const text_made[] = { "ll", "he", "hell", "hello", " hello", "oo", "lo", "hel" };

static void pieces_hello(test_pieces *p, glam_split split)
{
    pieces_of_bytes(p, split);
    for (int i = 0; i < 8; i++) pieces_add(p, text_made[i], GLAM_PIECE_NORMAL);
    p->v.merge = &text_merges[0][0];
    p->v.merges = 8;
}

// Slowly: again and again the most urgent pair of one word, the first of equal ones.
static size_t text_slow_word(const glam_vocabulary *v, const char *word, size_t bytes, int32_t *ids)
{
    size_t n = 0;
    for (; n < bytes; n++) ids[n] = (unsigned char)word[n];
    for (;;) {
        int best = v->merges;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++)
            for (int m = 0; m < best; m++)
                if (v->merge[2 * m] == ids[i] && v->merge[2 * m + 1] == ids[i + 1]) { best = m; at = i; }
        if (best == v->merges) return n;
        ids[at] = 256 + best;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

static void text_merges_like_the_slow_loop(void)
{
    glam_ctx *ctx = test_ctx();
    test_pieces p;
    pieces_hello(&p, GLAM_SPLIT_GPT2);
    glam_tokenizer *t = glam_tokenizer_new(ctx, &p.v);
    CHECK(t && glam_tokenizer_size(t) == 264 && glam_tokenizer_vocabulary(t)->merges == 8);
    int n;
    CHECK(!memcmp(glam_tokenizer_piece(t, 259, &n), "hello", 5) && n == 5);
    CHECK(!glam_tokenizer_piece(t, 264, &n) && n == 0 && !glam_tokenizer_piece(NULL, 1, NULL));
    for (int trial = 0; trial < 400; trial++) {
        char text[400], back[401];
        int32_t got[400], want[400];
        size_t bytes = 1 + (size_t)(glam_random(1, 2, (uint64_t)trial) * (trial < 300 ? 20 : 399)), m = 0;
        for (size_t i = 0; i < bytes; i++)
            text[i] = "helllloo "[(int)(glam_random(3, (uint64_t)trial, i) * (trial % 3 ? 9 : 8))];
        for (size_t i = 0, end; i < bytes; i = end) {          // a blank, letters; blanks but the last
            for (end = i; end < bytes && text[end] == ' '; end++) {}
            if (end == i || (end == i + 1 && end < bytes))
                while (end < bytes && text[end] != ' ') end++;
            else if (end < bytes) end--;
            m += text_slow_word(&p.v, text + i, end - i, want + m);
        }
        CHECK(glam_encode(t, text, bytes, got, 400) == m && !memcmp(got, want, m * sizeof *got));
        CHECK(glam_decode(t, got, m, back, sizeof back) == bytes && !memcmp(back, text, bytes));
    }
    p.v.whole_words = 1;                                        // "hel" is merged from he l: h e ll is not
    glam_tokenizer *whole = glam_tokenizer_new(ctx, &p.v);
    int32_t id;
    CHECK(glam_encode(whole, "hel", 3, &id, 1) == 1 && id == 263);
    CLOSE_CLEAN(ctx);
}

// A word longer than the stack's share: the same ids; without memory an error and no ids.
static void text_long_word(void)
{
    static char word[3000];
    static int32_t got[3000], want[3000];
    test_heap heap;
    glam_options options = glam_options_default();
    test_heap_into(&heap, &options);
    glam_ctx *ctx = glam_open(&options);
    test_pieces p;
    pieces_hello(&p, GLAM_SPLIT_GPT2);
    glam_tokenizer *t = glam_tokenizer_new(ctx, &p.v);
    for (size_t i = 0; i < sizeof word; i++) word[i] = "helo"[(int)(glam_random(7, 8, i) * 4)];
    size_t n = text_slow_word(&p.v, word, sizeof word, want);
    CHECK(glam_encode(t, word, sizeof word, got, 3000) == n && !memcmp(got, want, n * sizeof *got));
    heap.fail_at = heap.calls + 1;
    CHECK(glam_encode(t, word, sizeof word, got, 3000) == 0 && glam_error(ctx) == GLAM_ERR_MEMORY);
    glam_close(ctx);
    CHECK(heap.live == 0 && heap.wrong == 0);
}

// What the package tokenizers cuts with each model's own expression; | stands between words.
static void text_scanners(void)
{
    static const struct { glam_split split; const char *words; } rows[] = {
        {GLAM_SPLIT_GPT2, "Don|'t| we|'ll| SHE|'|LL| x|'d"},
        {GLAM_SPLIT_GPT2, "a| | b|\t| c| \n\n| d|\r\n"},
        {GLAM_SPLIT_GPT2, "In| 1984|,| 12345| 3|.|14| \xc2\xb2"},
        {GLAM_SPLIT_GPT2, "caf\xc3\xa9| na\xc3\xafve| cafe|\xcc\x81| \xcc\x81|x"},
        {GLAM_SPLIT_GPT2, "HelloWorld| XMLHttp| iPhone| \xc7\x85" "a| ABCs|'|S"},
        {GLAM_SPLIT_GPT2, "...!?| --|dash| (|a|)/|\n|/|b|/"},
        {GLAM_SPLIT_GPT2, "\xe5\xa5\xbd|\xef\xbc\x8c| \xe3\x81\x82\xe0\xa4\xb9|\xe0\xa4\xbf|\xe0\xa4\xa8"},
        {GLAM_SPLIT_GPT2, "  | lead|\xe3\x80\x80|wide| |\xc2\xa0|nb|  "},
        {GLAM_SPLIT_GPT2, "$|x|_|1|=_|y|;| \t|\t|//|c|\n"},
        {GLAM_SPLIT_DIGITS, "Don|'t| we|'ll| SHE|'|LL| x|'d"},
        {GLAM_SPLIT_DIGITS, "a| | b|\t| c| \n\n| d|\r\n"},
        {GLAM_SPLIT_DIGITS, "In| |1|9|8|4|,| |1|2|3|4|5| |3|.|1|4| |\xc2\xb2"},
        {GLAM_SPLIT_DIGITS, "caf\xc3\xa9| na\xc3\xafve| cafe|\xcc\x81| \xcc\x81|x"},
        {GLAM_SPLIT_DIGITS, "HelloWorld| XMLHttp| iPhone| \xc7\x85" "a| ABCs|'|S"},
        {GLAM_SPLIT_DIGITS, "...!?| --|dash| (|a|)/|\n|/|b|/"},
        {GLAM_SPLIT_DIGITS, "\xe5\xa5\xbd|\xef\xbc\x8c| \xe3\x81\x82\xe0\xa4\xb9|\xe0\xa4\xbf|\xe0\xa4\xa8"},
        {GLAM_SPLIT_DIGITS, "  | lead|\xe3\x80\x80|wide| |\xc2\xa0|nb|  "},
        {GLAM_SPLIT_DIGITS, "$|x|_|1|=_|y|;| \t|\t|//|c|\n"},
        {GLAM_SPLIT_QWEN, "Don|'t| we|'ll| SHE|'LL| x|'d"},
        {GLAM_SPLIT_QWEN, "a| | b|\t| c| \n\n| d|\r\n"},
        {GLAM_SPLIT_QWEN, "In| |1|9|8|4|,| |1|2|3|4|5| |3|.|1|4| |\xc2\xb2"},
        {GLAM_SPLIT_QWEN, "caf\xc3\xa9| na\xc3\xafve| cafe|\xcc\x81| \xcc\x81|x"},
        {GLAM_SPLIT_QWEN, "HelloWorld| XMLHttp| iPhone| \xc7\x85" "a| ABCs|'S"},
        {GLAM_SPLIT_QWEN, "...!?| --|dash| (|a|)/\n|/b|/"},
        {GLAM_SPLIT_QWEN, "\xe5\xa5\xbd|\xef\xbc\x8c| \xe3\x81\x82\xe0\xa4\xb9|\xe0\xa4\xbf\xe0\xa4\xa8"},
        {GLAM_SPLIT_QWEN, "  | lead|\xe3\x80\x80wide| |\xc2\xa0nb|  "},
        {GLAM_SPLIT_QWEN, "$x|_|1|=_|y|;| \t|\t|//|c|\n"},
        {GLAM_SPLIT_LLAMA3, "Don|'t| we|'ll| SHE|'LL| x|'d"},
        {GLAM_SPLIT_LLAMA3, "a| | b|\t| c| \n\n| d|\r\n"},
        {GLAM_SPLIT_LLAMA3, "In| |198|4|,| |123|45| |3|.|14| |\xc2\xb2"},
        {GLAM_SPLIT_LLAMA3, "caf\xc3\xa9| na\xc3\xafve| cafe|\xcc\x81| \xcc\x81|x"},
        {GLAM_SPLIT_LLAMA3, "HelloWorld| XMLHttp| iPhone| \xc7\x85" "a| ABCs|'S"},
        {GLAM_SPLIT_LLAMA3, "...!?| --|dash| (|a|)/\n|/b|/"},
        {GLAM_SPLIT_LLAMA3, "\xe5\xa5\xbd|\xef\xbc\x8c| \xe3\x81\x82\xe0\xa4\xb9|\xe0\xa4\xbf\xe0\xa4\xa8"},
        {GLAM_SPLIT_LLAMA3, "  | lead|\xe3\x80\x80wide| |\xc2\xa0nb|  "},
        {GLAM_SPLIT_LLAMA3, "$x|_|1|=_|y|;| \t|\t|//|c|\n"},
        {GLAM_SPLIT_MARKS, "Don|'t| we|'ll| SHE|'LL| x|'d"},
        {GLAM_SPLIT_MARKS, "a| | b|\t| c| \n\n| d|\r\n"},
        {GLAM_SPLIT_MARKS, "In| |1|9|8|4|,| |1|2|3|4|5| |3|.|1|4| |\xc2\xb2"},
        {GLAM_SPLIT_MARKS, "caf\xc3\xa9| na\xc3\xafve| cafe\xcc\x81| \xcc\x81x"},
        {GLAM_SPLIT_MARKS, "HelloWorld| XMLHttp| iPhone| \xc7\x85" "a| ABCs|'S"},
        {GLAM_SPLIT_MARKS, "...!?| --|dash| (|a|)/\n|/b|/"},
        {GLAM_SPLIT_MARKS, "\xe5\xa5\xbd|\xef\xbc\x8c| \xe3\x81\x82\xe0\xa4\xb9\xe0\xa4\xbf\xe0\xa4\xa8"},
        {GLAM_SPLIT_MARKS, "  | lead|\xe3\x80\x80wide| |\xc2\xa0nb|  "},
        {GLAM_SPLIT_MARKS, "$x|_|1|=_|y|;| \t|\t|//|c|\n"},
        {GLAM_SPLIT_O200K, "Don't| we'll| SHE'LL| x'd"},
        {GLAM_SPLIT_O200K, "a| | b|\t| c| \n\n| d|\r\n"},
        {GLAM_SPLIT_O200K, "In| |198|4|,| |123|45| |3|.|14| |\xc2\xb2"},
        {GLAM_SPLIT_O200K, "caf\xc3\xa9| na\xc3\xafve| cafe\xcc\x81| \xcc\x81x"},
        {GLAM_SPLIT_O200K, "Hello|World| XMLHttp| i|Phone| \xc7\x85" "a| ABCs'S"},
        {GLAM_SPLIT_O200K, "...!?| --|dash| (|a|)/\n/|b|/"},
        {GLAM_SPLIT_O200K, "\xe5\xa5\xbd|\xef\xbc\x8c| \xe3\x81\x82\xe0\xa4\xb9\xe0\xa4\xbf\xe0\xa4\xa8"},
        {GLAM_SPLIT_O200K, "  | lead|\xe3\x80\x80wide| |\xc2\xa0nb|  "},
        {GLAM_SPLIT_O200K, "$x|_|1|=_|y|;| \t|\t|//|c|\n"},
        {GLAM_SPLIT_DEEPSEEK, "Don|'|t| we|'|ll| SHE|'|LL| x|'|d"},
        {GLAM_SPLIT_DEEPSEEK, "a| | b|\t| c| |\n|\n| d|\r|\n"},
        {GLAM_SPLIT_DEEPSEEK, "In| |1|9|8|4|,| |1|2|3|4|5| |3|.|1|4| |\xc2\xb2"},
        {GLAM_SPLIT_DEEPSEEK, "caf|\xc3\xa9| na|\xc3\xaf|ve| cafe|\xcc\x81 \xcc\x81|x"},
        {GLAM_SPLIT_DEEPSEEK, "HelloWorld| \xc7\x85|a| ABCs|'|S"},
        {GLAM_SPLIT_DEEPSEEK, "...!?| --|dash| (|a|)/|\n|/|b|/"},
        {GLAM_SPLIT_DEEPSEEK, "\xe5\xa5\xbd|\xef\xbc\x8c| |\xe3\x81\x82\xe0\xa4\xb9\xe0\xa4\xbf\xe0\xa4\xa8"},
        {GLAM_SPLIT_DEEPSEEK, " | lead|\xe3\x80\x80|wide| |\xc2\xa0nb|  "},
        {GLAM_SPLIT_DEEPSEEK, "$|x|_|1|=_|y|;| \t|\t//|c|\n"},
        {GLAM_SPLIT_DEEPSEEK, "\xe0\xa4\xb9| |\xe0\xa4\xb9|   "},
        {GLAM_SPLIT_DEEPSEEK, "!|\xe3\x80\x80| |\xe3\x80\x80|a|\xe3\x80\x82| |\xe3\x80\x80|!|x"},
        {GLAM_SPLIT_DEEPSEEK, "\xc6\xbb\xc2\xaa |\xe1\x83\x90|b| \xd0\x96\xd0\xb6|\xd9\xa3|\xd9\xa4| \xc2\xbf|ya"},
        {GLAM_SPLIT_DEEPSEEK, " |\xe2\x80\x83\xe3\x80\x80|!|\xe2\x80\x99|a| |\r| |\n|  "},
        {GLAM_SPLIT_DEEPSEEK_CODER, "Don|'|t| we|'|ll| SHE|'|LL| x|'|d"},
        {GLAM_SPLIT_DEEPSEEK_CODER, "a| | b|\t| c| |\n|\n| d|\r|\n"},
        {GLAM_SPLIT_DEEPSEEK_CODER, "caf\xc3\xa9| na\xc3\xafve| cafe|\xcc\x81 \xcc\x81|x"},
        {GLAM_SPLIT_DEEPSEEK_CODER, "HelloWorld| \xc7\x85" "a| ABCs|'|S"},
        {GLAM_SPLIT_DEEPSEEK_CODER, "\xe5\xa5\xbd|\xef\xbc\x8c| |\xe3\x81\x82\xe0\xa4\xb9|\xe0\xa4\xbf|\xe0\xa4\xa8"},
        {GLAM_SPLIT_DEEPSEEK_CODER, "$|x|_|1|=|_|y|;| \t|\t//|c|\n"},
        {GLAM_SPLIT_DEEPSEEK_CODER, "\xe0\xa4\xb9| |\xe0\xa4\xb9|   "},
        {GLAM_SPLIT_DEEPSEEK_CODER, "!|\xe3\x80\x80| |\xe3\x80\x80|a|\xe3\x80\x82| |\xe3\x80\x80|!|x"},
        {GLAM_SPLIT_DEEPSEEK_CODER, "\xc6\xbb\xc2\xaa| |\xe1\x83\x90|b| \xd0\x96\xd0\xb6|\xd9\xa3|\xd9\xa4| \xc2\xbf|ya"},
        {GLAM_SPLIT_DEEPSEEK_CODER, " |\xe2\x80\x83|\xe3\x80\x80|!|\xe2\x80\x99|a| |\r| |\n|  "},
    };
    glam_ctx *ctx = test_ctx();
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        test_pieces p;
        char text[128], cut[256];
        size_t bytes = 0, to = 0;
        pieces_of_bytes(&p, rows[r].split);
        for (const char *c = rows[r].words; *c; c++) if (*c != '|') text[bytes++] = *c;
        glam_tokenizer *t = glam_tokenizer_new(ctx, &p.v);
        glam__scan s = { t, text, bytes };
        for (size_t at = 0, end; at < bytes; at = end) {
            end = glam__word_end(&s, at);
            if (at) cut[to++] = '|';
            memcpy(cut + to, text + at, end - at);
            to += end - at;
        }
        cut[to] = 0;
        if (strcmp(cut, rows[r].words)) printf("    %d: %s\n", (int)rows[r].split, cut);
        CHECK(!strcmp(cut, rows[r].words));
    }
    CLOSE_CLEAN(ctx);
}

// How many characters below U+10000 have each class, from Unicode 14's own list.
static void text_categories(void)
{
    static const int want[] = { 1158, 1445, 46362, 1336, 735 };
    int count[GLAM__NOTHING + 1] = { 0 };
    glam_ctx *ctx = test_ctx();
    test_pieces p;
    pieces_of_bytes(&p, GLAM_SPLIT_QWEN);
    glam_tokenizer *t = glam_tokenizer_new(ctx, &p.v);
    for (uint32_t c = 0; c < 0x10000; c++) count[glam__class(t, c)]++;
    for (int i = GLAM__UPPER; i <= GLAM__NUMBER; i++) CHECK(count[i] == want[i - GLAM__UPPER]);
    CHECK(count[GLAM__BLANK] == 25 && glam__class(t, 0x1f600) == GLAM__OTHER);
    CHECK(glam__class(t, 0xe01ef) == GLAM__MARK && glam__class(t, 0xe01f0) == GLAM__OTHER);
    CHECK(glam__class(t, 0x10ffff) == GLAM__OTHER && glam__class(t, 0x1e943) == GLAM__LOWER);
    CLOSE_CLEAN(ctx);
}

// ---- form C

static glam_tokenizer *text_composer(glam_ctx *ctx)
{
    test_pieces p;
    pieces_of_bytes(&p, GLAM_SPLIT_QWEN);
    p.v.composed = 1;
    return glam_tokenizer_new(ctx, &p.v);
}

// The bytes that a text becomes; they are its ids.
static size_t text_composed(const glam_tokenizer *t, const char *text, size_t bytes, char *out)
{
    int32_t ids[4096];
    size_t n = glam_encode(t, text, bytes, ids, 4096);
    for (size_t i = 0; i < n && i < 4096; i++) out[i] = (char)(unsigned char)ids[i];
    out[n < 4096 ? n : 4095] = 0;
    return n;
}

static uint64_t text_hash(uint64_t h, const char *text, size_t bytes)
{
    for (; bytes--; text++) h = (h ^ (unsigned char)*text) * 1099511628211u;
    return h;
}

// Every character, and every three of some that join, against what Python's unicodedata makes of them.
static void text_composes(void)
{
    static const uint32_t some[] = { 0x41, 0x61, 0xe2, 0x301, 0x323, 0x327, 0x345, 0x1100, 0x1161, 0x11a8, 0xac00,
        0x9c7, 0x9be, 0x9d7, 0xf71, 0xf73, 0x5d1, 0x5bc, 0x93c, 0x958, 0x340, 0x212b, 0x3099, 0x304b, 0x1d15f, 0x1d165 };
    enum { SOME = sizeof some / sizeof *some };
    glam_ctx *ctx = test_ctx();
    glam_tokenizer *t = text_composer(ctx);
    char text[16], out[4096];
    CHECK(text_composed(t, "", 1, out) == 1 && out[0] == 0);
    uint64_t h = text_hash(14695981039346656037u, "", 1);          // of U+0000
    for (uint32_t c = 1; c < 0x110000; c++)
        if (c < 0xd800 || c > 0xdfff)
            h = text_hash(h, out, text_composed(t, text, (size_t)(glam__utf8_put(text, c) - text), out));
    CHECK(h == 0x23fc43766d7c2eb9u);
    h = 14695981039346656037u;
    for (int i = 0; i < SOME * SOME * SOME; i++) {
        char *end = glam__utf8_put(text, some[i / SOME / SOME]);
        end = glam__utf8_put(glam__utf8_put(end, some[i / SOME % SOME]), some[i % SOME]);
        h = text_hash(h, out, text_composed(t, text, (size_t)(end - text), out));
    }
    CHECK(h == 0x108819a8f3e1d3a0u);
    CLOSE_CLEAN(ctx);
}

// Long texts and long rows of marks; bytes that are no characters; no memory at either place.
static void text_composes_anything(void)
{
    test_heap heap;
    glam_options options = glam_options_default();
    char text[1024], want[1024], out[4096];
    size_t n = 0, m = 0;
    test_heap_into(&heap, &options);
    glam_ctx *ctx = glam_open(&options);
    glam_tokenizer *t = text_composer(ctx);
    static const struct { const char *text; size_t bytes; const char *want; } rows[] = {
        {"plain caf\xc3\xa9", 11, "plain caf\xc3\xa9"}, {"cafe\xcc\x81s", 7, "caf\xc3\xa9s"},
        {"\xcc\x81\xcc\xa7" "a", 5, "\xcc\xa7\xcc\x81" "a"}, {"\xff\xcc\x81\xc3", 4, "\xff\xcc\x81\xc3"},
        {"e\xff\xcc\x81", 4, "e\xff\xcc\x81"}, {"\xe2\x84\xab\xed\xa0\x80", 6, "\xc3\x85\xed\xa0\x80"},
        {"\xf0\x9d\x85\x9e", 4, "\xf0\x9d\x85\x97\xf0\x9d\x85\xa5"} };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK(text_composed(t, rows[i].text, rows[i].bytes, out) == strlen(rows[i].want) && !strcmp(out, rows[i].want));
    CHECK(text_composed(t, "a\0\xcc\x81", 4, out) == 4 && !memcmp(out, "a\0\xcc\x81", 4));
    text[n++] = want[m++] = 'e';                        // 300 of classes 230 and 220 in turn
    for (int i = 0; i < 300; i++) { memcpy(text + n, i % 2 ? "\xcc\xa4" : "\xcc\x83", 2); n += 2; }
    memcpy(want, "\xe1\xba\xbd", m = 3);                // the first of 230 joins: U+1EBD
    for (int i = 0; i < 150; i++) { memcpy(want + m, "\xcc\xa4", 2); m += 2; }
    for (int i = 1; i < 150; i++) { memcpy(want + m, "\xcc\x83", 2); m += 2; }
    CHECK(text_composed(t, text, n, out) == m && !memcmp(out, want, m));
    heap.fail_at = heap.calls + 1;
    CHECK(text_composed(t, "e\xcc\x81", 3, out) == 0);
    ERROR_IS(ctx, GLAM_ERR_MEMORY, "a text of 3 bytes");
    glam_clear_error(ctx);
    for (int more = 1; more < 4; more += 2) {           // the row of marks, then the text, then the row again
        heap.fail_at = heap.calls + (uint64_t)more;
        CHECK(text_composed(t, text, n, out) == 0);
        ERROR_IS(ctx, GLAM_ERR_MEMORY, "a character and marks of 601 bytes");
        glam_clear_error(ctx);
    }
    glam_close(ctx);
    CHECK(heap.live == 0 && heap.wrong == 0);
}

// SentencePiece's own way: the best score first, bytes for what no piece has, a blank before.
static void text_sentencepiece(void)
{
    static const char *const made[] = { " ", "a", "b", "\xc3\xa9", " a", "ab", " ab", "b\xc3\xa9", "aa" };
    static const float scores[] = { -9, -9, -9, -9, -3, -1, -2, -4, -5 };
    float all[300] = { 0 };
    test_pieces p;
    memset(&p, 0, sizeof p);
    glam_ctx *ctx = test_ctx();
    pieces_of_bytes(&p, GLAM_SPLIT_NONE);
    memset(p.kinds, GLAM_PIECE_BYTE, 256);
    for (int i = 0; i < 9; i++) {
        all[p.v.size] = scores[i];
        pieces_add(&p, made[i], GLAM_PIECE_NORMAL);
    }
    pieces_add(&p, "<s>", GLAM_PIECE_CONTROL);
    pieces_add(&p, "[X]", GLAM_PIECE_ADDED);
    p.v.score = all;
    p.v.blank_before = 1;
    p.v.begin = 265;
    glam_tokenizer *t = glam_tokenizer_new(ctx, &p.v);
    static const struct { const char *text; int32_t ids[12]; int count; } rows[] = {
        {"ab", {262}, 1},                          // " ab": ab first, then the blank
        {"aab", {260, 261}, 2},                    // " a" (-3) after "ab" (-1), before "aa" (-5)
        {"b\xc3\xa9", {256, 263}, 2},
        {"z\xc3\xa9", {256, 'z', 259}, 3},         // a letter that has no piece: its bytes
        {"\xe2\x96\x81" "a", {256, 260}, 2},       // U+2581 is SentencePiece's blank
        {"a[X]ab", {260, 266, 261}, 3},            // no blank behind an added piece
        {"<s>", {256, '<', 's', '>'}, 4},          // not the control piece
        {"", {0}, 0},
        {"a  a", {260, 256, 260}, 3},
    };
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        int32_t ids[12];
        size_t n = glam_encode(t, rows[r].text, strlen(rows[r].text), ids, 12);
        CHECK(n == (size_t)rows[r].count && !memcmp(ids, rows[r].ids, n * sizeof *ids));
    }
    int32_t ids[8];
    char text[16];
    CHECK(glam_encode_control(t, "<s>ab", 5, ids, 8) == 3 && ids[0] == 256 && ids[1] == 265 && ids[2] == 261);
    CHECK(glam_decode(t, ids, 3, text, sizeof text) == 3 && !strcmp(text, " ab"));
    CLOSE_CLEAN(ctx);
}

// Learning, slowly: all pairs of all words counted anew for each merge.
static int text_slow_learn(const char *text, size_t bytes, int merges, int32_t (*merge)[2])
{
    static int32_t s[4000];                          // -1 between words
    static int count[600][600];
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (i && text[i] == ' ') s[n++] = -1;
        s[n++] = (unsigned char)text[i];
    }
    for (int m = 0; m < merges; m++) {
        int best = 1, left = -1, right = -1;
        memset(count, 0, sizeof count);
        for (size_t i = 0; i + 1 < n; i++) if (s[i] >= 0 && s[i + 1] >= 0) count[s[i]][s[i + 1]]++;
        for (int a = 0; a < 600; a++)
            for (int b = 0; b < 600; b++)
                if (count[a][b] > best) { best = count[a][b]; left = a; right = b; }
        if (left < 0) return m;
        merge[m][0] = left;
        merge[m][1] = right;
        size_t to = 0;
        for (size_t i = 0; i < n; to++) {
            int both = i + 1 < n && s[i] == left && s[i + 1] == right;
            s[to] = both ? 256 + m : s[i];
            i += both ? 2 : 1;
        }
        n = to;
    }
    return merges;
}

static void text_learns(void)
{
    char text[1500];
    int32_t want[100][2], ids[1500];
    glam_ctx *ctx = test_ctx();
    for (size_t i = 0; i < sizeof text; i++) {
        double r = glam_random(5, 6, i);
        text[i] = i && i % 7 && text[i - 1] != ' ' && r < 0.2 ? ' ' : "aabacdde"[(int)(r * 8)];
    }
    int merges = text_slow_learn(text, sizeof text, 100, want);
    CHECK(merges > 50);
    glam_tokenizer *t = glam_tokenizer_train(ctx, text, sizeof text, 356, GLAM_SPLIT_GPT2);
    CHECK(glam_tokenizer_vocabulary(t)->merges == merges);
    CHECK(!memcmp(glam_tokenizer_vocabulary(t)->merge, want, (size_t)merges * sizeof *want));
    size_t n = glam_encode(t, text, sizeof text, ids, 1500);
    char back[1501];
    CHECK(n < 700 && glam_decode(t, ids, n, back, sizeof back) == sizeof text);
    CHECK(!memcmp(back, text, sizeof text));
    t = glam_tokenizer_train(ctx, "abc", 3, 5000, GLAM_SPLIT_GPT2);      // nothing comes twice
    CHECK(glam_tokenizer_size(t) == 256);
    t = glam_tokenizer_train(ctx, "aaaaaaaaa", 9, 5000, GLAM_SPLIT_GPT2);
    CHECK(glam_tokenizer_size(t) == 258 && glam_encode(t, "aaaaa", 5, ids, 9) == 2);
    CLOSE_CLEAN(ctx);
    ctx = test_ctx();
    CHECK(!glam_tokenizer_train(ctx, "a", 1, 255, GLAM_SPLIT_GPT2) && glam_error(ctx) == GLAM_ERR_VALUE);
    glam_close(ctx);
}

// Control and added pieces; ids that are none.
static void text_control(void)
{
    glam_ctx *ctx = test_ctx();
    test_pieces p;
    int32_t ids[40];
    char text[40];
    pieces_hello(&p, GLAM_SPLIT_QWEN);
    pieces_add(&p, "<|end|>", GLAM_PIECE_CONTROL);
    pieces_add(&p, "<|", GLAM_PIECE_ADDED);
    pieces_add(&p, "<|end", GLAM_PIECE_ADDED);
    glam_tokenizer *t = glam_tokenizer_new(ctx, &p.v);
    CHECK(glam_encode_control(t, "hello<|end|>hello", 17, ids, 40) == 3 && ids[1] == 264);
    CHECK(glam_encode(t, "hello<|end|>", 12, ids, 40) == 4 && ids[1] == 266 && ids[2] == '|');
    CHECK(glam_encode_control(t, "hello<|end|>", 11, ids, 40) == 3 && ids[1] == 266);      // the text ends before >
    ids[0] = 259; ids[1] = 264; ids[2] = 9999; ids[3] = -1;
    CHECK(glam_decode(t, ids, 4, text, 40) == 7 && !strcmp(text, "hello??"));
    CHECK(glam_decode(t, ids, 4, text, 4) == 7 && !strcmp(text, "hel"));
    CLOSE_CLEAN(ctx);
}

static void text_whole(void)
{
    static const struct { const char *text; size_t whole; } rows[] = { {"", 0}, {"ab", 2}, {"a\xc3", 1},
        {"a\xc3\xa9", 3}, {"\xe2\x96", 0}, {"\xe2\x96\x81", 3}, {"x\xf0\x9f\x98", 1}, {"\xf0\x9f\x98\x80", 4},
        {"\x80\x80\x80\x80", 4}, {"a\xff", 2} };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK(glam_whole_characters(rows[i].text, strlen(rows[i].text)) == rows[i].whole);
    CHECK(glam_whole_characters(NULL, 9) == 0);
}

static void text_vocabulary_refused(void)
{
    static const int32_t none[2] = { 'a', 'z' }, far_off[2] = { 'a', 700 };
    for (int wrong = 0; wrong < 9; wrong++) {
        glam_ctx *ctx = test_ctx();
        test_pieces p;
        pieces_hello(&p, GLAM_SPLIT_GPT2);
        if (wrong == 0) p.v.merge = none, p.v.merges = 1;            // "az" is no piece
        if (wrong == 1) p.v.merge = far_off, p.v.merges = 1;
        if (wrong == 2) p.ends[9] = 5;
        if (wrong == 3) p.kinds[3] = 77;
        if (wrong == 4) p.v.begin = 264;
        if (wrong == 5) p.v.split = (glam_split)(GLAM_SPLIT_DEEPSEEK_CODER + 1);
        if (wrong == 6) p.kinds['a'] = GLAM_PIECE_UNUSED;            // a byte without a piece
        if (wrong == 7) p.v.ends = NULL;
        if (wrong == 8) p.kinds[257] = GLAM_PIECE_BYTE;              // two bytes
        CHECK(!glam_tokenizer_new(ctx, &p.v));
        CHECK(glam_error(ctx) == (wrong == 7 ? GLAM_ERR_VALUE : GLAM_ERR_FORMAT));
        glam_close(ctx);
    }
    CHECK(!glam_tokenizer_new(NULL, NULL) && !glam_tokenizer_vocabulary(NULL));
}

static void test_16_text(void)
{
    RUN(text_extremes);
    RUN(text_round_trip);
    RUN(text_bounds);
    RUN(text_wild_ids);
    RUN(text_merges_like_the_slow_loop);
    RUN(text_long_word);
    RUN(text_scanners);
    RUN(text_categories);
    RUN(text_composes);
    RUN(text_composes_anything);
    RUN(text_sentencepiece);
    RUN(text_learns);
    RUN(text_control);
    RUN(text_whole);
    RUN(text_vocabulary_refused);
}
