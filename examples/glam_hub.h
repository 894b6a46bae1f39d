/* glam_hub.h - folders of other people's models for glam.h: tokenizers (tokenizer.json of byte-level
   and SentencePiece-like BPE, tokenizer.model of SentencePiece).

   Needs glam.h before it; in one file
       #define GLAM_HUB_IMPLEMENTATION
       #include "glam_hub.h"
   Everything goes through the public interface of glam.h.  Functions fail as glam.h's do: NULL or a
   status, and the first sentence stays with the context.  What changes the meaning of a file and is
   not understood is refused by its name. */

#ifndef GLAM_HUB_H
#define GLAM_HUB_H

// A parsed JSON text.  Objects and arrays list their members from first on; strings are decoded,
// terminated, and may hold zeros.
typedef enum hub_type { HUB_NULL, HUB_FALSE, HUB_TRUE, HUB_NUMBER, HUB_STRING, HUB_ARRAY, HUB_OBJECT }
    hub_type;
typedef struct hub_json {
    hub_type type;
    const char *key, *text;        // text: of strings, and of numbers as written
    size_t length;                 // bytes of text
    double number;
    int count;                     // members
    struct hub_json *first, *next;
} hub_json;

// A file, whole; NULL and an error: it cannot be read.  hub_free_file gives it back.
char *hub_read_file(glam_ctx *ctx, const char *path, size_t *bytes);
void  hub_free_file(char *block);
// Parses in place: text must stay, and ends in a zero.  Free with hub_json_free.
hub_json *hub_json_parse(glam_ctx *ctx, const char *path, char *text, size_t bytes);
void hub_json_free(hub_json *root);
// The member of that name; NULL where there is none (or no object).
const hub_json *hub_get(const hub_json *object, const char *name);

// The tokenizer in a tokenizer.json or tokenizer.model, by the file's content.
glam_tokenizer *hub_tokenizer_open(glam_ctx *ctx, const char *path);
// A tokenizer as tokenizer.json, which the package tokenizers reads.
glam_status hub_tokenizer_save(glam_ctx *ctx, const glam_tokenizer *tokenizer, const char *path);

#endif

#ifdef GLAM_HUB_IMPLEMENTATION

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- files and JSON

char *hub_read_file(glam_ctx *ctx, const char *path, size_t *bytes)
{
    size_t room = 1 << 16, used = 0;
    FILE *f = fopen(path, "rb");
    char *block = f ? (char *)malloc(room) : NULL;
    *bytes = 0;
    while (block) {
        used += fread(block + used, 1, room - used - 1, f);
        if (used < room - 1) break;
        char *larger = room > SIZE_MAX / 2 ? NULL : (char *)realloc(block, room *= 2);
        if (!larger) free(block);
        block = larger;
    }
    if (!f) glam_fail(ctx, GLAM_ERR_FILE, "%s: cannot be opened: %s", path, strerror(errno));
    else if (!block) glam_fail(ctx, GLAM_ERR_MEMORY, "%s: no memory for it", path);
    else if (ferror(f)) {
        glam_fail(ctx, GLAM_ERR_FILE, "%s: cannot be read: %s", path, strerror(errno));
        free(block);
        block = NULL;
    }
    if (f) fclose(f);
    if (block) block[used] = 0;
    if (block) *bytes = used;
    return block;
}

void hub_free_file(char *block) { free(block); }

typedef struct hub_parser {
    char *at, *end, *start;
    const char *wrong;
    int depth;
} hub_parser;

static void hub_space(hub_parser *p)
{ while (p->at < p->end && strchr(" \t\r\n", *p->at) && *p->at) p->at++; }

static int hub_hex4(const char *p, const char *end)
{
    int value = 0;
    for (int i = 0; i < 4; i++, p++) {
        if (p >= end) return -1;
        char c = *p;
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
                  : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

static char *hub_put_utf8(char *to, unsigned c)
{
    if (c < 0x80) *to++ = (char)c;
    else {
        int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
        static const unsigned lead[] = { 0, 0xc0, 0xe0, 0xf0 };
        *to++ = (char)(unsigned char)(lead[more] | c >> (6 * more));
        while (more--) *to++ = (char)(unsigned char)(0x80 | (c >> (6 * more) & 0x3f));
    }
    return to;
}

// The string that begins after its quote, decoded in place.
static char *hub_string(hub_parser *p, size_t *length)
{
    char *text = p->at, *to = text;
    while (p->at < p->end && *p->at != '"') {
        if ((unsigned char)*p->at < 32) { p->wrong = "a control character in a string"; return NULL; }
        if (*p->at != '\\') { *to++ = *p->at++; continue; }
        static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
        const char *e = ++p->at < p->end && *p->at ? strchr(from, *p->at) : NULL;
        if (e) { *to++ = into[e - from]; p->at++; continue; }
        int c = p->at < p->end && *p->at == 'u' ? hub_hex4(p->at + 1, p->end) : -1;
        if (c < 0) { p->wrong = "an escape that JSON has not"; return NULL; }
        p->at += 5;
        if (c >= 0xd800 && c < 0xdc00) {
            int low = p->end - p->at > 6 && p->at[0] == '\\' && p->at[1] == 'u'
                    ? hub_hex4(p->at + 2, p->end) : -1;
            if (low < 0xdc00 || low > 0xdfff) { p->wrong = "half a pair of \\u"; return NULL; }
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            p->at += 6;
        }
        to = hub_put_utf8(to, (unsigned)c);
    }
    if (p->at >= p->end) { p->wrong = "a string without an end"; return NULL; }
    p->at++;
    *length = (size_t)(to - text);
    *to = 0;                            // at most where the quote was
    return text;
}

static hub_json *hub_value(hub_parser *p);

static void hub_members(hub_parser *p, hub_json *n, char close)
{
    hub_json **link = &n->first;
    p->at++;
    hub_space(p);
    if (p->at < p->end && *p->at == close) { p->at++; return; }
    while (!p->wrong) {
        char *key = NULL;
        size_t length;
        hub_space(p);
        if (close == '}') {
            if (p->at >= p->end || *p->at++ != '"') { p->wrong = "a member without a name"; return; }
            if (!(key = hub_string(p, &length))) return;
            hub_space(p);
            if (p->at >= p->end || *p->at++ != ':') { p->wrong = "a name without a value"; return; }
        }
        hub_json *member = hub_value(p);
        if (!member) return;
        member->key = key;
        *link = member;
        link = &member->next;
        n->count++;
        hub_space(p);
        if (p->at < p->end && *p->at == ',') { p->at++; continue; }
        if (p->at < p->end && *p->at == close) { p->at++; return; }
        p->wrong = "a list without an end";
    }
}

static hub_json *hub_value(hub_parser *p)
{
    static const struct { const char *word; hub_type type; } words[] = {
        {"null", HUB_NULL}, {"false", HUB_FALSE}, {"true", HUB_TRUE} };
    hub_json *n = (hub_json *)calloc(1, sizeof *n);
    hub_space(p);
    if (!n || ++p->depth > 200) { p->wrong = n ? "too deep a nesting" : "too much"; free(n); return NULL; }
    char c = p->at < p->end ? *p->at : 0;
    if (c == '{' || c == '[') {
        n->type = c == '{' ? HUB_OBJECT : HUB_ARRAY;
        hub_members(p, n, c == '{' ? '}' : ']');
    } else if (c == '"') {
        n->type = HUB_STRING;
        p->at++;
        n->text = hub_string(p, &n->length);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        char *end;
        n->type = HUB_NUMBER;
        n->number = strtod(p->at, &end);
        n->text = p->at;
        n->length = (size_t)(end - p->at);
        p->at = end;
    } else {
        size_t i = 0, many = sizeof words / sizeof *words;
        while (i < many && strncmp(p->at, words[i].word, strlen(words[i].word))) i++;
        if (i == many) p->wrong = "what is no value";
        else { n->type = words[i].type; p->at += strlen(words[i].word); }
    }
    p->depth--;
    if (p->wrong) { hub_json_free(n); return NULL; }
    return n;
}

hub_json *hub_json_parse(glam_ctx *ctx, const char *path, char *text, size_t bytes)
{
    hub_parser p = { text, text + bytes, text, NULL, 0 };
    hub_json *root = hub_value(&p);
    hub_space(&p);
    if (root && p.at != p.end) { p.wrong = "something after its end"; hub_json_free(root); root = NULL; }
    if (!root)
        glam_fail(ctx, GLAM_ERR_FORMAT, "%s: is no JSON: byte %.0f has %s", path,
                  (double)(p.at - p.start), p.wrong);
    return root;
}

// Members one after the other, so that a long list needs no deep stack.
void hub_json_free(hub_json *n)
{
    while (n) {
        hub_json *next = n->next;
        hub_json_free(n->first);
        free(n);
        n = next;
    }
}

const hub_json *hub_get(const hub_json *object, const char *name)
{
    const hub_json *m = object && object->type == HUB_OBJECT ? object->first : NULL;
    while (m && strcmp(m->key, name)) m = m->next;
    return m;
}

static int hub_is(const hub_json *n, const char *text)
{ return n && n->type == HUB_STRING && strcmp(n->text, text) == 0; }

static int hub_true(const hub_json *n) { return n && n->type == HUB_TRUE; }

static const char *hub_text(const hub_json *n)
{ return n && n->type == HUB_STRING ? n->text : "nothing"; }

// ---- a vocabulary being collected

typedef struct hub_vocabulary {
    glam_ctx *ctx;
    const char *path;
    glam_vocabulary v;
    char **pieces;                 // [size], each on its own; NULL: not given
    size_t *lengths;
    uint8_t *kinds;
    float *scores;
    int32_t *merge;
    int room;
} hub_vocabulary;

static int hub_refuse(hub_vocabulary *h, const char *what, const char *value)
{
    glam_fail(h->ctx, GLAM_ERR_FORMAT, "%s: %s%s%s is not understood", h->path, what,
              value ? " " : "", value ? value : "");
    return 0;
}

static int hub_room(hub_vocabulary *h, double id)
{
    if (!(id >= 0 && id < 1 << 24)) return hub_refuse(h, "an id that is no number from 0 on", NULL);
    if (id < h->room) return 1;
    int room = h->room ? h->room : 1024;
    while (room <= id) room *= 2;
    char **pieces = (char **)realloc(h->pieces, (size_t)room * sizeof *pieces);
    if (pieces) h->pieces = pieces;
    size_t *lengths = (size_t *)realloc(h->lengths, (size_t)room * sizeof *lengths);
    if (lengths) h->lengths = lengths;
    uint8_t *kinds = (uint8_t *)realloc(h->kinds, (size_t)room);
    if (kinds) h->kinds = kinds;
    float *scores = (float *)realloc(h->scores, (size_t)room * sizeof *scores);
    if (scores) h->scores = scores;
    if (!pieces || !lengths || !kinds || !scores) {
        glam_fail(h->ctx, GLAM_ERR_MEMORY, "%s: no memory for its vocabulary", h->path);
        return 0;
    }
    for (int i = h->room; i < room; i++) {
        h->pieces[i] = NULL;
        h->lengths[i] = 0;
        h->kinds[i] = GLAM_PIECE_UNUSED;
        h->scores[i] = 0;
    }
    h->room = room;
    return 1;
}

static int hub_piece(hub_vocabulary *h, double number, const char *bytes, size_t count, int kind,
                     float score)
{
    if (!hub_room(h, number)) return 0;
    int id = (int)number;
    char *copy = (char *)malloc(count ? count : 1);
    if (!copy) {
        glam_fail(h->ctx, GLAM_ERR_MEMORY, "%s: no memory for its vocabulary", h->path);
        return 0;
    }
    memcpy(copy, bytes, count);
    free(h->pieces[id]);
    h->pieces[id] = copy;
    h->lengths[id] = count;
    h->kinds[id] = (uint8_t)kind;
    h->scores[id] = score;
    if (id >= h->v.size) h->v.size = id + 1;
    return 1;
}

// U+2581 becomes a blank; returns the bytes left.
static size_t hub_blanks(char *text, size_t bytes)
{
    size_t to = 0;
    for (size_t i = 0; i < bytes; to++) {
        if (bytes - i >= 3 && !memcmp(text + i, "\xe2\x96\x81", 3)) { text[to] = ' '; i += 3; }
        else text[to] = text[i++];
    }
    return to;
}

// <0xAB>: that byte, else -1
static int hub_byte(const char *piece, size_t bytes)
{
    int high = bytes == 6 && !memcmp(piece, "<0x", 3) && piece[5] == '>' ? 1 : 0;
    char four[5] = "0000";
    if (!high) return -1;
    memcpy(four + 2, piece + 3, 2);
    return hub_hex4(four, four + 4);
}

static glam_tokenizer *hub_vocabulary_finish(hub_vocabulary *h)
{
    glam_vocabulary *v = &h->v;
    uint64_t total = 0;
    glam_tokenizer *t = NULL;
    for (int i = 0; i < v->size; i++) total += h->lengths[i];
    char *bytes = total < UINT32_MAX ? (char *)malloc((size_t)total + 1) : NULL;
    uint32_t *ends = (uint32_t *)malloc(((size_t)v->size + 1) * sizeof *ends), at = 0;
    if (!bytes || !ends) glam_fail(h->ctx, GLAM_ERR_MEMORY, "%s: no memory for its vocabulary", h->path);
    for (int i = 0; i < v->size && bytes && ends; i++) {
        if (h->lengths[i]) memcpy(bytes + at, h->pieces[i], h->lengths[i]);
        ends[i] = at += (uint32_t)h->lengths[i];
    }
    if (bytes && ends && v->size) {
        v->bytes = bytes;
        v->ends = ends;
        v->kinds = h->kinds;
        v->merge = h->merge;
        v->score = v->merges ? NULL : h->scores;
        t = glam_tokenizer_new(h->ctx, v);
    } else glam_fail(h->ctx, GLAM_ERR_FORMAT, "%s: has no vocabulary", h->path);
    free(bytes);
    free(ends);
    return t;
}

static void hub_vocabulary_free(hub_vocabulary *h)
{
    for (int i = 0; i < h->room; i++) free(h->pieces[i]);
    free(h->pieces);
    free(h->lengths);
    free(h->kinds);
    free(h->scores);
    free(h->merge);
}

// ---- tokenizer.json

// Byte-level files write each byte as a printable character: those that print are themselves, the
// others follow from U+0100 on.
static int hub_prints(int b) { return (b > 32 && b < 127) || (b > 160 && b != 173); }

static void hub_byte_letters(unsigned letter[256])
{
    unsigned next = 256;
    for (int b = 0; b < 256; b++) letter[b] = hub_prints(b) ? (unsigned)b : next++;
}

// Such a text back into bytes, in place; -1: a character that stands for none.
static int hub_letters_to_bytes(char *text, size_t *bytes)
{
    static unsigned letter[256];
    static short byte_of[512];
    if (!letter[255]) {
        hub_byte_letters(letter);
        for (int i = 0; i < 512; i++) byte_of[i] = -1;
        for (int b = 0; b < 256; b++) byte_of[letter[b]] = (short)b;
    }
    size_t to = 0;
    for (size_t i = 0; i < *bytes; ) {
        unsigned char c = (unsigned char)text[i];
        unsigned code = c < 0x80 ? c : c >= 0xc0 && c < 0xe0 && i + 1 < *bytes
                      ? (unsigned)(c & 0x1f) << 6 | ((unsigned char)text[i + 1] & 0x3f) : 511;
        if (code > 511 || byte_of[code] < 0) return -1;
        text[to++] = (char)(unsigned char)byte_of[code];
        i += code < 0x80 ? 1 : 2;
    }
    *bytes = to;
    return 0;
}

// The expressions of public models and what they are here.
#define HUB_SHORT "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define HUB_LINES "[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define HUB_CASED "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define HUB_LARGE "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
static const struct { const char *expression; glam_split split; } hub_splits[] = {
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
     GLAM_SPLIT_GPT2},
    {"'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
     GLAM_SPLIT_GPT2},
    {HUB_SHORT "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+" HUB_LINES,
     GLAM_SPLIT_QWEN},
    {HUB_SHORT "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+" HUB_LINES,
     GLAM_SPLIT_LLAMA3},
    {HUB_SHORT "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+" HUB_LINES,
     GLAM_SPLIT_MARKS},
    {HUB_LARGE "*" HUB_CASED "+" HUB_SHORT "?|" HUB_LARGE "+" HUB_CASED "*" HUB_SHORT
     "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", GLAM_SPLIT_O200K},
};
enum { HUB_SPLITS = sizeof hub_splits / sizeof *hub_splits };

// One step of a pre_tokenizer; *digits: one that isolates digits was seen.
static int hub_pre_step(hub_vocabulary *h, const hub_json *p, int *digits, int *bytes)
{
    const hub_json *type = hub_get(p, "type"), *pattern = hub_get(p, "pattern");
    if (hub_is(type, "ByteLevel")) {
        const hub_json *regex = hub_get(p, "use_regex");
        if (hub_true(hub_get(p, "add_prefix_space"))) h->v.blank_before = 1;
        if (!regex || hub_true(regex)) h->v.split = *digits ? GLAM_SPLIT_DIGITS : GLAM_SPLIT_GPT2;
        *bytes = 1;
        return 1;
    }
    if (hub_is(type, "Digits")) {
        if (!hub_true(hub_get(p, "individual_digits"))) return hub_refuse(h, "Digits in groups", NULL);
        *digits = 1;
        return 1;
    }
    if (hub_is(type, "Metaspace")) {
        const hub_json *scheme = hub_get(p, "prepend_scheme");
        if (hub_is(scheme, "first") || hub_is(scheme, "always") ||
            (!scheme && hub_true(hub_get(p, "add_prefix_space")))) h->v.blank_before = 1;
        return 1;
    }
    if (!hub_is(type, "Split")) return hub_refuse(h, "a pre_tokenizer of the type", hub_text(type));
    const hub_json *regex = hub_get(pattern, "Regex"), *string = hub_get(pattern, "String");
    if (hub_is(string, " ") || hub_is(string, "\xe2\x96\x81")) return 1;  // blanks begin words anyway
    if (regex && regex->type == HUB_STRING) {
        if (hub_is(regex, "\\p{N}") || hub_is(regex, "\\d")) { *digits = 1; return 1; }
        for (int i = 0; i < HUB_SPLITS; i++)
            if (strcmp(regex->text, hub_splits[i].expression) == 0) {
                h->v.split = *digits && hub_splits[i].split == GLAM_SPLIT_GPT2
                           ? GLAM_SPLIT_DIGITS : hub_splits[i].split;
                return 1;
            }
    }
    return hub_refuse(h, "words cut by", hub_text(regex ? regex : string));
}

static int hub_pre_tokenizer(hub_vocabulary *h, const hub_json *p, int *bytes)
{
    int digits = 0;
    if (!p || p->type == HUB_NULL) return 1;
    if (!hub_is(hub_get(p, "type"), "Sequence")) return hub_pre_step(h, p, &digits, bytes);
    const hub_json *steps = hub_get(p, "pretokenizers");
    for (const hub_json *s = steps ? steps->first : NULL; s; s = s->next)
        if (!hub_pre_step(h, s, &digits, bytes)) return 0;
    return 1;
}

static int hub_normalizer(hub_vocabulary *h, const hub_json *n)
{
    const hub_json *type = hub_get(n, "type");
    if (!n || n->type == HUB_NULL) return 1;
    if (hub_is(type, "NFC")) { h->v.composed = 1; return 1; }
    if (hub_is(type, "Prepend")) {
        if (!hub_is(hub_get(n, "prepend"), "\xe2\x96\x81"))
            return hub_refuse(h, "a normalizer that prepends", hub_text(hub_get(n, "prepend")));
        h->v.blank_before = 1;
        return 1;
    }
    if (hub_is(type, "Replace") && hub_is(hub_get(hub_get(n, "pattern"), "String"), " ") &&
        hub_is(hub_get(n, "content"), "\xe2\x96\x81")) return 1;
    if (!hub_is(type, "Sequence")) return hub_refuse(h, "a normalizer of the type", hub_text(type));
    const hub_json *steps = hub_get(n, "normalizers");
    for (const hub_json *s = steps ? steps->first : NULL; s; s = s->next)
        if (!hub_normalizer(h, s)) return 0;
    return 1;
}

// The token that a post_processor puts first, -1: none.
static void hub_begin(hub_vocabulary *h, const hub_json *post)
{
    const hub_json *list = hub_get(post, "processors"), *single = hub_get(post, "single");
    for (const hub_json *p = list ? list->first : NULL; p; p = p->next) hub_begin(h, p);
    const hub_json *first = hub_get(single ? single->first : NULL, "SpecialToken");
    const hub_json *token = hub_get(hub_get(post, "special_tokens"), hub_text(hub_get(first, "id")));
    const hub_json *ids = hub_get(token, "ids");
    if (ids && ids->first && ids->first->type == HUB_NUMBER) h->v.begin = (int32_t)ids->first->number;
}

static uint64_t hub_hash(const char *p, size_t n)
{
    uint64_t x = 14695981039346656037u;
    for (; n; n--) x = (x ^ (unsigned char)*p++) * 1099511628211u;
    return x ^ x >> 29;
}

// Merges as ["a", "b"] or "a b", into ids.
static int hub_merges(hub_vocabulary *h, const hub_json *vocab, const hub_json *merges)
{
    size_t mask = 1023, ok = 1;
    int done = 0;
    while (mask < 2 * (size_t)vocab->count) mask = 2 * mask + 1;
    const hub_json **slots = (const hub_json **)calloc(mask + 1, sizeof *slots);
    h->merge = (int32_t *)malloc(((size_t)merges->count + 1) * 8);
    if (!slots || !h->merge) { free(slots); return hub_refuse(h, "a vocabulary of that size", NULL); }
    for (const hub_json *p = vocab->first; p; p = p->next) {
        size_t i = (size_t)hub_hash(p->key, strlen(p->key)) & mask;
        while (slots[i]) i = (i + 1) & mask;
        slots[i] = p;
    }
    for (const hub_json *m = merges->first; m && ok; m = m->next, done++) {
        const char *half[2] = { NULL, NULL };
        size_t length[2] = { 0, 0 };
        if (m->type == HUB_ARRAY && m->count == 2 && m->first->type == HUB_STRING &&
            m->first->next->type == HUB_STRING)
            for (int i = 0; i < 2; i++) {
                const hub_json *part = i ? m->first->next : m->first;
                half[i] = part->text;
                length[i] = part->length;
            }
        else if (m->type == HUB_STRING && strchr(m->text + (m->length > 0), ' ')) {
            const char *blank = strchr(m->text + 1, ' ');
            half[0] = m->text;  length[0] = (size_t)(blank - m->text);
            half[1] = blank + 1;  length[1] = m->length - length[0] - 1;
        }
        for (int i = 0; i < 2; i++) {
            const hub_json *found = NULL;
            size_t at = half[i] ? (size_t)hub_hash(half[i], length[i]) & mask : 0;
            for (; half[i] && slots[at] && !found; at = (at + 1) & mask)
                if (strlen(slots[at]->key) == length[i] && !memcmp(slots[at]->key, half[i], length[i]))
                    found = slots[at];
            if (!found) ok = 0;
            else h->merge[2 * done + i] = (int32_t)found->number;
        }
    }
    free(slots);
    h->v.merges = done;
    return ok ? 1 : hub_refuse(h, "a merge of what is not in its vocabulary", NULL);
}

static int hub_added(hub_vocabulary *h, const hub_json *added)
{
    for (const hub_json *a = added ? added->first : NULL; a; a = a->next) {
        const hub_json *id = hub_get(a, "id"), *content = hub_get(a, "content");
        if (!id || id->type != HUB_NUMBER || !content || content->type != HUB_STRING)
            return hub_refuse(h, "an added token without id and content", NULL);
        if (!hub_piece(h, id->number, content->text, content->length,
                       hub_true(hub_get(a, "special")) ? GLAM_PIECE_CONTROL : GLAM_PIECE_ADDED, 0))
            return 0;
    }
    return 1;
}

static int hub_from_json(hub_vocabulary *h, const hub_json *root)
{
    const hub_json *model = hub_get(root, "model"), *vocab = hub_get(model, "vocab");
    const hub_json *merges = hub_get(model, "merges"), *type = hub_get(model, "type");
    int bytes = 0;
    if (!hub_is(type, "BPE") && !(type == NULL && merges))
        return hub_refuse(h, "a model of the type", hub_text(type));
    if (!vocab || vocab->type != HUB_OBJECT || !merges || merges->type != HUB_ARRAY)
        return hub_refuse(h, "a model without vocab and merges", NULL);
    if (!hub_normalizer(h, hub_get(root, "normalizer")) ||
        !hub_pre_tokenizer(h, hub_get(root, "pre_tokenizer"), &bytes) ||
        !hub_merges(h, vocab, merges)) return 0;
    if (bytes && h->v.split == GLAM_SPLIT_NONE)
        return hub_refuse(h, "a text of bytes that is not cut into words", NULL);
    h->v.whole_words = hub_true(hub_get(model, "ignore_merges"));
    for (const hub_json *p = vocab->first; p; p = p->next) {
        char *text = (char *)p->key;                     // ours, and not needed any more
        size_t n = strlen(text);
        int byte = bytes ? -1 : hub_byte(text, n), kind = GLAM_PIECE_NORMAL;
        char one = (char)(unsigned char)byte;
        if (p->type != HUB_NUMBER) return hub_refuse(h, "a piece without an id", NULL);
        if (byte >= 0) { text = &one; n = 1; kind = GLAM_PIECE_BYTE; }
        else if (!bytes) n = hub_blanks(text, n);
        else if (hub_letters_to_bytes(text, &n)) kind = GLAM_PIECE_UNUSED;   // an added one, mostly
        if (!hub_piece(h, p->number, text, n, kind, 0)) return 0;
    }
    hub_begin(h, hub_get(root, "post_processor"));
    return hub_added(h, hub_get(root, "added_tokens"));
}

// ---- tokenizer.model: a protocol buffer

typedef struct hub_field { int number, wire; uint64_t value; const unsigned char *data; } hub_field;

// The next field of [*p, end); 0 at the end, -1 where it is damaged.
static int hub_next_field(const unsigned char **p, const unsigned char *end, hub_field *f)
{
    uint64_t part[2] = { 0, 0 };
    if (*p >= end) return 0;
    for (int i = 0; i < 2; i++) {
        int shift = 0;
        if (i && (part[0] & 7) != 0 && (part[0] & 7) != 2) break;
        do {
            if (*p >= end || shift > 63) return -1;
            part[i] |= (uint64_t)(**p & 0x7f) << shift;
            shift += 7;
        } while (*(*p)++ & 0x80);
    }
    f->number = (int)(part[0] >> 3 & 0xffffff);
    f->wire = (int)(part[0] & 7);
    f->value = part[1];
    f->data = *p;
    uint64_t skip = f->wire == 2 ? f->value : f->wire == 5 ? 4 : f->wire == 1 ? 8 : 0;
    if (f->wire == 3 || f->wire == 4 || f->wire > 5 || skip > (uint64_t)(end - *p)) return -1;
    *p += skip;
    return 1;
}

static float hub_float(const unsigned char *p)
{
    uint32_t bits = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static int hub_model_piece(hub_vocabulary *h, const hub_field *whole, double id)
{
    static const int kinds[] = { GLAM_PIECE_NORMAL, GLAM_PIECE_NORMAL, GLAM_PIECE_CONTROL,
        GLAM_PIECE_CONTROL, GLAM_PIECE_ADDED, GLAM_PIECE_UNUSED, GLAM_PIECE_BYTE };
    const unsigned char *p = whole->data, *end = p + whole->value, *text = p;
    uint64_t type = 1, bytes = 0;
    float score = 0;
    hub_field f;
    int more;
    while ((more = hub_next_field(&p, end, &f)) > 0) {
        if (f.number == 1 && f.wire == 2) { text = f.data; bytes = f.value; }
        if (f.number == 2 && f.wire == 5) score = hub_float(f.data);
        if (f.number == 3 && f.wire == 0) type = f.value;
    }
    if (more < 0 || type > 6) return hub_refuse(h, "a piece that is damaged", NULL);
    char *copy = (char *)malloc((size_t)bytes + 1);
    if (!copy) return hub_refuse(h, "a piece of that length", NULL);
    memcpy(copy, text, (size_t)bytes);
    size_t n = type == 6 ? 1 : hub_blanks(copy, (size_t)bytes);
    if (type == 6) copy[0] = (char)(unsigned char)hub_byte((const char *)text, (size_t)bytes);
    int ok = hub_piece(h, id, copy, n, kinds[type], score);
    free(copy);
    return ok;
}

static int hub_model_settings(hub_vocabulary *h, const hub_field *whole, int trainer)
{
    const unsigned char *p = whole->data, *end = p + whole->value;
    hub_field f;
    int more, dummy = 1, squeeze = 1;
    uint64_t type = 1;
    while ((more = hub_next_field(&p, end, &f)) > 0) {
        if (trainer && f.number == 3) type = f.value;
        if (trainer && f.number == 41) h->v.begin = (int32_t)f.value;
        if (trainer && f.number == 42) h->v.end = (int32_t)f.value;
        if (!trainer && f.number == 2 && f.value) return hub_refuse(h, "a table of characters", NULL);
        if (!trainer && f.number == 3) dummy = f.value != 0;
        if (!trainer && f.number == 4) squeeze = f.value != 0;
    }
    if (more < 0) return hub_refuse(h, "a field that is damaged", NULL);
    if (trainer && type != 2) return hub_refuse(h, "a model that is not BPE", NULL);
    if (!trainer && squeeze) return hub_refuse(h, "the removal of blanks", NULL);
    if (!trainer) h->v.blank_before = dummy;
    return 1;
}

static int hub_from_model(hub_vocabulary *h, const char *file, size_t bytes)
{
    const unsigned char *p = (const unsigned char *)file, *end = p + bytes;
    hub_field f;
    int more, id = 0;
    h->v.begin = 1;
    h->v.end = 2;                                // SentencePiece's own defaults
    while ((more = hub_next_field(&p, end, &f)) > 0) {
        if (f.wire != 2) continue;
        if (f.number == 1 && !hub_model_piece(h, &f, id++)) return 0;
        if ((f.number == 2 || f.number == 3) && !hub_model_settings(h, &f, f.number == 2)) return 0;
    }
    return more == 0 ? 1 : hub_refuse(h, "what is neither JSON nor a SentencePiece model", NULL);
}

glam_tokenizer *hub_tokenizer_open(glam_ctx *ctx, const char *path)
{
    size_t bytes;
    char *file = hub_read_file(ctx, path, &bytes);
    hub_vocabulary h;
    glam_tokenizer *t = NULL;
    memset(&h, 0, sizeof h);
    h.ctx = ctx;
    h.path = path;
    h.v.begin = h.v.end = -1;
    if (file && bytes && file[strspn(file, " \t\r\n")] == '{') {
        hub_json *root = hub_json_parse(ctx, path, file, bytes);
        if (root && hub_from_json(&h, root)) t = hub_vocabulary_finish(&h);
        hub_json_free(root);
    } else if (file && hub_from_model(&h, file, bytes)) t = hub_vocabulary_finish(&h);
    hub_vocabulary_free(&h);
    hub_free_file(file);
    return t;
}

// ---- writing tokenizer.json

static void hub_put_text(FILE *f, const char *text, size_t bytes)
{
    fputc('"', f);
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') fprintf(f, "\\%c", c);
        else if (c < 32) fprintf(f, "\\u%04x", c);
        else fputc(c, f);
    }
    fputc('"', f);
}

// A piece in the letters that stand for its bytes.
static void hub_put_letters(FILE *f, const char *bytes, size_t count)
{
    unsigned letter[256];
    char text[8];
    hub_byte_letters(letter);
    fputc('"', f);
    for (size_t i = 0; i < count; i++) {
        unsigned c = letter[(unsigned char)bytes[i]];
        if (c == '"' || c == '\\') fputc('\\', f);
        *hub_put_utf8(text, c) = 0;
        fputs(text, f);
    }
    fputc('"', f);
}

static void hub_put_split(FILE *f, glam_split split)
{
    const char *expression = NULL;
    fputs("\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[", f);
    for (int i = 0; i < HUB_SPLITS && !expression; i++)
        if (hub_splits[i].split == split && split != GLAM_SPLIT_GPT2)
            expression = hub_splits[i].expression;
    if (split == GLAM_SPLIT_DIGITS) fputs("{\"type\":\"Digits\",\"individual_digits\":true},", f);
    if (expression) {
        fputs("{\"type\":\"Split\",\"pattern\":{\"Regex\":", f);
        hub_put_text(f, expression, strlen(expression));
        fputs("},\"behavior\":\"Isolated\",\"invert\":false},", f);
    }
    fprintf(f, "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"
            "\"use_regex\":%s}]},", expression ? "false" : "true");
}

static void hub_put_vocabulary(FILE *f, const glam_tokenizer *t)
{
    const glam_vocabulary *v = glam_tokenizer_vocabulary(t);
    int bytes, some = 0;
    fputs("{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[", f);
    for (int i = 0; i < v->size; i++) {
        int kind = v->kinds ? v->kinds[i] : (int)GLAM_PIECE_NORMAL;
        if (kind != GLAM_PIECE_CONTROL && kind != GLAM_PIECE_ADDED) continue;
        const char *piece = glam_tokenizer_piece(t, i, &bytes);
        fprintf(f, "%s{\"id\":%d,\"content\":", some++ ? "," : "", i);
        hub_put_text(f, piece, (size_t)bytes);
        fprintf(f, ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,"
                "\"special\":%s}", kind == GLAM_PIECE_CONTROL ? "true" : "false");
    }
    fprintf(f, "],\"normalizer\":%s,", v->composed ? "{\"type\":\"NFC\"}" : "null");
    hub_put_split(f, v->split);
    fputs("\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
          "\"trim_offsets\":true,\"use_regex\":true},\"model\":{\"type\":\"BPE\",\"dropout\":null,"
          "\"unk_token\":null,\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
          "\"fuse_unk\":false,\"byte_fallback\":false,", f);
    fprintf(f, "\"ignore_merges\":%s,\"vocab\":{", v->whole_words ? "true" : "false");
    some = 0;
    for (int i = 0; i < v->size; i++) {
        const char *piece = glam_tokenizer_piece(t, i, &bytes);
        if (v->kinds && v->kinds[i] != GLAM_PIECE_NORMAL) continue;
        if (some++) fputc(',', f);
        hub_put_letters(f, piece, (size_t)bytes);
        fprintf(f, ":%d", i);
    }
    fputs("},\"merges\":[", f);
    for (int i = 0; i < v->merges; i++)
        for (int half = 0; half < 2; half++) {
            const char *piece = glam_tokenizer_piece(t, v->merge[2 * i + half], &bytes);
            fputs(half ? "," : i ? ",[" : "[", f);
            hub_put_letters(f, piece, (size_t)bytes);
            if (half) fputc(']', f);
        }
    fputs("]}}\n", f);
}

glam_status hub_tokenizer_save(glam_ctx *ctx, const glam_tokenizer *t, const char *path)
{
    const glam_vocabulary *v = glam_tokenizer_vocabulary(t);
    if (glam_error(ctx)) return glam_error(ctx);
    if (!v || v->split == GLAM_SPLIT_NONE || v->blank_before)
        return glam_fail(ctx, GLAM_ERR_VALUE, "%s: only byte-level tokenizers are written", path);
    FILE *f = fopen(path, "wb");
    if (f) hub_put_vocabulary(f, t);
    int bad = !f || ferror(f);
    if (f && fclose(f)) bad = 1;
    return bad ? glam_fail(ctx, GLAM_ERR_FILE, "%s: cannot be written: %s", path, strerror(errno))
               : GLAM_OK;
}

#endif
