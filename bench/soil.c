/* soil - makes of a book the three texts of the filter study: good documents to learn from, a raw
   text of which half is junk made by machine, and clean text to validate on.

       cc -O1 bench/soil.c -o soil && ./soil novels.txt FOLDER [SEED]

   The book is six novels (shared data: Pride and Prejudice, Sherlock Holmes, Dracula, Great
   Expectations, Moby-Dick, War and Peace), cut where they begin, which their first sentences tell:
       FOLDER/good.txt    one in three documents (about 1,500 bytes each) of the last four
       FOLDER/raw.jsonl   the other two in three, and as many documents of junk, in an order drawn
                          at random; "junk" names its kind, for the report alone
       FOLDER/valid.txt   the first two novels: clean, and in neither of the others
   Kinds of junk: shuffled words; repeated boilerplate; keyboard noise; another encoding
   (hexadecimal, UTF-16's zeros, base64, every letter another one).  It is made of raw's own
   documents or of nothing, and is a function of the seed. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state;

static uint64_t draw(uint64_t below)
{
    uint64_t x = state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (x ^ (x >> 31)) % below;
}

static void fail(const char *what, const char *name)
{
    fprintf(stderr, "soil: %s %s\n", what, name);
    exit(1);
}

static FILE *create(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f) fail("cannot write", path);
    return f;
}

// == junk: each kind writes into out, which has room for 8 bytes for each of the document

static size_t shuffled(const char *text, size_t bytes, char *out)
{
    static const char *word[4096];
    static size_t length[4096];
    size_t count = 0, at = 0;
    for (size_t i = 0; i < bytes && count < 4096;) {
        while (i < bytes && (unsigned char)text[i] <= ' ') i++;
        word[count] = text + i;
        while (i < bytes && (unsigned char)text[i] > ' ') i++;
        length[count] = (size_t)(text + i - word[count]);
        count += length[count] > 0;
    }
    for (size_t left = count; left > 0; left--) {
        size_t k = draw(left);
        memcpy(out + at, word[k], length[k]);
        at += length[k];
        out[at++] = ' ';
        word[k] = word[left - 1];
        length[k] = length[left - 1];
    }
    return at;
}

static size_t boilerplate(const char *text, size_t bytes, char *out)
{
    static const char *const phrases[] = {
        "Home | About us | Contact | Terms of use | Privacy policy", "All rights reserved.",
        "Click here to read more", "Sign up for our newsletter and never miss an offer!",
        "Add to cart - free shipping on orders over $50", "This site uses cookies. Accept?",
        "Share on social media", "Copyright 2021 Example Inc.", "Log in to leave a comment",
        "You may also like:", "Page 1 of 20 >> Next", "BUY NOW best price guaranteed!!!"};
    size_t at = 0, first = draw(12), span = 2 + draw(5);
    (void)text;
    for (size_t i = 0; at + 80 < bytes; i++)
        at += (size_t)sprintf(out + at, "%s\n", phrases[(first + i % span) % 12]);
    return at;
}

static size_t keyboard(const char *text, size_t bytes, char *out)
{
    static const char keys[] = "asdfghjkl;qwertyuiopzxcvbnm,./1234567890-=";
    size_t hand = draw(30), at = 0;
    (void)text;
    while (at < bytes) {
        hand = draw(6) ? (hand + 40 + draw(5)) % 42 : draw(42);
        out[at++] = draw(7) ? keys[hand] : ' ';
    }
    return at;
}

static size_t encoded(const char *text, size_t bytes, char *out)
{
    static const char b64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t at = 0, kind = draw(4);
    for (size_t i = 0; i < bytes; i++) {
        unsigned c = (unsigned char)text[i];
        if (kind == 0) at += (size_t)sprintf(out + at, "%02x", c);
        else if (kind == 1) at += (size_t)sprintf(out + at, "%c\\u0000", c);
        else if (kind == 2 && i % 3 == 0 && i + 2 < bytes) {
            unsigned b = (unsigned char)text[i + 1], d = (unsigned char)text[i + 2];
            unsigned v = c << 16 | b << 8 | d;
            for (int k = 18; k >= 0; k -= 6) out[at++] = b64[v >> k & 63];
        } else if (kind == 3) {                  // every letter another one, of two bytes
            unsigned shifted = c < 128 ? c ^ 0x80 : c;
            out[at++] = (char)(0xc0 | shifted >> 6);
            out[at++] = (char)(0x80 | (shifted & 63));
        }
    }
    return at;
}

// Blank lines inside would make several documents of it.
static size_t put_plain(FILE *f, const char *text, size_t bytes)
{
    while (bytes && text[bytes - 1] == '\n') bytes--;
    for (size_t i = 0; i < bytes; i++)
        if (text[i] != '\n' || text[i + 1] != '\n') fputc(text[i], f);
    fputs("\n\n", f);
    return bytes;
}

// \u0000 is made by encoded() alone, and stays as it is.
static void put_json(FILE *f, const char *text, size_t bytes, const char *kind)
{
    fprintf(f, "{\"text\":\"");
    for (size_t i = 0; i < bytes; i++) {
        unsigned c = (unsigned char)text[i];
        if (c == '\\' && i + 5 < bytes && memcmp(text + i, "\\u0000", 6) == 0) {
            fputs("\\u0000", f);
            i += 5;
        } else if (c == '"' || c == '\\') fprintf(f, "\\%c", c);
        else if (c < 32) fprintf(f, "\\u%04x", c);
        else fputc((int)c, f);
    }
    fprintf(f, "\",\"junk\":\"%s\"}\n", kind);
}

// A document ends at the first blank line after 1,200 bytes.
static size_t document_end(const char *text, size_t at, size_t end)
{
    size_t from = at;
    for (; at < end; at++)
        if (at - from > 1200 && text[at] == '\n' && text[at - 1] == '\n') return at + 1;
    return end;
}

int main(int argc, char **argv)
{
    static const char *const begins[] = {
        "It is a truth universally acknowledged", "To Sherlock Holmes she is always",
        "3 May. Bistritz",
        "My father's family name being Pirrip", "Call me Ishmael", "Well, Prince, so Genoa"};
    static const char *const kinds[] = {"shuffled", "boilerplate", "keyboard", "encoded"};
    static size_t (*const make[])(const char *, size_t, char *) = {shuffled, boilerplate, keyboard,
                                                                   encoded};
    if (argc < 3) fail("wants a text and a folder:", "soil novels.txt FOLDER [SEED]");
    state = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    FILE *f = fopen(argv[1], "rb");
    if (!f) fail("cannot read", argv[1]);
    fseek(f, 0, SEEK_END);
    size_t bytes = (size_t)ftell(f), at[7] = {0}, documents = 0;
    char *text = (char *)malloc(bytes + 1), *out = (char *)malloc(1 << 20);
    rewind(f);
    if (!text || !out || fread(text, 1, bytes, f) != bytes) fail("cannot read", argv[1]);
    fclose(f);
    text[bytes] = 0;
    for (int i = 0; i < 6; i++) {
        char *found = strstr(text, begins[i]);
        if (!found) fail("this is not the text of six novels; there is no", begins[i]);
        at[i] = (size_t)(found - text);
        if (i && at[i] <= at[i - 1]) fail("the novels are in another order; see", begins[i]);
    }
    at[6] = bytes;
    FILE *good = create(argv[2], "good.txt"), *raw = create(argv[2], "raw.jsonl");
    FILE *valid = create(argv[2], "valid.txt");
    fwrite(text + at[0], 1, at[2] - at[0], valid);
    static size_t begin[20000], end[20000];
    size_t good_bytes = 0, number = 0;
    for (size_t from = at[2], to; from < bytes && documents < 20000; from = to) {
        to = document_end(text, from, bytes);
        begin[documents] = from;
        end[documents] = to;
        if (number++ % 3) documents++;
        else good_bytes += put_plain(good, text + from, to - from);
    }
    for (size_t left = 2 * documents, clean = documents; left > 0; left--) {
        int is_clean = draw(left) < clean;
        size_t d = is_clean ? --clean : draw(documents), kind = draw(4);
        size_t length = end[d] - begin[d] < 100000 ? end[d] - begin[d] : 100000;
        size_t made = is_clean ? 0 : make[kind](text + begin[d], length, out);
        put_json(raw, is_clean ? text + begin[d] : out, is_clean ? length : made,
                 is_clean ? "" : kinds[kind]);
    }
    int bad = fclose(good) | fclose(raw) | fclose(valid);
    if (bad) fail("cannot write into", argv[2]);
    printf("good.txt %zu bytes, valid.txt %zu bytes, raw.jsonl %zu clean documents and as many of "
           "junk\n", good_bytes, at[2] - at[0], documents);
    return 0;
}
