/* Room 21: what is written is read back with the same bits; what is damaged is refused, each
   damage with its own words; a failed save leaves the old file, a failed load nothing. */

typedef struct files_block {
    unsigned char *data;
    size_t size;
} files_block;

// A path in the folder for temporary files; one static buffer for each number.
static const char *files_path(int number)
{
    static char path[3][300];
    const char *folder = getenv("TMPDIR");
    snprintf(path[number], sizeof path[number], "%s/glam_test_20_%d_%ld.safetensors",
             folder && *folder && strlen(folder) < 200 ? folder : "/tmp", number, (long)getpid());
    return path[number];
}

static files_block files_read(const char *path)
{
    files_block b = { NULL, 0 };
    FILE *file = fopen(path, "rb");
    if (!file) return b;
    b.data = (unsigned char *)malloc(1 << 22);
    b.size = b.data ? fread(b.data, 1, 1 << 22, file) : 0;
    fclose(file);
    return b;
}

static int files_same(files_block a, files_block b)
{
    return a.size == b.size && a.size > 0 && memcmp(a.data, b.data, a.size) == 0;
}

static int files_exists(const char *path, const char *more)
{
    char name[320];
    snprintf(name, sizeof name, "%s%s", path, more);
    return access(name, F_OK) == 0;
}

static files_block files_save(const glam_model *model)
{
    files_block b = { NULL, glam_save_memory(model, NULL, 0) };
    b.data = (unsigned char *)malloc(b.size + 1);
    if (b.data) CHECK(glam_save_memory(model, b.data, b.size) == b.size);
    return b;
}

// A file of about three thousand bytes, with a dense layer and a mixture.
static glam_config files_tiny(void)
{
    glam_config c = test_config();
    c.vocab = 5;
    c.d_model = 4;
    c.heads = 1;
    c.d_head = 2;
    c.hidden = 3;
    c.buckets = 2;
    c.max_distance = 4;
    c.moe.experts = 2;
    c.moe.hidden = 2;
    return c;
}

// The block with `from` in its header replaced by `to` and the checksum by the word none.
static files_block files_edit(files_block b, const char *from, const char *to)
{
    files_block out = { NULL, 0 };
    char *header = (char *)malloc(b.size + 4096);
    size_t length = 0, room = b.size + 4096;
    const char *edits[2][2] = { { "glam.checksum\":\"", "glam.checksum\":\"none" }, { from, to } };
    if (!header) return out;
    for (int i = 7; i >= 0; i--) length = length << 8 | b.data[i];
    size_t numbers = b.size - 8 - length;
    const unsigned char *data = b.data + 8 + length;
    memcpy(header, b.data + 8, length);
    header[length] = 0;
    for (int i = 0; i < 2; i++) {
        if (!*edits[i][0]) continue;
        char *at = strstr(header, edits[i][0]);
        size_t cut = strlen(edits[i][0]) + (i == 0 ? 16u : 0u), add = strlen(edits[i][1]);
        if (!CHECK(at && length + add < room)) { free(header); return out; }
        memmove(at + add, at + cut, strlen(at + cut) + 1);
        memcpy(at, edits[i][1], add);
        length = length - cut + add;
    }
    out.size = 8 + length + numbers;
    out.data = (unsigned char *)malloc(out.size);
    if (out.data) {
        for (int i = 0; i < 8; i++) out.data[i] = (unsigned char)((uint64_t)length >> 8 * i);
        memcpy(out.data + 8, header, length);
        memcpy(out.data + 8 + length, data, numbers);
    }
    free(header);
    return out;
}

// Same bits: file, memory, and the file of the model that was loaded.
static void files_round_trip(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config config = test_config();
    glam_model *model = glam_model_new(ctx, &config);
    const char *path = files_path(0);
    if (!CHECK(model)) return;
    CHECK(glam_save(model, path) == GLAM_OK);
    files_block memory = files_save(model), file = files_read(path);
    CHECK(files_same(memory, file));
    CHECK(glam_save_memory(model, memory.data, memory.size - 1) == memory.size);   // too small
    glam_model *back = glam_load(ctx, path);
    glam_model *again = glam_load_memory(ctx, memory.data, memory.size);
    CHECK(back && test_model_hash(back) == test_model_hash(model));
    CHECK(again && test_model_hash(again) == test_model_hash(model));
    if (again) {
        files_block third = files_save(again);
        CHECK(files_same(memory, third));
        free(third.data);
    }
    glam_config read;
    CHECK(glam_load_config(ctx, path, &read) == GLAM_OK);
    CHECK(read.vocab == config.vocab && read.moe.hidden == config.moe.hidden);
    remove(path);
    free(memory.data);
    free(file.data);
    CLOSE_CLEAN(ctx);
}

// Every field of a config, with numbers that need all their digits.
// Rows must cover a struct: what lies between two fields is what their alignment explains.
typedef struct fields_wide { char c; double d; } fields_wide;

static void fields_cover(const char *name, const glam__field *rows, size_t bytes)
{
    size_t end = 0;
    while (end < bytes) {
        size_t next = bytes, size = 0;
        for (const glam__field *r = rows; r->key; r++) {
            size_t n = r->rows == glam__moe_rows ? sizeof(glam_moe_config)
                     : r->kind == GLAM__FIELD_OBJECT ? sizeof(glam_rotary) : r->bytes;
            if (n && r->at >= end && r->at < next) next = r->at, size = n;
        }
        size_t wide = offsetof(fields_wide, d), align = size % 8 || size > 8 ? 4 : wide;
        if (next == bytes) align = wide;
        if (!CHECK(next - end < align && next == (end + align - 1) / align * align))
            printf("  %s has no row for the field at byte %d\n", name, (int)end);
        end = next + size;
    }
}

static void files_fields(void)
{
    fields_cover("glam_config", glam__config_rows, sizeof(glam_config));
    fields_cover("glam_moe_config", glam__moe_rows, sizeof(glam_moe_config));
    fields_cover("glam_recipe", glam__recipe_rows, sizeof(glam_recipe));
}

static void files_config(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = files_tiny();
    c.context = 77;
    c.attention_scale = 0.1f;
    c.attention_sink = 0;
    c.attention_cap = 0.1f;
    c.activation = GLAM_GELU_ERF;
    c.position = GLAM_POSITION_ROTARY;
    c.d_head = 4;
    c.kv_heads = 1;
    c.qk_norm = GLAM_QK_NORM_WHOLE;
    c.rotary.theta = 1234567.0f;
    c.rotary.scaling = GLAM_ROTARY_YARN;
    c.rotary.factor = 1.10000002f;
    c.rotary.context = 9;
    c.rotary.low = 0.1f;
    c.rotary.high = 999999.0f;
    c.embed_scale = 12;
    c.residual_scale = 0.22f;
    c.norm_eps = 1.17549449e-38f;
    c.tied = 0;
    c.logit_scale = 0.333333343f;
    c.logit_cap = 16777217.0f;
    c.z_loss = 16777217.0f;
    c.moe.capacity_factor = 1.10000002f;
    c.moe.group = 9;
    c.moe.activation = GLAM_SWIGLU;
    c.moe.normalise = GLAM_NORMALISE_AFTER_DROP;
    c.moe.aux_weight = 1e-45f;
    c.moe.router_z_weight = 3.40282347e+38f;
    c.moe.router_cap = 1.10000002f;
    c.moe.router = GLAM_ROUTER_NOISY;
    c.moe.score = GLAM_SCORE_SIGMOID;
    c.moe.router_z_weight = 0;
    c.moe.temperature = 0.3f;
    c.moe.bias = 1;
    c.moe.shared = 7;
    glam_model *model = glam_model_new(ctx, &c);
    if (!CHECK(model)) { printf("%s\n", glam_error_text(ctx)); return; }
    files_block b = files_save(model);
    glam_model *back = glam_load_memory(ctx, b.data, b.size);
    if (CHECK(back)) {
        const glam_config *x = glam_model_config(model), *y = glam_model_config(back);
        CHECK(x->context == 77 && y->context == 77 && y->activation == GLAM_GELU_ERF);
        CHECK(y->attention_sink == 0 && y->tied == 0 && y->moe.group == 9);
        CHECK(y->moe.activation == GLAM_SWIGLU);
        CHECK(y->attention_cap == (float)0.1f && y->logit_cap == (float)16777217.0f);
        CHECK(y->moe.router_cap == (float)1.10000002f);
        CHECK(y->moe.router == GLAM_ROUTER_NOISY && y->moe.score == GLAM_SCORE_SIGMOID);
        CHECK(y->moe.temperature == (float)0.3f && y->moe.bias == 1 && y->moe.shared == 7);
        CHECK(y->moe.weight_scale == 1 && y->moe.threshold == 0.5f && y->moe.bias_rate == (float)0.001f);
        CHECK(y->moe.normalise == GLAM_NORMALISE_AFTER_DROP);
        CHECK(memcmp(&x->attention_scale, &y->attention_scale, sizeof(float)) == 0);
        CHECK(y->position == GLAM_POSITION_ROTARY && y->kv_heads == 1 && y->qk_norm == GLAM_QK_NORM_WHOLE);
        CHECK(memcmp(&x->rotary, &y->rotary, sizeof x->rotary) == 0 && y->rotary.context == 9);
        CHECK(y->rotary.theta == 1234567.0f && y->rotary.scaling == GLAM_ROTARY_YARN);
        CHECK(y->embed_scale == 12 && y->residual_scale == (float)0.22f);
        CHECK(memcmp(&x->norm_eps, &y->norm_eps, sizeof(float)) == 0);
        CHECK(memcmp(&x->logit_scale, &y->logit_scale, sizeof(float)) == 0);
        CHECK(memcmp(&x->z_loss, &y->z_loss, sizeof(float)) == 0);
        CHECK(memcmp(&x->moe.capacity_factor, &y->moe.capacity_factor, sizeof(float)) == 0);
        CHECK(memcmp(&x->moe.aux_weight, &y->moe.aux_weight, sizeof(float)) == 0);
        CHECK(memcmp(&x->moe.router_z_weight, &y->moe.router_z_weight, sizeof(float)) == 0);
    }
    free(b.data);
    CLOSE_CLEAN(ctx);
}

// Random bit patterns, through our writer and reader, and the reader against strtod.
static void files_numbers(void)
{
    glam_ctx *ctx = test_ctx();
    uint64_t state = test_seed(20);
    int wrong = 0;
    for (int i = 0; i < 1500; i++) {
        uint64_t bits = test_next(&state);
        if (i % 5 == 0) bits &= 0x800fffffffffffffull;                  // subnormal
        if (i % 5 > 2) bits = (bits & 0x800fffffffffffffull) | (bits % 80 + 983) << 52;
        for (int single = 0; single < 2; single++) {
            uint32_t half = (uint32_t)(bits >> 20);
            double v, back = -1;
            float f;
            char text[64];
            glam__json_out out;
            memcpy(&v, &bits, sizeof v);
            memcpy(&f, &half, sizeof f);
            if (single) v = (double)f;
            if (!(fabs(v) <= DBL_MAX)) continue;
            memset(&out, 0, sizeof out);
            out.data = text;
            out.room = sizeof text - 1;
            glam__json_real(&out, v, single);
            text[out.size] = 0;
            double system = single ? (double)strtof(text, NULL) : strtod(text, NULL);
            glam__json j = { ctx, "test", text, text, text, text + out.size, NULL, 0, 0 };
            int bad = !glam__json_number(&j, single, &back) || memcmp(&back, &v, sizeof v) != 0 ||
                     memcmp(&system, &v, sizeof v) != 0 || j.at != j.end ||
                     out.size > (single ? 18u : 24u);
            if (bad) printf("%.17g became %s and %.17g\n", v, text, back);
            wrong += bad;
        }
    }
    CHECK(wrong == 0);
    CLOSE_CLEAN(ctx);
}

// The sum written down once more, slowly; and slices add up.
static void files_checksum(void)
{
    unsigned char data[77];
    uint64_t state = test_seed(3), want = 0;
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)test_next(&state);
    for (uint64_t i = 0; i < 10; i++) {
        uint64_t word = 0;
        for (uint64_t k = 0; k < 8 && i * 8 + k < 77; k++)
            word |= (uint64_t)data[i * 8 + k] << 8 * k;
        want += glam__mix64(word + (i + 1) * 0x9e3779b97f4a7c15ull);
    }
    want += glam__mix64(77 ^ 0x676c616dull << 32);
    for (size_t cut = 0; cut <= sizeof data; cut++) {
        glam__file_sum sum;
        memset(&sum, 0, sizeof sum);
        glam__file_sum_add(&sum, data, cut);
        glam__file_sum_add(&sum, data + cut, sizeof data - cut);
        CHECK(glam__file_sum_end(&sum) == want);
    }
}

// Damage of every kind: each prefix, each bit.
static void files_damage(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config config = files_tiny();
    glam_model *model = glam_model_new(ctx, &config);
    if (!CHECK(model)) return;
    files_block b = files_save(model);
    int accepted = 0, status = 0;
    size_t mark = glam_mark(ctx);
    CHECK(b.size < 16384);
    for (size_t n = 0; n < b.size; n++) {
        unsigned char *exact = (unsigned char *)malloc(n + 1);          // so that ASan sees byte n
        if (!exact) break;
        memcpy(exact + 1, b.data, n);
        accepted += glam_load_memory(ctx, exact + 1, n) != NULL;
        status += glam_error(ctx) != GLAM_ERR_FORMAT;
        glam_clear_error(ctx);
        free(exact);
    }
    CHECK(accepted == 0 && status == 0);
    for (size_t bit = 0; bit < b.size * 8; bit++) {
        b.data[bit / 8] = (unsigned char)(b.data[bit / 8] ^ 1u << bit % 8);
        accepted += glam_load_memory(ctx, b.data, b.size) != NULL;
        status += glam_error(ctx) != GLAM_ERR_FORMAT;
        glam_clear_error(ctx);
        b.data[bit / 8] = (unsigned char)(b.data[bit / 8] ^ 1u << bit % 8);
    }
    CHECK(accepted == 0 && status == 0);
    CHECK(glam_mark(ctx) == mark);              // nothing stays of a load that failed
    CHECK(glam_load_memory(ctx, b.data, b.size) != NULL);
    free(b.data);
    CLOSE_CLEAN(ctx);
}

// Headers that are wrong in one way each, and the words that say so.
static void files_messages(void)
{
    static const char *const rows[][3] = {
        { "\"vocab\\\":5",   "\"vocab\\\":5,\\\"vocab\\\":5", "the same key twice: \"vocab\"" },
        { "\"vocab\\\":5",   "\"vocap\\\":5", "unknown key \"vocap\"" },
        { "\"vocab\\\":5",   "\"vocab\\\":5.5", "a whole number" },
        { "\"vocab\\\":5",   "\"vocab\\\":-5", "makes no model" },
        { "\"vocab\\\":5",   "\"vocab\\\":6", "[5,4] in the file but the config says [6,4]" },
        { "\"layers\\\":2",  "\"layers\\\":200000000", "makes no model" },
        { "\"layers\\\":2",  "\"layers\\\":60000", "layers.2.attn.norm [4] is not in the file" },
        { "\"norm_eps\\\":", "\"norm_eps\\\":+", "a digit" },
        { "\"tied\\\":true", "\"tied\\\":1", "true or false" },
        { "buckets\\\"",     "bockets\\\"", "must be one of buckets|transformer_xl|none" },
        { "policy\\\":\\\"all", "policy\\\":\\\"one", "must be one of all" },
        { "\"format\":\"glam\"", "\"format\":\"pt\"", "format is not glam" },
        { "\"glam.config\"", "\"glam.other\"", "glam.config is missing" },
        { "\"glam.checksum\":\"none\"", "\"glam.sum\":\"none\"", "glam.checksum is missing" },
        { "\"glam.checksum\":\"none\"", "\"glam.checksum\":\"NONE\"", "16 lower-case" },
        { "m\":\"none\"", "m\":\"0123456789abcdef\"", "does not match" },
        { "\"format\":",     "\"format\":\"glam\",\"format\":", "__metadata__ has the same key twice: \"format\"" },
        { "\"embed\":{",     "\"norm\":{", "norm is there twice" },
        { "\"embed\":{",     "\"embad\":{", "embed [5,4] is not in the file" },
        { "\"embed\":{",     "\"\\u0065mbed\":{", "" },                 // the same name: fine
        { "F32",             "F64", "embed: dtype is \"F64\", but must be one of F32" },
        { "\"dtype\":",    "\"dtype\":\"F32\",\"dtype\":", "embed has the same key twice: \"dtype\"" },
        { "\"dtype\":\"F32\"", "\"dtype\":\"F32\",\"kind\":1", "embed has an unknown key" },
        { "\"dtype\":\"F32\",", "", "embed lacks its \"dtype\"" },
        { "[5,4]",           "[4,5]", "embed is [4,5] in the file but the config says [5,4]" },
        { "[5,4]",           "[5,5]", "embed is [5,5], but its offsets" },
        { "[5,4]",           "[0,4]", "1 to 4 dimensions" },
        { "[5,4]",           "[5,4,1,1,1]", "1 to 4 dimensions" },
        { "[5,4]",           "[2147483647,2147483647,2147483647,2147483647]", "offsets" },
        { "[5,4]",           "[99999999999999999999]", "a smaller number" },
        { "[0,80]",          "[80,0]", "embed is [5,4], but its offsets" },
        { "[0,80]",          "[8,88]", "hole before it" },
        { "[80,96]",         "[64,80]", "overlaps" },
        { "[80,96]",         "[0,16]", "overlaps" },
        { "[0,80]",          "[0,80,80]", "more than two offsets" },
        { "]}}",             "]}}x", "nothing but spaces" },
        { "{\"__metadata__", " {\"__metadata__", "an object" },
        { "{\"__metadata__", "{\"__metadata__\":{},\"__metadata__", "__metadata__ is there twice" },
        { "{\"__metadata__", "{\"a\\qb\":1,\"__metadata__", "an escape of JSON" },
        { "{\"__metadata__", "{\"a\\ud800b\":1,\"__metadata__", "surrogate pair" },
        { "{\"__metadata__", "{\"a\\udc00b\":1,\"__metadata__", "surrogate pair" },
        { "{\"__metadata__", "{\"a\\u00g0b\":1,\"__metadata__", "an escape of JSON" },
        { "\"format\":", "\"n\":\"\\u00e9\\uD83D\\uDE00\\u004A\\u0000\\u2028\",\"format\":", "" },
        { "\"format\":", "\"n\xc3\xa9\":\"\xf0\x9f\x98\x80\xe2\x82\xac\xed\x9f\xbf\",\"format\":", "" },
        { "\"format\":", "\"a\":\"\",\"\":\"\",\"b\":\"a\",\"format\":", "" },
        { "\"format\":", "\"a\":\"\",\"b\":\"\",\"\\u0061\":\"\",\"format\":", "__metadata__ has the same key twice: \"a\"" },
        { "\"format\":", "\"a\":\"\xff\",\"format\":", "a character in UTF-8" },
        { "\"format\":", "\"a\":\"\xc0\xaf\",\"format\":", "a character in UTF-8" },
        { "\"format\":", "\"a\":\"\xed\xa0\x80\",\"format\":", "a character in UTF-8" },
        { "\"format\":", "\"a\":\"\xf4\x90\x80\x80\",\"format\":", "a character in UTF-8" },
        { "\"format\":", "\"a\":\"\xe0\x80\x80\",\"format\":", "a character in UTF-8" },
        { "\"format\":", "\"a\":\"\xf0\x80\x80\x80\",\"format\":", "a character in UTF-8" },
        { "\"format\":", "\"a\":\"\xe2\x82\",\"format\":", "a character in UTF-8" },
        { "\"format\":", "\"\x80\":\"\",\"format\":", "a character in UTF-8" },
        { "\"norm_eps\\\":", "\"norm_eps\\\":\\\"inf\\\",\\\"z\\\":", "a digit" },
        { "\"norm_eps\\\":", "\"norm_eps\\\":NaN,\\\"z\\\":", "a digit" },
        { "\"norm_eps\\\":", "\"norm_eps\\\":0", "a digit" },
        { "\"norm_eps\\\":", "\"norm_eps\\\":1.,\\\"z\\\":", "a digit" },
        { "\"norm_eps\\\":", "\"norm_eps\\\":1.e-6,\\\"z\\\":", "a digit" },
        { "\"norm_eps\\\":", "\"norm_eps\\\":1e999,\\\"z\\\":", "a smaller number" },
        { "m\":\"none\"", "m\":\"0123456789ABCDEF\"", "16 lower-case" },
        { "m\":\"none\"", "m\":\"0123456789abcdef\"", "or was edited" },
        { "", "", "" }
    };
    glam_ctx *ctx = test_ctx();
    glam_config config = files_tiny();
    glam_model *model = glam_model_new(ctx, &config);
    if (!CHECK(model)) return;
    files_block b = files_save(model);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        files_block bad = files_edit(b, rows[i][0], rows[i][1]);
        if (CHECK(bad.data)) {
            glam_model *got = glam_load_memory(ctx, bad.data, bad.size);
            if (!*rows[i][2]) CHECK(got != NULL && test_model_hash(got) == test_model_hash(model));
            else if (CHECK(!got)) {
                glam_status status = glam_error(ctx);
                CHECK(status == GLAM_ERR_FORMAT || status == GLAM_ERR_SHAPE ||
                      status == GLAM_ERR_VALUE);
                ERROR_IS(ctx, status, rows[i][2]);
            }
        }
        free(bad.data);
    }
    free(b.data);
    CLOSE_CLEAN(ctx);
}

// The model of the file with `to` for `from`; NULL: refused.
static glam_model *files_edited(glam_ctx *ctx, files_block b, const char *from, const char *to)
{
    files_block other = files_edit(b, from, to);
    glam_model *model = glam_load_memory(ctx, other.data, other.size);
    free(other.data);
    return model;
}

// A missing key is the format's default, and an extra tensor is refused.
static void files_defaults(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config config = files_tiny();
    config.moe.experts = 0;
    config.attention_cap = config.logit_cap = 1.5f;
    glam_model *model = glam_model_new(ctx, &config);
    if (!CHECK(model)) return;
    files_block b = files_save(model);
    glam_model *back = files_edited(ctx, b, "\\\"context\\\":11,", "");
    CHECK(back && glam_model_config(back)->context == 64);
    back = files_edited(ctx, b, "\\\"attention_cap\\\":1.5,", "");
    CHECK(back && glam_model_config(back)->attention_cap == 0);
    CHECK(back && glam_model_config(back)->logit_cap == 1.5f);
    CHECK(!files_edited(ctx, b, "\\\"logit_cap\\\":1.5,", "\\\"logit_cap\\\":-1.5,"));
    CHECK(glam_error(ctx) != GLAM_OK && strstr(glam_error_text(ctx), "logit_cap"));
    glam_clear_error(ctx);
    back = files_edited(ctx, b, "\\\"experts\\\":0,", "");
    CHECK(back && glam_model_config(back)->moe.experts == 0);
    CHECK(!files_edited(ctx, b, "\\\"tied\\\":true", "\\\"tied\\\":false"));
    ERROR_IS(ctx, GLAM_ERR_FORMAT, "unembed [5,4] is not in the file");
    CHECK(!files_edited(ctx, b, "\\\"layers\\\":2", "\\\"layers\\\":1"));
    ERROR_IS(ctx, GLAM_ERR_FORMAT, "the config has no such tensor");
    free(b.data);
    CLOSE_CLEAN(ctx);
}

static void files_system(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config config = files_tiny();
    glam_model *model = glam_model_new(ctx, &config);
    const char *path = files_path(0);
    if (!CHECK(model)) return;
    CHECK(glam_save(model, "/no/such/folder/x.safetensors") == GLAM_ERR_FILE);
    ERROR_IS(ctx, GLAM_ERR_FILE, "/no/such/folder/x.safetensors");
    CHECK(!glam_load(ctx, "/no/such/folder/x.safetensors"));
    ERROR_IS(ctx, GLAM_ERR_FILE, "cannot open");
    CHECK(!glam_load(ctx, "/tmp"));
    CHECK(glam_error(ctx) != GLAM_OK);
    glam_clear_error(ctx);
    CHECK(glam_save(model, NULL) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "NULL");
    CHECK(!glam_load(ctx, NULL));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "NULL");
    CHECK(!glam_load_memory(ctx, "", 0));
    ERROR_IS(ctx, GLAM_ERR_FORMAT, "truncated");
    CHECK(glam_save(NULL, path) < 0 && glam_save_memory(NULL, NULL, 0) == 0);
    CHECK(!glam_load(NULL, path) && glam_load_config(NULL, path, NULL) < 0);
    CHECK(glam_save_checkpoint(NULL, path) < 0 && !glam_load_checkpoint(NULL, path, NULL, NULL));

    // while an error is set nothing is written
    glam_fail(ctx, GLAM_ERR_NUMERIC, "diverged");
    CHECK(glam_save(model, path) == GLAM_ERR_NUMERIC && !files_exists(path, ""));
    glam_clear_error(ctx);

    remove(path);
    CLOSE_CLEAN(ctx);
}

static void files_tensors(void)
{
    glam_ctx *ctx = test_ctx();
    const char *path = files_path(1);
    glam_tensor *a = glam_param(ctx, "a\"\\\n\xc3\xa9", glam_dim2(3, 5));
    glam_tensor *b = glam_param(ctx, "b", glam_dim4(1, 2, 1, 3));
    glam_tensor *c = glam_param(ctx, "b", glam_dim1(6)), *d = glam_param(ctx, "d", glam_dim1(1));
    glam_tensor *two[2] = { a, b }, *back[2] = { b, a }, *other[2] = { a, c };
    glam_tensor *three[3] = { a, b, d };
    glam_fill_normal(a, 1, 1.0f);
    glam_fill_normal(b, 2, 1.0f);
    float first = a->data[0], last = b->data[5];
    CHECK(glam_save_tensors(ctx, path, two, 2) == GLAM_OK);
    glam_fill(a, 0);
    glam_fill(b, 0);
    CHECK(glam_load_tensors(ctx, path, back, 2) == GLAM_OK);
    CHECK(a->data[0] == first && b->data[5] == last);
    a->data[0] = 9;
    CHECK(glam_load_tensors(ctx, path, other, 2) == GLAM_ERR_SHAPE);
    ERROR_IS(ctx, GLAM_ERR_SHAPE, "b is [1,2,1,3] in the file but the caller says [6]");
    CHECK(glam_load_tensors(ctx, path, three, 3) == GLAM_ERR_FORMAT);
    ERROR_IS(ctx, GLAM_ERR_FORMAT, "d [1] is not in the file");
    CHECK(glam_load_tensors(ctx, path, two, 1) == GLAM_ERR_FORMAT);
    ERROR_IS(ctx, GLAM_ERR_FORMAT, "b [1,2,1,3] is in the file");
    CHECK(a->data[0] == 9);                     // refused before any weight was touched
    other[0] = b;
    CHECK(glam_save_tensors(ctx, path, other, 2) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "has the name of another one");
    other[1] = NULL;
    CHECK(glam_save_tensors(ctx, path, other, 2) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "tensor 1 of 2 is NULL");
    CHECK(!glam_load(ctx, path));
    ERROR_IS(ctx, GLAM_ERR_FORMAT, "glam.config is missing");
    other[1] = glam_param(ctx, "\xff", glam_dim1(1));
    CHECK(glam_save_tensors(ctx, path, other, 2) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "not UTF-8");
    CHECK(glam_save_tensors(ctx, path, NULL, 0) == GLAM_OK);
    CHECK(glam_load_tensors(ctx, path, NULL, 0) == GLAM_OK);
    remove(path);
    CLOSE_CLEAN(ctx);
}

// Paths are UTF-8 everywhere; what is there is replaced, also while someone reads it.
static void files_names(void)
{
    glam_ctx *ctx = test_ctx();
    const char *path = test_path("\xc3\xa9\xd0\xb6\xe6\x97\xa5\xf0\x9f\x98\x80.safetensors");
    glam_config config = files_tiny();
    glam_model *model = glam_model_new(ctx, &config);
    CHECK(glam_save(model, path) == GLAM_OK);
    glam_fill(glam_model_tensor_at(model, 0), 2.0f);
    CHECK(glam_save(model, path) == GLAM_OK);
    glam_model *back = glam_load(ctx, path);
    CHECK(back && test_model_hash(back) == test_model_hash(model));
    CHECK(glam_text_length(glam_text_open(ctx, path, NULL)) == glam_save_memory(model, NULL, 0));
#ifdef _WIN32
    wchar_t wide[600], name[] = L"glam_test_\u00e9\u0436\u65e5\xd83d\xde00.safetensors";
    const char *folder = getenv("GLAM_TEST_DIR");
    size_t n = 0;
    for (; folder && folder[n] && n < 500; n++) wide[n] = (wchar_t)folder[n];
    wide[n] = '/';
    memcpy(wide + (n ? n + 1 : 0), name, sizeof name);
    CHECK(_waccess(wide, 0) == 0 && _wunlink(wide) == 0);
#else
    CHECK(remove(path) == 0);
#endif
    CLOSE_CLEAN(ctx);
}

static void files_put(const char *path, files_block b)
{
    FILE *f = fopen(path, "wb");
    if (!CHECK(f != NULL)) return;
    CHECK(fwrite(b.data, 1, b.size, f) == b.size);
    fclose(f);
}

// Every spelling of a name is the same name: one that Python's json writes, say.
static void files_escapes(void)
{
    glam_ctx *ctx = test_ctx();
    const char *path = files_path(1);
    glam_tensor *t = glam_param(ctx, "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbfJ", glam_dim1(3));
    glam_fill(t, 5);
    CHECK(glam_save_tensors(ctx, path, &t, 1) == GLAM_OK);
    files_block b = files_read(path);
    files_block same = files_edit(b, "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbfJ",
                                  "\\u0061\\u00E9\\u20ac\\uD83d\\ude00\\uffff\\u004a");
    files_put(path, same);
    glam_fill(t, 0);
    CHECK(glam_load_tensors(ctx, path, &t, 1) == GLAM_OK && t->data[2] == 5);
    remove(path);
    free(b.data);
    free(same.data);
    CLOSE_CLEAN(ctx);
}

// A run over many texts, split by a fraction of many digits, is found again from its file alone.
static void files_split(void)
{
    enum { TEXTS = 61 };
    glam_ctx *ctx = test_ctx(), *other = test_ctx();
    const char *path = files_path(1);
    glam_config config = train_config();
    glam_text *of[TEXTS], *again[TEXTS], *train, *valid, *a, *b;
    float weights[TEXTS];
    for (int i = 0; i < TEXTS; i++) {
        of[i] = test_text(ctx, (size_t)(20 + i * i));
        again[i] = test_text(other, (size_t)(20 + i * i));
        weights[i] = (float)(1 + i % 3);
    }
    CHECK(glam_text_split(glam_mix(ctx, of, NULL, TEXTS), 0.123456789f, &train, &valid) == GLAM_OK);
    glam_recipe recipe = train_recipe(4);
    glam_trainer *run = glam_trainer_new(glam_model_new(ctx, &config), train, valid, &recipe);
    CHECK(glam_train_step(run, NULL) == 1 && glam_save_checkpoint(run, path) == GLAM_OK);
    glam_text *mix = glam_mix(other, again, NULL, TEXTS);
    CHECK(glam_load_split(mix, path, &a, &b) == GLAM_OK);
    CHECK(glam_text_length(a) == glam_text_length(train));
    CHECK(glam_text_length(b) == glam_text_length(valid) && glam_text_length(b) > 0);
    glam_trainer *resumed = glam_load_checkpoint(other, path, a, b);
    while (glam_train_step(run, NULL)) continue;
    while (glam_train_step(resumed, NULL)) continue;
    CHECK(run && resumed && test_model_hash(glam_trainer_model(run)) ==
                            test_model_hash(glam_trainer_model(resumed)));
    // the same tokens, drawn from in another way
    CHECK(glam_load_split(glam_mix(other, again, weights, TEXTS), path, &a, &b) == GLAM_ERR_VALUE);
    CHECK(!a && !b);
    ERROR_IS(other, GLAM_ERR_VALUE, "other weights");
    CHECK(!glam_load_checkpoint(other, path, test_text(other, glam_text_length(train)), valid));
    glam_clear_error(other);
    // other texts: of other lengths, in another order, of other tokens
    CHECK(glam_load_split(glam_mix(other, again, NULL, 50), path, &a, &b) == GLAM_ERR_VALUE);
    ERROR_IS(other, GLAM_ERR_VALUE, "text");
    CHECK(glam_load_split(test_text(other, 100), path, &a, &b) == GLAM_ERR_VALUE);
    ERROR_IS(other, GLAM_ERR_VALUE, "no fraction of this text of 100");
    glam_text *first = again[50];
    again[50] = again[51];
    again[51] = first;
    CHECK(glam_load_split(glam_mix(other, again, NULL, TEXTS), path, &a, &b) == GLAM_ERR_VALUE);
    ERROR_IS(other, GLAM_ERR_VALUE, "other ones");
    // a file from before the pieces were written down
    files_block file = files_read(path);
    char *at = NULL, cut[48] = "";
    for (size_t i = 0; i + 40 < file.size && !at; i++)
        if (!memcmp(file.data + i, "\\\"pieces\\\":", 11)) at = (char *)file.data + i;
    if (CHECK(at)) {
        snprintf(cut, sizeof cut, "%.32s", at);          // with the comma behind it
        files_block old = files_edit(file, cut, "");
        files_put(path, old);
        CHECK(glam_load_split(mix, path, &a, &b) == GLAM_OK);
        CHECK(glam_load_checkpoint(other, path, a, b) != NULL);
        free(old.data);
    }
    free(file.data);
    // nothing held back, and no checkpoint
    run = glam_trainer_new(glam_model_new(ctx, &config), of[60], NULL, &recipe);
    CHECK(glam_save_checkpoint(run, path) == GLAM_OK);
    CHECK(glam_load_split(test_text(other, 3620), path, &a, &b) == GLAM_OK && a && !b);
    CHECK(glam_save(glam_trainer_model(run), path) == GLAM_OK);
    CHECK(glam_load_split(mix, path, &a, &b) == GLAM_ERR_FORMAT && !a && !b);
    ERROR_IS(other, GLAM_ERR_FORMAT, "use glam_load");
    CHECK(glam_load_split(NULL, path, &a, NULL) < 0 && glam_load_split(mix, NULL, NULL, &b) < 0);
    glam_clear_error(other);
    remove(path);
    CLOSE_CLEAN(ctx);
    CLOSE_CLEAN(other);
}

// Same bits: a run that was stopped and resumed, and one that was not.
static void files_resume(glam_optimizer_kind kind)
{
    glam_ctx *ctx = test_ctx(), *other = test_ctx();
    glam_config config = test_config();
    const char *path = files_path(1), *end = files_path(2);
    config.vocab = 256;
    glam_model *model = glam_model_new(ctx, &config);
    glam_text *text = test_text(ctx, 400), *same = test_text(other, 400);
    glam_text *valid = test_text(ctx, 90), *same_valid = test_text(other, 90);
    glam_recipe recipe = glam_recipe_default();
    recipe.optimizer = kind;
    recipe.steps = 6;
    recipe.batch = 2;
    recipe.factor_min = 8;
    recipe.eval_every = 2;
    recipe.lr = 1.0 / 3.0e2;
    recipe.seed = 0xfedcba9876543210ull;
    if (!CHECK(model)) return;
    CHECK(glam_freeze(model, "embeddings", 1) > 0);
    glam_trainer *run = glam_trainer_new(model, text, valid, &recipe);
    for (int i = 0; i < 3; i++) CHECK(glam_train_step(run, NULL) == 1);
    CHECK(glam_save_checkpoint(run, path) == GLAM_OK);
    uint64_t middle = test_model_hash(model);
    for (int i = 0; i < 3; i++) CHECK(glam_train_step(run, NULL) == 1);
    CHECK(glam_save_checkpoint(run, end) == GLAM_OK);
    files_block want = files_read(end);

    size_t mark = glam_mark(other);
    CHECK(!glam_load_checkpoint(other, path, same, NULL));
    ERROR_IS(other, GLAM_ERR_VALUE, "validation text of 90 tokens");
    CHECK(!glam_load_checkpoint(other, path, same_valid, same_valid));
    ERROR_IS(other, GLAM_ERR_VALUE, "training text of 400 tokens, this one has 90");
    CHECK(glam_mark(other) == mark);
    glam_model *weights = glam_load(other, path);
    CHECK(weights && test_model_hash(weights) == middle);
    glam_trainer *resumed = glam_load_checkpoint(other, path, same, same_valid);
    if (CHECK(resumed)) {
        CHECK(glam_trainer_done(resumed) == 3);
        CHECK(glam_trainer_recipe(resumed)->lr == recipe.lr);
        for (int i = 0; i < 3; i++) CHECK(glam_train_step(resumed, NULL) == 1);
        CHECK(glam_train_step(resumed, NULL) == 0);
        CHECK(glam_save_checkpoint(resumed, end) == GLAM_OK);
        files_block have = files_read(end);
        CHECK(files_same(want, have));          // weights, slots and counters at once
        free(have.data);
    }
    CHECK(glam_save(model, path) == GLAM_OK);
    CHECK(!glam_load_checkpoint(other, path, same, same_valid));
    ERROR_IS(other, GLAM_ERR_FORMAT, "use glam_load");
    free(want.data);
    remove(path);
    remove(end);
    CLOSE_CLEAN(ctx);
    CLOSE_CLEAN(other);
}

static void files_checkpoint(void)
{
    files_resume(GLAM_ADAMW);
    files_resume(GLAM_ADAFACTOR);
}

// A run goes on in its own arithmetic, which can be asked for before there is a context for it.
static void files_arithmetic(void)
{
    const char *path = test_path("arithmetic.checkpoint");
    for (int i = GLAM_F32; i < GLAM_AUTO; i++) {
        glam_options options = test_options();
        options.arithmetic = (glam_arithmetic)i;
        glam_ctx *ctx = glam_open(&options), *other;
        glam_config c = train_config();
        glam_recipe r = train_recipe(3);
        glam_text *text = test_text(ctx, 3000);
        glam_trainer *trainer = glam_trainer_new(glam_model_new(ctx, &c), text, NULL, &r);
        CHECK(glam_train_step(trainer, NULL) && glam_save_checkpoint(trainer, path) == GLAM_OK);
        CLOSE_CLEAN(ctx);
        options.arithmetic = (glam_arithmetic)((i + 2) % 3);
        other = glam_open(&options);
        CHECK((int)glam_load_arithmetic(other, path) == i && glam_error(other) == GLAM_OK);
        CHECK(!glam_load_checkpoint(other, path, test_text(other, 3000), NULL));
        ERROR_IS(other, GLAM_ERR_VALUE, !i ? "multiplies in f32, this context in bf16_tiles" :
                 i == GLAM_BF16 ? "multiplies in bf16, this context in f32" : "multiplies in bf16_tiles, this");
        remove(path);
        CHECK(glam_load_arithmetic(other, path) == GLAM_F32);
        ERROR_IS(other, GLAM_ERR_FILE, "arithmetic.checkpoint");
        glam_close(other);
    }
    CHECK(glam_load_arithmetic(NULL, path) == GLAM_F32);
}

// A run of AMX goes on without it, and one without goes on with it, to the same bits: with the instructions
// (or their imitation), with multiply-adds, and with the plain twin of room 05.
static void files_tiles(void)
{
    glam__kernels amx;
    const char *path = test_path("tiles.checkpoint");
    uint64_t want = 0;
    int here;
#ifdef TEST_AMX
    int before = amx_wanted;
    amx_wanted = 1;
#endif
    here = glam__kernels_pick("amx", &amx);        // without it the twin alone, on one to three threads
    for (int i = 0; i < 4; i++) {
        glam_options options = test_options();
        glam_config c = train_config();
        glam_recipe r = train_recipe(4);
        options.arithmetic = GLAM_BF16_TILES;
        for (int half = 0; half < 2; half++) {
            options.threads = 1 + (i + half) % 3;
            options.simd = !here ? "base" : (i + half) % 2 ? "amx" : amx.nr > 16 ? "avx512" : "avx2";
            glam_ctx *ctx = glam_open(&options);
            glam_text *text = test_text(ctx, 3000);
            if (here && i > 1 && half == i % 2) ctx->simd.kernels[1].panel = glam__tiled_base;
            glam_trainer *run = half ? glam_load_checkpoint(ctx, path, text, NULL)
                                     : glam_trainer_new(glam_model_new(ctx, &c), text, NULL, &r);
            for (int step = 0; step < 2; step++) CHECK(glam_train_step(run, NULL) == 1);
            CHECK(glam_save_checkpoint(run, path) == GLAM_OK);
            CLOSE_CLEAN(ctx);
        }
        files_block end = files_read(path);
        uint64_t hash = test_hash(0, end.data, end.size);
        CHECK(!i || hash == want);
        want = hash;
        free(end.data);
        remove(path);
    }
#ifdef TEST_AMX
    amx_wanted = before;
#endif
}

// A file cannot ask for much more memory than it has bytes.  The slack: one chunk for reading,
// and one arena chunk each for the measured model and for the real one.
static void files_bound(void)
{
    static const char *const rows[][2] = {
        { "", "" },
        { "\"vocab\\\":5",   "\"vocab\\\":2000000000" },
        { "\"layers\\\":2",  "\"layers\\\":2000000000" },
        { "\"hidden\\\":3",  "\"hidden\\\":2147483647" },
        { "\"experts\\\":2", "\"experts\\\":2147483647" },
        { "\"heads\\\":1",   "\"heads\\\":46000" },
        { "[5,4]",           "[2147483647,2147483647]" }
    };
    test_heap heap;
    glam_options options = test_options();
    test_heap_into(&heap, &options);
    glam_ctx *ctx = glam_open(&options);
    glam_config config = files_tiny();
    glam_model *model = glam_model_new(ctx, &config);
    if (!CHECK(model)) return;
    files_block b = files_save(model);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        files_block bad = files_edit(b, rows[i][0], rows[i][1]);
        size_t before = heap.bytes;
        heap.peak = heap.bytes;
        glam_model *got = glam_load_memory(ctx, bad.data, bad.size);
        CHECK((got != NULL) == (i == 0));
        CHECK(heap.peak - before <= 2 * bad.size + (192u << 10));
        if (i > 0) CHECK(heap.bytes == before);
        glam_clear_error(ctx);
        free(bad.data);
    }
    // brackets without end, and a header that is longer than the file
    size_t size = 1 << 20;
    unsigned char *hostile = (unsigned char *)malloc(size);
    if (hostile) {
        memset(hostile, '{', size);
        for (int i = 0; i < 8; i++) hostile[i] = (unsigned char)((uint64_t)(size - 8) >> 8 * i);
        heap.peak = heap.bytes;
        size_t before = heap.bytes;
        CHECK(!glam_load_memory(ctx, hostile, size));
        glam_clear_error(ctx);
        CHECK(heap.peak - before <= 2 * size + 65536 && heap.bytes == before);
        hostile[2] = 0xff;
        heap.peak = heap.bytes;
        CHECK(!glam_load_memory(ctx, hostile, size));
        ERROR_IS(ctx, GLAM_ERR_FORMAT, "a header of");
        CHECK(heap.peak == before && heap.bytes == before);
        free(hostile);
    }
    free(b.data);
    CLOSE_CLEAN(ctx);
    CHECK(heap.live == 0 && heap.wrong == 0);
}

// A checkpoint's recipe may ask for any batch: a file is loaded in memory that its own length
// explains, and what a step wants is asked for by the first step.
static void files_bound_checkpoint(void)
{
    static const char *const rows[][3] = {
        { "", "", "" },
        { "\"batch\\\":4", "\"batch\\\":16777216", "" },
        { "\"context\\\":16,\\\"accumulate\\\":1", "\"context\\\":900,\\\"accumulate\\\":4", "" },
        { "\"batch\\\":4,\\\"context\\\":16,\\\"accumulate\\\":1",
          "\"batch\\\":1073741824,\\\"context\\\":16,\\\"accumulate\\\":1073741824", "" },
        { "\"optimizer\\\":\\\"adafactor", "\"optimizer\\\":\\\"adamw", "the recipe" },
        { "\"factor_min\\\":128", "\"factor_min\\\":2", "the recipe" },
        { "\"batch\\\":4", "\"batch\\\":-4", "recipe" },
        { "\"vocab\\\":256", "\"vocab\\\":16000000", "the config" },
        { "\"layers\\\":2", "\"layers\\\":16000000", "the config" },
        { "\"experts\\\":4", "\"experts\\\":16000000", "the config" }
    };
    test_heap heap;
    glam_options options = test_options();
    test_heap_into(&heap, &options);
    options.threads = 1;
    glam_ctx *ctx = glam_open(&options);
    const char *path = files_path(1);
    glam_config config = train_config();
    glam_recipe recipe = train_recipe(4);
    glam_text *text = test_text(ctx, 1000);
    glam_trainer *run = glam_trainer_new(glam_model_new(ctx, &config), text, NULL, &recipe);
    CHECK(glam_train_step(run, NULL) == 1 && glam_save_checkpoint(run, path) == GLAM_OK);
    files_block b = files_read(path);
    for (size_t i = 0; i < sizeof rows / sizeof *rows && run; i++) {
        files_block bad = files_edit(b, rows[i][0], rows[i][1]);
        files_put(path, bad);
        size_t before = heap.peak = heap.bytes, mark = glam_mark(ctx);
        glam_trainer *got = glam_load_checkpoint(ctx, path, text, NULL);
        CHECK((got != NULL) == !*rows[i][2]);
        if (!got) ERROR_IS(ctx, glam_error(ctx), rows[i][2]);
        if (!CHECK(heap.peak - before <= 2 * bad.size + (256u << 10)))
            printf("row %d: %.0f bytes for a file of %.0f\n", (int)i, (double)(heap.peak - before),
                   (double)bad.size);
        glam_rewind(ctx, mark);
        before = heap.peak = heap.bytes;
        glam_config read;
        CHECK((glam_load_config(ctx, path, &read) == GLAM_OK) == (i < 7));
        CHECK(heap.peak - before <= 2 * bad.size + (128u << 10) && heap.bytes == before);
        glam_clear_error(ctx);
        free(bad.data);
    }
    remove(path);
    free(b.data);
    CLOSE_CLEAN(ctx);
    CHECK(heap.live == 0 && heap.wrong == 0);
}

// Long headers: a note of 20 million bytes is legal; a key that is there a hundred thousand times is
// not, and costs no more than the file.
static void files_long_headers(void)
{
    enum { NOTE = 20000000, KEYS = 100000 };
    test_heap heap;
    glam_options options = test_options();
    test_heap_into(&heap, &options);
    glam_ctx *ctx = glam_open(&options);
    glam_config config = files_tiny();
    files_block b = files_save(glam_model_new(ctx, &config));
    size_t mark = glam_mark(ctx);
    for (int kind = 0; kind < 3; kind++) {
        size_t length = 0, more = kind == 0 ? NOTE : KEYS * 14;
        char *note = (char *)malloc(more + 100), *at = note;
        unsigned char *all = (unsigned char *)malloc(b.size + more + 100);
        if (!CHECK(note && all)) return;
        at += sprintf(at, "{\"__metadata__\":{\"note\":\"");
        if (kind == 0) {
            memset(at, 'x', NOTE);
            at += NOTE;
        }
        at += sprintf(at, "\"");
        for (int i = 0; kind > 0 && i < KEYS; i++)
            at += sprintf(at, kind == 1 ? ",\"a\":\"\"" : ",\"k%05d\":\"\"", i);
        files_block none = files_edit(b, "", "");
        for (int i = 7; i >= 0; i--) length = length << 8 | none.data[i];
        size_t extra = (size_t)(at - note);              // in place of {"__metadata__":{
        memcpy(all + 8, note, extra);
        all[8 + extra] = ',';
        memcpy(all + 9 + extra, none.data + 8 + 17, none.size - 8 - 17);
        length += extra + 1 - 17;
        for (int i = 0; i < 8; i++) all[i] = (unsigned char)((uint64_t)length >> 8 * i);
        size_t size = none.size + extra + 1 - 17, before = heap.peak = heap.bytes;
        glam_model *got = glam_load_memory(ctx, all, size);
        CHECK((got != NULL) == (kind != 1));
        if (kind == 1) ERROR_IS(ctx, GLAM_ERR_FORMAT, "__metadata__ has the same key twice: \"a\"");
        CHECK(heap.peak - before <= 2 * size + (192u << 10));
        glam_rewind(ctx, mark);
        free(note);
        free(all);
        free(none.data);
    }
    free(b.data);
    CLOSE_CLEAN(ctx);
}

// Numbers that nobody means, and nothing at all.
static void files_extremes(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config config = files_tiny();
    glam_model *model = glam_model_new(ctx, &config);
    const char *path = files_path(1);
    unsigned char raw[64];
    CHECK(glam_save_tensors(ctx, path, NULL, INT_MIN) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "tensors");
    CHECK(glam_save_tensors(ctx, path, NULL, INT_MAX) == GLAM_ERR_VALUE);
    glam_clear_error(ctx);
    CHECK(glam_save_tensors(ctx, path, NULL, 0) == GLAM_OK);
    CHECK(glam_load_tensors(ctx, path, NULL, -1) == GLAM_ERR_VALUE);
    glam_clear_error(ctx);
    CHECK(glam_save_tensors(NULL, path, NULL, 0) != GLAM_OK && glam_load_tensors(NULL, path, NULL, 0) != GLAM_OK);
    CHECK(glam_save_memory(model, raw, 0) == glam_save_memory(model, NULL, SIZE_MAX));
    CHECK(!glam_load_memory(ctx, NULL, SIZE_MAX));
    glam_clear_error(ctx);
    // lengths of a header from nothing to all bits, in a file of 64 bytes
    for (int i = 0; i < 64; i++)
        for (int less = 0; less < 2; less++) {
            uint64_t length = ((uint64_t)1 << i) - (uint64_t)less;
            memset(raw, ' ', sizeof raw);
            for (int k = 0; k < 8; k++) raw[k] = (unsigned char)(length >> 8 * k);
            CHECK(!glam_load_memory(ctx, raw, sizeof raw) && glam_error(ctx) == GLAM_ERR_FORMAT);
            glam_clear_error(ctx);
        }
    CHECK(glam_load_config(ctx, NULL, &config) == GLAM_ERR_VALUE);
    glam_clear_error(ctx);
    CHECK(glam_save(model, "") == GLAM_ERR_FILE);
    ERROR_IS(ctx, GLAM_ERR_FILE, "cannot");
    CHECK(!glam_load(ctx, "") && glam_error(ctx) == GLAM_ERR_FILE);
    glam_clear_error(ctx);
    remove(path);
    CLOSE_CLEAN(ctx);
}

// No memory at each moment of a save and of a load: an error, no leak, and then it works.
static void files_memory(void)
{
    glam_config config = files_tiny();
    test_heap heap;
    glam_options options = test_options();
    test_heap_into(&heap, &options);
    glam_ctx *ctx = glam_open(&options);
    glam_model *model = glam_model_new(ctx, &config);
    if (!CHECK(model)) return;
    files_block b = files_save(model);
    size_t mark = glam_mark(ctx);
    int saved = 0, loaded = 0;
    for (int k = 1; k < 100 && !(saved && loaded); k++) {
        heap.fail_at = heap.calls + k;
        saved = glam_save_memory(model, b.data, b.size) == b.size;
        CHECK(saved || glam_error(ctx) == GLAM_ERR_MEMORY);
        glam_clear_error(ctx);
        heap.fail_at = heap.calls + k;
        long live = heap.live;
        loaded = glam_load_memory(ctx, b.data, b.size) != NULL;
        heap.fail_at = 0;
        CHECK(loaded || (glam_error(ctx) == GLAM_ERR_MEMORY && heap.live <= live));
        glam_clear_error(ctx);
        glam_rewind(ctx, mark);
    }
    CHECK(saved && loaded);
    free(b.data);
    CLOSE_CLEAN(ctx);
    CHECK(heap.live == 0 && heap.wrong == 0);
}

// A run that stopped early stays stopped, and its file is that of the run it came from.
static void files_stopped(void)
{
    glam_ctx *ctx = test_ctx(), *other = test_ctx();
    glam_config config = test_config();
    const char *path = files_path(1), *end = files_path(2);
    config.vocab = 256;
    glam_model *model = glam_model_new(ctx, &config);
    glam_text *text = test_text(ctx, 400), *same = test_text(other, 400);
    glam_text *valid = test_text(ctx, 90), *same_valid = test_text(other, 90);
    glam_recipe recipe = glam_recipe_default();
    recipe.steps = 400;
    recipe.batch = 2;
    recipe.eval_every = 1;
    recipe.patience = 1;
    recipe.lr = 1e3;                            // so that validation soon gets worse
    glam_report now;
    glam_trainer *run = glam_trainer_new(model, text, valid, &recipe);
    if (!CHECK(run)) return;
    while (glam_train_step(run, &now)) continue;
    CHECK(now.stopped && now.valid_loss > 0 && glam_trainer_done(run) < 400);
    CHECK(glam_save_checkpoint(run, path) == GLAM_OK);
    glam_trainer *resumed = glam_load_checkpoint(other, path, same, same_valid);
    CHECK(resumed && glam_train_step(resumed, NULL) == 0);
    CHECK(resumed && glam_trainer_done(resumed) == glam_trainer_done(run));
    CHECK(glam_save_checkpoint(resumed, end) == GLAM_OK);
    files_block want = files_read(path), have = files_read(end);
    CHECK(files_same(want, have));
    free(want.data);
    free(have.data);
    remove(path);
    remove(end);
    CLOSE_CLEAN(ctx);
    CLOSE_CLEAN(other);
}

// A step whose validation had no memory, saved, resumes with the validation and with the same bits.  A
// file that owes one which cannot be had ends all the same.
static void files_owed(void)
{
    const char *path = files_path(1), *end = files_path(2);
    int found = 0;
    for (long k = 1; k < 60 && !found; k++) {
        test_heap heap;
        glam_options options = test_options();
        test_heap_into(&heap, &options);
        glam_ctx *ctx = glam_open(&options), *other = test_ctx();
        glam_config config = train_config();
        glam_recipe recipe = train_recipe(5);
        glam_report now, then;
        recipe.eval_every = 1;
        recipe.patience = 5;
        glam_text *text = test_text(ctx, 1000), *valid = test_text(ctx, 300);
        glam_text *same = test_text(other, 1000), *same_valid = test_text(other, 300);
        glam_trainer *run = glam_trainer_new(glam_model_new(ctx, &config), text, valid, &recipe);
        heap.fail_at = heap.calls + k;
        found = !glam_train_step(run, NULL) && glam_trainer_done(run) == 1;
        if (!found && glam_error(ctx) == GLAM_OK) k = 60;          // no more can fail
        glam_clear_error(ctx);
        if (found) {
            CHECK(glam_save_checkpoint(run, path) == GLAM_OK);
            glam_trainer *resumed = glam_load_checkpoint(other, path, same, same_valid);
            CHECK(glam_train_step(run, &now) == 1 && glam_train_step(resumed, &then) == 1);
            CHECK(now.step == 1 && then.step == 1 && then.tokens == now.tokens);
            CHECK(now.valid_loss > 0 && then.valid_loss == now.valid_loss);
            while (glam_train_step(run, NULL)) { }
            CHECK(glam_save_checkpoint(run, path) == GLAM_OK);
            while (glam_train_step(resumed, NULL)) { }
            CHECK(glam_save_checkpoint(resumed, end) == GLAM_OK);
            files_block want = files_read(path), have = files_read(end);
            CHECK(files_same(want, have));
            free(want.data);
            free(have.data);

            recipe.eval_every = 0;
            run = glam_trainer_new(glam_model_new(other, &config), same, NULL, &recipe);
            CHECK(glam_train_step(run, NULL) == 1 && glam_save_checkpoint(run, path) == GLAM_OK);
            want = files_read(path);
            have = files_edit(want, "\"owed\\\":0", "\"owed\\\":1");
            CHECK(!files_same(want, have));
            files_put(path, have);
            resumed = glam_load_checkpoint(other, path, same, NULL);
            int steps = 0;
            while (glam_train_step(resumed, NULL) && steps < 9) steps++;
            CHECK(glam_trainer_done(resumed) == 5 && steps < 9);
            free(want.data);
            free(have.data);
            remove(path);
            remove(end);
        }
        CLOSE_CLEAN(ctx);
        CLOSE_CLEAN(other);
    }
    CHECK(found);
}

// What the first step of a loaded run takes may be given back by a mark from before that step.
static void files_rewound(void)
{
    glam_ctx *ctx = test_ctx(), *other = test_ctx();
    const char *path = files_path(1);
    glam_config config = train_config();
    glam_recipe recipe = train_recipe(5);
    recipe.accumulate = 4;
    glam_text *text = test_text(ctx, 1000), *same = test_text(other, 1000);
    glam_trainer *run = glam_trainer_new(glam_model_new(ctx, &config), text, NULL, &recipe);
    CHECK(glam_train_step(run, NULL) == 1 && glam_save_checkpoint(run, path) == GLAM_OK);
    glam_trainer *resumed = glam_load_checkpoint(other, path, same, NULL);
    size_t mark = glam_mark(other);
    for (int i = 0; i < 4; i++) {
        CHECK(glam_train_step(run, NULL) == 1 && glam_train_step(resumed, NULL) == 1);
        if (i < 3) glam_rewind(other, mark);
        CHECK((glam_mark(other) == mark) == (i < 3));
    }
    CHECK(test_model_hash(glam_trainer_model(run)) == test_model_hash(glam_trainer_model(resumed)));
    remove(path);
    CLOSE_CLEAN(ctx);
    CLOSE_CLEAN(other);
}

// A model's tokenizer goes with it, into files, memory and checkpoints; a text is cut with it, and
// a damaged one is refused.
static void files_tokenizer(void)
{
    static const char text[] = "the hen, the pen, the ten: then the end of the hen. "
                               "the hen, the pen, the ten: then the end of the hen.";
    const char *path = test_path("tokens.safetensors");
    glam_ctx *ctx = test_ctx();
    glam_config c = files_tiny();
    c.vocab = 300;
    glam_tokenizer *t = glam_tokenizer_train(ctx, text, sizeof text - 1, 290, GLAM_SPLIT_GPT2);
    glam_model *model = glam_model_new(ctx, &c);
    CHECK(glam_tokenizer_size(t) > 262 && !glam_model_tokenizer(model));
    CHECK(glam_model_set_tokenizer(model, t) == GLAM_OK && glam_model_tokenizer(model) == t);
    glam_text *cut = glam_text_from(ctx, text, sizeof text - 1, t);
    int32_t ids[128], again[128];
    size_t n = glam_encode(t, text, sizeof text - 1, ids, 128);
    CHECK(glam_text_length(cut) == n && n < 60 && glam_text_read(cut, 0, 128, again) == n);
    CHECK(!memcmp(ids, again, n * sizeof *ids));
    CHECK(glam_save(model, path) == GLAM_OK);
    files_block file = files_save(model), edited = files_edit(file, "", "");
    for (int from = 0; from < 3; from++) {
        glam_ctx *other = test_ctx();
        glam_model *m = from == 0 ? glam_load(other, path) : from == 1 ? glam_load_memory(other, file.data, file.size)
                                                                       : NULL;
        const glam_tokenizer *u = m ? glam_model_tokenizer(m) : glam_load_tokenizer(other, path);
        const glam_vocabulary *a = glam_tokenizer_vocabulary(t), *b = glam_tokenizer_vocabulary(u);
        CHECK(b && a->size == b->size && a->merges == b->merges && a->split == b->split);
        CHECK(glam_encode(u, text, sizeof text - 1, again, 128) == n && !memcmp(ids, again, n * sizeof *ids));
        if (m) {
            char one[200], two[200];
            CHECK(glam_complete(m, "the", one, 200, NULL) == glam_complete(model, "the", two, 200, NULL));
            CHECK(!strcmp(one, two));
        }
        CLOSE_CLEAN(other);
    }
    // any byte of it changed, with a checksum of none: refused, or a tokenizer that works
    size_t bytes = (size_t)glam__tokenizer_pack(t, NULL);
    int refused = 0;
    for (size_t i = 0; i < bytes; i += i < 60 ? 1 : 37) {
        glam_ctx *other = test_ctx();
        unsigned char *at = edited.data + edited.size - bytes + i;
        *at ^= 0x55;
        glam_model *m = glam_load_memory(other, edited.data, edited.size);
        if (m) glam_encode(glam_model_tokenizer(m), text, sizeof text - 1, again, 128);
        else refused++;
        CHECK(m || glam_error(other) == GLAM_ERR_FORMAT || glam_error(other) == GLAM_ERR_VALUE);
        *at ^= 0x55;
        glam_close(other);
    }
    CHECK(refused > 20);
    free(file.data);
    free(edited.data);
    c.vocab = 256;
    glam_model *narrow = glam_model_new(ctx, &c);
    CHECK(glam_model_set_tokenizer(narrow, t) == GLAM_ERR_VALUE);
    glam_close(ctx);
    remove(path);
}

// Sizes past the addresses: of a file in memory, of values, of scratch.  On a machine of 32 bits 8 GB are;
// on one of 64 the file has a size that can be told, and only the last bytes of all are too many.
static void files_addresses(void)
{
    const uint64_t many = sizeof(size_t) < 8 ? (uint64_t)8 << 30 : UINT64_MAX - 63;
    const char *words = "do not fit the addresses of this machine";
    glam_config config = files_tiny();
    glam_ctx *ctx = test_ctx();
    glam_model *model = glam_model_new(ctx, &config);
    if (!CHECK(model)) return;
    size_t before = glam_save_memory(model, NULL, 0);
    glam_tensor *t = glam_model_tensor_at(model, 0);
    glam_shape shape = t->shape;
    t->shape = glam_dim2(1 << 16, 1 << 15);
    size_t bytes = glam_save_memory(model, NULL, 0);
    if (sizeof(size_t) < 8) {
        CHECK(bytes == 0);
        ERROR_IS(ctx, GLAM_ERR_MEMORY, words);
        ERROR_IS(ctx, GLAM_OK, "");
    } else CHECK(bytes / 1000 == (((size_t)8 << 30) + before - 4 * (size_t)shape.dim[0] * (size_t)shape.dim[1]) / 1000);
    t->shape = shape;
    CHECK(glam_save_memory(model, NULL, 0) == before);
    CHECK(!glam__take(ctx, &ctx->base.life, many));
    ERROR_IS(ctx, GLAM_ERR_MEMORY, words);
    CHECK(glam__reserve_scratch(ctx, many) == GLAM_ERR_MEMORY);
    ERROR_IS(ctx, GLAM_ERR_MEMORY, "GB of scratch");
    if (sizeof(size_t) < 8) {
        CHECK(!glam_param(ctx, "wide", glam_dim3(1 << 10, 1 << 11, 1 << 10)));
        ERROR_IS(ctx, GLAM_ERR_MEMORY, words);
    }
    CLOSE_CLEAN(ctx);
    ctx = test_ctx();
    CHECK(glam_measure(ctx, 1) == GLAM_OK && (model = glam_model_new(ctx, &config)) != NULL);
    CHECK(glam_save_memory(model, NULL, 0) == 0);
    ERROR_IS(ctx, GLAM_ERR_STATE, "measures has no values");
    CLOSE_CLEAN(ctx);
}

static void test_21_files(void)
{
    RUN(files_round_trip);
    RUN(files_fields);
    RUN(files_config);
    RUN(files_numbers);
    RUN(files_checksum);
    RUN(files_damage);
    RUN(files_messages);
    RUN(files_defaults);
    RUN(files_system);
    RUN(files_tensors);
    RUN(files_names);
    RUN(files_escapes);
    RUN(files_split);
    RUN(files_checkpoint);
    RUN(files_arithmetic);
    RUN(files_tiles);
    RUN(files_tokenizer);
    RUN(files_bound);
    RUN(files_bound_checkpoint);
    RUN(files_long_headers);
    RUN(files_extremes);
    RUN(files_memory);
    RUN(files_addresses);
    RUN(files_stopped);
    RUN(files_owed);
    RUN(files_rewound);
}
