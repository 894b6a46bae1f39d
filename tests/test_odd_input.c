/* Input that nobody means to give: bytes that are no characters, vocabularies wrong in one field each, texts
   and mixtures at their edges, files whose headers lie.  Each is refused with its own sentence and changes
   nothing, or means what the header promises.  Kinds: property, value, failure. */

// ---- characters

// What is no character counts as one byte, U+FFFD: overlong, a surrogate, past the last, broken off.
static void odd_characters(void)
{
    static const struct { const char *text; int bytes; uint32_t code; } rows[] = {
        { "\xc3(", 1, 0xfffd }, { "\xe2\x98(", 1, 0xfffd }, { "\xf0\x9f\x98(", 1, 0xfffd }, { "\xe2(\x98", 1, 0xfffd },
        { "\xe0\x9f\xbf", 1, 0xfffd }, { "\xf0\x8f\xbf\xbf", 1, 0xfffd }, { "\xf4\x90\x80\x80", 1, 0xfffd },
        { "\xed\xa0\x80", 1, 0xfffd }, { "\xed\xbf\xbf", 1, 0xfffd }, { "\xc1\xbf", 1, 0xfffd },
        { "\xf5\x80\x80\x80", 1, 0xfffd },
        { "\x80", 1, 0xfffd }, { "\xe2\x98", 1, 0xfffd }, { "\xc2\x80", 2, 0x80 }, { "\xdf\xbf", 2, 0x7ff },
        { "\xe0\xa0\x80", 3, 0x800 }, { "\xed\x9f\xbf", 3, 0xd7ff }, { "\xee\x80\x80", 3, 0xe000 },
        { "\xef\xbf\xbf", 3, 0xffff },
        { "\xf0\x90\x80\x80", 4, 0x10000 }, { "\xf4\x8f\xbf\xbf", 4, 0x10ffff } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint32_t code = 0;
        CHECK(glam__character(rows[i].text, strlen(rows[i].text), &code) == rows[i].bytes && code == rows[i].code);
    }
    CHECK(glam_whole_characters("a\xc0", 2) == 2 && glam_whole_characters("a\xf5", 2) == 2);   // they begin nothing
    CHECK(glam_whole_characters("a\xdf", 2) == 1 && glam_whole_characters("\xef\xbf", 2) == 0);
    CHECK(glam_whole_characters("\xf4\x8f\xbf", 3) == 0 && glam_whole_characters("\xe2\x98\x80", 3) == 3);
}

// Where a split cuts a text: the words with | between them.
static void odd_cut(const glam_tokenizer *t, const char *text, size_t bytes, char *cut)
{
    glam__scan s = { t, text, bytes };
    for (size_t at = 0, end; at < bytes; at = end) {
        end = glam__word_end(&s, at);
        if (!CHECK(end > at && end <= bytes)) break;
        if (at) *cut++ = '|';
        memcpy(cut, text + at, end - at);
        cut += end - at;
    }
    *cut = 0;
}

// DeepSeek's own lists of signs and scripts, at their ends.  | stands between words.
static void odd_deepseek(void)
{
    static const struct { glam_split split; const char *words; } rows[] = {
        // U+FF01..FF0F and U+FF1A..FF5E are signs; U+FF10 is a digit, U+FF5F and U+FF60 are none of it
        { GLAM_SPLIT_DEEPSEEK,
          " \xef\xbc\x81\xef\xbc\x8f|\xef\xbc\x90|\xef\xbc\x9a!\xef\xbd\x9e|\xef\xbd\x9f\xef\xbd\xa0|a" },
        { GLAM_SPLIT_DEEPSEEK, "\xef\xbc\x80|\xef\xbc\x81|\xef\xbd\x9f|\xef\xbd\x9d" },
        // U+2018..201F are signs, U+2017 and U+2020 are not; all of them lie among the scripts
        { GLAM_SPLIT_DEEPSEEK, "a|\xe2\x80\x97|\xe2\x80\x98\xe2\x80\x9f|\xe2\x80\xa0|a" },
        // U+9FA5 is the last of one range, U+AC00 .. U+D7FF the other
        { GLAM_SPLIT_DEEPSEEK, "a|\xe9\xbe\xa5|\xe9\xbe\xa6\xea\xaf\xbf|b" },
        { GLAM_SPLIT_DEEPSEEK, "a|\xea\xb0\x80\xed\x9f\xbf|\xee\x80\x80|b" },
        { GLAM_SPLIT_DEEPSEEK_CODER, "\xea\xb0\x80|\xee\x80\x80|a" },
        // blanks at an end are a word, also where only a later expression made that end
        { GLAM_SPLIT_DEEPSEEK, "\xef\xbd\x9f|  " },
        { GLAM_SPLIT_DEEPSEEK, "\xef\xbd\x9f \xef\xbd\xa0" },
        { GLAM_SPLIT_DEEPSEEK, "\xef\xbd\x9f| | a" },
        { GLAM_SPLIT_DEEPSEEK, "\xef\xbd\x9f| | !" },
        { GLAM_SPLIT_DEEPSEEK, "\xef\xbd\x9f| |\xe3\x80\x80|a" },
        // bytes that are no character are no letters, no signs and of no script
        { GLAM_SPLIT_DEEPSEEK, "a|\xff\xc3|b" }, { GLAM_SPLIT_DEEPSEEK_CODER, "a|\xed\xa0\x80|b" } };
    glam_ctx *ctx = test_ctx();
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        test_pieces p;
        char text[128], cut[256];
        size_t bytes = 0;
        pieces_of_bytes(&p, rows[r].split);
        for (const char *c = rows[r].words; *c; c++) if (*c != '|') text[bytes++] = *c;
        odd_cut(glam_tokenizer_new(ctx, &p.v), text, bytes, cut);
        if (strcmp(cut, rows[r].words)) printf("    row %d: %s\n", (int)r, cut);
        CHECK(!strcmp(cut, rows[r].words));
    }
    CLOSE_CLEAN(ctx);
}

// Whatever bytes come, every split learns from them, encodes them and gives the same bytes back; in parts too.
static void odd_any_bytes(void)
{
    static const char *const parts[] = { "\xff", "\xc3", "\xe2\x82", "\xf0\x9f\x98", "\xed\xa0\x80", "\xf4\x90\x80\x80",
        "\xef\xbc\x9a", "\xef\xbd\x9e", "\xe2\x80\x98", "\xf0\x9f\x98\x80", "\xea\xb0\x81", " ", "\n", "\r", "a",
          "A", "'s",
        "'LL", "7", "12", "\xcc\x81", "\xe3\x80\x80", "!", "/", "\xc2\xa0", "\xef\xbd\x9f", "\xd9\xa3", "\xc7\x85" };
    enum { PARTS = sizeof parts / sizeof *parts, BYTES = 600 };
    glam_ctx *ctx = test_ctx();
    for (int split = GLAM_SPLIT_GPT2; split <= GLAM_SPLIT_DEEPSEEK_CODER; split++) {
        for (uint64_t trial = 0; trial < 4; trial++) {
            char text[BYTES + 8], back[BYTES + 9];
            int32_t ids[BYTES + 8];
            size_t bytes = 0;
            uint64_t state = test_seed(trial * 20 + (uint64_t)split);
            while (bytes < BYTES) {
                const char *part = parts[test_next(&state) % PARTS];
                memcpy(text + bytes, part, strlen(part));
                bytes += strlen(part);
                if (trial == 3 && test_next(&state) % 4 == 0) text[bytes - 1] = 0;
            }
            glam_tokenizer *t = glam_tokenizer_train(ctx, text, bytes, 300, (glam_split)split);
            if (!CHECK(t && glam_tokenizer_size(t) > 260)) continue;
            size_t n = glam_encode(t, text, bytes, ids, BYTES + 8);
            CHECK(n < bytes && glam_encode(t, text, bytes, NULL, 9) == n);
            CHECK(glam_decode(t, ids, n, back, sizeof back) == bytes && !memcmp(back, text, bytes));
            size_t first = glam_decode(t, ids, n / 2, back, sizeof back);
            CHECK(first + glam_decode(t, ids + n / 2, n - n / 2, NULL, 0) == bytes);
        }
    }
    CLOSE_CLEAN(ctx);
}

// Form C beside bytes that are no characters; a syllable of three parts, with a mark behind it, is taken apart.
static void odd_composes(void)
{
    static const struct { const char *text, *want; } rows[] = {
        { "\xea\xb0\x81\xcc\x81", "\xea\xb0\x81\xcc\x81" },                    // U+AC01 stays
        { "\xea\xb0\x80\xcc\x81", "\xea\xb0\x80\xcc\x81" },
        { "\xc3(e\xcc\x81", "\xc3(\xc3\xa9" },
        { "\xed\xa0\x80" "e\xcc\x81\xf0\x9f\x98", "\xed\xa0\x80\xc3\xa9\xf0\x9f\x98" },
        { "\xf4\x90\x80\x80\xcc\x81", "\xf4\x90\x80\x80\xcc\x81" },
        { "\xe1\x84\x80\xcc\x81\xe1\x85\xa1", "\xe1\x84\x80\xcc\x81\xe1\x85\xa1" } };  // a mark parts the two halves
    glam_ctx *ctx = test_ctx();
    glam_tokenizer *t = text_composer(ctx);
    char out[4096];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK(text_composed(t, rows[i].text, strlen(rows[i].text), out) == strlen(rows[i].want));
        CHECK(!strcmp(out, rows[i].want));
    }
    CLOSE_CLEAN(ctx);
}

// ---- vocabularies

static void odd_vocabularies(void)
{
    static const int32_t below[2] = { 'a', -1 };
    static float score[600];
    const char *const rows[] = { "a vocabulary has", "a vocabulary has", "a vocabulary has", "a vocabulary has",
        "a vocabulary has", "a vocabulary has", "an unknown way of cutting", "a begin or an end", "a begin or an end",
        "a begin or an end", "a score of no value", "a score of no value", "a merge of what is no piece",
        "makes what is no piece", "makes what is no piece", "a blank goes before", "byte 126 has no piece" };
    int32_t pair[2];
    for (int wrong = 0; wrong < (int)(sizeof rows / sizeof *rows); wrong++) {
        glam_ctx *ctx = test_ctx();
        test_pieces p;
        char longest[301];
        pieces_hello(&p, GLAM_SPLIT_GPT2);
        memset(score, 0, sizeof score);
        const glam_vocabulary *v = &p.v;
        if (wrong == 0) v = NULL;
        if (wrong == 1) p.v.bytes = NULL;
        if (wrong == 2) p.v.size = 0;
        if (wrong == 3) p.v.size = -5;
        if (wrong == 4) p.v.merges = -1;
        if (wrong == 5) p.v.merge = NULL;
        if (wrong == 6) memset(&p.v.split, 0xff, sizeof p.v.split);
        if (wrong == 7) p.v.begin = -2;
        if (wrong == 8) p.v.end = -2;
        if (wrong == 9) p.v.end = p.v.size;
        if (wrong == 10 || wrong == 11) {
            p.v.merges = 0;
            p.v.score = score;
            score[7] = wrong == 10 ? NAN : -HUGE_VALF;
        }
        if (wrong == 12) p.v.merge = below, p.v.merges = 1;
        if (wrong == 13) {                             // two pieces of no bytes
            pieces_add(&p, "", GLAM_PIECE_NORMAL);
            pair[0] = pair[1] = p.v.size - 1;
            p.v.merge = pair, p.v.merges = 1;
        }
        if (wrong == 14) {                             // longer than all pieces together
            memset(longest, 'x', 300);
            longest[300] = 0;
            pieces_add(&p, longest, GLAM_PIECE_NORMAL);
            pair[0] = pair[1] = p.v.size - 1;
            p.v.merge = pair, p.v.merges = 1;
        }
        if (wrong == 15) p.kinds[' '] = GLAM_PIECE_BYTE, p.v.blank_before = 1;
        if (wrong == 16) p.kinds['~'] = GLAM_PIECE_CONTROL;
        CHECK(!glam_tokenizer_new(ctx, v));
        ERROR_IS(ctx, wrong < 6 ? GLAM_ERR_VALUE : GLAM_ERR_FORMAT, rows[wrong]);
        pieces_hello(&p, GLAM_SPLIT_GPT2);             // the context is none the worse for it
        CHECK(glam_encode(glam_tokenizer_new(ctx, &p.v), "hello", 5, NULL, 0) == 1);
        CLOSE_CLEAN(ctx);
    }
}

// Pieces that no merge makes, that are of no use, of no bytes or there twice; merges that are there twice.
static void odd_pieces(void)
{
    static const int32_t merges[][2] = { { 'a', 'b' }, { 'b', 'c' }, { 'a', 'b' } };       // the last says nothing new
    glam_ctx *ctx = test_ctx();
    test_pieces p;
    int32_t ids[8];
    char text[8];
    int n = -1;
    pieces_of_bytes(&p, GLAM_SPLIT_GPT2);
    pieces_add(&p, "ab", GLAM_PIECE_NORMAL);           // 256
    pieces_add(&p, "bc", GLAM_PIECE_NORMAL);
    pieces_add(&p, "xyz", GLAM_PIECE_NORMAL);          // 258: no merge makes it
    pieces_add(&p, "ab", GLAM_PIECE_NORMAL);           // 259: the first one is meant
    pieces_add(&p, "uv", GLAM_PIECE_UNUSED);           // 260
    pieces_add(&p, "", GLAM_PIECE_NORMAL);             // 261
    pieces_add(&p, "<x>", GLAM_PIECE_ADDED);           // 262
    p.kinds[0xff] = GLAM_PIECE_UNUSED;
    p.v.merge = &merges[0][0];
    p.v.merges = 3;
    glam_tokenizer *t = glam_tokenizer_new(ctx, &p.v);
    CHECK(glam_encode(t, "abc", 3, ids, 8) == 2 && ids[0] == 256 && ids[1] == 'c');
    CHECK(glam_encode(t, "xyz", 3, ids, 8) == 3 && ids[0] == 'x' && ids[2] == 'z');
    CHECK(glam_encode(t, "uv", 2, ids, 8) == 2 && ids[0] == 'u' && ids[1] == 'v');
    CHECK(glam_encode(t, "<y<x>", 5, ids, 8) == 3 && ids[0] == '<' && ids[1] == 'y' && ids[2] == 262);
    CHECK(glam_encode(t, "a\xff" "b", 3, ids, 8) == 2 && ids[0] == 'a' && ids[1] == 'b');  // a byte without a piece
    CHECK(glam_encode(t, "\xff", 1, ids, 8) == 0 && glam_error(ctx) == GLAM_OK);
    CHECK(glam_encode(t, "", 0, ids, 8) == 0 && glam_encode(t, NULL, 4, ids, 8) == 0);
    CHECK(glam_encode_control(t, NULL, 4, ids, 8) == 0);
    ids[0] = 260, ids[1] = 261, ids[2] = 258;
    CHECK(glam_decode(t, ids, 3, text, sizeof text) == 5 && !strcmp(text, "uvxyz"));
    CHECK(glam_tokenizer_piece(t, 261, &n) && n == 0 && !glam_tokenizer_piece(t, -1, &n) &&
          !glam_tokenizer_piece(t, 263, NULL));
    p.v.whole_words = 1;                               // a word that is a piece stays one
    t = glam_tokenizer_new(ctx, &p.v);
    CHECK(glam_encode(t, "xyz", 3, ids, 8) == 1 && ids[0] == 258 && glam_encode(t, "xyzx", 4, ids, 8) == 4);
    p.v.kinds = NULL;                                  // all normal: "uv" and the sign are words like others
    t = glam_tokenizer_new(ctx, &p.v);
    CHECK(glam_encode(t, "uv", 2, ids, 8) == 1 && ids[0] == 260 && glam_encode(t, "\xff", 1, ids, 8) == 1 &&
          ids[0] == 255);
    CHECK(glam_encode(t, "<x>", 3, ids, 8) == 3 && ids[0] == '<');
    CLOSE_CLEAN(ctx);
}

// Scores instead of merges: blanks in a row, characters of three bytes that no piece has, long first words.
static void odd_scores(void)
{
    static float scores[300];
    glam_ctx *ctx = test_ctx();
    test_pieces p;
    int32_t ids[80];
    char word[71];
    pieces_of_bytes(&p, GLAM_SPLIT_NONE);
    memset(p.kinds, GLAM_PIECE_BYTE, 256);
    static const char *const made[] = { " ", "a", "b", " a", "ab", "  ", "\xe2\x82\xac", "q\xe2\x82\xac", "abq" };
    static const float of[] = { -9, -9, -9, -3, -1, -5, -9, -2, -1 };
    for (int i = 0; i < 9; i++) {
        scores[p.v.size] = of[i];
        pieces_add(&p, made[i], GLAM_PIECE_NORMAL);
    }
    p.v.score = scores;
    for (int before = 0; before < 2; before++) {
        p.v.blank_before = before;
        glam_tokenizer *t = glam_tokenizer_new(ctx, &p.v);
        int32_t *to = ids + before;
        // "q" has no piece of its own: neither "q and the euro" nor "abq" can be made of two
        CHECK(glam_encode(t, "q\xe2\x82\xac", 4, ids, 80) == (size_t)(2 + before) && to[0] == 'q' && to[1] == 262);
        CHECK(glam_encode(t, "\xe2\x98\x80", 3, ids, 80) == (size_t)(3 + before) && to[0] == 0xe2 && to[2] == 0x80);
        CHECK(glam_encode(t, "abq", 3, ids, 80) == (size_t)(before ? 3 : 2) && ids[before ? 1 : 0] == 260);
        memset(word, 'b', sizeof word);                // with a blank before it the word is longer than 64
        CHECK(glam_encode(t, word, 70, ids, 80) == (size_t)(70 + before) && ids[69] == 258);
        CHECK(ids[0] == (before ? 256 : 258));
        CHECK(glam_encode(t, "a  ", 3, ids, 80) == 2 && ids[0] == (before ? 259 : 257) && ids[1] == 261);
    }
    CLOSE_CLEAN(ctx);
}

// NULL and contexts with an error; the tokenizer of bytes has no vocabulary.
static void odd_tokenizer_arguments(void)
{
    glam_ctx *ctx = test_ctx();
    glam_tokenizer *bytes = glam_tokenizer_bytes(ctx);
    int n = 7;
    CHECK(!glam_tokenizer_vocabulary(bytes) && !glam_tokenizer_piece(bytes, 'a', &n) && n == 0);
    CHECK(glam_tokenizer_size(bytes) == 256 && glam_encode(bytes, NULL, 3, NULL, 0) == 0);
    const struct { const char *text; int size; int split; } bad[] = { { NULL, 300, GLAM_SPLIT_GPT2 },
        { "aa", (1 << 24) + 1, GLAM_SPLIT_GPT2 }, { "aa", -1, GLAM_SPLIT_GPT2 }, { "aa", 300, GLAM_SPLIT_NONE },
        { "aa", 300, GLAM_SPLIT_DEEPSEEK_CODER + 1 } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(!glam_tokenizer_train(ctx, bad[i].text, 2, bad[i].size, (glam_split)bad[i].split));
        ERROR_IS(ctx, GLAM_ERR_VALUE, bad[i].text ? "pieces from a text" : "pieces from nothing");
    }
    CHECK(!glam_tokenizer_train(NULL, "aa", 2, 300, GLAM_SPLIT_GPT2) && !glam_model_tokenizer(NULL));
    CHECK(glam_model_set_tokenizer(NULL, bytes) == GLAM_ERR_MEMORY);
    test_pieces p;
    pieces_hello(&p, GLAM_SPLIT_GPT2);
    glam_fail(ctx, GLAM_ERR_NUMERIC, "over");
    CHECK(!glam_tokenizer_train(ctx, "aa", 2, 300, GLAM_SPLIT_GPT2) && !glam_tokenizer_bytes(ctx));
    CHECK(!glam_tokenizer_new(ctx, &p.v) && !glam_tokenizer_new(ctx, NULL));
    ERROR_IS(ctx, GLAM_ERR_NUMERIC, "over");           // the first error stays
    glam_tokenizer *t = glam_tokenizer_train(ctx, "aa", 0, 300, GLAM_SPLIT_GPT2);      // nothing to learn from
    CHECK(t && glam_tokenizer_size(t) == 256);
    CLOSE_CLEAN(ctx);
}

// Thousands of different words and pairs: the order of the words is no matter, and the first merge is the
// pair that a count by hand finds; a byte 0 is a byte like others.
static void odd_learns_much(void)
{
    enum { WORDS = 5000, EACH = 5, BYTES = WORDS * EACH };
    glam_ctx *ctx = test_ctx();
    char *text = (char *)malloc(2 * BYTES), *turned = text + BYTES;
    if (!CHECK(text != NULL)) return;
    uint64_t state = test_seed(16);
    static int count[128][128];
    memset(count, 0, sizeof count);
    for (int w = 0; w < WORDS; w++) {
        char *to = text + w * EACH;
        to[0] = ' ';
        for (int i = 1; i < EACH; i++) {
            uint64_t r = test_next(&state) % 52;
            to[i] = (char)(r < 26 ? 'a' + (int)r : 'A' + (int)r - 26);
            if (w % 16 == 0 && i == 2 && to[1] != 'q') memcpy(to + 1, "qz", 2);
        }
        for (int i = 0; i + 1 < EACH; i++) count[(int)to[i]][(int)to[i + 1]]++;
        memcpy(turned + (WORDS - 1 - w) * EACH, to, EACH);
    }
    int most = 0;
    for (int a = 0; a < 128; a++) for (int b = 0; b < 128; b++) if (count[a][b] > most) most = count[a][b];
    glam_tokenizer *t = glam_tokenizer_train(ctx, text, BYTES, 600, GLAM_SPLIT_GPT2);
    const glam_vocabulary *v = glam_tokenizer_vocabulary(t);
    glam_tokenizer *u = glam_tokenizer_train(ctx, turned, BYTES, 600, GLAM_SPLIT_GPT2);
    if (CHECK(v && u && v->merges == 344)) {
        CHECK(count[v->merge[0]][v->merge[1]] == most && most > 250);
        CHECK(!memcmp(v->merge, glam_tokenizer_vocabulary(u)->merge, sizeof(int32_t) * 2 * 344));
        CHECK(glam_encode(t, text, BYTES, NULL, 0) < BYTES - 5000);
    }
    free(text);
    t = glam_tokenizer_train(ctx, "\0a\0a\0a", 6, 300, GLAM_SPLIT_DEEPSEEK_CODER);
    CHECK(t && glam_tokenizer_size(t) == 256);         // a 0 is no letter: words of one byte
    t = glam_tokenizer_train(ctx, "\0\1\0\1 \0\1", 7, 300, GLAM_SPLIT_GPT2);
    int n = 0;
    const char *piece = glam_tokenizer_piece(t, 256, &n);
    CHECK(piece && n == 2 && !memcmp(piece, "\0\1", 2));
    CLOSE_CLEAN(ctx);
}

// A tokenizer as a file has it, wrong in each word: no tokenizer, and no crash.
static void odd_packed(void)
{
    glam_ctx *ctx = test_ctx();
    glam__arena own;
    test_pieces p;
    static float scores[300];
    memset(&own, 0, sizeof own);
    for (int scored = 0; scored < 2; scored++) {
        pieces_hello(&p, GLAM_SPLIT_QWEN);
        for (int i = 0; i < 300; i++) scores[i] = (float)(-i) - 0.25f;
        if (scored) p.v.merges = 0, p.v.score = scores;
        p.v.end = 9;
        glam_tokenizer *t = glam_tokenizer_new(ctx, &p.v);
        size_t bytes = (size_t)glam__tokenizer_pack(t, NULL);
        unsigned char *packed = (unsigned char *)malloc(bytes);
        if (!CHECK(packed && t)) return;
        CHECK(glam__tokenizer_pack(t, packed) == bytes);
        glam_tokenizer *back = glam__tokenizer_unpack(ctx, &own, packed, bytes);
        const glam_vocabulary *v = glam_tokenizer_vocabulary(back);
        if (CHECK(v != NULL)) {
            CHECK(v->size == p.v.size && v->merges == p.v.merges && v->begin == -1 && v->end == 9 &&
                  !v->score == !scored);
            CHECK(!scored || !memcmp(v->score, scores, sizeof(float) * (size_t)v->size));
            CHECK(!memcmp(v->bytes, p.bytes, p.ends[v->size - 1]));
        }
        for (size_t n = 0; n < bytes; n += n < 48 ? 1 : 97)                    // broken off anywhere
            CHECK(!glam__tokenizer_unpack(ctx, &own, packed, n) && glam_error(ctx) == GLAM_OK);
        static const struct { int word; int32_t value; int error; } rows[] = { { 0, 2, 0 }, { 1, 0, 0 }, { 1, -1, 0 },
            { 1, INT32_MAX, 0 }, { 2, -1, 0 }, { 2, INT32_MAX, 0 }, { 3, -1, 0 }, { 3, 2, 0 }, { 4, -1, 1 },
            { 4, 99, 1 },
            { 8, -2, 1 }, { 9, 9999, 1 }, { 1, 263, 0 }, { 10, 3, 1 } };
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            unsigned char was[4], *at = packed + 4 * rows[i].word;
            memcpy(was, at, 4);
            for (int k = 0; k < 4; k++) at[k] = (unsigned char)((uint32_t)rows[i].value >> 8 * k);
            CHECK(!glam__tokenizer_unpack(ctx, &own, packed, bytes));
            if (rows[i].error) ERROR_IS(ctx, GLAM_ERR_FORMAT, "the vocabulary of 264 pieces has");
            CHECK(glam_error(ctx) == GLAM_OK);
            memcpy(at, was, 4);
        }
        free(packed);
    }
    glam__arena_release(ctx, &own);
    CLOSE_CLEAN(ctx);
}

// ---- texts

// Documents of one letter each, parted by a 0.
static glam_text *odd_documents(glam_ctx *ctx, const char *text, size_t bytes, size_t want)
{
    const int32_t zero = 0;
    glam_text *t = glam_text_from(ctx, text, bytes, NULL);
    CHECK(glam_text_documents(t, &zero, 1) == want);
    return t;
}

// What is held back is whole documents: none of a single one, closed or not.
static void odd_splits(void)
{
    glam_ctx *ctx = test_ctx();
    glam_text *a = NULL, *b = NULL, *c = NULL, *d = NULL;
    int32_t ids[16];
    CHECK(glam_text_split(odd_documents(ctx, "aaa\0bbb\0cccc", 12, 3), 0.4f, &a, &b) == GLAM_OK);
    CHECK(glam_text_length(a) == 8 && glam_text_length(b) == 4 && glam_text_read(b, 0, 16, ids) == 4 && ids[0] == 'c');
    CHECK(glam_text_split(b, 0.5f, &c, &d) == GLAM_OK);        // its document has no end of its own
    CHECK(glam_text_length(c) == 4 && !d);
    CHECK(glam_text_split(odd_documents(ctx, "aaaaaaa\0", 8, 1), 0.5f, &a, &b) == GLAM_OK);
    CHECK(glam_text_length(a) == 8 && !b);                     // one document, which ends with the text
    CHECK(glam_text_split(odd_documents(ctx, "aaaa", 4, 1), 0.5f, NULL, &b) == GLAM_OK && !b);
    CHECK(glam_text_split(a, -0.1f, &c, &d) == GLAM_ERR_VALUE && !c && !d);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "must be in [0,1)");
    CHECK(glam_text_split(a, NAN, NULL, NULL) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "must be in [0,1)");
    const int32_t nine[9] = { 0 };
    CHECK(glam_text_documents(a, nine, 9) == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "a separator of 9 tokens");
    CHECK(glam_text_documents(a, NULL, 1) == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "a separator of 0 tokens");
    glam_fail(ctx, GLAM_ERR_NUMERIC, "over");
    CHECK(glam_text_documents(a, nine, 1) == 0 && glam_text_split(a, 0.5f, &c, &d) == GLAM_ERR_NUMERIC && !c && !d);
    CHECK(!glam_mix(ctx, &a, NULL, 1));
    ERROR_IS(ctx, GLAM_ERR_NUMERIC, "over");
    // what a step's losses are divided by is never 0, not even where no window can be had
    double real = 0, told = 0;
    glam__step_tokens(a, 2, 50, 1, 0, &real, &told);
    CHECK(real == 1 && told == 1);
    CLOSE_CLEAN(ctx);
}

// Examples read as a text are their tokens, learnt or not; nothing held back gives all of them.
static void odd_examples(void)
{
    glam_ctx *ctx = test_ctx();
    int32_t ids[4] = { 5, 6, 7, 8 }, got[8];
    unsigned char learn[4] = { 1, 0, 1, 0 };
    glam_example e[2] = { { ids, learn, 4 }, { ids + 1, NULL, 3 } };
    glam_text *t = glam_text_examples(ctx, e, 2, 6), *a = NULL, *b = NULL;
    CHECK(glam_text_length(t) == 7 && glam_text_read(t, 0, 8, got) == 7);
    size_t four = got[0] == 5 ? 0 : 3;                         // which of them comes first is chance
    CHECK(!memcmp(got + four, ids, 4 * sizeof *ids) && !memcmp(got + (four ? 0 : 4), ids + 1, 3 * sizeof *ids));
    CHECK(glam_text_split(t, 0, &a, &b) == GLAM_OK && glam_text_length(a) == 7 && !b);
    CHECK(glam_text_windows(a, 6, NULL) == glam_text_windows(t, 6, NULL));
    CHECK(!glam_text_examples(ctx, e, 2, INT32_MAX / 64 + 1));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "2 of them (or NULL) for windows of");
    CHECK(!glam_text_examples(ctx, e, -1, 6));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "-1 of them");
    glam_fail(ctx, GLAM_ERR_NUMERIC, "over");
    CHECK(!glam_text_examples(ctx, e, 2, 6));
    ERROR_IS(ctx, GLAM_ERR_NUMERIC, "over");
    CLOSE_CLEAN(ctx);
}

// Epochs of fewer texts than a mixture has, and of more: what is not in it was not read.
static void odd_epochs(void)
{
    glam_ctx *ctx = test_ctx();
    glam_text *of[2] = { test_text(ctx, 400), test_text(ctx, 300) };
    const float weights[2] = { 1, 3 };
    glam_text *mix = glam_mix(ctx, of, weights, 2);
    double all[2], one[1], more[4] = { 7, 7, 7, 7 };
    CHECK(glam_mix_epochs(mix, 2, 10, 1, 0, 50, all, 2) == GLAM_OK);
    CHECK_NEAR(all[0] * 400 + all[1] * 300, 2 * 10 * 50, 1e-6);
    CHECK(glam_mix_epochs(mix, 2, 10, 1, 0, 50, one, 1) == GLAM_OK && one[0] == all[0]);
    CHECK(glam_mix_epochs(mix, 2, 10, 1, 0, 50, more, 4) == GLAM_OK);
    CHECK(more[0] == all[0] && more[1] == all[1] && more[2] == 0 && more[3] == 0);
    CHECK(glam_mix_epochs(mix, 2, 1000, 1, 0, 5, all, 2) == GLAM_OK && all[0] == 0 && all[1] == 0);  // no such window
    const int bad[4][3] = { { 0, 10, 2 }, { 2, 0, 2 }, { 2, 10, 0 }, { -1, -1, -1 } };
    for (int i = 0; i < 4; i++) {
        CHECK(glam_mix_epochs(mix, bad[i][0], bad[i][1], 1, 0, 5, all, bad[i][2]) == GLAM_ERR_VALUE);
        ERROR_IS(ctx, GLAM_ERR_VALUE, "nothing to count");
    }
    CHECK(glam_mix_epochs(mix, 2, 10, 1, 0, 5, NULL, 2) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "nothing to count");
    CHECK(glam_mix_epochs(NULL, 2, 10, 1, 0, 5, all, 2) == GLAM_ERR_VALUE);
    CHECK(!glam_mix(ctx, NULL, weights, 2));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "no texts");
    of[1] = NULL;
    CHECK(!glam_mix(ctx, of, weights, 2));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "text 1 is NULL");
    CLOSE_CLEAN(ctx);
}

// ---- the filter

static uint64_t odd_filter_hash(const glam_filter *f)
{
    const glam_tensor *w = glam_filter_weights(f);
    return test_hash(1, w->data, glam_size(w) * sizeof(float));
}

static void odd_filter_arguments(void)
{
    glam_ctx *ctx = test_ctx();
    glam_filter_config config = glam_filter_config_default();
    glam_document d = { "one two", 7 };
    float label = 0.5f, weight = 1, score = 0;
    double loss = 7;
    config.bits = 7;
    CHECK(!glam_filter_new(ctx, &config));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "bits 7");
    config.bits = 8;
    config.lr = 0;
    CHECK(!glam_filter_new(ctx, &config));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "lr 0 positive");
    config.lr = 0.1;
    glam_filter *f = glam_filter_new(ctx, &config);
    uint64_t fresh = odd_filter_hash(f);
    CHECK(glam_filter_train(f, NULL, &label, NULL, 1, &loss) == GLAM_ERR_VALUE && loss == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "1 documents at NULL");
    CHECK(glam_filter_train(f, &d, &label, NULL, -1, NULL) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "-1 documents at an address");
    CHECK(glam_filter_train(f, &d, NULL, NULL, 1, NULL) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "document 0 needs a label");
    const float bad[3] = { -1, NAN, 2e30f };
    for (int i = 0; i < 3; i++) {
        CHECK(glam_filter_train(f, &d, &label, &bad[i], 1, NULL) == GLAM_ERR_VALUE);
        ERROR_IS(ctx, GLAM_ERR_VALUE, "a weight from 0 on");
    }
    glam_fail(ctx, GLAM_ERR_NUMERIC, "over");
    CHECK(glam_filter_train(f, &d, &label, NULL, 1, NULL) == GLAM_ERR_NUMERIC && !glam_filter_new(ctx, NULL));
    CHECK(glam_filter_score(f, &d, 1, &score) == GLAM_ERR_NUMERIC);
    ERROR_IS(ctx, GLAM_ERR_NUMERIC, "over");
    // a label that is what the filter says already, or a weight of 0: nothing is learnt, no NaN comes of it
    CHECK(glam_filter_train(f, &d, &label, NULL, 1, &loss) == GLAM_OK && odd_filter_hash(f) == fresh);
    CHECK_NEAR(loss, log(2.0), 1e-12);
    label = 1;
    weight = 0;
    CHECK(glam_filter_train(f, &d, &label, &weight, 1, &loss) == GLAM_OK && loss == 0 && odd_filter_hash(f) == fresh);
    CHECK(glam_filter_train(f, &d, &label, NULL, 1, NULL) == GLAM_OK && odd_filter_hash(f) != fresh);
    CHECK(glam_filter_score(f, &d, 1, &score) == GLAM_OK && score > 0.5f);
    CLOSE_CLEAN(ctx);
}

// Documents by thousands, and longer than a round's features: the same bits as one by one.
static void odd_filter_rounds(void)
{
    enum { MANY = 1500, LONG = 600000 };
    glam_options options = test_options();
    options.threads = 1;                               // tables are of the size of the filter for each
    glam_ctx *ctx = glam_open(&options);
    glam_filter_config config = glam_filter_config_default();
    static glam_document d[MANY];
    static float labels[MANY];
    static char words[MANY][8];
    char *text = (char *)malloc(LONG);
    if (!CHECK(text != NULL)) return;
    for (int i = 0; i < LONG; i++) text[i] = i % 8 ? test_rhyme[(i / 8 * 7 + i % 8) % 90] : ' ';
    for (int i = 0; i < MANY; i++) {
        snprintf(words[i], sizeof words[i], "w%d x", i % 97);
        d[i].text = words[i];
        d[i].bytes = strlen(words[i]);
        labels[i] = (float)(i % 2);
    }
    for (int big = 0; big < 2; big++) {
        config.bits = big ? 21 : 10;
        int count = big ? 4 : MANY;
        for (int i = 0; big && i < 4; i++) if (i != 2) d[i].text = text, d[i].bytes = LONG - (size_t)i;
        glam_filter *f = glam_filter_new(ctx, &config), *g = glam_filter_new(ctx, &config);
        double loss, one, sum = 0;
        CHECK(glam_filter_train(f, d, labels, NULL, count, &loss) == GLAM_OK);
        for (int i = 0; i < count; i++) {
            CHECK(glam_filter_train(g, d + i, labels + i, NULL, 1, &one) == GLAM_OK);
            sum += one;
        }
        CHECK(f && g && odd_filter_hash(f) == odd_filter_hash(g));
        CHECK_NEAR(loss, sum / count, 1e-12);
    }
    free(text);
    CLOSE_CLEAN(ctx);
}

// ---- files

// Headers wrong in one way each; of these only the last two are fine.
static void odd_headers(void)
{
    static const char *const rows[][3] = {
        { "\"format\":", "\"a\":\"\\ud800\\u0041\",\"format\":", "both halves of a surrogate pair" },
        { "\"format\":", "\"a\":\"\\ud800\\u00zz\",\"format\":", "both halves of a surrogate pair" },
        { "\"format\":", "\"a\":\"\\ud800\\ud800\",\"format\":", "both halves of a surrogate pair" },
        { "\"format\":", "\"a\":\"\\ud800\\n\",\"format\":", "both halves of a surrogate pair" },
        { "\"format\":", "\"a\":\"\\u12\",\"format\":", "an escape of JSON" },
        { "\"format\":", "\"a\":\"\x01\",\"format\":", "the end of a string" },
        { "\"format\":", "\"a\":1,\"format\":", "a string" },
        { "\"format\":", "\"a\" \"b\",\"format\":", "a colon" },
        { "\"format\":", "\"a\":\"b\" \"format\":", "a comma or the closing bracket" },
        { "\"format\":", ",\"format\":", "a string" },
        { "\"norm_eps\\\":", "\"norm_eps\\\":1e,\\\"z\\\":", "the end of a number" },
        { "\"norm_eps\\\":", "\"norm_eps\\\":1e+,\\\"z\\\":", "the end of a number" },
        { "\"norm_eps\\\":", "\"norm_eps\\\":1-2,\\\"z\\\":", "the end of a number" },
        { "\"norm_eps\\\":", "\"norm_eps\\\":1.5.2,\\\"z\\\":", "the end of a number" },
        { "\"norm_eps\\\":",
          "\"norm_eps\\\":0.0000000000000000000000000000000000000000000000000000000000000001,\\\"z\\\":",
          "the end of a number" },
        { "\"norm_eps\\\":", "\"norm_eps\\\":-,\\\"z\\\":", "a digit" },
        { "\"norm_eps\\\":", "\"norm_eps\\\":-e5,\\\"z\\\":", "a digit" },
        { "\"norm_eps\\\":", "\"norm_eps\\\":-1,\\\"z\\\":", "unknown key \"z\"" },
        { "\"vocab\\\":5", "\"vocab\\\":5e0", "a whole number" },
        { "\"vocab\\\":5", "\"vocab\\\":05", "a whole number" },
        { "\"vocab\\\":5", "\"vocab\\\":-", "a whole number" },
        { "\"vocab\\\":5", "\"vocab\\\":2147483648", "a number of 32 bits" },
        { "\"vocab\\\":5", "\"vocab\\\":18446744073709551616", "a smaller number" },
        { "\"tied\\\":true", "\"tied\\\":tru", "true or false" },
        { "[0,80]", "[0]", "expected two offsets" },
        { "[0,80]", "[]", "expected two offsets" },
        { "[0,80]", "[0,80,1,1,1,1,1]", "no more than two offsets" },
        { "[0,80]", "[-0,80]", "a whole number that is not negative" },
        { "[0,80]", "[0 80]", "a comma or the closing bracket" },
        { "[0,80]", "[0,80", "a comma or the closing bracket" },
        { "[0,80]", "[0,81]", "embed is [5,4], but its offsets" },
        { "[0,80]", "{}", "a list" },
        { "[5,4]", "[]", "1 to 4 dimensions" },
        { "[5,4]", "[5,2147483648]", "1 to 4 dimensions" },
        { "[5,4]", "[5,4,1,1,1,1,1]", "1 to 4 dimensions" },
        { "[5,4]", "[5,4,1]", "embed is [5,4,1] in the file but the config says [5,4]" },
        { "\"F32\",\"shape\":[5,4]", "\"U8\",\"shape\":[5,16]", "embed is [5,16] in the file but the config says" },
        { "\"F32\",\"shape\":[5,4]", "\"BF16\",\"shape\":[5,8]", "embed is [5,8] in the file but the config says" },
        { "\"F32\",\"shape\":[5,4]", "\"I8\",\"shape\":[5,16]", "embed is [5,16] in the file but the config says" },
        { "[5,4]", "[5,-4]", "a whole number that is not negative" },
        { "[5,4]", "[5,]", "a whole number" },
        { "\"dtype\":\"F32\"", "\"dtype\":32", "a string" },
        { "\"dtype\":\"F32\"", "\"dtype\":\"F3\"", "dtype is \"F3\", but must be one of" },
        { "\"dtype\":\"F32\"", "\"dtype\":\"\"", "dtype is \"\", but must be one of" },
        { "{\"__metadata__", "{\"x\":{},\"__metadata__", "x lacks its \"dtype\"" },
        { "{\"__metadata__", "{\"x\":[],\"__metadata__", "expected" },
        { "{\"__metadata__", "{\"x\",\"__metadata__", "a colon" },
        { "{\"__metadata__", "{,\"__metadata__", "a string" },
        { "{\"__metadata__", "[\"__metadata__", "an object" },
        { "]}}", "]}", "a comma or the closing bracket" },
        { "]}}", "]}}}", "nothing but spaces" },
        { "m\":\"none\"", "m\":\"\"", "16 lower-case" },
        { "m\":\"none\"", "m\":\"0123456789abcdeg\"", "16 lower-case" },
        { "\"format\":", "\"a\":\"\\ud83d\\ude00\\\\ \\/ \\b\\f\\n\\r\\t\\\"\",\t\r\n \"format\" :", "" },
        { "]}}", "]} } \n\t", "" }
    };
    glam_ctx *ctx = test_ctx();
    glam_config config = files_tiny();
    glam_model *model = glam_model_new(ctx, &config);
    if (!CHECK(model)) return;
    files_block b = files_save(model);
    size_t mark = glam_mark(ctx);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        glam_model *got = files_edited(ctx, b, rows[i][0], rows[i][1]);
        if (!*rows[i][2]) CHECK(got && test_model_hash(got) == test_model_hash(model));
        else if (CHECK(!got)) {
            glam_status status = glam_error(ctx);
            CHECK(status == GLAM_ERR_FORMAT || status == GLAM_ERR_SHAPE);
            if (!ERROR_IS(ctx, status, rows[i][2])) printf("    row %d\n", (int)i);
            CHECK(glam_mark(ctx) == mark);             // nothing stays
        }
    }
    free(b.data);
    CLOSE_CLEAN(ctx);
}

// What cannot be saved is refused before a file is there; a context that measures neither saves nor loads.
static void odd_tensors(void)
{
    glam_ctx *ctx = test_ctx(), *measure = test_ctx();
    const char *path = files_path(1);
    CHECK(glam_measure(measure, 1) == GLAM_OK);
    const float x[2] = { 1, 2 };
    const struct { glam_tensor *t; const char *why; } rows[] = {
        { glam_input(ctx, x, glam_dim1(2)), "tensor 0 of 1 has no name" },
        { glam_param(ctx, "", glam_dim1(2)), "tensor 0 of 1 has no name" },
        { glam_param(ctx, "__metadata__", glam_dim1(2)), "tensor 0 of 1 has no name" },
        { glam_param(ctx, "a\xc3(", glam_dim1(2)), "not UTF-8" },
        { glam_param(measure, "m", glam_dim1(2)), "tensor 0 of 1 has no values" },
        { NULL, "tensor 0 of 1 is NULL" } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK(glam_save_tensors(ctx, path, &rows[i].t, 1) == GLAM_ERR_VALUE && !files_exists(path, ""));
        ERROR_IS(ctx, GLAM_ERR_VALUE, rows[i].why);
    }
    glam_tensor *good = glam_param(ctx, "good", glam_dim1(2));
    CHECK(glam_save_tensors(ctx, path, &good, -1) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "-1 tensors at an array");
    CHECK(glam_save_tensors(ctx, path, NULL, 2) == GLAM_ERR_VALUE && !files_exists(path, ""));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "2 tensors at NULL");
    CHECK(glam_save_tensors(measure, path, NULL, 0) == GLAM_ERR_STATE && !files_exists(path, ""));
    ERROR_IS(measure, GLAM_ERR_STATE, "a context that measures has no values");
    CHECK(glam_save_tensors(ctx, path, &good, 1) == GLAM_OK);
    CHECK(glam_load_tensors(ctx, path, NULL, 1) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "1 tensors at NULL");
    CHECK(!glam_load(measure, path) && glam_error(measure) == GLAM_ERR_STATE);
    glam_clear_error(measure);
    // to measure is for fresh contexts, and for good
    CHECK(glam_measure(measure, 0) == GLAM_ERR_STATE);
    ERROR_IS(measure, GLAM_ERR_STATE, "close it and open another");
    CHECK(glam_measure(ctx, 1) == GLAM_ERR_STATE);
    ERROR_IS(ctx, GLAM_ERR_STATE, "already holds tensors");
    CLOSE_CLEAN(measure);
    measure = test_ctx();
    CHECK(glam_input(measure, x, glam_dim1(2)) && glam_measure(measure, 1) == GLAM_ERR_STATE);     // of a step alone
    ERROR_IS(measure, GLAM_ERR_STATE, "already holds tensors");
    CHECK(glam_measure(NULL, 1) != GLAM_OK && !glam_scratch(NULL, 4) && glam_sent(NULL).total == 0);
    CLOSE_CLEAN(measure);
    remove(path);
    CLOSE_CLEAN(ctx);
}

// Files of adapters with other shapes, halves or scales than the model's weights ask for: it stays as it was.
static void odd_adapters(void)
{
    enum { MOST = 4 };
    static const struct { const char *names[MOST]; int dims[MOST][2]; glam_status status; const char *why; } rows[] = {
        { { "attn.q.lora_a" }, { { 4, 2 } }, GLAM_ERR_SHAPE, "attn.q.lora_a [4,2] and its other half do not fit" },
        { { "attn.norm.lora_a", "attn.norm.lora_b" }, { { 4, 2 }, { 2, 4 } }, GLAM_ERR_SHAPE,
          "do not fit layers.0.attn.norm" },
        { { "attn.q.lora_a", "attn.q.lora_b" }, { { 3, 2 }, { 2, 2 } }, GLAM_ERR_SHAPE, "do not fit" },
        { { "attn.q.lora_a", "attn.q.lora_b" }, { { 4, 2 }, { 2, 3 } }, GLAM_ERR_SHAPE, "do not fit" },
        { { "attn.q.lora_a", "attn.q.lora_b" }, { { 4, 2 }, { 3, 2 } }, GLAM_ERR_SHAPE, "do not fit" },
        { { "attn.q.lora_a", "attn.q.lora_b" }, { { 4, 2 }, { 2, 2 } }, GLAM_ERR_FORMAT,
          "q.lora_scale [1] is not in the file" },
        { { "attn.q.lora_a", "attn.q.lora_b", "attn.q.lora_scale" }, { { 4, 2 }, { 2, 2 }, { 2, 0 } }, GLAM_ERR_SHAPE,
          "q.lora_scale is [2] in the file but the model says [1]" },
        { { "attn.q.lora_a", "attn.q.lora_b", "attn.q.lora_scale", "more" }, { { 4, 2 }, { 2, 2 }, { 1, 0 }, { 1, 0 } },
          GLAM_ERR_FORMAT, "layers.0.more [1] is in the file, but the model has no such tensor" },
        { { "attn.k.lora_b", "attn.k.lora_scale" }, { { 2, 2 }, { 1, 0 } }, GLAM_ERR_FORMAT, "no file of adapters" },
        { { "attn.q.lora_a", "attn.q.lora_b", "attn.q.lora_scale" }, { { 4, 2 }, { 2, 2 }, { 1, 0 } }, GLAM_OK, "" } };
    glam_ctx *ctx = test_ctx();
    const char *path = files_path(1);
    glam_config config = files_tiny();
    glam_model *model = glam_model_new(ctx, &config);
    uint64_t hash = test_model_hash(model);
    size_t mark = glam_mark(ctx);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        glam_ctx *maker = test_ctx();
        glam_tensor *t[MOST];
        int count = 0;
        for (; count < MOST && rows[i].names[count]; count++) {
            char name[64];
            const int *dims = rows[i].dims[count];
            snprintf(name, sizeof name, "layers.0.%s", rows[i].names[count]);
            t[count] = glam_param(maker, name, dims[1] ? glam_dim2(dims[0], dims[1]) : glam_dim1(dims[0]));
            glam_fill(t[count], 0.5f);
        }
        CHECK(glam_save_tensors(maker, path, t, count) == GLAM_OK);
        CHECK(glam_load_adapter(model, path) == rows[i].status);
        if (rows[i].status != GLAM_OK) {
            ERROR_IS(ctx, rows[i].status, rows[i].why);
            CHECK(glam_mark(ctx) == mark && test_model_hash(model) == hash);
        }
        CHECK(glam_adapter_of(model, "layers.0.attn.q", NULL) == (rows[i].status == GLAM_OK));
        CLOSE_CLEAN(maker);
    }
    glam_adapter a;
    CHECK(glam_adapter_of(model, "layers.0.attn.q", &a) && a.scale == 0.5f);
    // a whole model whose adapter lost a half, or its scale
    files_block b = files_save(model);
    CHECK(!files_edited(ctx, b, "attn.q.lora_b", "attn.q.lora_c"));
    ERROR_IS(ctx, GLAM_ERR_SHAPE, "do not fit layers.0.attn.q");
    CHECK(!files_edited(ctx, b, "attn.q.lora_scale", "attn.q.lora_scala"));
    ERROR_IS(ctx, GLAM_ERR_FORMAT, "layers.0.attn.q.lora_scale [1] is not in the file");
    CHECK(!files_edited(ctx, b, "attn.q.lora_a", "attn.q.lora_x"));
    ERROR_IS(ctx, GLAM_ERR_FORMAT, "the config has no such tensor");
    glam_model *back = files_edited(ctx, b, "", "");
    CHECK(back && glam_adapter_of(back, "layers.0.attn.q", &a) && a.scale == 0.5f);
    free(b.data);
    glam_fail(ctx, GLAM_ERR_NUMERIC, "over");
    CHECK(glam_load_adapter(back, path) == GLAM_ERR_NUMERIC);
    ERROR_IS(ctx, GLAM_ERR_NUMERIC, "over");
    remove(path);
    CLOSE_CLEAN(ctx);
}

// A tokenizer put behind a model that it does not fit, and as numbers that it is not.
static void odd_tokenizer_in_a_file(void)
{
    static const struct { int vocab; const char *entry; glam_status status; const char *why; } rows[] = {
        { 5, "\"U8\",\"shape\":[%d]", GLAM_ERR_VALUE, "it has 264 pieces, but the model a vocabulary of 5" },
        { 264, "\"I8\",\"shape\":[%d]", GLAM_ERR_FORMAT, "tokenizer is damaged" },
        { 264, "\"U8\",\"shape\":[%d,1]", GLAM_ERR_FORMAT, "tokenizer is damaged" },
        { 264, "\"U8\",\"shape\":[%d]", GLAM_OK, "" } };
    glam_ctx *ctx = test_ctx();
    test_pieces p;
    const char *path = files_path(1);
    pieces_hello(&p, GLAM_SPLIT_GPT2);
    glam_tokenizer *t = glam_tokenizer_new(ctx, &p.v);
    int bytes = (int)glam__tokenizer_pack(t, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        glam_config config = files_tiny();
        config.vocab = rows[i].vocab;
        files_block b = files_save(glam_model_new(ctx, &config));
        uint64_t end = 8;
        for (int k = 0; k < 8; k++) end += (uint64_t)b.data[k] << 8 * k;
        end = b.size - end;                            // of the weights
        char what[64], entry[200];
        snprintf(what, sizeof what, rows[i].entry, bytes);
        snprintf(entry, sizeof entry, "]},\"tokenizer\":{\"dtype\":%s,\"data_offsets\":[%d,%d]}}", what, (int)end,
                 (int)end + bytes);
        files_block with = files_edit(b, "]}}", entry);
        unsigned char *all = (unsigned char *)realloc(with.data, with.size + (size_t)bytes);
        if (CHECK(all != NULL)) {
            glam__tokenizer_pack(t, all + with.size);
            with.data = all;
            with.size += (size_t)bytes;
            size_t mark = glam_mark(ctx);
            glam_model *got = glam_load_memory(ctx, with.data, with.size);
            CHECK((got != NULL) == (rows[i].status == GLAM_OK));
            if (got) CHECK(glam_encode(glam_model_tokenizer(got), "hello", 5, NULL, 0) == 1);
            else {
                ERROR_IS(ctx, rows[i].status, rows[i].why);
                CHECK(glam_mark(ctx) == mark);
            }
            files_put(path, with);
            glam_tokenizer *alone = glam_load_tokenizer(ctx, path);        // which asks for no model
            CHECK((alone != NULL) == (i == 0 || i == 3));
            if (!alone) ERROR_IS(ctx, GLAM_ERR_FORMAT, "tokenizer is damaged");
        }
        files_put(path, b);
        CHECK(!glam_load_tokenizer(ctx, path) && glam_error(ctx) == GLAM_OK);      // it has none: bytes
        free(with.data);
        free(b.data);
    }
    remove(path);
    CLOSE_CLEAN(ctx);
}

// Checkpoints whose state does not fit their model or the texts, and files that are none.
static void odd_checkpoints(void)
{
    static const char *const rows[][3] = {
        { "frozen\\\":\\\"", "frozen\\\":\\\"0", "a frozen that does not fit the model" },
        { "frozen\\\":\\\"0", "frozen\\\":\\\"2", "a frozen that does not fit the model" },
        { "frozen_experts\\\":\\\"", "frozen_experts\\\":\\\"0", "a frozen that does not fit the model" },
        { "frozen_experts\\\":\\\"0", "frozen_experts\\\":\\\"x", "a frozen that does not fit the model" },
        { "frozen_experts\\\":\\\"0", "frozen_experts\\\":\\\"", "a frozen that does not fit the model" },
        { "\"batch\\\":4", "\"batsch\\\":4", "unknown key \"batsch\"" },
        { "\"batch\\\":4", "\"batch\\\":\\\"4\\\"", "a whole number" },
        { "train_tokens\\\":1000", "train_tokens\\\":1001", "the run had a training text of 1001 tokens" },
        { "train_tokens\\\":1000", "train_tokens\\\":-1000", "not negative" },
        { "valid_tokens\\\":0", "valid_tokens\\\":7", "the run had a validation text of 7 tokens" },
        { "train_checksum\\\":\\\"", "train_checksum\\\":\\\"0", "16 hexadecimal digits" },
        { "", "", NULL } };
    glam_ctx *ctx = test_ctx(), *other = test_ctx();
    const char *path = files_path(1);
    glam_config config = train_config(), read;
    glam_recipe recipe = train_recipe(4), got, usual = glam_recipe_default();
    glam_text *text = test_text(ctx, 1000), *same = test_text(other, 1000), *a = NULL, *b = NULL;
    glam_model *model = glam_model_new(ctx, &config);
    const unsigned char frozen[4] = { 0, 1, 0, 1 };
    int mixture = -1;
    for (int i = 0; i < config.layers && mixture < 0; i++) {
        if (glam_freeze_experts(model, i, frozen) == GLAM_OK) mixture = i;
        glam_clear_error(ctx);
    }
    glam_trainer *run = glam_trainer_new(model, text, NULL, &recipe);
    CHECK(mixture >= 0 && glam_train_step(run, NULL) == 1 && glam_save_checkpoint(run, path) == GLAM_OK);
    files_block file = files_read(path);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        files_block bad = files_edit(file, rows[i][0], rows[i][1]);
        files_put(path, bad);
        size_t mark = glam_mark(other);
        glam_trainer *back = glam_load_checkpoint(other, path, same, NULL);
        CHECK((back != NULL) == !rows[i][2]);
        if (!back) {
            if (!ERROR_IS(other, glam_error(other), rows[i][2] ? rows[i][2] : "?")) printf("    row %d\n", (int)i);
            CHECK(glam_mark(other) == mark);
        }
        int unread = i == 5 || i == 6 || i == 8 || i == 10;
        CHECK((glam_load_recipe(other, path, &got) == GLAM_OK) == !unread);
        if (unread) CHECK(got.batch == usual.batch && got.steps == usual.steps);     // nothing half read
        glam_clear_error(other);
        free(bad.data);
    }
    // the texts: others of the same length, none, or nobody who wants them back
    char *turned = (char *)calloc(1, 1001);
    if (CHECK(turned != NULL)) memset(turned, 'x', 1000);
    CHECK(!glam_load_checkpoint(other, path, glam_text_from(other, turned, 1000, NULL), NULL));
    ERROR_IS(other, GLAM_ERR_VALUE, "has the 1000 tokens of the run, but they are other ones");
    free(turned);
    CHECK(!glam_load_checkpoint(other, path, NULL, NULL));
    ERROR_IS(other, GLAM_ERR_VALUE, "this one has 0");
    CHECK(glam_load_split(same, path, NULL, NULL) == GLAM_OK);
    CHECK(glam_load_split(same, path, &a, NULL) == GLAM_OK && glam_text_length(a) == 1000);
    CHECK(glam_load_arithmetic(other, path) == glam_load_arithmetic(ctx, path) &&
          glam_load_type(other, path) == GLAM_TYPE_F32);
    CHECK(glam_load_recipe(other, path, NULL) == GLAM_ERR_VALUE);
    ERROR_IS(other, GLAM_ERR_VALUE, "the recipe is NULL");
    CHECK(glam_load_config(other, path, NULL) == GLAM_ERR_VALUE);
    ERROR_IS(other, GLAM_ERR_VALUE, "the config is NULL");
    // a model is no checkpoint, and what is not there is neither
    CHECK(glam_save(model, path) == GLAM_OK);
    CHECK(glam_load_arithmetic(other, path) == GLAM_F32);
    ERROR_IS(other, GLAM_ERR_FORMAT, "use glam_load");
    CHECK(glam_load_recipe(other, path, &got) == GLAM_ERR_FORMAT && got.batch == usual.batch);
    ERROR_IS(other, GLAM_ERR_FORMAT, "use glam_load");
    remove(path);
    CHECK(glam_load_type(other, path) == GLAM_TYPE_F32);
    ERROR_IS(other, GLAM_ERR_FILE, "cannot open");
    CHECK(glam_load_arithmetic(other, path) == GLAM_F32 && !glam_load_tokenizer(other, path));
    ERROR_IS(other, GLAM_ERR_FILE, "cannot open");
    glam_fail(other, GLAM_ERR_NUMERIC, "over");
    read.vocab = 1;
    CHECK(glam_load_config(other, path, &read) == GLAM_ERR_NUMERIC && read.vocab == glam_config_default().vocab);
    CHECK(glam_load_recipe(other, path, &got) == GLAM_ERR_NUMERIC &&
          glam_load_recipe(NULL, path, &got) == GLAM_ERR_MEMORY);
    CHECK(glam_load_split(same, path, &a, &b) == GLAM_ERR_NUMERIC && !a && !b);
    ERROR_IS(other, GLAM_ERR_NUMERIC, "over");
    free(file.data);
    CLOSE_CLEAN(ctx);
    CLOSE_CLEAN(other);
}

// Narrow weights in files: asked for as floats, or without their scales, they are refused by name.
static void odd_narrow(void)
{
    const char *path = files_path(1);
    for (int q8 = 0; q8 < 2; q8++) {
        glam_options options = test_options();
        options.weights = q8 ? GLAM_TYPE_Q8 : GLAM_TYPE_BF16;
        glam_ctx *ctx = glam_open(&options), *plain = test_ctx();
        glam_config config = files_tiny();
        glam_model *model = glam_model_new(ctx, &config);
        glam_tensor *narrow = NULL;
        for (int i = 0; glam_model_tensor_at(model, i) && !narrow; i++)
            if (glam_model_tensor_at(model, i)->type) narrow = glam_model_tensor_at(model, i);
        if (!CHECK(narrow && narrow->narrow)) return;
        CHECK(glam_save_tensors(ctx, path, &narrow, 1) == GLAM_OK);        // it has values, in its own type
        glam_tensor *wide = glam_param(plain, narrow->name, narrow->shape);
        glam_fill(wide, 3);
        CHECK(glam_load_tensors(plain, path, &wide, 1) == GLAM_ERR_FORMAT && wide->data[0] == 3);
        ERROR_IS(plain, GLAM_ERR_FORMAT, "is of another type of numbers");
        CHECK(glam_save(model, path) == GLAM_OK && glam_load_type(plain, path) == options.weights);
        files_block b = files_save(model);
        glam_model *back = files_edited(plain, b, "", "");
        CHECK(back && files_edited(ctx, b, "", ""));
        if (q8) {
            CHECK(!files_edited(plain, b, ".scales\"", ".scalez\""));
            ERROR_IS(plain, GLAM_ERR_FORMAT, ".scales");
        }
        free(b.data);
        remove(path);
        CLOSE_CLEAN(plain);
        CLOSE_CLEAN(ctx);
    }
}

#ifndef _WIN32
// The new file is written beside the old one under its name and more, which is cut within no character.
static void odd_long_name(void)
{
    char name[256], path[700];
    size_t n = 0;
    const char *folder = getenv("TMPDIR");
    for (; n < 210; n += 3) memcpy(name + n, "\xe2\x82\xac", 3);
    snprintf(name + n, sizeof name - n, "%ld", (long)getpid());
    snprintf(path, sizeof path, "%s/%s", folder && *folder && strlen(folder) < 200 ? folder : "/tmp", name);
    glam_ctx *ctx = test_ctx();
    glam_tensor *t = glam_param(ctx, "t", glam_dim1(3));
    glam_fill(t, 2);
    for (int again = 0; again < 2; again++) CHECK(glam_save_tensors(ctx, path, &t, 1) == GLAM_OK);
    glam_fill(t, 0);
    CHECK(glam_load_tensors(ctx, path, &t, 1) == GLAM_OK && t->data[2] == 2);
    CHECK(remove(path) == 0);
    CLOSE_CLEAN(ctx);
}
#endif

// ---- operations

static void odd_operations(void)
{
    glam_ctx *ctx = test_ctx();
    glam_op op;
    memset(&op, 0, sizeof op);
    op.name = "none";
    glam_tensor *x = glam_zeros(ctx, glam_dim3(1, 2, 3));
    const int inputs[3] = { 0, -1, GLAM_MAX_INPUTS + 1 };
    for (int i = 0; i < 3; i++) {
        op.inputs = inputs[i];
        CHECK(!glam_apply(ctx, &op, &x, NULL, 0, NULL));
        ERROR_IS(ctx, GLAM_ERR_VALUE, "op none:");
    }
    CHECK(!glam_apply(ctx, NULL, &x, NULL, 0, NULL) && glam_error(ctx) == GLAM_ERR_VALUE);
    glam_clear_error(ctx);
    // an attention of no heads, and Transformer-XL's sinusoid in an odd width
    glam_attention_weights w;
    glam_attention_config c;
    memset(&w, 0, sizeof w);
    memset(&c, 0, sizeof c);
    c.heads = 1;
    c.d_head = 4;
    c.scale = 1;
    c.position = GLAM_POSITION_TRANSFORMER_XL;
    w.q = glam_param(ctx, "q", glam_dim2(3, 4));
    w.k = glam_param(ctx, "k", glam_dim2(3, 4));
    w.v = glam_param(ctx, "v", glam_dim2(3, 4));
    w.o = glam_param(ctx, "o", glam_dim2(4, 3));
    w.r = glam_param(ctx, "r", glam_dim2(3, 4));
    w.u = glam_param(ctx, "u", glam_dim2(1, 4));
    w.v_bias = glam_param(ctx, "w", glam_dim2(1, 4));
    CHECK(!glam_attention(ctx, x, &w, &c, NULL));
    ERROR_IS(ctx, GLAM_ERR_SHAPE, "an even width, x has 3");
    for (int i = 0; i < 3; i++) {
        glam_attention_config bad = c;
        if (i == 0) bad.heads = 0;
        if (i == 1) bad.d_head = 0;
        if (i == 2) bad.heads = 1 << 23;
        CHECK(!glam_attention(ctx, x, &w, &bad, NULL));
        ERROR_IS(ctx, GLAM_ERR_VALUE, i < 2 ? "make no sense" : "at least 1 of each and at most 2^24 in all");
    }
    // what backward has used up takes no more operations until it is forgotten
    glam_tensor *p = glam_param(ctx, "p", glam_dim1(3));
    glam_fill(p, 2);
    CHECK(glam_backward(ctx, glam_sum(ctx, glam_mul(ctx, p, p))) == GLAM_OK && p->grad[1] == 4);
    CHECK(!glam_sum(ctx, p));
    ERROR_IS(ctx, GLAM_ERR_STATE, "backward has used this step up");
    glam_forget(ctx);
    CHECK(glam_sum(ctx, p) != NULL);
    CLOSE_CLEAN(ctx);
}

static void test_odd_input(void)
{
    RUN(odd_characters);
    RUN(odd_deepseek);
    RUN(odd_any_bytes);
    RUN(odd_composes);
    RUN(odd_vocabularies);
    RUN(odd_pieces);
    RUN(odd_scores);
    RUN(odd_tokenizer_arguments);
    RUN(odd_learns_much);
    RUN(odd_packed);
    RUN(odd_splits);
    RUN(odd_examples);
    RUN(odd_epochs);
    RUN(odd_filter_arguments);
    RUN(odd_filter_rounds);
    RUN(odd_headers);
    RUN(odd_tensors);
    RUN(odd_adapters);
    RUN(odd_tokenizer_in_a_file);
    RUN(odd_checkpoints);
    RUN(odd_narrow);
#ifndef _WIN32
    RUN(odd_long_name);
#endif
    RUN(odd_operations);
}
