/* The ways out that README.md names where OpenMP's threads cannot follow: a child of fork with one thread
   or with a parallel_for of its own, and a plug-in that stays loaded (-Wl,-z,nodelete).
     fork                the children
     fork PLUGIN.so      loads it, has it work, closes it
   Built with -DPLUGIN -shared it is the plug-in. */
#define _POSIX_C_SOURCE 200809L
#define GLAM_IMPLEMENTATION
#define GLAM_STATIC
#include "../glam.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void serial(void *user, int chunks, glam_body *body, void *arg)
{
    (void)user;
    for (int c = 0; c < chunks; c++) body(arg, c, c + 1, 0);
}

// A product large enough for all workers; 1: it is right.
int work(int threads, int own);
int work(int threads, int own)
{
    glam_options options = glam_options_default();
    options.threads = threads;
    if (own) options.parallel_for = serial;
    glam_ctx *ctx = glam_open(&options);
    glam_tensor *a = glam_zeros(ctx, glam_dim2(300, 300)), *b = glam_zeros(ctx, glam_dim2(300, 300));
    if (a && b) { glam_fill(a, 1); glam_fill(b, 2); }
    glam_tensor *y = glam_matmul(ctx, a, b);
    int right = y && y->data[0] == 600 && y->data[89999] == 600;
    glam_close(ctx);
    return right;
}

#ifndef PLUGIN
int main(int argc, char **argv)
{
    int good = 0, all = argc > 1 ? 1 : 2;
    if (argc > 1) {
        void *plugin = dlopen(argv[1], RTLD_NOW);
        int (*there)(int, int) = NULL;
        if (plugin) *(void **)&there = dlsym(plugin, "work");
        good = there && there(2, 0);
        if (plugin) dlclose(plugin);
        const struct timespec moment = { 0, 50000000 };
        nanosleep(&moment, NULL);              // threads of a library that is gone would end here
    } else if (work(2, 0)) {                   // the workers are there now
        for (int own = 0; own < 2; own++) {
            pid_t child = fork();
            int status = 1;
            if (child == 0) {
                alarm(20);                     // a child that waits for threads it does not have
                _exit(work(own ? 2 : 1, own) ? 0 : 1);
            }
            good += child > 0 && waitpid(child, &status, 0) == child && status == 0;
        }
    }
    printf("%d passed, %d failed\n", good, all - good);
    return good != all;
}
#endif
