/* glam_files.h - files that will be written: whether two names are one file, whether it may be
   written, and a name that no other run has.  A part of glam.c.

   A run takes its names when it chooses them: it makes an empty file, which no two processes can
   do, and holds a lock on it.  When the run ends without a file, the empty one goes; when it was
   killed, the lock goes with it, and the next run takes the name over. */

#ifndef GLAM_FILES_H
#define GLAM_FILES_H

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#ifndef O_BINARY
#define O_BINARY 0
#endif
#ifndef O_CLOEXEC
#define O_CLOEXEC 0
#endif

// == names ==================================================================================

// A path as the shell wants to see it.
static void print_quoted(FILE *f, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "/._-+:,@%";
    if (*word && strspn(word, plain) == strlen(word)) {
        fputs(word, f);
        return;
    }
    fputc('\'', f);
    for (; *word; word++) {
        if (*word == '\'') fputs("'\\''", f);
        else fputc(*word, f);
    }
    fputc('\'', f);
}

// A file as a word of a command: one that begins with a dash would be taken for an option.
static void print_path(FILE *f, const char *path)
{
    if (*path == '-') fputs("./", f);
    print_quoted(f, path);
}

static const char *name_of(const char *path)
{
    const char *name = path;
    for (const char *c = path; *c; c++) if (*c == '/') name = c + 1;
    return name;
}

// The folder of a path, "." or with its last slash.  The caller frees it.
static char *folder_of(const char *path)
{
    int length = (int)(name_of(path) - path);
    return length ? joined("%.*s", length, path) : joined(".");
}

static char *in_folder(const char *folder, const char *name)
{
    size_t length = strlen(folder);
    return joined("%s%s%s", folder, length && folder[length - 1] == '/' ? "" : "/", name);
}

// model.safetensors without its end.
static char *stem_of(const char *path)
{
    size_t length = strlen(path), ending = strlen(".safetensors");
    if (length > ending && strcmp(path + length - ending, ".safetensors") == 0) length -= ending;
    return joined("%.*s", (int)length, path);
}

typedef enum file_kind { NOTHING, PLAIN, FOLDER, OTHER } file_kind;

static file_kind kind_of(const char *path)
{
    struct stat at;
    if (stat(path, &at) != 0) return NOTHING;
    if ((at.st_mode & S_IFMT) == S_IFREG) return PLAIN;
    return (at.st_mode & S_IFMT) == S_IFDIR ? FOLDER : OTHER;
}

static int is_empty(const char *path)
{
    struct stat at;
    return stat(path, &at) == 0 && (at.st_mode & S_IFMT) == S_IFREG && at.st_size == 0;
}

// 1: both are there and one and the same, 0: both are there and differ, -1: not both are there.
static int same_thing(const char *a, const char *b)
{
    struct stat x, y;
    if (stat(a, &x) != 0 || stat(b, &y) != 0) return -1;
#ifdef _WIN32
    return strcmp(a, b) == 0;                            // it numbers no files
#else
    return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
#endif
}

// Do two paths name one file, which need not be there yet?
static int same_file(const char *a, const char *b)
{
    int same = same_thing(a, b);
    if (same >= 0) return same;
    if (kind_of(a) != kind_of(b) || strcmp(name_of(a), name_of(b)) != 0) return 0;
    char *x = folder_of(a), *y = folder_of(b);
    same = same_thing(x, y) == 1 || strcmp(x, y) == 0;
    free(x);
    free(y);
    return same;
}

// == reservations ===========================================================================

enum { RESERVED, TAKEN, BUSY, REFUSED };         // BUSY: by a run at work; REFUSED: see errno

static struct reservation {
    char *path;
    int   file;                                  // the lock; -1: without
    int   made;                                  // it was not there before
} reserved[8];
static volatile sig_atomic_t reservations = 0;

#ifdef HAVE_UNISTD
// 1: ours, 0: another process has it, -1: this file system knows no locks.
static int lock_file(int file)
{
    struct flock lock;
    memset(&lock, 0, sizeof lock);
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (fcntl(file, F_SETLK, &lock) == 0) return 1;
    return errno == EACCES || errno == EAGAIN ? 0 : -1;
}
#else
static int lock_file(int file) { (void)file; return -1; }
#endif

// Makes an empty file of that name, or takes over the one that a killed run has left.
static int reserve(const char *path)
{
    struct stat mine, there;
    int made = 1, file = open(path, O_RDWR | O_CREAT | O_EXCL | O_BINARY | O_CLOEXEC, 0666);
    if (file < 0 && errno == EEXIST) {
        made = 0;
        if (kind_of(path) != NOTHING && !is_empty(path)) return TAKEN;
        file = open(path, O_RDWR | O_CREAT | O_BINARY | O_CLOEXEC, 0666);   // or where a link goes
    }
    if (file < 0) return made ? REFUSED : TAKEN;
    int lock = lock_file(file);
    // whoever had it may have put a model there while we came
    int ours = fstat(file, &mine) == 0 && stat(path, &there) == 0 && there.st_size == 0 &&
               (lock < 0 || mine.st_ino == there.st_ino);
    if (lock == 0 || !ours || reservations == (int)(sizeof reserved / sizeof reserved[0])) {
        close(file);
        return lock == 0 ? BUSY : TAKEN;
    }
    if (lock < 0) {
        close(file);                                     // an open file could not be replaced there
        file = -1;
    }
    reserved[reservations].path = joined("%s", path);
    reserved[reservations].file = file;
    reserved[reservations].made = made;
    reservations = reservations + 1;
    return RESERVED;
}

// Removes what this run made and is still empty.  Called by a signal handler too: system calls alone.
static void remove_reservations(void)
{
    for (int i = 0; i < reservations; i++)
        if (reserved[i].made && is_empty(reserved[i].path)) unlink(reserved[i].path);
}

static void end_reservations(void)
{
    remove_reservations();
    for (int i = 0; i < reservations; i++) {
        if (reserved[i].file >= 0) close(reserved[i].file);
        free(reserved[i].path);
    }
    reservations = 0;
}

// The first of stem.ext, stem-2.ext, stem-3.ext ... that is free, and reserved from now on.
// Where nothing can be made, the first of them, with *refused set.
static char *free_name(const char *stem, const char *ext, int *refused)
{
    char *name = joined("%s%s", stem, ext);
    *refused = 0;
    if (rank > 0) return name;                           // the first rank writes
    for (int i = 2; ; i++) {
        int got = reserve(name);
        if (got == RESERVED) return name;
        *refused = got == REFUSED || i > 100000;
        if (*refused) return name;
        free(name);
        name = joined("%s-%d%s", stem, i, ext);
    }
}

// Finds out now, not after hours of training.  A new name is reserved.
static int check_writable(const char *which, const char *path, int may_exist)
{
    file_kind kind = kind_of(path);
    if (rank > 0) return DONE;
    if (kind == FOLDER || kind == OTHER)
        return complain(FAILED, "--%s %s cannot be written: it is %s", which, path,
                        kind == FOLDER ? "a folder" : "no plain file");
    if (kind == PLAIN && !is_empty(path)) {
        if (!may_exist)
            return complain(FAILED, "--%s %s exists already; --force overwrites it", which, path);
#ifdef HAVE_UNISTD
        char *folder = folder_of(path);                  // the new file is made beside the old one
        int bad = access(path, W_OK) != 0 || access(folder, W_OK | X_OK) != 0;
        free(folder);
        if (bad)
            return complain(FAILED, "--%s %s cannot be written: %s", which, path,
                            strerror(errno));
#endif
        return DONE;
    }
    int got = reserve(path), reason = errno;
    if (got == RESERVED) return DONE;
    if (got == BUSY)
        return complain(FAILED, "--%s %s: another run is writing it", which, path);
    if (got == TAKEN)
        return complain(FAILED, "--%s %s exists already, or cannot be written", which, path);
    return complain(FAILED, "--%s %s cannot be written: is its folder there, and yours? %s",
                    which, path, strerror(reason));
}

// What is written must not be what is read.
static int check_apart(const char *which, const char *path, char *const *words, int count)
{
    for (int i = 0; i < count; i++)
        if (same_file(path, words[i]))
            return complain(USAGE, "--%s %s is what is read, and would be overwritten; another name, "
                            "please", which, path);
    return DONE;
}

// Unless it is there.
static int make_folder(const char *which, const char *path)
{
#ifdef _WIN32
    int made = _mkdir(path) == 0;
#else
    int made = mkdir(path, 0777) == 0;
#endif
    if (made || kind_of(path) == FOLDER) return DONE;
    return complain(FAILED, "--%s %s: this folder cannot be made: %s", which, path,
                    strerror(errno));
}

// A folder and the files that will be in it: none of them may be what is read, and none be there
// already unless force.  *made: the folder was not there, so that it can go when nothing came of it.
static int check_folder(const char *which, const char *folder, const char *const *names, char *read,
                        int force, int *made)
{
    *made = kind_of(folder) == NOTHING;
    int status = make_folder(which, folder);
    for (; *names && status == DONE; names++) {
        char *path = in_folder(folder, *names);
        status = check_apart(which, path, &read, 1);
        if (status == DONE && kind_of(path) != NOTHING && !force)
            status = complain(FAILED, "%s has %s already; --force writes over it", folder, *names);
        free(path);
    }
    return status;
}

// Of a command that failed: its folder, if it is empty.
static void remove_folder(const char *path)
{
#ifdef _WIN32
    _rmdir(path);
#else
    rmdir(path);
#endif
}

#endif
