/* Where files go: what stands at a path when something is saved over it, who else saves there, and
   what a load meets that is no file.  Kinds: property, failure.  Of POSIX; Windows has its own row. */

#if !defined(_WIN32) && !defined(__wasi__)
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#ifdef __linux__
#include <sys/sysmacros.h>
#ifndef __cplusplus
int mknod(const char *, mode_t, dev_t);         // which strict C hides
#endif
#endif
#include <sys/wait.h>

static void test_sync_fail(int at, int error)
{
    test_sync_at = at;
    test_sync_errno = error;
}

// A folder of its own for each test; its files go when it is opened again.
static char places_folder[900];

static const char *places_path(const char *name)
{
    static char path[4][1024];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", places_folder, name);
    return path[turn];
}

// How many entries the folder has; clear: and they are removed.
static int places_count(int clear)
{
    int count = 0;
    DIR *d = opendir(places_folder);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        count++;
        if (clear && remove(places_path(e->d_name)) != 0) count += 1000;
    }
    if (d) closedir(d);
    return count;
}

static void places_open(void)
{
    char here[512] = "";
    const char *path = test_path("places");
    if (*path != '/' && !CHECK(getcwd(here, sizeof here) != NULL)) return;
    snprintf(places_folder, sizeof places_folder, "%s%s%.380s", here, *path == '/' ? "" : "/", path);
    mkdir(places_folder, 0700);
    places_count(1);
}

static void places_put(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    if (!CHECK(f != NULL)) return;
    fputs(text, f);
    fclose(f);
}

static int places_holds(const char *path, const char *text)
{
    char have[64] = "";
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(have, 1, sizeof have - 1, f) : 0;
    if (f) fclose(f);
    return n == strlen(text) && !memcmp(have, text, n);
}

static int places_is(glam_ctx *ctx, const char *path, const glam_model *model)
{
    size_t mark = glam_mark(ctx);
    glam_model *got = glam_load(ctx, path);
    int same = got && test_model_hash(got) == test_model_hash(model);
    glam_rewind(ctx, mark);
    return same;
}

static unsigned places_mode(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 ? (unsigned)s.st_mode & 07777u : 0xffff;
}

static glam_model *places_model(glam_ctx *ctx)
{
    glam_config config = files_tiny();
    return glam_model_new(ctx, &config);
}

// One of two processes that save to one path; the exit status counts what failed.
static void places_saver(const char *path, uint64_t seed)
{
    glam_options options = test_options();
    int failed = 0;
    options.threads = 1;
    options.seed = seed;
    glam_ctx *ctx = glam_open(&options);
    glam_model *model = places_model(ctx);
    for (int i = 0; i < 60; i++) {
        failed += glam_save(model, path) != GLAM_OK;
        if (failed == 1) fprintf(stderr, "%s\n", glam_error_text(ctx));
        glam_clear_error(ctx);
    }
    glam_close(ctx);
    _exit(failed);
}

// Every save succeeds, every load meets a whole file, and nothing else is left behind.
static void places_two_savers(void)
{
    glam_ctx *ctx = test_ctx();
    pid_t child[2];
    int running = 2, bad = 0, loads = 0, status;
    places_open();
    const char *path = places_path("x");
    CHECK(glam_save(places_model(ctx), path) == GLAM_OK);
    fflush(NULL);
    for (int i = 0; i < 2; i++)
        if ((child[i] = fork()) == 0) places_saver(path, (uint64_t)i + 5);
    while (running) {
        size_t mark = glam_mark(ctx);
        bad += glam_load(ctx, path) == NULL;
        loads++;
        glam_clear_error(ctx);
        glam_rewind(ctx, mark);
        for (pid_t done; running && (done = waitpid(-1, &status, WNOHANG)) != 0; running--)
            CHECK((done == child[0] || done == child[1]) && status == 0);
    }
    CHECK(bad == 0 && loads > 0);
    CHECK(places_count(0) == 1);
    CLOSE_CLEAN(ctx);
}

// Nobody's file is taken for the temporary one, and an exclusive file follows no link.
static void places_temporary(void)
{
    glam_ctx *ctx = test_ctx();
    places_open();
    glam_model *model = places_model(ctx);
    const char *path = places_path("x"), *old = places_path("x.tmp"), *mine = places_path("mine");
    places_put(old, "the user's");
    CHECK(glam_save(model, path) == GLAM_OK && places_holds(old, "the user's"));
    remove(old);
    places_put(mine, "precious");
    CHECK(symlink("mine", old) == 0);
    CHECK(glam_save(model, path) == GLAM_OK && places_holds(mine, "precious"));
    CHECK(glam__open_file(old, GLAM__MAKE, 0) < 0 && errno == EEXIST);
    CHECK(glam__open_file(mine, GLAM__MAKE, 0) < 0 && errno == EEXIST);
    CHECK(places_holds(mine, "precious") && places_count(0) == 3);
    // names as long as the system takes, and of characters of several bytes
    char name[256];
    memset(name, 'n', 255);
    name[255] = 0;
    CHECK(glam_save(model, places_path(name)) == GLAM_OK);
    for (int i = 0; i < 254; i += 2) memcpy(name + i, "\xc3\xa9", 2);
    memcpy(name + 252, "x", 2);
    CHECK(glam_save(model, places_path(name)) == GLAM_OK && places_is(ctx, places_path(name), model));
    CHECK(places_count(0) == 5);
    CLOSE_CLEAN(ctx);
}

// Wherever a save fails, the old file stays and nothing else does.
static void places_failures(void)
{
    glam_ctx *ctx = test_ctx();
    struct rlimit was, small;
    places_open();
    const char *path = places_path("x");
    glam_model *old = places_model(ctx), *model = places_model(ctx);
    CHECK(glam_save(old, path) == GLAM_OK);
    glam_fill(glam_model_tensor_at(model, 0), 3.0f);
    // a file that may not grow that long; the signal of that would end us
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    CHECK(getrlimit(RLIMIT_FSIZE, &was) == 0);
    small = was;
    small.rlim_cur = 1000;
    CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
    CHECK(glam_save(model, path) == GLAM_ERR_FILE);
    setrlimit(RLIMIT_FSIZE, &was);
    signal(SIGXFSZ, before);
    ERROR_IS(ctx, GLAM_ERR_FILE, "File too large");
    CHECK(places_count(0) == 1 && places_is(ctx, path, old));
    // a disk that fails: the file's sync, then the folder's
    test_sync_fail(1, EIO);
    CHECK(glam_save(model, path) == GLAM_ERR_FILE);
    ERROR_IS(ctx, GLAM_ERR_FILE, "cannot sync");
    CHECK(places_count(0) == 1 && places_is(ctx, path, old));
    test_sync_fail(2, EIO);
    CHECK(glam_save(model, path) == GLAM_ERR_FILE);
    ERROR_IS(ctx, GLAM_ERR_FILE, "written, but cannot sync its folder: Input/output error");
    CHECK(places_count(0) == 1 && places_is(ctx, path, model));
    test_sync_fail(2, EINVAL);                  // a system that syncs no folders
    CHECK(glam_save(old, path) == GLAM_OK && places_is(ctx, path, old));
    test_sync_fail(0, 0);
    CHECK(glam_save(old, places_path("no/such")) == GLAM_ERR_FILE);
    ERROR_IS(ctx, GLAM_ERR_FILE, "No such file");
    CHECK(glam_save(old, places_path("x/y")) == GLAM_ERR_FILE);
    ERROR_IS(ctx, GLAM_ERR_FILE, "Not a directory");
    CLOSE_CLEAN(ctx);
}

// A link stays, and what it means is written: also over several, and where nothing was yet.
static void places_links(void)
{
    glam_ctx *ctx = test_ctx();
    struct stat s;
    places_open();
    glam_model *model = places_model(ctx);
    char name[40];
    places_put(places_path("file"), "old");
    CHECK(symlink("file", places_path("one")) == 0);
    CHECK(symlink(places_path("one"), places_path("two")) == 0);
    CHECK(symlink("./new", places_path("dangling")) == 0);
    CHECK(symlink("loop", places_path("loop")) == 0);
    CHECK(symlink("file", places_path("c00")) == 0);
    for (int i = 1; i < 38; i++) {
        char to[40];
        snprintf(to, sizeof to, "c%02d", i - 1);
        snprintf(name, sizeof name, "c%02d", i);
        CHECK(symlink(to, places_path(name)) == 0);
    }
    CHECK(glam_save(model, places_path("two")) == GLAM_OK);
    CHECK(places_is(ctx, places_path("file"), model));
    CHECK(lstat(places_path("one"), &s) == 0 && S_ISLNK(s.st_mode));
    CHECK(lstat(places_path("two"), &s) == 0 && S_ISLNK(s.st_mode));
    CHECK(glam_save(model, places_path("dangling")) == GLAM_OK);
    CHECK(lstat(places_path("dangling"), &s) == 0 && S_ISLNK(s.st_mode));
    CHECK(lstat(places_path("new"), &s) == 0 && S_ISREG(s.st_mode));
    CHECK(glam_save(model, places_path("c37")) == GLAM_OK);
    CHECK(lstat(places_path("c37"), &s) == 0 && S_ISLNK(s.st_mode));
    CHECK(glam_save(model, places_path("loop")) == GLAM_ERR_FILE);
    ERROR_IS(ctx, GLAM_ERR_FILE, "circle");
    CHECK(lstat(places_path("loop"), &s) == 0 && S_ISLNK(s.st_mode));
    // a link into another folder: the temporary file is made there
    CHECK(mkdir(places_path("sub"), 0700) == 0 && symlink("sub/in", places_path("into")) == 0);
    CHECK(glam_save(model, places_path("into")) == GLAM_OK);
    CHECK(places_is(ctx, places_path("sub/in"), model));
    remove(places_path("sub/in"));
    CHECK(places_count(1) == 46);
    CLOSE_CLEAN(ctx);
}

static void places_rights(void)
{
    static const unsigned modes[] = { 0600, 0640, 0664, 0604, 0700 };
    glam_ctx *ctx = test_ctx();
    struct stat s;
    places_open();
    glam_model *model = places_model(ctx);
    const char *path = places_path("x"), *other = places_path("other");
    mode_t mask = umask(027);
    CHECK(glam_save(model, path) == GLAM_OK && places_mode(path) == 0640);
    umask(mask);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        CHECK(chmod(path, (mode_t)modes[i]) == 0 && glam_save(model, path) == GLAM_OK);
        CHECK(places_mode(path) == modes[i]);
    }
    if (geteuid() == 0) {                       // who may give files away leaves them whose they were
        CHECK(chown(path, 1234, 4321) == 0 && glam_save(model, path) == GLAM_OK);
        CHECK(stat(path, &s) == 0 && s.st_uid == 1234 && s.st_gid == 4321);
    }
    // a file with two names keeps both
    places_put(path, "a longer text than the model can be, if it is repeated often enough");
    CHECK(truncate(path, 100000) == 0 && link(path, other) == 0);
    CHECK(glam_save(model, path) == GLAM_OK && stat(path, &s) == 0 && s.st_nlink == 2);
    CHECK(places_is(ctx, path, model) && places_is(ctx, other, model) && places_count(0) == 2);
    // and when writing over it fails, the work is in the temporary file, which the message names
    test_sync_fail(2, EIO);
    glam_fill(glam_model_tensor_at(model, 0), 3.0f);
    CHECK(glam_save(model, path) == GLAM_ERR_FILE && glam_error(ctx) == GLAM_ERR_FILE);
    test_sync_fail(0, 0);
    char work[1024] = "";
    const char *at = strstr(glam_error_text(ctx), "all of it is in ");
    if (CHECK(at)) snprintf(work, sizeof work, "%s", at + 16);
    ERROR_IS(ctx, GLAM_ERR_FILE, "cannot write over it");
    CHECK(places_is(ctx, work, model) && places_count(0) == 3);
    CLOSE_CLEAN(ctx);
}

// What is no file is refused with a sentence, saving and loading, and nothing waits.
static void places_kinds(void)
{
    glam_ctx *ctx = test_ctx();
    struct stat s;
    struct sockaddr_un address;
    const char *said[4] = { "a folder", "a pipe", "a socket", "a device" };
    glam_config config;
    places_open();
    glam_model *model = places_model(ctx);
    CHECK(mkdir(places_path("folder"), 0700) == 0 && mkfifo(places_path("pipe"), 0600) == 0);
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    int socket_of = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "/tmp/glam_test_socket_%ld", (long)getpid());
    CHECK(bind(socket_of, (struct sockaddr *)(void *)&address, sizeof address) == 0);
    const char *paths[4] = { places_path("folder"), places_path("pipe"), address.sun_path, places_path("null") };
    // who could replace the real one gets one of its own
    if (geteuid() != 0) paths[3] = "/dev/null";
#ifdef __linux__
    else if (mknod(paths[3], S_IFCHR | 0600, makedev(1, 3)) != 0) said[3] = NULL;
#else
    else said[3] = NULL;
#endif
    alarm(60);                                  // who hangs ends here
    for (int i = 0; i < 4 && said[i]; i++) {
        CHECK(stat(paths[i], &s) == 0);
        mode_t mode = s.st_mode;
        CHECK(glam_save(model, paths[i]) == GLAM_ERR_FILE);
        ERROR_IS(ctx, GLAM_ERR_FILE, said[i]);
        CHECK(!glam_load(ctx, paths[i]));
        ERROR_IS(ctx, GLAM_ERR_FILE, i == 2 ? "cannot open" : said[i]);
        CHECK(glam_load_config(ctx, paths[i], &config) == GLAM_ERR_FILE);
        glam_clear_error(ctx);
        CHECK(stat(paths[i], &s) == 0 && s.st_mode == mode);
    }
    CHECK(!glam_text_open(ctx, paths[0], NULL));
    ERROR_IS(ctx, GLAM_ERR_FILE, "a folder");
    CHECK(!glam_text_open(ctx, "/dev/zero", NULL));     // which has no end
    ERROR_IS(ctx, GLAM_ERR_FILE, "a device");
    alarm(0);
    close(socket_of);
    remove(address.sun_path);
    CHECK(places_count(1) == (geteuid() == 0 && said[3] ? 3 : 2));
    CLOSE_CLEAN(ctx);
}

// A text may come out of a pipe, and be longer than the first block.
static void places_pipe(void)
{
    test_heap heap;
    glam_options options = test_options();
    test_heap_into(&heap, &options);
    glam_ctx *ctx = glam_open(&options);
    enum { LENGTH = 300001 };
    unsigned char *bytes = (unsigned char *)malloc(LENGTH);
    int32_t *ids = (int32_t *)malloc(LENGTH * sizeof *ids);
    if (!CHECK(bytes && ids)) return;
    for (int i = 0; i < LENGTH; i++) bytes[i] = (unsigned char)(i * 7 + i / 251);
    places_open();
    const char *path = places_path("pipe");
    CHECK(mkfifo(path, 0600) == 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        int f = open(path, O_WRONLY);
        size_t sent = 0;
        for (ssize_t n; sent < LENGTH && (n = write(f, bytes + sent, LENGTH - sent)) > 0;)
            sent += (size_t)n;
        close(f);
        _exit(sent != LENGTH);
    }
    glam_text *text = glam_text_open(ctx, path, NULL);
    CHECK(waitpid(child, NULL, 0) == child);
    CHECK(glam_text_length(text) == LENGTH && glam_text_read(text, 0, LENGTH, ids) == LENGTH);
    int wrong = 0;
    for (int i = 0; i < LENGTH && text; i++) wrong += ids[i] != bytes[i];
    CHECK(wrong == 0);
    remove(path);
    free(bytes);
    free(ids);
    CLOSE_CLEAN(ctx);
    CHECK(heap.live == 0 && heap.wrong == 0);
}

static void test_places(void)
{
    RUN(places_two_savers);
    RUN(places_temporary);
    RUN(places_failures);
    RUN(places_links);
    RUN(places_rights);
    RUN(places_kinds);
    RUN(places_pipe);
    if (!*places_folder) return;
    places_count(1);
    rmdir(places_folder);
}
#else
static void test_places(void) {}
#endif
