/* glam_files.h - files that will be written: their names, and whether they may.
   A part of glam.c. */

#ifndef GLAM_FILES_H
#define GLAM_FILES_H

// A path as the shell wants to see it.
static void print_quoted(FILE *f, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "/._-+:,@%";
    if (strspn(word, plain) == strlen(word)) {
        fputs(word, f);
        return;
    }
    fputc('\'', f);
    for (; *word; word++) fputs(*word == '\'' ? "'\\''" : (char[2]){*word, 0}, f);
    fputc('\'', f);
}

// -- files that will be written -----------------------------------------------------------

static int exists(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f) fclose(f);
    return f != NULL;
}

// The first of stem.ext, stem-2.ext, stem-3.ext ... that is free.
static void free_name(char *out, const char *stem, const char *ext)
{
    snprintf(out, PATH, "%s%s", stem, ext);
    for (int i = 2; exists(out) && i < 10000; i++) snprintf(out, PATH, "%s-%d%s", stem, i, ext);
}

// Finds out now, not after hours of training: the file is written beside its place and renamed,
// so it is the folder that must be writable.
static int check_writable(const char *name, const char *path, int may_exist)
{
    char probe[PATH + 8];
    if (exists(path) && !may_exist)
        return complain(FAILED, "--%s %s exists already; --force overwrites it", name, path);
    FILE *f = exists(path) ? fopen(path, "r+b") : NULL;
    if (!f && exists(path)) return complain(FAILED, "--%s %s cannot be written", name, path);
    if (f) fclose(f);
    snprintf(probe, sizeof probe, "%s.probe", path);
    f = fopen(probe, "wb");
    if (!f) return complain(FAILED, "--%s %s cannot be written: is its folder there, and yours?",
                            name, path);
    fclose(f);
    remove(probe);
    return DONE;
}

#endif
