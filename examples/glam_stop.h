/* glam_stop.h - how a run is stopped from outside: Ctrl-C, a closed terminal, kill, and a closed
   pipe.  A part of glam.c.

   The first signal asks: the step is finished, everything is saved.  The second ends at once.  A
   signal that was ignored when the program started (nohup, a job in the background) stays so. */

#ifndef GLAM_STOP_H
#define GLAM_STOP_H

static volatile sig_atomic_t interrupted = 0;    // the signal; 0: none yet
static volatile sig_atomic_t pipe_closed = 0;    // nobody reads standard output any more
static int catching = 0;                         // a run that saves something is at work
static int output_failed = 0;                    // it could not be written for another reason

static void say_at_once(const char *line)        // where printf must not be called
{
#ifdef HAVE_UNISTD
    if (rank <= 0 && write(2, line, strlen(line)) < 0) return;
#else
    (void)line;
#endif
}

static void on_signal(int number)
{
    if (interrupted) {
        remove_reservations();
        say_at_once("\nglam: ended at once; what was not saved is lost\n");
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    interrupted = number;
#ifndef HAVE_UNISTD
    signal(number, on_signal);
#endif
    say_at_once("\nglam: stopping, a moment for saving; once more ends at once\n");
}

static void on_closed_pipe(int number)
{
    pipe_closed = 1;
#ifndef HAVE_UNISTD
    signal(number, on_closed_pipe);
#else
    (void)number;
#endif
}

static void catch_signal(int number, void (*handler)(int))
{
#ifdef HAVE_UNISTD
    struct sigaction before, now;
    if (sigaction(number, NULL, &before) == 0 && before.sa_handler == SIG_IGN) return;
    memset(&now, 0, sizeof now);
    now.sa_handler = handler;
    sigemptyset(&now.sa_mask);
    now.sa_flags = SA_RESTART;
    sigaction(number, &now, NULL);
#else
    if (signal(number, handler) == SIG_IGN) signal(number, SIG_IGN);
#endif
}

static void catch_signals(void)
{
    catching = 1;
    catch_signal(SIGINT, on_signal);
    catch_signal(SIGTERM, on_signal);
#ifdef HAVE_UNISTD
    catch_signal(SIGHUP, on_signal);
    catch_signal(SIGPIPE, on_closed_pipe);
#ifdef SIGXFSZ
    catch_signal(SIGXFSZ, SIG_IGN);              // a file beyond ulimit -f: saving says so
#endif
#endif
}

static int was_interrupted(void *user)
{
    (void)user;
    return interrupted;
}

// What a shell says of a process that a signal has ended.
static int stopped_status(void)
{
    return 128 + (interrupted ? (int)interrupted : SIGINT);
}

// After a line or a page.  When nobody reads it, the work goes on without; a full disk is told.
static void flush_output(void)
{
    if (output_failed || pipe_closed == 2) return;
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return;
    int reason = errno;
    if (pipe_closed || reason == EPIPE || reason == EIO || reason == EBADF) pipe_closed = 2;
    else {
        output_failed = 1;
        warn("standard output cannot be written: %s", reason ? strerror(reason) : "it has failed");
    }
#ifdef HAVE_UNISTD
    if (!freopen("/dev/null", "w", stdout)) return;
#endif
}

// The last thing of every command: output that did not arrive is a failure.
static int finish_output(int status)
{
    flush_output();
    if (pipe_closed == 2 && !catching && status == DONE)
        return complain(FAILED, "nobody reads the output");
    return status == DONE && output_failed ? FAILED : status;
}

#endif
