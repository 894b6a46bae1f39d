/* glam_hub.h - folders of other people's models for glam.h: weights (safetensors, whole or in shards;
   F32, F16, BF16) of the families llama, mistral, qwen3, mixtral, granitemoe, olmoe and qwen3_moe,
   read and written; tokenizers (tokenizer.json of byte-level and SentencePiece-like BPE,
   tokenizer.model of SentencePiece).

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
    size_t at, end;                // of the value in the text that was parsed
    double number;
    int count;                     // members
    struct hub_json *first, *next;
} hub_json;

// A file, whole; NULL and an error: it cannot be read.  hub_free_file gives it back.
char *hub_read_file(glam_ctx *ctx, const char *path, size_t *bytes);
void  hub_free_file(char *block);
// Parses in place: text must stay, and ends in a zero.  Free with hub_json_free.
hub_json *hub_json_parse(glam_ctx *ctx, const char *path, char *text, size_t bytes);
// The same without a context; NULL: *wrong says what, *at at which byte.  halves: half of a pair of \u
// is U+FFFD, as in what people have collected, and not wrong.
hub_json *hub_json_read(char *text, size_t bytes, int halves, const char **wrong, size_t *at);
void hub_json_free(hub_json *root);
// The member of that name, the last where there are more; NULL where there is none (or no object).
const hub_json *hub_get(const hub_json *object, const char *name);

// The tokenizer in a tokenizer.json or tokenizer.model, by the file's content.
glam_tokenizer *hub_tokenizer_open(glam_ctx *ctx, const char *path);
// A tokenizer as tokenizer.json, which the package tokenizers reads.
glam_status hub_tokenizer_save(glam_ctx *ctx, const glam_tokenizer *tokenizer, const char *path);

// A model from a folder with config.json, weights, and a tokenizer if there is one.  Called after
// each tensor: done of all.
typedef void hub_progress(void *user, int done, int all);
glam_model *hub_import(glam_ctx *ctx, const char *folder, hub_progress *progress, void *user);
// Into a folder that is there: config.json, model.safetensors (F32), tokenizer.json.
// GLAM_ERR_VALUE: no family has this model's mathematics.
glam_status hub_export(const glam_model *model, const char *folder);

// An adapter (LoRA) onto a model of its family: a folder of PEFT, with adapter_config.json and
// adapter_model.safetensors, its experts one by one or stacked.  All of it is looked at before the
// model changes.
glam_status hub_import_adapter(glam_model *model, const char *folder);
// The adapters of a model, into a folder that is there: as PEFT reads them.
glam_status hub_export_adapter(const glam_model *model, const char *folder);
// The same as a file for llama.cpp.
glam_status hub_export_gguf_adapter(const glam_model *model, const char *path);

// The name of the file that is being written and has not its own yet, or NULL: for a handler of
// signals, which may remove it.
const char *hub_unfinished(void);

#endif

#ifdef GLAM_HUB_IMPLEMENTATION

#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#include <io.h>
#include <process.h>
#define HUB_BINARY O_BINARY
#else
#include <unistd.h>
#define HUB_BINARY 0
#endif

// ---- files and JSON

// Files past 2 GB too.
#ifdef _WIN32
static int hub_seek(FILE *f, uint64_t at) { return _fseeki64(f, (int64_t)at, SEEK_SET); }
static int64_t hub_tell(FILE *f) { return _ftelli64(f); }
#else
static int hub_seek(FILE *f, uint64_t at) { return fseeko(f, (off_t)at, SEEK_SET); }
static int64_t hub_tell(FILE *f) { return (int64_t)ftello(f); }
#endif

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
    int depth, halves;
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
        if (c >= 0xd800 && c < 0xe000) {
            int low = c < 0xdc00 && p->end - p->at > 6 && p->at[0] == '\\' && p->at[1] == 'u'
                    ? hub_hex4(p->at + 2, p->end) : -1;
            int whole = low >= 0xdc00 && low < 0xe000;
            if (!whole && !p->halves) { p->wrong = "half a pair of \\u"; return NULL; }
            c = whole ? 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00) : 0xfffd;
            if (whole) p->at += 6;
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
            if (p->at >= p->end || *p->at != '"') { p->wrong = "a member without a name"; return; }
            p->at++;
            if (!(key = hub_string(p, &length))) return;
            hub_space(p);
            if (p->at >= p->end || *p->at != ':') { p->wrong = "a name without a value"; return; }
            p->at++;
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
        p->wrong = p->at >= p->end ? "a list without an end" : close == '}' ? "neither , nor } behind a value"
                                                                            : "neither , nor ] behind a value";
    }
}

static size_t hub_digits(const char *text)
{ return strspn(text, "0123456789"); }

// The bytes of the number that a text begins with; 0: it does not.
static size_t hub_number_length(const char *text)
{
    size_t at = *text == '-', digits = text[at] == '0' ? 1 : hub_digits(text + at);
    if (!digits) return 0;
    at += digits;
    if (text[at] == '.') {
        if (!(digits = hub_digits(text + at + 1))) return 0;
        at += 1 + digits;
    }
    if (text[at] != 'e' && text[at] != 'E') return at;
    at += 1 + (text[at + 1] == '-' || text[at + 1] == '+');
    return (digits = hub_digits(text + at)) ? at + digits : 0;
}

// A number, its text and its value, whatever the host's locale writes for a point.
static double hub_decimal(hub_parser *p, hub_json *n)
{
    char few[80], point[8];
    size_t length = hub_number_length(p->at), whole = strcspn(p->at, "."), at = length;
    char *text = length < 64 ? few : (char *)malloc(length + sizeof point);
    if (!length || !text) { p->wrong = length ? "too much" : "a number that is none"; return 0; }
    n->text = p->at;
    n->length = length;
    memcpy(text, p->at, length);
    if (whole < length) {
        at = (size_t)snprintf(point, sizeof point, "%.1f", 0.5) - 2;      // "0.5", or "0,5"
        memcpy(text + whole, point + 1, at);
        memcpy(text + whole + at, p->at + whole + 1, length - whole - 1);
        at += length - 1;
    }
    text[at] = 0;
    p->at += length;
    double value = strtod(text, NULL);
    if (text != few) free(text);
    return value;
}

static hub_json *hub_value(hub_parser *p)
{
    static const struct { const char *word; hub_type type; } words[] = {
        {"null", HUB_NULL}, {"false", HUB_FALSE}, {"true", HUB_TRUE} };
    hub_json *n = (hub_json *)calloc(1, sizeof *n);
    hub_space(p);
    if (!n || ++p->depth > 200) { p->wrong = n ? "too deep a nesting" : "too much"; free(n); return NULL; }
    char c = p->at < p->end ? *p->at : 0;
    n->at = (size_t)(p->at - p->start);
    if (c == '{' || c == '[') {
        n->type = c == '{' ? HUB_OBJECT : HUB_ARRAY;
        hub_members(p, n, c == '{' ? '}' : ']');
    } else if (c == '"') {
        n->type = HUB_STRING;
        p->at++;
        n->text = hub_string(p, &n->length);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        n->type = HUB_NUMBER;
        n->number = hub_decimal(p, n);
    } else {
        size_t i = 0, many = sizeof words / sizeof *words;
        while (i < many && strncmp(p->at, words[i].word, strlen(words[i].word))) i++;
        if (i == many) p->wrong = "what is no value";
        else { n->type = words[i].type; p->at += strlen(words[i].word); }
    }
    p->depth--;
    n->end = (size_t)(p->at - p->start);
    if (p->wrong) { hub_json_free(n); return NULL; }
    return n;
}

hub_json *hub_json_parse(glam_ctx *ctx, const char *path, char *text, size_t bytes)
{
    const char *wrong;
    size_t at;
    hub_json *root = hub_json_read(text, bytes, 0, &wrong, &at);
    if (!root)
        glam_fail(ctx, GLAM_ERR_FORMAT, "%s: is no JSON: byte %.0f has %s", path, (double)at, wrong);
    return root;
}

hub_json *hub_json_read(char *text, size_t bytes, int halves, const char **wrong, size_t *at)
{
    hub_parser p = { text, text + bytes, text, NULL, 0, halves };
    hub_json *root = hub_value(&p);
    if (root) hub_space(&p);
    if (root && p.at != p.end) { p.wrong = "something after its end"; hub_json_free(root); root = NULL; }
    *wrong = p.wrong;
    *at = (size_t)(p.at - p.start);
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
    const hub_json *found = NULL;
    for (const hub_json *m = object && object->type == HUB_OBJECT ? object->first : NULL; m; m = m->next)
        if (strcmp(m->key, name) == 0) found = m;
    return found;
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
    size_t n = hub_blanks(copy, count);     // an added one may be there as the vocabulary has it
    int same = h->pieces[id] && h->lengths[id] == n && !memcmp(copy, h->pieces[id], n);
    memcpy(copy, bytes, count);
    if (h->pieces[id] && !same && (h->lengths[id] != count || memcmp(copy, h->pieces[id], count))) {
        free(copy);
        char text[40];
        snprintf(text, sizeof text, "that two pieces share the id %d", id);
        return hub_refuse(h, text, NULL);
    }
    free(h->pieces[id]);
    h->pieces[id] = copy;
    h->lengths[id] = count;
    h->kinds[id] = (uint8_t)kind;
    h->scores[id] = score;
    if (id >= h->v.size) h->v.size = id + 1;
    return 1;
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
enum { HUB_SPLITS = sizeof hub_splits / sizeof *hub_splits, HUB_DEEPSEEK = 1200 };

// deepseek-llm's own list of letters: from, to, from, to ...
static const unsigned hub_deepseek_letters[] = {
    0x41, 0x5a, 0x61, 0x7a, 0xb5, 0xb5, 0xc0, 0xd6, 0xd8, 0xf6, 0xf8, 0x1ba, 0x1bc, 0x1bf, 0x1c4, 0x293, 0x295, 0x2af,
    0x370, 0x373, 0x376, 0x377, 0x37b, 0x37d, 0x37f, 0x37f, 0x386, 0x386, 0x388, 0x38a, 0x38c, 0x38c, 0x38e, 0x3a1,
    0x3a3, 0x3f5, 0x3f7, 0x481, 0x48a, 0x52f, 0x531, 0x556, 0x10a0, 0x10c5, 0x13a0, 0x13f5, 0x13f8, 0x13fd, 0x1c90,
    0x1cba, 0x1cbd, 0x1cbf, 0x1d00, 0x1d2b, 0x1d6b, 0x1d77, 0x1d79, 0x1d9a, 0x1e00, 0x1f15, 0x1f18, 0x1f1d, 0x1f20,
    0x1f45, 0x1f48, 0x1f4d, 0x1f50, 0x1f57, 0x1f59, 0x1f59, 0x1f5b, 0x1f5b, 0x1f5d, 0x1f5d, 0x1f5f, 0x1f7d, 0x1f80,
    0x1fb4, 0x1fb6, 0x1fbc, 0x1fbe, 0x1fbe, 0x1fc2, 0x1fc4, 0x1fc6, 0x1fcc, 0x1fd0, 0x1fd3, 0x1fd6, 0x1fdb, 0x1fe0,
    0x1fec, 0x1ff2, 0x1ff4, 0x1ff6, 0x1ffc, 0x2102, 0x2102, 0x2107, 0x2107, 0x210a, 0x2113, 0x2115, 0x2115, 0x2119,
    0x211d, 0x2124, 0x2124, 0x2126, 0x2126, 0x2128, 0x2128, 0x212a, 0x212d, 0x212f, 0x2134, 0x2139, 0x2139, 0x213c,
    0x213f, 0x2145, 0x2149, 0x214e, 0x214e, 0x2183, 0x2184, 0x2c00, 0x2c7b, 0x2c7e, 0x2ce4, 0x2ceb, 0x2cee, 0x2cf2,
    0x2cf3, 0xa640, 0xa66d, 0xa680, 0xa69b, 0xa722, 0xa76f, 0xa771, 0xa787, 0xa78b, 0xa78e, 0xab70, 0xabbf, 0xfb00,
    0xfb06, 0xfb13, 0xfb17, 0xff21, 0xff3a, 0xff41, 0xff5a, 0x10400, 0x1044f, 0x104b0, 0x104d3, 0x104d8, 0x104fb,
    0x10c80, 0x10cb2, 0x10cc0, 0x10cf2, 0x118a0, 0x118df, 0x1e900, 0x1e943 };

// DeepSeek cuts by several expressions, one within the words of the other: all of them, \1 behind each.
static void hub_deepseek(glam_split split, char *to)
{
    const unsigned *letters = hub_deepseek_letters;
    const int coder = split == GLAM_SPLIT_DEEPSEEK_CODER;
    to += sprintf(to, "[\r\n]\1\\s?%s", coder ? "\\p{L}+\1\\s?\\p{P}+\1" : "[");
    for (size_t i = 0; !coder && i < sizeof hub_deepseek_letters / sizeof *letters; i += 2) {
        to = hub_put_utf8(to, letters[i]);
        if (letters[i] != letters[i + 1]) {
            *to++ = '-';
            to = hub_put_utf8(to, letters[i + 1]);
        }
    }
    if (!coder) to += sprintf(to, "]+\1\\s?[!-/:-~\xef\xbc\x81-\xef\xbc\x8f\xef\xbc\x9a-\xef\xbd\x9e\xe2\x80\x98-"
                              "\xe2\x80\x9f\xe3\x80\x80-\xe3\x80\x82]+\1\\s+$\1");
    sprintf(to, "[\xe4\xb8\x80-\xe9\xbe\xa5\xe0\xa0\x80-\xe4\xb8\x80\xea\xb0\x80-\xed\x9f\xbf]+\1");
}

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

// The steps from `s` on, if they are DeepSeek's; returns the one behind them, else s.
static const hub_json *hub_deepseek_steps(hub_vocabulary *h, const hub_json *s, int *digits)
{
    for (int split = GLAM_SPLIT_DEEPSEEK; split <= GLAM_SPLIT_DEEPSEEK_CODER; split++) {
        char wanted[HUB_DEEPSEEK], *part = wanted;
        const hub_json *step = s;
        hub_deepseek((glam_split)split, wanted);
        for (char *end; step && *part; part = end + 1, step = step->next) {
            const hub_json *regex = hub_get(hub_get(step, "pattern"), "Regex");
            *(end = strchr(part, 1)) = 0;
            if (!hub_is(hub_get(step, "type"), "Split") ||
                !(hub_is(regex, part) || (part == wanted && hub_is(regex, "[\\r\\n]")))) break;
        }
        if (*part || !step || !(hub_is(hub_get(step, "type"), "Digits") || hub_is(hub_get(step, "type"), "Split")))
            continue;
        if (!hub_pre_step(h, step, digits, digits)) return NULL;
        if (*digits) h->v.split = (glam_split)split;
        return *digits ? step->next : s;
    }
    return s;
}

static int hub_pre_tokenizer(hub_vocabulary *h, const hub_json *p, int *bytes)
{
    int digits = 0;
    if (!p || p->type == HUB_NULL) return 1;
    if (!hub_is(hub_get(p, "type"), "Sequence")) return hub_pre_step(h, p, &digits, bytes);
    const hub_json *steps = hub_get(p, "pretokenizers"), *first = steps ? steps->first : NULL;
    for (const hub_json *s = hub_deepseek_steps(h, first, &digits); s; s = s->next)
        if (!hub_pre_step(h, s, &digits, bytes)) return 0;
    return !glam_error(h->ctx);
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
    h->v.begin = 1;                              // SentencePiece's own defaults
    if (h->v.end < 0) h->v.end = 2;
    while ((more = hub_next_field(&p, end, &f)) > 0) {
        if (f.wire != 2) continue;
        if (f.number == 1 && !hub_model_piece(h, &f, id++)) return 0;
        if ((f.number == 2 || f.number == 3) && !hub_model_settings(h, &f, f.number == 2)) return 0;
    }
    return more == 0 ? 1 : hub_refuse(h, "what is neither JSON nor a SentencePiece model", NULL);
}

static glam_tokenizer *hub_tokenizer_read(glam_ctx *ctx, const char *path, int32_t end)
{
    size_t bytes;
    char *file = hub_read_file(ctx, path, &bytes);
    hub_vocabulary h;
    glam_tokenizer *t = NULL;
    memset(&h, 0, sizeof h);
    h.ctx = ctx;
    h.path = path;
    h.v.begin = -1;
    h.v.end = end;
    if (file && bytes && file[strspn(file, " \t\r\n")] == '{') {
        hub_json *root = hub_json_parse(ctx, path, file, bytes);
        if (root && hub_from_json(&h, root)) t = hub_vocabulary_finish(&h);
        hub_json_free(root);
    } else if (file && hub_from_model(&h, file, bytes)) t = hub_vocabulary_finish(&h);
    hub_vocabulary_free(&h);
    hub_free_file(file);
    return t;
}

glam_tokenizer *hub_tokenizer_open(glam_ctx *ctx, const char *path)
{ return hub_tokenizer_read(ctx, path, -1); }

// ---- writing

// A file that gets its name when it is whole; until then it has one that no other process takes.
typedef struct hub_out { const char *path; char *fresh; FILE *file; } hub_out;

static const char *volatile hub_fresh;           // of the file that is being written, or NULL

const char *hub_unfinished(void) { return hub_fresh; }

static FILE *hub_create(glam_ctx *ctx, const char *path, hub_out *o)
{
    size_t room = (path ? strlen(path) : 0) + 32;
    memset(o, 0, sizeof *o);
    o->path = path;
    o->fresh = path && !glam_error(ctx) ? (char *)malloc(room) : NULL;
    for (int i = 0; o->fresh && !o->file && i < 1000; i++) {
        // a name of this process, told before the file is there: a signal may come at once
        hub_fresh = NULL;
        snprintf(o->fresh, room, "%s.%ld.part", path, (long)getpid() + i);
        hub_fresh = o->fresh;
        int handle = open(o->fresh, O_WRONLY | O_CREAT | O_EXCL | HUB_BINARY, 0666);
        if (handle >= 0 && !(o->file = fdopen(handle, "wb"))) { close(handle); remove(o->fresh); }
        if (handle < 0 && errno != EEXIST) break;
    }
    if (!o->file) {
        glam_fail(ctx, GLAM_ERR_FILE, "%s: cannot be written: %s", path ? path : "a file", strerror(errno));
        hub_fresh = NULL;
        free(o->fresh);
    }
    return o->file;
}

// ok 0: it is thrown away.
static void hub_finish(glam_ctx *ctx, hub_out *o, int ok)
{
    int bad = !ok || ferror(o->file);
    if (fclose(o->file)) bad = 1;
#ifdef _WIN32
    if (!bad) remove(o->path);                   // it renames over nothing
#endif
    if (!bad && rename(o->fresh, o->path)) bad = 1;
    if (bad) glam_fail(ctx, GLAM_ERR_FILE, "%s: cannot be written: %s", o->path, strerror(errno));
    if (bad) remove(o->fresh);
    hub_fresh = NULL;
    free(o->fresh);
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

static void hub_put_step(FILE *f, const char *expression, size_t bytes)
{
    fputs("{\"type\":\"Split\",\"pattern\":{\"Regex\":", f);
    hub_put_text(f, expression, bytes);
    fputs("},\"behavior\":\"Isolated\",\"invert\":false},", f);
}

static void hub_put_split(FILE *f, glam_split split)
{
    const char *expression = NULL;
    char steps[HUB_DEEPSEEK] = "";
    fputs("\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[", f);
    for (int i = 0; i < HUB_SPLITS && !expression; i++)
        if (hub_splits[i].split == split && split != GLAM_SPLIT_GPT2)
            expression = hub_splits[i].expression;
    if (split >= GLAM_SPLIT_DEEPSEEK) hub_deepseek(split, steps);
    for (char *part = steps, *end; *part; part = end + 1) {
        end = strchr(part, 1);
        hub_put_step(f, part, (size_t)(end - part));
    }
    if (split == GLAM_SPLIT_DIGITS || *steps)
        fputs("{\"type\":\"Digits\",\"individual_digits\":true},", f);
    if (expression) hub_put_step(f, expression, strlen(expression));
    fprintf(f, "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"
            "\"use_regex\":%s}]},", expression || *steps ? "false" : "true");
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
    hub_out out;
    FILE *f = hub_create(ctx, path, &out);
    if (f) {
        hub_put_vocabulary(f, t);
        hub_finish(ctx, &out, 1);
    }
    return glam_error(ctx);
}

// ---- folders: config.json, the tensors of all shards

typedef struct hub_entry {
    const char *name;              // in its shard's header
    int type, dims, shard, used;   // type: index into hub_types
    uint64_t size[4], begin;       // begin: from the start of the file
} hub_entry;

static const struct { const char *name; int bytes; } hub_types[] = {
    {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"other", 0} };
enum { HUB_F32, HUB_F16, HUB_BF16, HUB_OTHER };

typedef struct hub_shard { char *path, *header; hub_json *json; FILE *file; } hub_shard;

typedef struct hub_folder {
    glam_ctx *ctx;
    const char *path;
    hub_shard *shards;
    int shard_count;
    hub_entry *entries;
    int entry_count, entry_room;
    unsigned char *chunk;          // HUB_CHUNK bytes
} hub_folder;

enum { HUB_CHUNK = 1 << 20 };

static char *hub_joined(const char *folder, const char *name)
{
    size_t n = strlen(folder), m = strlen(name);
    char *path = (char *)malloc(n + m + 2);
    if (!path) return NULL;
    memcpy(path, folder, n);
    path[n] = '/';
    memcpy(path + n + (n && folder[n - 1] != '/'), name, m + 1);
    return path;
}

static int hub_wrong(hub_folder *f, const char *what, const char *name)
{
    glam_fail(f->ctx, GLAM_ERR_FORMAT, "%s: %s%s%s", f->path, what, name ? " " : "", name ? name : "");
    return 0;
}

// A JSON file of the folder; NULL where it is not there (an error only if needed).
static hub_json *hub_open_json(hub_folder *f, const char *name, char **text, int needed)
{
    char *path = hub_joined(f->path, name);
    FILE *there = path ? fopen(path, "rb") : NULL;
    size_t bytes;
    hub_json *root = NULL;
    *text = NULL;
    if (!there && needed) hub_wrong(f, "there is no", name);
    if (there) {
        fclose(there);
        *text = hub_read_file(f->ctx, path, &bytes);
        if (*text) root = hub_json_parse(f->ctx, path, *text, bytes);
    }
    free(path);
    return root;
}

static int hub_entry_read(hub_folder *f, const hub_json *e, int shard, uint64_t data, uint64_t bytes)
{
    const hub_json *shape = hub_get(e, "shape"), *span = hub_get(e, "data_offsets");
    hub_entry out = { e->key, HUB_OTHER, 0, shard, 0, { 1, 1, 1, 1 }, 0 };
    uint64_t count = 1;
    if (!shape || shape->type != HUB_ARRAY || shape->count > 4 || !span || span->count != 2)
        return hub_wrong(f, "a shape or an offset is damaged of the tensor", e->key);
    for (int i = 0; i < 3; i++) if (hub_is(hub_get(e, "dtype"), hub_types[i].name)) out.type = i;
    for (const hub_json *d = shape->first; d; d = d->next) {
        if (d->type != HUB_NUMBER || d->number < 1 || d->number > INT32_MAX)
            return hub_wrong(f, "a shape is damaged of the tensor", e->key);
        out.size[out.dims++] = (uint64_t)d->number;
        if (count > UINT64_MAX / 8 / (uint64_t)d->number)
            return hub_wrong(f, "a shape is too large of the tensor", e->key);
        count *= (uint64_t)d->number;
    }
    double from = span->first->number, to = span->first->next->number;
    if (span->first->type != HUB_NUMBER || from < 0 || to < from || to > (double)bytes ||
        (out.type != HUB_OTHER && (uint64_t)(to - from) != count * (uint64_t)hub_types[out.type].bytes))
        return hub_wrong(f, "the offsets do not fit the file of the tensor", e->key);
    out.begin = data + (uint64_t)from;
    if (f->entry_count == f->entry_room) {
        int room = f->entry_room ? 2 * f->entry_room : 256;
        hub_entry *larger = (hub_entry *)realloc(f->entries, (size_t)room * sizeof *larger);
        if (!larger) return hub_wrong(f, "there is no memory for the list of tensors", NULL);
        f->entries = larger;
        f->entry_room = room;
    }
    f->entries[f->entry_count++] = out;
    return 1;
}

static int hub_shard_open(hub_folder *f, const char *name)
{
    hub_shard *s = (hub_shard *)realloc(f->shards, ((size_t)f->shard_count + 1) * sizeof *s);
    unsigned char raw[8];
    uint64_t length = 0;
    if (!s) return hub_wrong(f, "there is no memory for", name);
    f->shards = s;
    s += f->shard_count++;
    memset(s, 0, sizeof *s);
    s->path = hub_joined(f->path, name);
    s->file = s->path ? fopen(s->path, "rb") : NULL;
    if (!s->file) return hub_wrong(f, "the weights are not all here: there is no", name);
    long end = fseek(s->file, 0, SEEK_END) ? -1 : 0;
    uint64_t bytes = end ? 0 : (uint64_t)hub_tell(s->file);
    if (bytes < 8 || hub_seek(s->file, 0) || fread(raw, 1, 8, s->file) != 8)
        return hub_wrong(f, "no safetensors file is", name);
    for (int i = 7; i >= 0; i--) length = length << 8 | raw[i];
    if (length > 100000000 || length > bytes - 8) return hub_wrong(f, "cut off, or no safetensors file, is", name);
    s->header = (char *)malloc((size_t)length + 1);
    if (!s->header || fread(s->header, 1, (size_t)length, s->file) != length)
        return hub_wrong(f, "the header cannot be read of", name);
    s->header[length] = 0;
    s->json = hub_json_parse(f->ctx, s->path, s->header, (size_t)length);
    for (const hub_json *e = s->json ? s->json->first : NULL; e; e = e->next)
        if (strcmp(e->key, "__metadata__") &&
            !hub_entry_read(f, e, f->shard_count - 1, 8 + length, bytes - 8 - length)) return 0;
    return s->json != NULL;
}

static int hub_by_name(const void *a, const void *b)
{ return strcmp(((const hub_entry *)a)->name, ((const hub_entry *)b)->name); }

// All shards that the index names, or the one file.
static int hub_shards_open(hub_folder *f)
{
    char *text;
    hub_json *index = hub_open_json(f, "model.safetensors.index.json", &text, 0);
    const hub_json *map = hub_get(index, "weight_map");
    int ok = !glam_error(f->ctx);
    if (ok && index && (!map || map->type != HUB_OBJECT))
        ok = hub_wrong(f, "the index has no weight_map", NULL);
    for (const hub_json *w = ok && map ? map->first : NULL; w && ok; w = w->next) {
        int known = 0;
        if (w->type != HUB_STRING || strchr(w->text, '/') || strchr(w->text, '\\') || *w->text == '.')
            ok = hub_wrong(f, "the index names a file outside the folder:", hub_text(w));
        for (int i = 0; ok && i < f->shard_count; i++)
            known |= strcmp(f->shards[i].path + strlen(f->shards[i].path) - w->length, w->text) == 0;
        if (ok && !known) ok = hub_shard_open(f, w->text);
    }
    if (ok && !index) ok = hub_shard_open(f, "model.safetensors");
    if (ok) qsort(f->entries, (size_t)f->entry_count, sizeof *f->entries, hub_by_name);
    for (int i = 1; ok && i < f->entry_count; i++)
        if (strcmp(f->entries[i - 1].name, f->entries[i].name) == 0)
            ok = hub_wrong(f, "there twice is the tensor", f->entries[i].name);
    hub_json_free(index);
    hub_free_file(text);
    f->chunk = (unsigned char *)malloc(HUB_CHUNK);
    return ok && f->chunk != NULL;
}

static void hub_folder_close(hub_folder *f)
{
    for (int i = 0; i < f->shard_count; i++) {
        hub_shard *s = &f->shards[i];
        if (s->file) fclose(s->file);
        hub_json_free(s->json);
        free(s->header);
        free(s->path);
    }
    free(f->shards);
    free(f->entries);
    free(f->chunk);
}

static float hub_number(const unsigned char *p, int type)
{
    uint32_t bits = (uint32_t)p[0] | (uint32_t)p[1] << 8;
    float x;
    if (type == HUB_F32) return hub_float(p);
    if (type == HUB_BF16) bits <<= 16;
    else {                                       // half: 5 bits of exponent, 10 of fraction
        uint32_t sign = (bits & 0x8000) << 16, e = bits >> 10 & 31, m = bits & 0x3ff;
        if (e == 0) {
            x = (float)m / 16777216.0f;
            return sign ? -x : x;
        }
        bits = sign | (e == 31 ? 255u : e + 112) << 23 | m << 13;
    }
    memcpy(&x, &bits, sizeof x);
    return x;
}

// Rows [row, row + rows) of a tensor seen as rows of `columns`, into to [columns, rows], turned, or
// as they are.
static int hub_rows(hub_folder *f, const hub_entry *e, uint64_t row, uint64_t rows, uint64_t columns,
                    int turned, float *to)
{
    int size = hub_types[e->type].bytes;
    FILE *file = f->shards[e->shard].file;
    uint64_t at = row * columns, count = rows * columns;
    if (hub_seek(file, e->begin + at * (uint64_t)size)) return hub_wrong(f, "cannot be read: the tensor", e->name);
    for (uint64_t i = 0; i < count; ) {
        size_t n = (size_t)(count - i < HUB_CHUNK / 4 ? count - i : HUB_CHUNK / 4);
        if (fread(f->chunk, (size_t)size, n, file) != n)
            return hub_wrong(f, "cannot be read: the tensor", e->name);
        for (size_t k = 0; k < n; k++, i++) {
            float x = hub_number(f->chunk + k * (size_t)size, e->type);
            to[turned ? i % columns * rows + i / columns : i] = x;
        }
    }
    return 1;
}

// ---- families: what is called how

typedef enum hub_layout { HUB_DENSE, HUB_EXPERTS, HUB_FUSED } hub_layout;
typedef struct hub_family {
    const char *name, *class_name;
    hub_layout layout;
    glam_qk_norm qk_norm;
    int normalised;                // weights of the chosen sum to 1: 1, or -1: norm_topk_prob says
    const char *router, *gate, *up, *down;       // of a mixture; %d: the expert.  Fused: gate and up
                                                 // are the halves of one
    const char *width;             // the key of an expert's width
} hub_family;

static const hub_family hub_families[] = {
    {"llama", "LlamaForCausalLM", HUB_DENSE, GLAM_QK_NORM_NONE, 0, NULL, NULL, NULL, NULL, NULL},
    {"mistral", "MistralForCausalLM", HUB_DENSE, GLAM_QK_NORM_NONE, 0, NULL, NULL, NULL, NULL, NULL},
    {"qwen3", "Qwen3ForCausalLM", HUB_DENSE, GLAM_QK_NORM_HEAD, 0, NULL, NULL, NULL, NULL, NULL},
    {"mixtral", "MixtralForCausalLM", HUB_EXPERTS, GLAM_QK_NORM_NONE, 1,
     "block_sparse_moe.gate.weight", "block_sparse_moe.experts.%d.w1.weight",
     "block_sparse_moe.experts.%d.w3.weight", "block_sparse_moe.experts.%d.w2.weight",
     "intermediate_size"},
    {"granitemoe", "GraniteMoeForCausalLM", HUB_FUSED, GLAM_QK_NORM_NONE, 1,
     "block_sparse_moe.router.layer.weight", "block_sparse_moe.input_linear.weight",
     "block_sparse_moe.input_linear.weight", "block_sparse_moe.output_linear.weight",
     "intermediate_size"},
    {"olmoe", "OlmoeForCausalLM", HUB_EXPERTS, GLAM_QK_NORM_WHOLE, -1, "mlp.gate.weight",
     "mlp.experts.%d.gate_proj.weight", "mlp.experts.%d.up_proj.weight",
     "mlp.experts.%d.down_proj.weight", "intermediate_size"},
    {"qwen3_moe", "Qwen3MoeForCausalLM", HUB_EXPERTS, GLAM_QK_NORM_HEAD, -1, "mlp.gate.weight",
     "mlp.experts.%d.gate_proj.weight", "mlp.experts.%d.up_proj.weight",
     "mlp.experts.%d.down_proj.weight", "moe_intermediate_size"},
};
enum { HUB_FAMILIES = sizeof hub_families / sizeof *hub_families };

// Tensors of a block, ours and theirs; all but norms are [out,in] there and [in,out] here.
static const struct { const char *ours, *theirs; int turned; } hub_rows_of_block[] = {
    {"attn.norm", "input_layernorm.weight", 0}, {"attn.q", "self_attn.q_proj.weight", 1},
    {"attn.k", "self_attn.k_proj.weight", 1}, {"attn.v", "self_attn.v_proj.weight", 1},
    {"attn.o", "self_attn.o_proj.weight", 1}, {"attn.q_norm", "self_attn.q_norm.weight", 0},
    {"attn.k_norm", "self_attn.k_norm.weight", 0}, {"ffn.norm", "post_attention_layernorm.weight", 0},
    {"moe.norm", "post_attention_layernorm.weight", 0}, {"ffn.gate", "mlp.gate_proj.weight", 1},
    {"ffn.up", "mlp.up_proj.weight", 1}, {"ffn.down", "mlp.down_proj.weight", 1},
};

// What one of our tensors is called there, and how it lies: expert e of it (0 where it has none).
typedef struct hub_place {
    char name[160];
    int  turned, part, parts;      // fused: part of so many in the rows of an expert
    int  stacked;                  // all experts in one
    uint64_t experts, rows, columns;             // of one expert as it is there
} hub_place;

static int hub_find_place(const hub_family *y, const glam_tensor *t, int expert, hub_place *p)
{
    const char *ours = t->name, *theirs = NULL;
    int layer = -1, used = 0;
    char pattern[120];
    memset(p, 0, sizeof *p);
    p->parts = 1;
    p->experts = 1;
    p->rows = (uint64_t)t->shape.dim[0];
    p->columns = t->shape.dims > 1 ? (uint64_t)t->shape.dim[1] : 1;
    if (strcmp(ours, "embed") == 0) theirs = "model.embed_tokens.weight";
    else if (strcmp(ours, "unembed") == 0) theirs = "lm_head.weight";
    else if (strcmp(ours, "norm") == 0) theirs = "model.norm.weight";
    if (theirs) { snprintf(p->name, sizeof p->name, "%s", theirs); return 1; }
    if (sscanf(ours, "layers.%d.%n", &layer, &used) != 1 || !used) return 0;
    ours += used;
    for (size_t i = 0; i < sizeof hub_rows_of_block / sizeof *hub_rows_of_block; i++)
        if (strcmp(ours, hub_rows_of_block[i].ours) == 0) {
            theirs = hub_rows_of_block[i].theirs;
            p->turned = hub_rows_of_block[i].turned;
        }
    if (!theirs && y->router && strcmp(ours, "moe.router") == 0) { theirs = y->router; p->turned = 1; }
    const char *of[3] = { y->gate, y->up, y->down };
    static const char *const parts[3] = { "moe.gate", "moe.up", "moe.down" };
    for (int i = 0; !theirs && y->gate && i < 3; i++) {
        if (strcmp(ours, parts[i])) continue;
        theirs = of[i];
        p->turned = 1;
        p->experts = (uint64_t)t->shape.dim[0];
        p->rows = (uint64_t)t->shape.dim[1];
        p->columns = (uint64_t)t->shape.dim[2];
        p->stacked = y->layout == HUB_FUSED;
        if (p->stacked && i < 2) { p->part = i; p->parts = 2; }
        snprintf(pattern, sizeof pattern, theirs, expert);
        theirs = pattern;
    }
    if (!theirs) return 0;
    snprintf(p->name, sizeof p->name, "model.layers.%d.%s", layer, theirs);
    if (p->turned) { uint64_t out = p->columns; p->columns = p->rows; p->rows = out; }
    return 1;
}

// A matrix of theirs from a row on, as matrix e of ours.  Where ours is narrow, through a piece: some
// rows, or where it is turned all of them.
static int hub_matrix(hub_folder *f, const hub_entry *found, uint64_t row, const hub_place *p, glam_tensor *t,
                      uint64_t e)
{
    uint64_t rows = p->turned ? p->columns : p->rows, width = p->turned ? p->rows : p->columns, some = rows;
    if (t->data) return hub_rows(f, found, row, p->rows, p->columns, p->turned, t->data + e * rows * width);
    while (!p->turned && some > 1 && some * width > HUB_CHUNK) some = (some + 1) / 2;
    float *piece = (float *)malloc((size_t)(some * width) * sizeof *piece);
    int ok = piece != NULL;
    if (!ok) glam_fail(f->ctx, GLAM_ERR_MEMORY, "no memory for a piece of %s", t->name);
    for (uint64_t at = 0, n; at < rows && ok; at += n) {
        n = rows - at < some ? rows - at : some;
        ok = hub_rows(f, found, row + at, p->turned ? p->rows : n, p->columns, p->turned, piece);
        if (ok) glam_write(t, (size_t)(e * rows + at), (size_t)n, piece);
    }
    free(piece);
    return ok;
}

static int hub_fill(hub_folder *f, const hub_family *y, glam_tensor *t)
{
    hub_place p;
    for (uint64_t e = 0, experts = 1; e < experts; e++) {
        if (!hub_find_place(y, t, (int)e, &p))
            return hub_wrong(f, "this family has no tensor for ours called", t->name);
        experts = p.experts;
        hub_entry key, *found;
        key.name = p.name;
        found = (hub_entry *)bsearch(&key, f->entries, (size_t)f->entry_count, sizeof key, hub_by_name);
        if (!found) return hub_wrong(f, "the weights are not all here: there is no tensor", p.name);
        uint64_t rows = p.rows * (uint64_t)p.parts, row = p.stacked ? e * rows + (uint64_t)p.part * p.rows : 0;
        uint64_t want[3] = { p.experts, rows, p.columns };
        int from = p.stacked ? 0 : 1, dims = p.stacked ? 3 : t->shape.dims > 1 ? 2 : 1, same = found->dims == dims;
        for (int d = 0; d < dims && same; d++) same = found->size[d] == want[from + d];
        if (!same)
            return hub_wrong(f, "a shape does not fit config.json: that of the tensor", p.name);
        if (found->type == HUB_OTHER)
            return hub_wrong(f, "F32, F16 or BF16 is wanted, and is not the type of the tensor", p.name);
        found->used = 1;
        if (!hub_matrix(f, found, row, &p, t, e)) return 0;
    }
    return 1;
}

// ---- config.json

typedef struct hub_reader {
    hub_folder *f;
    const hub_json *config;
    const char *seen[96];
    int count;
    const char *file;              // NULL: config.json
} hub_reader;

static int hub_wrong_key(hub_reader *r, const char *what, const char *key)
{
    char text[120];
    snprintf(text, sizeof text, what, r->file ? r->file : "config.json");
    return hub_wrong(r->f, text, key);
}


static const hub_json *hub_key(hub_reader *r, const char *name)
{
    const hub_json *v = hub_get(r->config, name);
    if (v && r->count < 96) r->seen[r->count++] = name;
    return v && v->type == HUB_NULL ? NULL : v;
}

static double hub_value_of(hub_reader *r, const char *name, double otherwise)
{
    const hub_json *v = hub_key(r, name);
    if (v && v->type != HUB_NUMBER) hub_wrong_key(r, "a number is wanted in %s for", name);
    return v && v->type == HUB_NUMBER ? v->number : otherwise;
}

// A whole number that must be there.
static int hub_count(hub_reader *r, const char *name)
{
    double n = hub_value_of(r, name, -1);
    if (!glam_error(r->f->ctx) && (n < 1 || n > INT32_MAX || n != (double)(int)n))
        hub_wrong_key(r, "%s has no useful", name);
    return glam_error(r->f->ctx) ? 1 : (int)n;
}

static int hub_flag(hub_reader *r, const char *name, int otherwise)
{
    const hub_json *v = hub_key(r, name);
    return v ? v->type == HUB_TRUE : otherwise;
}

static void hub_rotary(hub_reader *r, glam_rotary *rotary, float theta)
{
    const hub_json *p = hub_key(r, "rope_parameters"), *old = hub_key(r, "rope_scaling");
    hub_reader in = { r->f, p ? p : old, { 0 }, 0, NULL };
    rotary->theta = (float)hub_value_of(r, "rope_theta", theta);
    if (!in.config) return;
    rotary->theta = (float)hub_value_of(&in, "rope_theta", rotary->theta);
    const hub_json *type = hub_key(&in, "rope_type");
    if (!type) type = hub_key(&in, "type");
    rotary->factor = (float)hub_value_of(&in, "factor", 1);
    rotary->context = (int)hub_value_of(&in, "original_max_position_embeddings", 0);
    if (!type || hub_is(type, "default")) rotary->scaling = GLAM_ROTARY_UNSCALED;
    else if (hub_is(type, "linear")) rotary->scaling = GLAM_ROTARY_LINEAR;
    else if (hub_is(type, "llama3")) {
        rotary->scaling = GLAM_ROTARY_LLAMA3;
        rotary->low = (float)hub_value_of(&in, "low_freq_factor", 1);
        rotary->high = (float)hub_value_of(&in, "high_freq_factor", 4);
    } else if (hub_is(type, "yarn")) {
        double scale = hub_value_of(&in, "mscale", 0), all = hub_value_of(&in, "mscale_all_dim", 0);
        double by = log(rotary->factor > 1 ? (double)rotary->factor : 1);
        rotary->scaling = GLAM_ROTARY_YARN;
        rotary->low = (float)hub_value_of(&in, "beta_slow", 1);
        rotary->high = (float)hub_value_of(&in, "beta_fast", 32);
        rotary->attention = (float)hub_value_of(&in, "attention_factor",
            scale > 0 && all > 0 ? (0.1 * scale * by + 1) / (0.1 * all * by + 1) : 0);
        if (!hub_flag(&in, "truncate", 1)) hub_wrong(r->f, "not understood in config.json is", "truncate false");
    } else hub_wrong(r->f, "not understood in config.json is the rope type", hub_text(type));
    if (rotary->scaling == GLAM_ROTARY_UNSCALED) { rotary->factor = 0; rotary->context = 0; }
}

// Keys that say nothing about the mathematics of inference and of our training.
static const char *const hub_neutral[] = {
    "architectures", "model_type", "_name_or_path", "transformers_version", "torch_dtype", "dtype",
    "use_cache", "bos_token_id", "eos_token_id", "pad_token_id", "initializer_range", "sliding_window",
    "max_window_layers", "attention_dropout", "embedding_dropout", "return_dict", "output_router_logits",
    "router_aux_loss_coef", "id2label", "label2id", "problem_type", "auto_map", "tokenizer_class",
    "chunk_size_feed_forward", "pretraining_tp", "layer_types", "max_position_embeddings",
    "_attn_implementation", "attn_implementation", "use_bfloat16", "unsloth_version", "vocab_size" };

// A key that was not asked for may only be there with a value that changes nothing.
static void hub_refuse_unknown(hub_reader *r)
{
    for (const hub_json *k = r->config->first; k && !glam_error(r->f->ctx); k = k->next) {
        int known = k->type == HUB_NULL || k->type == HUB_FALSE ||
                    (k->type == HUB_NUMBER && k->number == 0) ||
                    ((k->type == HUB_ARRAY || k->type == HUB_OBJECT) && k->count == 0);
        for (int i = 0; i < r->count && !known; i++) known = strcmp(r->seen[i], k->key) == 0;
        for (size_t i = 0; i < sizeof hub_neutral / sizeof *hub_neutral && !known; i++)
            known = strcmp(hub_neutral[i], k->key) == 0;
        if (!known) hub_wrong_key(r, "%s has a key that is not understood:", k->key);
    }
}

static void hub_refuse_others(hub_reader *r, const glam_config *c)
{
    const hub_json *act = hub_key(r, "hidden_act"), *types = hub_get(r->config, "layer_types");
    const hub_json *window = hub_get(r->config, "sliding_window");
    int slides = hub_get(r->config, "use_sliding_window") ? hub_flag(r, "use_sliding_window", 0) : 1;
    if (act && !hub_is(act, "silu") && !hub_is(act, "swish"))
        hub_wrong(r->f, "not understood in config.json is hidden_act", hub_text(act));
    if (window && window->type == HUB_NUMBER && slides && window->number < c->context)
        hub_wrong(r->f, "a sliding window shorter than the context is not understood:", "sliding_window");
    for (const hub_json *t = types ? types->first : NULL; t; t = t->next)
        if (!hub_is(t, "full_attention") && !(hub_is(t, "sliding_attention") && !slides))
            hub_wrong(r->f, "not understood in config.json is the layer type", hub_text(t));
    if (hub_value_of(r, "partial_rotary_factor", 1) != 1)
        hub_wrong(r->f, "not understood in config.json is", "partial_rotary_factor");
}

static const hub_family *hub_config(hub_folder *f, const hub_json *root, glam_config *c)
{
    hub_reader r = { f, root, { 0 }, 0, NULL };
    const hub_json *type = hub_key(&r, "model_type");
    const hub_family *y = NULL;
    for (int i = 0; i < HUB_FAMILIES; i++) if (hub_is(type, hub_families[i].name)) y = &hub_families[i];
    if (!y) {
        hub_wrong(f, "this family is not known (llama, mistral, qwen3, mixtral, granitemoe, olmoe and "
                  "qwen3_moe are):", hub_text(type));
        return NULL;
    }
    int mixtral = strcmp(y->name, "mixtral") == 0, granite = y->layout == HUB_FUSED;
    *c = glam_config_default();
    c->vocab = hub_count(&r, "vocab_size");
    c->context = hub_count(&r, "max_position_embeddings");
    c->layers = hub_count(&r, "num_hidden_layers");
    c->d_model = hub_count(&r, "hidden_size");
    c->heads = hub_count(&r, "num_attention_heads");
    c->d_head = (int)hub_value_of(&r, "head_dim", c->d_model / (double)c->heads);
    c->kv_heads = y->layout == HUB_DENSE ? (int)hub_value_of(&r, "num_key_value_heads", c->heads)
                                         : hub_count(&r, "num_key_value_heads");
    c->hidden = hub_count(&r, "intermediate_size");
    c->position = GLAM_POSITION_ROTARY;
    hub_rotary(&r, &c->rotary, mixtral ? 1e6f : 1e4f);
    c->attention_sink = 0;
    c->attention_scale = (float)(1 / sqrt((double)c->d_head));
    c->qk_norm = y->qk_norm;
    c->activation = GLAM_SWIGLU;
    c->norm_eps = (float)hub_value_of(&r, "rms_norm_eps", mixtral || strcmp(y->name, "olmoe") == 0
                                      ? 1e-5 : 1e-6);
    c->tied = hub_flag(&r, "tie_word_embeddings", 0);
    c->logit_scale = 1;
    c->z_loss = 0;
    if (granite) {
        c->attention_scale = (float)hub_value_of(&r, "attention_multiplier", 1);
        c->embed_scale = (float)hub_value_of(&r, "embedding_multiplier", 1);
        c->residual_scale = (float)hub_value_of(&r, "residual_multiplier", 1);
        c->logit_scale = (float)(1 / hub_value_of(&r, "logits_scaling", 1));
    }
    c->moe.experts = 0;
    if (y->layout != HUB_DENSE) {
        double experts = hub_value_of(&r, "num_local_experts", 0);
        if (experts < 1) experts = hub_count(&r, "num_experts");
        else hub_value_of(&r, "num_experts", 0);
        c->moe.experts = (int)experts;
        c->moe.top_k = hub_count(&r, "num_experts_per_tok");
        c->moe.hidden = hub_count(&r, y->width);
        c->moe.activation = GLAM_SWIGLU;
        c->moe.capacity_factor = 0;
        c->moe.every = (int)hub_value_of(&r, "decoder_sparse_step", 1);
        c->moe.offset = c->moe.every - 1;
        c->moe.aux_weight = (float)hub_value_of(&r, "router_aux_loss_coef", 0.001);
        int sum = y->normalised < 0 ? hub_flag(&r, "norm_topk_prob", 0) : 1;
        c->moe.normalise = sum ? GLAM_NORMALISE_BEFORE_DROP : GLAM_NORMALISE_NONE;
    }
    hub_refuse_others(&r, c);
    hub_refuse_unknown(&r);
    return glam_error(f->ctx) ? NULL : y;
}

// The end of a text: generation_config.json's, else config.json's; the first of several.
static int32_t hub_end_of(hub_folder *f, const hub_json *config)
{
    char *text;
    hub_json *more = hub_open_json(f, "generation_config.json", &text, 0);
    const hub_json *id = hub_get(more, "eos_token_id");
    if (!id || id->type == HUB_NULL) id = hub_get(config, "eos_token_id");
    if (id && id->type == HUB_ARRAY) id = id->first;
    int32_t end = id && id->type == HUB_NUMBER && id->number >= 0 && id->number < INT32_MAX
                ? (int32_t)id->number : -1;
    hub_json_free(more);
    hub_free_file(text);
    return end;
}

static void hub_take_tokenizer(hub_folder *f, glam_model *model, const hub_json *config)
{
    static const char *const names[] = { "tokenizer.json", "tokenizer.model" };
    int32_t end = hub_end_of(f, config);
    for (int i = 0; i < 2 && !glam_error(f->ctx); i++) {
        char *path = hub_joined(f->path, names[i]);
        FILE *there = path ? fopen(path, "rb") : NULL;
        glam_tokenizer *t = NULL;
        if (there) {
            fclose(there);
            t = hub_tokenizer_read(f->ctx, path, end);
        }
        free(path);
        if (!t) continue;
        glam_model_set_tokenizer(model, t);
        return;
    }
}

glam_model *hub_import(glam_ctx *ctx, const char *path, hub_progress *progress, void *user)
{
    hub_folder f;
    glam_config c;
    char *text = NULL;
    glam_model *model = NULL;
    memset(&f, 0, sizeof f);
    f.ctx = ctx;
    f.path = path;
    hub_json *config = glam_error(ctx) ? NULL : hub_open_json(&f, "config.json", &text, 1);
    const hub_family *y = config ? hub_config(&f, config, &c) : NULL;
    if (y && hub_shards_open(&f)) {
        hub_entry key;
        key.name = "lm_head.weight";
        if (!c.tied && !bsearch(&key, f.entries, (size_t)f.entry_count, sizeof key, hub_by_name)) c.tied = 1;
        model = glam_model_new(ctx, &c);
        glam_tensor *t;
        int count = 0;
        while (glam_model_tensor_at(model, count)) count++;
        for (int i = 0; model && (t = glam_model_tensor_at(model, i)) != NULL; i++) {
            if (!hub_fill(&f, y, t)) break;
            if (progress) progress(user, i + 1, count);
        }
        for (int i = 0; i < f.entry_count && !glam_error(ctx); i++)
            if (!f.entries[i].used && !strstr(f.entries[i].name, "rotary_emb.inv_freq") &&
                !(c.tied && strcmp(f.entries[i].name, "lm_head.weight") == 0))
                hub_wrong(&f, "the family has no place for the tensor", f.entries[i].name);
        if (!glam_error(ctx)) hub_take_tokenizer(&f, model, config);
    }
    hub_json_free(config);
    hub_free_file(text);
    hub_folder_close(&f);
    return glam_error(ctx) ? NULL : model;
}

// ---- the way back

// The family whose mathematics a model has; NULL: none, and why.
static const hub_family *hub_family_of(const glam_config *c, const char **why)
{
    const hub_family *y = NULL;
    double scale = 1 / sqrt((double)c->d_head);
    int plain = fabs(c->attention_scale - scale) < 1e-5 * scale && c->logit_scale == 1 &&
                c->embed_scale == 1 && c->residual_scale == 1;
    int sum = c->moe.normalise == GLAM_NORMALISE_BEFORE_DROP;
    *why = NULL;
    for (int i = 0; i < HUB_FAMILIES; i++) {
        const hub_family *f = &hub_families[i];
        if (f->qk_norm != c->qk_norm || (f->layout == HUB_DENSE) != (c->moe.experts == 0)) continue;
        if (f->layout != HUB_DENSE && f->normalised > 0 && !sum) continue;
        if (f->layout != HUB_FUSED && !plain) continue;
        if (c->moe.experts && c->moe.every != 1 && strcmp(f->name, "qwen3_moe")) continue;
        if (!y) y = f;
    }
    if (c->position != GLAM_POSITION_ROTARY) *why = "its positions are not rotary";
    else if (c->attention_sink) *why = "its attention has a sink";
    else if (c->attention_cap > 0 || c->logit_cap > 0 || c->moe.router_cap > 0) *why = "it caps logits";
    else if (((!c->moe.experts || c->moe.every > 1) && c->activation != GLAM_SWIGLU) ||
             (c->moe.experts && c->moe.activation != GLAM_SWIGLU))
        *why = "it is not SwiGLU";
    else if (c->moe.experts && (c->moe.capacity_factor > 0 || c->moe.capacity > 0))
        *why = "its experts have a capacity";
    else if (!y) *why = "no family has its mixture of scales, norms and layers";
    return *why ? NULL : y;
}

static void hub_put_real(FILE *f, const char *key, double x)
{
    char text[40];
    snprintf(text, sizeof text, "%.9g", x);
    for (char *c = text; *c; c++) if (*c == ',') *c = '.';
    fprintf(f, ",\n  \"%s\": %s%s", key, text, strpbrk(text, ".en") ? "" : ".0");
}

static void hub_put_config(FILE *f, const hub_family *y, const glam_config *c, const glam_vocabulary *v)
{
    static const char *const scalings[] = { "default", "linear", "llama3", "yarn" };
    const glam_rotary *r = &c->rotary;
    fprintf(f, "{\n  \"architectures\": [\"%s\"],\n  \"model_type\": \"%s\",\n  \"dtype\": \"float32\","
            "\n  \"hidden_act\": \"silu\"", y->class_name, y->name);
    const struct { const char *key; int value; } whole[] = {
        {"vocab_size", c->vocab}, {"hidden_size", c->d_model}, {"num_hidden_layers", c->layers},
        {"num_attention_heads", c->heads}, {"num_key_value_heads", c->kv_heads}, {"head_dim", c->d_head},
        {"max_position_embeddings", c->context} };
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        fprintf(f, ",\n  \"%s\": %d", whole[i].key, whole[i].value);
    int own = y->width && strcmp(y->width, "intermediate_size") == 0;
    fprintf(f, ",\n  \"intermediate_size\": %d", own ? c->moe.hidden : c->hidden);
    hub_put_real(f, "rms_norm_eps", c->norm_eps);
    fprintf(f, ",\n  \"tie_word_embeddings\": %s,\n  \"rope_parameters\": {\"rope_type\": \"%s\"",
            c->tied ? "true" : "false", scalings[r->scaling]);
    hub_put_real(f, "rope_theta", r->theta > 0 ? r->theta : 1e4);
    if (r->scaling) {
        hub_put_real(f, "factor", r->factor);
        if (r->scaling > GLAM_ROTARY_LINEAR) {
            int yarn = r->scaling == GLAM_ROTARY_YARN;
            if (r->context) fprintf(f, ", \"original_max_position_embeddings\": %d", r->context);
            hub_put_real(f, yarn ? "beta_slow" : "low_freq_factor", r->low > 0 ? r->low : 1);
            hub_put_real(f, yarn ? "beta_fast" : "high_freq_factor", r->high > 0 ? r->high : yarn ? 32 : 4);
            if (yarn && r->attention > 0) hub_put_real(f, "attention_factor", r->attention);
        }
    }
    fputs("}", f);
    if (y->layout == HUB_FUSED) {
        hub_put_real(f, "attention_multiplier", c->attention_scale);
        hub_put_real(f, "embedding_multiplier", c->embed_scale);
        hub_put_real(f, "residual_multiplier", c->residual_scale);
        hub_put_real(f, "logits_scaling", 1 / (double)c->logit_scale);
    }
    if (y->layout != HUB_DENSE) {
        int qwen = !own, named = y->normalised < 0;
        fprintf(f, ",\n  \"%s\": %d,\n  \"num_experts_per_tok\": %d", named ? "num_experts"
                : "num_local_experts", c->moe.experts, c->moe.top_k);
        if (qwen) fprintf(f, ",\n  \"moe_intermediate_size\": %d,\n  \"decoder_sparse_step\": %d",
                          c->moe.hidden, c->moe.every);
        if (named) fprintf(f, ",\n  \"norm_topk_prob\": %s",
                           c->moe.normalise == GLAM_NORMALISE_NONE ? "false" : "true");
        hub_put_real(f, "router_aux_loss_coef", c->moe.aux_weight);
    }
    if (v && v->begin >= 0) fprintf(f, ",\n  \"bos_token_id\": %d", (int)v->begin);
    if (v && v->end >= 0) fprintf(f, ",\n  \"eos_token_id\": %d", (int)v->end);
    fputs("\n}\n", f);
}

static void hub_put_float(FILE *f, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    for (int i = 0; i < 4; i++) fputc((int)(bits >> 8 * i & 255), f);
}

// Behind the header: blanks up to a multiple of 8, and its length before it.
static int hub_put_header_end(FILE *f, int ok)
{
    unsigned char length[8];
    uint64_t n = (uint64_t)hub_tell(f) - 8;
    for (; n % 8; n++) fputc(' ', f);
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)(n >> 8 * i);
    return ok && !hub_seek(f, 0) && fwrite(length, 1, 8, f) == 8 && !hub_seek(f, n + 8);
}

// Matrix e of ours as theirs: row by row, or where it is turned as a whole.
static int hub_put_matrix(FILE *f, const hub_place *p, const glam_tensor *t, uint64_t e)
{
    uint64_t width = (uint64_t)t->shape.dim[t->shape.dims - 1], rows = glam_size(t) / width / p->experts;
    uint64_t some = p->turned ? rows : 1;
    float *w = (float *)malloc((size_t)(some * width) * sizeof *w);
    for (uint64_t at = 0; at < rows && w; at += some) {
        glam_read(t, (size_t)(e * rows + at), (size_t)some, w);
        for (uint64_t k = 0; k < some * width; k++)
            hub_put_float(f, w[p->turned ? k % rows * width + k / rows : k]);
    }
    free(w);
    return w != NULL;
}

// One of their tensors after the other, in the order of ours: pass 0 the header, 1 the numbers.
static int hub_put_tensors(FILE *f, const glam_model *model, const hub_family *y, int pass)
{
    uint64_t at = 0;
    glam_tensor *t;
    hub_place p, q;
    if (pass == 0) fputs("{\"__metadata__\":{\"format\":\"pt\"}", f);
    for (int i = 0; (t = glam_model_tensor_at(model, i)) != NULL; i++)
        for (uint64_t e = 0, experts = 1; e < experts; e++) {
            if (!hub_find_place(y, t, (int)e, &p)) return 0;
            experts = p.experts;
            // fused: the tensor stands where its last expert's first part does; its second part waits
            int fused = p.stacked;
            if (fused && (e > 0 || p.part > 0)) continue;
            uint64_t n = p.rows * p.columns * (fused ? p.experts * (uint64_t)p.parts : 1);
            if (pass == 0) {
                fprintf(f, ",\"%s\":{\"dtype\":\"F32\",\"shape\":[", p.name);
                if (fused) fprintf(f, "%.0f,", (double)p.experts);
                fprintf(f, "%.0f", (double)(p.rows * (uint64_t)p.parts));
                if (t->shape.dims > 1) fprintf(f, ",%.0f", (double)p.columns);
                fprintf(f, "],\"data_offsets\":[%.0f,%.0f]}", (double)at * 4, (double)(at + n) * 4);
                at += n;
                continue;
            }
            for (uint64_t x = e; x < (fused ? p.experts : e + 1); x++)
                for (int part = 0; part < p.parts; part++) {
                    const glam_tensor *from = part ? glam_model_tensor_at(model, i + part) : t;
                    if (!hub_find_place(y, from, (int)x, &q) || q.part != part) return 0;
                    if (!hub_put_matrix(f, &p, from, x)) return 0;
                }
        }
    if (pass == 0) fputc('}', f);
    return 1;
}

glam_status hub_export(const glam_model *model, const char *folder)
{
    glam_ctx *ctx = glam_model_ctx(model);
    const char *why;
    if (glam_error(ctx)) return glam_error(ctx);
    const glam_config *c = glam_model_config(model);
    const hub_family *y = hub_family_of(c, &why);
    if (!y) return glam_fail(ctx, GLAM_ERR_VALUE, "%s: no public family is like this model: %s", folder, why);
    const glam_tensor *w;
    glam_adapter adapter;
    for (int i = 0; (w = glam_model_tensor_at(model, i)) != NULL; i++)
        if (glam_adapter_of(model, w->name, &adapter))
            return glam_fail(ctx, GLAM_ERR_STATE, "%s: the model has adapters; merge them before", folder);
    const glam_tokenizer *t = glam_model_tokenizer(model);
    char *paths[3] = { hub_joined(folder, "config.json"), hub_joined(folder, "model.safetensors"),
                       hub_joined(folder, "tokenizer.json") };
    hub_out out;
    FILE *f = hub_create(ctx, paths[1], &out);
    if (f) {
        unsigned char length[8] = { 0 };
        int ok = fwrite(length, 1, 8, f) == 8 && hub_put_tensors(f, model, y, 0);
        hub_finish(ctx, &out, hub_put_header_end(f, ok) && hub_put_tensors(f, model, y, 1));
    }
    if (!glam_error(ctx) && glam_tokenizer_vocabulary(t) &&
        glam_tokenizer_vocabulary(t)->split != GLAM_SPLIT_NONE)
        hub_tokenizer_save(ctx, t, paths[2]);
    f = glam_error(ctx) ? NULL : hub_create(ctx, paths[0], &out);    // last: a folder with it is whole
    if (f) {
        hub_put_config(f, y, c, glam_tokenizer_vocabulary(t));
        hub_finish(ctx, &out, 1);
    }
    for (int i = 0; i < 3; i++) free(paths[i]);
    return glam_error(ctx);
}

// ---- adapters: folders of PEFT

// rank_pattern and alpha_pattern are regular expressions for the end of a module's name, from a dot on.
// Understood are letters, ., \x, \d, [a-z], with * + or ?, and alternatives in brackets.

// One atom at p: where it ends, and whether it takes c; NULL: not understood.
static const char *hub_atom(const char *p, int c, int *takes)
{
    *takes = 0;
    if (*p == '\\') {
        int letter = (unsigned char)p[1];
        *takes = letter == 'd' ? c >= '0' && c <= '9' : c == letter;
        return letter && (letter == 'd' || !strchr("bBDsSwWAZ0123456789", letter)) ? p + 2 : NULL;
    }
    if (*p == '[') {
        for (p++; *p && *p != ']'; p++) {
            int to = p[1] == '-' && p[2] && p[2] != ']' ? (unsigned char)p[2] : (unsigned char)*p;
            if (strchr("^\\[", *p)) return NULL;
            *takes |= c >= (unsigned char)*p && c <= to;
            if (p[1] == '-' && p[2] && p[2] != ']') p += 2;
        }
        return *p ? p + 1 : NULL;
    }
    *takes = *p == '.' || c == (unsigned char)*p;
    return *p && !strchr("*+?{}()|^$", *p) ? p + 1 : NULL;
}

// All ways through it at once, so that no expression takes long.  -1: not understood.
static int hub_matches_plain(const char *p, const char *s)
{
    const char *atom[64];
    char may[66] = { 1 }, next[66], many[64] = { 0 }, none[64] = { 0 };
    int n = 0, takes;
    for (int rooted = *p == '^'; rooted; rooted = 0) may[65] = *p++ == '^';
    for (; *p && strcmp(p, "$"); n++) {
        atom[n] = p;
        if (n == 63 || !(p = hub_atom(p, 0, &takes))) return -1;
        many[n] = *p == '*' || *p == '+';
        none[n] = *p == '*' || *p == '?';
        if (many[n] || none[n]) p++;
    }
    for (int rooted = may[65];; s++) {
        for (int i = 0; i < n; i++) if (may[i] && none[i]) may[i + 1] = 1;
        if (!*s) return may[n];
        memset(next, 0, sizeof next);
        next[0] = *s == '.' && !rooted;
        for (int i = 0; i < n; i++)
            if (may[i] && hub_atom(atom[i], (unsigned char)*s, &takes) && takes) {
                next[i + 1] = 1;
                if (many[i]) next[i] = 1;
            }
        memcpy(may, next, sizeof next);
    }
}

static int hub_matches(const char *p, const char *s)
{
    const char *open = strchr(p, '('), *close = open ? strchr(open, ')') : NULL;
    char one[400];
    int found = 0, groups = 0;
    for (const char *c = p; *c; c++) groups += *c == '(';
    if (groups > 3) return -1;                   // each is tried with each of the others
    if (!open && !strchr(p, '|')) return hub_matches_plain(p, s);
    if (!open) { open = p - 1; close = p + strlen(p); }
    else if (!close || open[1] == '?' || (close[1] && strchr("*+?{", close[1])) ||
             (open > p && open[-1] == '\\')) return -1;
    for (const char *from = open + 1, *to; from <= close && found == 0; from = to + 1) {
        for (to = from; to < close && *to != '|';) if (*to++ == '(') return -1;
        int length = snprintf(one, sizeof one, "%.*s%.*s%s", open < p ? 0 : (int)(open - p), p,
                              (int)(to - from), from, *close ? close + 1 : "");
        found = length >= (int)sizeof one ? -1 : hub_matches(one, s);
    }
    return found;
}

// An adapter folder being read.
typedef struct hub_peft {
    hub_folder f;
    const hub_family *family;
    const hub_json *ranks, *alphas;
    double rank, alpha;
    int rooted, found;
} hub_peft;

static double hub_of_pattern(hub_peft *q, const hub_json *patterns, const char *module, double otherwise)
{
    for (const hub_json *m = patterns ? patterns->first : NULL; m; m = m->next) {
        int found = m->type == HUB_NUMBER && m->number > 0 ? hub_matches(m->key, module) : -1;
        if (found < 0) hub_wrong(&q->f, "not understood in adapter_config.json is the pattern", m->key);
        if (found) return m->number;
    }
    return otherwise;
}

// The factor of a module's product.  0: its rank is not the one that adapter_config.json says.
static float hub_scale_of(hub_peft *q, const char *module, uint64_t rank)
{
    double alpha = hub_of_pattern(q, q->alphas, module, q->alpha);
    if (hub_of_pattern(q, q->ranks, module, q->rank) != (double)rank)
        hub_wrong(&q->f, "adapter_config.json has another rank than the tensors of", module);
    return glam_error(q->f.ctx) ? 0 : (float)(alpha / (q->rooted ? sqrt((double)rank) : (double)rank));
}

static int hub_peft_config(hub_peft *q, const hub_json *root)
{
    hub_reader r = { &q->f, root, { 0 }, 0, "adapter_config.json" };
    static const char *const neutral[] = { "task_type", "revision", "lora_dropout", "peft_version",
        "base_model_name_or_path", "auto_mapping", "inference_mode", "target_modules", "target_parameters",
        "exclude_modules", "layers_to_transform", "layers_pattern", "megatron_core", "qalora_group_size" };
    for (size_t i = 0; i < sizeof neutral / sizeof *neutral; i++) hub_key(&r, neutral[i]);
    const hub_json *type = hub_key(&r, "peft_type"), *bias = hub_key(&r, "bias");
    const hub_json *begun = hub_key(&r, "init_lora_weights");
    q->rank = hub_count(&r, "r");
    q->alpha = hub_value_of(&r, "lora_alpha", 8);
    q->rooted = hub_flag(&r, "use_rslora", 0);
    q->ranks = hub_key(&r, "rank_pattern");
    q->alphas = hub_key(&r, "alpha_pattern");
    if (!hub_is(type, "LORA")) hub_wrong(&q->f, "only LORA is understood, and this is", hub_text(type));
    if (bias && !hub_is(bias, "none")) hub_wrong(&q->f, "biases are not understood: bias", hub_text(bias));
    if (begun && begun->type == HUB_STRING && !hub_is(begun, "gaussian") && !hub_is(begun, "eva") &&
        !hub_is(begun, "orthogonal"))            // those change the weights that it stands on
        hub_wrong(&q->f, "not understood in adapter_config.json is init_lora_weights", hub_text(begun));
    hub_refuse_unknown(&r);
    return !glam_error(q->f.ctx);
}

// Both tensors of a module.  0: it has none, or an error.
static int hub_pair(hub_peft *q, const char *module, hub_entry *of[2])
{
    char name[400];
    for (int i = 0; i < 2; i++) {
        hub_entry key;
        snprintf(name, sizeof name, "base_model.model.%s.lora_%c.weight", module, "AB"[i]);
        key.name = name;
        of[i] = (hub_entry *)bsearch(&key, q->f.entries, (size_t)q->f.entry_count, sizeof key, hub_by_name);
        if (i && !of[0] != !of[1])
            return hub_wrong(&q->f, "one of lora_A and lora_B is missing of the module", module);
        if (of[i] && (of[i]->dims != 2 || of[i]->type == HUB_OTHER))
            return hub_wrong(&q->f, "two sides and F32, F16 or BF16 are wanted of the tensor", of[i]->name);
    }
    return of[0] != NULL;
}

// What one weight of the model gets.
typedef struct hub_lora {
    uint64_t experts, in, out, rank;
    float scale;
    int fused, part, parts;        // fused: one pair for all experts; part of so many of the rows of its B
    hub_entry *(*of)[2];           // [experts]; NULL: an expert without
} hub_lora;

// The stacked form: A [E r, in], expert after expert; B [out, r E], where column j E + e is of expert e.
static int hub_find_fused(hub_peft *q, hub_lora *l, int layer)
{
    static const char *const where[] = { "mlp.experts", "block_sparse_moe.experts" };
    char module[200];
    for (int i = 0; i < 4; i++) {
        hub_entry *a, *of[2];
        int length = snprintf(module, sizeof module, "model.layers.%d.%s", layer, where[i / 2]);
        if (i % 2 == 0) snprintf(module + length, sizeof module - (size_t)length, ".base_layer");
        if (!hub_pair(q, module, of)) continue;
        a = of[0];
        if (a->size[1] != l->in || of[1]->size[0] != l->out * (uint64_t)l->parts) continue;
        if (a->size[0] != of[1]->size[1] || a->size[0] % l->experts)
            return hub_wrong(&q->f, "the shapes do not fit together of the module", module);
        snprintf(module + length, sizeof module - (size_t)length, "%s",
                 l->parts == 2 ? ".gate_up_proj" : ".down_proj");
        l->fused = a->used = of[1]->used = 1;
        l->rank = a->size[0] / l->experts;
        memcpy(l->of[0], of, sizeof of);
        l->scale = hub_scale_of(q, module, l->rank);
        return l->scale != 0;
    }
    return 0;
}

// A module of its own for each expert, or the one of a plain weight.
static int hub_find_single(hub_peft *q, const glam_tensor *w, hub_lora *l)
{
    hub_place p;
    for (uint64_t e = 0; e < l->experts; e++) {
        hub_entry **of = l->of[e];
        if (!hub_find_place(q->family, w, (int)e, &p)) return 0;
        p.name[strlen(p.name) - strlen(".weight")] = 0;
        int found = hub_pair(q, p.name, of);
        char *router = strstr(p.name, ".block_sparse_moe.gate"), *old = strstr(p.name, ".router.layer");
        if (!found && router) memmove(router, ".mlp.gate", sizeof ".mlp.gate");   // as transformers 5 calls it
        if (!found && old) old[strlen(".router")] = 0;
        if (!found && (router || old)) found = hub_pair(q, p.name, of);
        if (glam_error(q->f.ctx)) return 0;
        if (!found) continue;
        if (of[0]->size[1] != l->in || of[1]->size[0] != l->out || of[0]->size[0] != of[1]->size[1])
            return hub_wrong(&q->f, "its shapes do not fit the model: the module", p.name);
        float scale = hub_scale_of(q, p.name, of[0]->size[0]);
        if (l->rank && (l->rank != of[0]->size[0] || l->scale < scale || l->scale > scale))
            return hub_wrong(&q->f, "another rank or factor than other experts has the module", p.name);
        l->rank = of[0]->size[0];
        l->scale = scale;
        of[0]->used = of[1]->used = 1;
    }
    return l->rank > 0 && !glam_error(q->f.ctx);
}

// Rows of a tensor, turned: to [columns, rows].
static int hub_turned(hub_peft *q, const hub_entry *e, uint64_t row, uint64_t rows, float *to)
{
    if (!hub_rows(&q->f, e, row, rows, e->size[1], 1, to)) return 0;
    for (uint64_t i = 0; i < rows * e->size[1]; i++)
        if (!(fabsf(to[i]) <= FLT_MAX)) return hub_wrong(&q->f, "not finite is the tensor", e->name);
    return 1;
}

// Gate and up trained on their own lie in one B as two blocks: then half of the rank is enough.
static int hub_two_blocks(const hub_lora *l, const float *b)
{
    uint64_t half = l->rank / 2, columns = 2 * l->out;
    if (l->parts != 2 || l->rank % 2) return 0;
    for (uint64_t j = 0; j < l->rank; j++)
        for (uint64_t k = 0; k < l->experts * l->out; k++) {
            float x = b[(j * l->experts + k / l->out) * columns + (j < half ? l->out : 0) + k % l->out];
            if (x < 0 || x > 0) return 0;
        }
    return 1;
}

static int hub_fill_fused(hub_peft *q, glam_model *model, const char *name, hub_lora *l)
{
    uint64_t E = l->experts, columns = l->out * (uint64_t)l->parts, file_rank = l->rank, first = 0;
    const hub_entry *a = l->of[0][0], *b = l->of[0][1];
    float *all = (float *)malloc((size_t)(columns * file_rank * E) * sizeof *all);
    glam_adapter of;
    if (!all) return hub_wrong(&q->f, "there is no memory for the tensor", b->name);
    int ok = hub_turned(q, b, 0, columns, all);            // [r E, out]
    if (ok && hub_two_blocks(l, all)) {
        l->rank /= 2;
        first = (uint64_t)l->part * l->rank;
    }
    ok = ok && glam_adapt(model, name, (int)l->rank, l->scale) == GLAM_OK &&
         glam_adapter_of(model, name, &of);
    for (uint64_t e = 0; ok && e < E; e++) {
        ok = hub_turned(q, a, e * file_rank + first, l->rank, of.a->data + e * l->in * l->rank);
        for (uint64_t j = 0; j < l->rank; j++)
            memcpy(of.b->data + (e * l->rank + j) * l->out,
                   all + ((first + j) * E + e) * columns + (uint64_t)l->part * l->out,
                   (size_t)l->out * sizeof *all);
    }
    free(all);
    return ok;
}

static int hub_fill_single(hub_peft *q, glam_model *model, const char *name, const hub_lora *l)
{
    glam_adapter of;
    size_t in = (size_t)(l->in * l->rank), out = (size_t)(l->rank * l->out);
    if (glam_adapt(model, name, (int)l->rank, l->scale) || !glam_adapter_of(model, name, &of)) return 0;
    for (uint64_t e = 0; e < l->experts; e++) {
        float *a = of.a->data + e * in, *b = of.b->data + e * out;
        if (!l->of[e][0]) {
            memset(a, 0, in * sizeof *a);
            memset(b, 0, out * sizeof *b);
        } else if (!hub_turned(q, l->of[e][0], 0, l->rank, a) || !hub_turned(q, l->of[e][1], 0, l->out, b))
            return 0;
    }
    return 1;
}

// What the folder has for a weight; fill 0: only looked at.
static int hub_take_lora(hub_peft *q, glam_model *model, const glam_tensor *w, int fill)
{
    hub_place p;
    hub_lora l;
    char name[100];
    int layer = -1;
    memset(&l, 0, sizeof l);
    if (w->shape.dims < 2 || !hub_find_place(q->family, w, 0, &p) || !p.turned) return 1;
    sscanf(w->name, "layers.%d.", &layer);
    snprintf(name, sizeof name, "%s", w->name);
    l.experts = p.experts;
    l.in = p.columns;
    l.out = p.rows;
    l.part = strcmp(name + strlen(name) - 3, ".up") == 0;
    l.parts = strcmp(name + strlen(name) - 5, ".down") ? 2 : 1;
    l.of = (hub_entry *(*)[2])calloc((size_t)l.experts, sizeof *l.of);
    if (!l.of) return hub_wrong(&q->f, "there is no memory for", name);
    int found = w->shape.dims == 3 && hub_find_fused(q, &l, layer);
    if (!found && !glam_error(q->f.ctx) && (w->shape.dims < 3 || q->family->layout != HUB_FUSED))
        found = hub_find_single(q, w, &l);
    if (found && !fill) q->found++;
    int ok = !found || !fill || (l.fused ? hub_fill_fused(q, model, name, &l)
                                         : hub_fill_single(q, model, name, &l));
    free(l.of);
    return ok && !glam_error(q->f.ctx);
}

glam_status hub_import_adapter(glam_model *model, const char *folder)
{
    glam_ctx *ctx = glam_model_ctx(model);
    hub_peft q;
    char *text = NULL;
    const char *why;
    glam_tensor *w;
    int count = 0, ok;
    if (glam_error(ctx)) return glam_error(ctx);
    memset(&q, 0, sizeof q);
    q.f.ctx = ctx;
    q.f.path = folder;
    q.family = hub_family_of(glam_model_config(model), &why);
    if (!q.family)
        return glam_fail(ctx, GLAM_ERR_VALUE, "%s: no public family is like this model: %s", folder, why);
    hub_json *config = hub_open_json(&q.f, "adapter_config.json", &text, 1);
    ok = config && hub_peft_config(&q, config) && hub_shard_open(&q.f, "adapter_model.safetensors");
    if (ok) qsort(q.f.entries, (size_t)q.f.entry_count, sizeof *q.f.entries, hub_by_name);
    for (int i = 1; ok && i < q.f.entry_count; i++)
        if (strcmp(q.f.entries[i - 1].name, q.f.entries[i].name) == 0)
            ok = hub_wrong(&q.f, "there twice is the tensor", q.f.entries[i].name);
    q.f.chunk = ok ? (unsigned char *)malloc(HUB_CHUNK) : NULL;
    if (ok && !q.f.chunk) ok = hub_wrong(&q.f, "there is no memory to read it", NULL);
    while (glam_model_tensor_at(model, count)) count++;      // the adapters come behind them
    for (int fill = 0; fill < 2 && ok; fill++) {             // all is looked at before the model changes
        for (int i = 0; ok && i < count && (w = glam_model_tensor_at(model, i)) != NULL; i++)
            ok = hub_take_lora(&q, model, w, fill);
        for (int i = 0; ok && i < q.f.entry_count; i++)
            if (!q.f.entries[i].used)
                ok = hub_wrong(&q.f, "the model has no place, or one of another shape, for the tensor",
                               q.f.entries[i].name);
        if (ok && !q.found) ok = hub_wrong(&q.f, "there is no adapter in it", NULL);
    }
    hub_json_free(config);
    hub_free_file(text);
    hub_folder_close(&q.f);
    return glam_error(ctx);
}

// ---- and the way back

// A module that PEFT knows, with one of our adapters in it, or two (gate and up, fused).
typedef struct hub_module {
    char name[180], key[200];      // key: for rank_pattern
    char target[48];               // for target_modules, or target_parameters
    int parameter, stacked;        // stacked: of an expert, or of all
    uint64_t in, out, first, experts, rank;                  // out: of each part
    int parts;
    glam_adapter of[2];            // a NULL: none
    int shared;                    // both have the same A
    double scale;
} hub_module;

typedef struct hub_modules { hub_module *of; int count, room; } hub_modules;

static uint64_t hub_rank_of(const glam_adapter *a)
{ return a->a ? (uint64_t)a->a->shape.dim[a->a->shape.dims - 1] : 0; }

static hub_module *hub_add_module(glam_ctx *ctx, hub_modules *list, const hub_place *p, const glam_adapter *a)
{
    if (list->count == list->room) {
        int room = list->room ? 2 * list->room : 64;
        hub_module *larger = (hub_module *)realloc(list->of, (size_t)room * sizeof *larger);
        if (!larger) {
            glam_fail(ctx, GLAM_ERR_MEMORY, "adapter: no memory for its modules");
            return NULL;
        }
        list->of = larger;
        list->room = room;
    }
    hub_module *m = &list->of[list->count++];
    memset(m, 0, sizeof *m);
    snprintf(m->name, sizeof m->name, "%.*s", (int)(strlen(p->name) - strlen(".weight")), p->name);
    snprintf(m->key, sizeof m->key, "%s", m->name);
    m->in = p->columns;
    m->out = p->rows;
    m->experts = m->parts = 1;
    m->of[0] = *a;
    m->scale = (double)a->scale;
    m->rank = hub_rank_of(a);
    return m;
}

// The adapter beside: of layers.3.moe.gate that of layers.3.moe.up.
static int hub_beside(const glam_model *model, const char *name, const char *part, glam_adapter *of)
{
    char other[120];
    snprintf(other, sizeof other, "%.*s.%s", (int)(strrchr(name, '.') - name), name, part);
    memset(of, 0, sizeof *of);
    return glam_adapter_of(model, other, of);
}

// All experts in one, gate and up together.
static void hub_add_stacked(const glam_model *model, const hub_family *y, hub_modules *list,
                            const glam_tensor *w, const hub_place *p, const glam_adapter *a)
{
    glam_adapter gate, up, down;
    int gated = hub_beside(model, w->name, "gate", &gate), one = strstr(w->name, ".down") != NULL, layer = 0;
    int downed = hub_beside(model, w->name, "down", &down);
    hub_beside(model, w->name, "up", &up);
    if (strstr(w->name, ".up") && gated) return;             // with its gate
    hub_module *m = hub_add_module(glam_model_ctx(model), list, p, a);
    if (!m) return;
    sscanf(w->name, "layers.%d.", &layer);
    int length = snprintf(m->name, sizeof m->name, "model.layers.%d.%s.experts", layer,
                          y->layout == HUB_FUSED ? "block_sparse_moe" : "mlp");
    snprintf(m->target, sizeof m->target, "experts.%s", one ? "down_proj" : "gate_up_proj");
    snprintf(m->key, sizeof m->key, "%.*s%s", length, m->name, m->target + strlen("experts"));
    if (!one && downed) snprintf(m->name + length, sizeof m->name - (size_t)length, ".base_layer");
    m->parameter = m->stacked = 1;
    m->experts = p->experts;
    if (one) return;
    m->parts = 2;
    m->of[0] = gate;
    m->of[1] = up;
    m->shared = gate.a && up.a && glam_size(gate.a) == glam_size(up.a) && gate.scale - up.scale == 0 &&
                memcmp(gate.a->data, up.a->data, glam_size(up.a) * sizeof(float)) == 0;
    m->rank = hub_rank_of(&gate) + (m->shared ? 0 : hub_rank_of(&up));
}

// All modules of a model's adapters.
static int hub_list_modules(const glam_model *model, const hub_family *y, int stack, hub_modules *list)
{
    glam_ctx *ctx = glam_model_ctx(model);
    const glam_tensor *w;
    hub_place p;
    glam_adapter a;
    for (int i = 0; (w = glam_model_tensor_at(model, i)) != NULL && !glam_error(ctx); i++) {
        if (!glam_adapter_of(model, w->name, &a)) continue;
        if (!hub_find_place(y, w, 0, &p) || !p.turned)
            glam_fail(ctx, GLAM_ERR_VALUE, "adapter: PEFT has no name for %s of this family", w->name);
        else if (stack && w->shape.dims == 3) hub_add_stacked(model, y, list, w, &p, &a);
        else for (uint64_t e = 0; e < p.experts && hub_find_place(y, w, (int)e, &p); e++) {
            hub_module *m = hub_add_module(ctx, list, &p, &a);
            if (!m) break;
            m->first = e;
            m->stacked = w->shape.dims == 3;
            char *router = strstr(m->name, ".router.layer");
            m->parameter = router || (y->layout != HUB_DENSE && strstr(p.name, ".mlp.") && !m->stacked &&
                                      !strstr(p.name, ".mlp.gate.w"));
            if (router) router[strlen(".router")] = 0;
            if (m->parameter) snprintf(m->key, sizeof m->key, "%s.weight", m->name);
            const char *leaf = strrchr(m->name, '.') + 1;
            snprintf(m->target, sizeof m->target, "%s%s%s", m->parameter && !router ? "mlp." : "", leaf,
                     m->parameter ? ".weight" : "");
        }
    }
    if (!list->count && !glam_error(ctx))
        glam_fail(ctx, GLAM_ERR_VALUE, "adapter: this model has none");
    return !glam_error(ctx);
}

// Element of lora_A [experts rank, in] (which 0) or lora_B [parts out, rank experts].
static float hub_module_value(const hub_module *m, int which, uint64_t row, uint64_t column)
{
    uint64_t r = m->rank, split = hub_rank_of(&m->of[0]), E = m->experts;
    uint64_t e = which ? column % E : row / r, j = which ? column / E : row % r;
    int part = which && row >= m->out, second = m->shared ? part : j >= split;
    const glam_adapter *a = &m->of[second];
    uint64_t own = hub_rank_of(a);
    if (second && !m->shared) j -= split;
    if (which && m->parts == 2 && part != second) return 0;
    e += m->first;
    if (!which) return a->a->data[(e * m->in + column) * own + j];
    if (part) row -= m->out;
    double x = (double)a->b->data[(e * own + j) * m->out + row];
    return (float)(second ? x * ((double)a->scale / m->scale) : x);
}

static void hub_put_modules(FILE *f, const hub_modules *list, int pass)
{
    uint64_t at = 0;
    if (pass == 0) fputs("{\"__metadata__\":{\"format\":\"pt\"}", f);
    for (int i = 0; i < list->count; i++)
        for (int which = 0; which < 2; which++) {
            const hub_module *m = &list->of[i];
            uint64_t rows = which ? m->out * (uint64_t)m->parts : m->rank * m->experts;
            uint64_t columns = which ? m->rank * m->experts : m->in;
            if (pass == 0)
                fprintf(f, ",\"base_model.model.%s.lora_%c.weight\":{\"dtype\":\"F32\",\"shape\":[%.0f,%.0f],"
                        "\"data_offsets\":[%.0f,%.0f]}", m->name, "AB"[which], (double)rows, (double)columns,
                        (double)at * 4, (double)(at + rows * columns) * 4);
            else for (uint64_t k = 0; k < rows * columns; k++)
                hub_put_float(f, hub_module_value(m, which, k / columns, k % columns));
            at += rows * columns;
        }
    if (pass == 0) fputc('}', f);
}

static void hub_put_plain(FILE *f, double x)
{
    char text[40];
    snprintf(text, sizeof text, "%.9g", x);
    for (char *c = text; *c; c++) if (*c == ',') *c = '.';
    fputs(text, f);
}

static double hub_alpha_of(const hub_module *m) { return m->scale * (double)m->rank; }

static int hub_alike(const hub_module *a, const hub_module *b)
{ return a->rank == b->rank && fabs(hub_alpha_of(a) - hub_alpha_of(b)) <= 1e-6 * hub_alpha_of(a); }

// The module whose rank and alpha are those of most: an expert of its own, or the first.  NULL: such
// experts differ, or one has a gate without up.
static const hub_module *hub_most(const hub_modules *list)
{
    const hub_module *most = NULL;
    int gates = 0;
    for (int i = 0; i < list->count; i++) {
        const hub_module *m = &list->of[i];
        if (!m->stacked || m->parameter) continue;
        if (!most) most = m;
        if (!hub_alike(m, most)) return NULL;
        if (!strcmp(m->target, "w1") || !strcmp(m->target, "gate_proj")) gates++;
        if (!strcmp(m->target, "w3") || !strcmp(m->target, "up_proj")) gates--;
    }
    return gates ? NULL : most ? most : list->of;
}

// What differs from the rank and alpha of all, for a target or, where its modules differ, a module.
static void hub_put_pattern(FILE *f, const hub_modules *list, const hub_module *most, int alpha)
{
    int some = 0;
    fprintf(f, ",\n  \"%s_pattern\": {", alpha ? "alpha" : "rank");
    for (int i = 0; i < list->count; i++) {
        const hub_module *m = &list->of[i];
        int same = 1, first = 1;
        for (int k = 0; k < list->count; k++) {
            if (strcmp(list->of[k].target, m->target)) continue;
            same &= hub_alike(&list->of[k], m);
            first &= k >= i;
        }
        if (hub_alike(m, most) || (same && !first)) continue;
        const char *key = same ? m->target : m->key;
        for (int w = 0; w < 1 + (strcmp(m->target, "gate") == 0); w++) {   // transformers 5: a parameter
            fprintf(f, "%s\"%s%s\": ", some++ ? ", " : "", key, w ? ".weight" : "");
            if (alpha) hub_put_plain(f, hub_alpha_of(m));
            else fprintf(f, "%.0f", (double)m->rank);
        }
    }
    fputs("}", f);
}

static void hub_put_targets(FILE *f, const hub_modules *list, int parameter)
{
    int some = 0;
    fprintf(f, ",\n  \"target_%s\": [", parameter ? "parameters" : "modules");
    for (int i = 0; i < list->count; i++) {
        int again = list->of[i].parameter != parameter;
        for (int k = 0; k < i && !again; k++) again = !strcmp(list->of[k].target, list->of[i].target);
        if (!again) fprintf(f, "%s\"%s\"", some++ ? ", " : "", list->of[i].target);
    }
    fputs("]", f);
}

static void hub_put_peft_config(FILE *f, const hub_modules *list, const hub_module *most)
{
    fprintf(f, "{\n  \"peft_type\": \"LORA\",\n  \"task_type\": \"CAUSAL_LM\",\n"
            "  \"base_model_name_or_path\": \"\",\n  \"r\": %.0f,\n  \"lora_alpha\": ", (double)most->rank);
    hub_put_plain(f, hub_alpha_of(most));
    fputs(",\n  \"use_rslora\": false,\n  \"lora_dropout\": 0.0,\n  \"bias\": \"none\",\n"
          "  \"fan_in_fan_out\": false,\n  \"inference_mode\": true", f);
    hub_put_targets(f, list, 0);
    hub_put_targets(f, list, 1);
    hub_put_pattern(f, list, most, 0);
    hub_put_pattern(f, list, most, 1);
    fputs("\n}\n", f);
}

glam_status hub_export_adapter(const glam_model *model, const char *folder)
{
    glam_ctx *ctx = glam_model_ctx(model);
    hub_modules list = { NULL, 0, 0 };
    const char *why;
    hub_out out;
    if (glam_error(ctx)) return glam_error(ctx);
    const hub_family *y = hub_family_of(glam_model_config(model), &why);
    if (!y) return glam_fail(ctx, GLAM_ERR_VALUE, "%s: no public family is like this model: %s", folder, why);
    int stack = y->layout == HUB_FUSED, ok = hub_list_modules(model, y, stack, &list);
    const hub_module *most = hub_most(&list);
    if (ok && !most) {                           // PEFT has one rank for experts by name, r
        list.count = 0;
        ok = hub_list_modules(model, y, 1, &list);
        most = list.of;
    }
    char *paths[2] = { hub_joined(folder, "adapter_config.json"),
                       hub_joined(folder, "adapter_model.safetensors") };
    FILE *f = ok ? hub_create(ctx, paths[1], &out) : NULL;
    if (f) {
        unsigned char length[8] = { 0 };
        ok = fwrite(length, 1, 8, f) == 8;
        hub_put_modules(f, &list, 0);
        ok = hub_put_header_end(f, ok);
        hub_put_modules(f, &list, 1);
        hub_finish(ctx, &out, ok);
    }
    f = ok && !glam_error(ctx) ? hub_create(ctx, paths[0], &out) : NULL;
    if (f) {
        hub_put_peft_config(f, &list, most);
        hub_finish(ctx, &out, 1);
    }
    for (int i = 0; i < 2; i++) free(paths[i]);
    free(list.of);
    return glam_error(ctx);
}

// ---- GGUF, which llama.cpp reads

static void hub_put_u(FILE *f, uint64_t x, int bytes)
{ for (int i = 0; i < bytes; i++) fputc((int)(x >> 8 * i & 255), f); }

static void hub_put_gguf_text(FILE *f, const char *text)
{
    hub_put_u(f, strlen(text), 8);
    fputs(text, f);
}

static void hub_put_gguf_word(FILE *f, const char *key, const char *value)
{
    hub_put_gguf_text(f, key);
    hub_put_u(f, 8, 4);                          // a string
    hub_put_gguf_text(f, value);
}

static const struct { const char *ours, *gguf; } hub_gguf_names[] = {
    {"attn.q", "attn_q"}, {"attn.k", "attn_k"}, {"attn.v", "attn_v"}, {"attn.o", "attn_output"},
    {"ffn.gate", "ffn_gate"}, {"ffn.up", "ffn_up"}, {"ffn.down", "ffn_down"},
    {"moe.router", "ffn_gate_inp"}, {"moe.gate", "ffn_gate_exps"}, {"moe.up", "ffn_up_exps"},
    {"moe.down", "ffn_down_exps"} };

// A rotary pair of these lies there side by side, and not a half of the head apart.
static uint64_t hub_gguf_row(const hub_family *y, const glam_config *c, const char *ours, uint64_t row)
{
    int pairs = y->qk_norm == GLAM_QK_NORM_NONE, half = c->d_head / 2, at = (int)(row % (uint64_t)c->d_head);
    if (!pairs || (!strstr(ours, "attn.q") && !strstr(ours, "attn.k"))) return row;
    return row - (uint64_t)at + (uint64_t)(at % 2 * half + at / 2);
}

// Tensors of a model's adapters.  pass 0: how many; 1: what each is called and where; 2: the numbers.
static int hub_put_gguf_tensors(FILE *f, const glam_model *model, const hub_family *y, double alpha, int pass)
{
    const glam_tensor *w;
    glam_adapter a;
    uint64_t at = 0;
    int count = 0;
    for (int i = 0; (w = glam_model_tensor_at(model, i)) != NULL; i++) {
        int layer = 0, used = 0, name = -1;
        if (!glam_adapter_of(model, w->name, &a)) continue;
        sscanf(w->name, "layers.%d.%n", &layer, &used);
        for (int k = 0; k < (int)(sizeof hub_gguf_names / sizeof *hub_gguf_names); k++)
            if (strcmp(w->name + used, hub_gguf_names[k].ours) == 0) name = k;
        if (name < 0) {
            glam_fail(glam_model_ctx(model), GLAM_ERR_VALUE, "adapter: GGUF has no name for %s", w->name);
            return 0;
        }
        int dims = w->shape.dims;
        uint64_t E = dims == 3 ? (uint64_t)w->shape.dim[0] : 1, in = (uint64_t)w->shape.dim[dims - 2];
        uint64_t out = (uint64_t)w->shape.dim[dims - 1], r = hub_rank_of(&a);
        double fix = (double)a.scale * (double)r / alpha;      // llama.cpp multiplies by alpha / rank
        for (int which = 0; which < 2; which++, count++) {
            uint64_t columns = which ? r : in, rows = which ? out : r, n = rows * columns * E;
            char full[80];
            snprintf(full, sizeof full, "blk.%d.%s.weight.lora_%c", layer, hub_gguf_names[name].gguf, "ab"[which]);
            if (pass == 1) {
                hub_put_gguf_text(f, full);
                hub_put_u(f, (uint64_t)dims, 4);
                hub_put_u(f, columns, 8);
                hub_put_u(f, rows, 8);
                if (dims == 3) hub_put_u(f, E, 8);
                hub_put_u(f, 0, 4);                            // F32
                hub_put_u(f, at, 8);
            }
            for (uint64_t k = 0; pass == 2 && k < n; k++) {
                uint64_t e = k / (rows * columns), row = k / columns % rows, column = k % columns;
                if (!which) hub_put_float(f, a.a->data[(e * in + column) * r + row]);
                else {
                    uint64_t from = hub_gguf_row(y, glam_model_config(model), w->name, row);
                    hub_put_float(f, (float)((double)a.b->data[(e * r + column) * out + from] * fix));
                }
            }
            for (at += 4 * n; at % 32; at++) if (pass == 2) fputc(0, f);
        }
    }
    return pass ? 1 : count;
}

glam_status hub_export_gguf_adapter(const glam_model *model, const char *path)
{
    glam_ctx *ctx = glam_model_ctx(model);
    const glam_tensor *w;
    glam_adapter a;
    double alpha = 0;
    const char *why;
    hub_out out;
    if (glam_error(ctx)) return glam_error(ctx);
    const hub_family *y = hub_family_of(glam_model_config(model), &why);
    if (!y) return glam_fail(ctx, GLAM_ERR_VALUE, "%s: no public family is like this model: %s", path, why);
    for (int i = 0; (w = glam_model_tensor_at(model, i)) != NULL && alpha <= 0; i++)
        if (glam_adapter_of(model, w->name, &a)) alpha = (double)a.scale * (double)hub_rank_of(&a);
    int count = alpha > 0 ? hub_put_gguf_tensors(NULL, model, y, alpha, 0) : 0;
    if (!count && !glam_error(ctx))
        return glam_fail(ctx, GLAM_ERR_VALUE, "%s: this model has no adapters", path);
    FILE *f = hub_create(ctx, path, &out);
    if (!f) return glam_error(ctx);
    int dense = y->layout == HUB_DENSE || strcmp(y->name, "mixtral") == 0, qwen = strncmp(y->name, "qwen3", 5) == 0;
    fputs("GGUF", f);
    hub_put_u(f, 3, 4);
    hub_put_u(f, (uint64_t)count, 8);
    hub_put_u(f, 4, 8);                          // entries before the tensors
    hub_put_gguf_word(f, "general.architecture", qwen ? (y->layout == HUB_DENSE ? "qwen3" : "qwen3moe")
                      : dense ? "llama" : y->name);
    hub_put_gguf_word(f, "general.type", "adapter");
    hub_put_gguf_word(f, "adapter.type", "lora");
    hub_put_gguf_text(f, "adapter.lora.alpha");
    hub_put_u(f, 6, 4);                          // a float
    hub_put_float(f, (float)alpha);
    int ok = hub_put_gguf_tensors(f, model, y, alpha, 1);
    for (int64_t at = hub_tell(f); at % 32; at++) fputc(0, f);
    ok = ok && hub_put_gguf_tensors(f, model, y, alpha, 2);
    hub_finish(ctx, &out, ok);
    return glam_error(ctx);
}

#endif
