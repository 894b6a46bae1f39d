/* glam_keep.h - what a run must not lose: the weights of the best validation, and a place for
   them when the one that was asked for cannot be written.  A part of glam.c. */

#ifndef GLAM_KEEP_H
#define GLAM_KEEP_H

// == the best weights =======================================================================

static void forget_best(best_weights *b)
{
    for (int i = 0; b->copy && i < b->tensors; i++) free(b->copy[i]);
    free(b->copy);
    b->copy = NULL;
    b->step = 0;
}

// Are copies wanted at all?  A mesh has no rank with room for what the others hold.
static int keeps_best(const run *r)
{
    return r->valid && !ranks.size && !(GIVEN(keep) && strcmp(r->s->keep, "last") == 0);
}

// Before the first copy: memory for it.  Without, the run goes on and says so.
static int make_room(run *r)
{
    best_weights *b = &r->best;
    b->tensors = 0;
    while (glam_model_tensor_at(r->model, b->tensors)) b->tensors++;
    b->copy = (float **)calloc((size_t)b->tensors, sizeof *b->copy);
    for (int i = 0; b->copy && i < b->tensors; i++) {
        const glam_tensor *t = glam_model_tensor_at(r->model, i);
        if (!t->wants_grad) continue;                     // what is frozen stays as it is
        b->copy[i] = (float *)malloc(glam_size(t) * sizeof *t->data);
        if (!b->copy[i]) forget_best(b);
    }
    b->off = !b->copy;
    if (b->off) warn("there is no memory for a copy of the best weights; the last will be saved");
    return !b->off;
}

// After a validation on the way: is this the best so far?  Its weights are copied, unless the run
// ends here and has them anyway.
static void keep_best(run *r, int step, int ends)
{
    best_weights *b = &r->best;
    if (!(r->valid_loss >= 0 && isfinite(r->valid_loss))) return;
    if (b->step && !(r->valid_loss < b->loss)) return;
    if (ends) {
        forget_best(b);
    } else if (keeps_best(r) && !b->off && (b->copy || make_room(r))) {
        for (int i = 0; i < b->tensors; i++) {
            const glam_tensor *t = glam_model_tensor_at(r->model, i);
            if (b->copy[i]) memcpy(b->copy[i], t->data, glam_size(t) * sizeof *t->data);
        }
    }
    b->step = step;
    b->loss = r->valid_loss;
}

// The best weights into the model, the last ones into the copy; or back.
static void swap_best(run *r)
{
    for (int i = 0; i < r->best.tensors; i++) {
        glam_tensor *t = glam_model_tensor_at(r->model, i);
        float *copy = r->best.copy[i];
        for (size_t k = 0, size = copy ? glam_size(t) : 0; k < size; k++) {
            float one = copy[k];
            copy[k] = t->data[k];
            t->data[k] = one;
        }
    }
    glam_forget(r->ctx);                         // from here on they are seen
}

// == the best weights of a run that goes on later ============================================

/* A checkpoint has the last weights.  The best are a file beside it, of its name with .best: each
   tensor that is trained, and glam.best: the step, the loss, and the best loss that the trainer
   knew, by which a checkpoint finds out that the file is its own. */

enum { BEST_NUMBERS = 12 };

static char *beside(const char *checkpoint) { return joined("%s.best", checkpoint); }

// A double or a step as four numbers of 16 bits, which a float holds exactly; and back.
static void put_bits(float *to, const void *value)
{
    uint64_t bits;
    memcpy(&bits, value, sizeof bits);
    for (int i = 0; i < 4; i++) to[i] = (float)(bits >> 16 * i & 65535);
}

static void get_bits(const float *from, void *value)
{
    uint64_t bits = 0;
    for (int i = 0; i < 4; i++) bits |= (uint64_t)from[i] << 16 * i;
    memcpy(value, &bits, sizeof bits);
}

// Writes the file, or reads it into the copies.  Without copies the model has the best weights.
static glam_status best_file(run *r, const char *path, float numbers[BEST_NUMBERS], int read)
{
    int most = 1, count = 0;
    while (glam_model_tensor_at(r->model, most - 1)) most++;
    glam_tensor *all = (glam_tensor *)need((size_t)most * sizeof *all);
    glam_tensor **list = (glam_tensor **)need((size_t)most * sizeof *list);
    for (int i = 0; i < most - 1; i++) {
        const glam_tensor *t = glam_model_tensor_at(r->model, i);
        if (!t->wants_grad) continue;
        list[count] = &all[count];
        all[count] = *t;
        all[count].pack = NULL;                          // that is of the model's numbers
        if (r->best.copy) all[count].data = r->best.copy[i];
        count++;
    }
    memset(&all[count], 0, sizeof *all);
    all[count].name = "glam.best";
    all[count].shape = glam_dim1(BEST_NUMBERS);
    all[count].data = numbers;
    list[count] = &all[count];
    glam_status status = read ? glam_load_tensors(r->ctx, path, list, count + 1)
                              : glam_save_tensors(r->ctx, path, list, count + 1);
    free(list);
    free(all);
    return status;
}

// Before the checkpoint: whoever finds that finds its best weights too.
static void save_beside(run *r, const char *checkpoint)
{
    best_weights *b = &r->best;
    int64_t step = b->step;
    double known = glam_trainer_best(r->trainer);
    float numbers[BEST_NUMBERS];
    if (!b->step || !keeps_best(r) || b->off || known < 0) return;
    char *path = beside(checkpoint);
    put_bits(numbers, &step);
    put_bits(numbers + 4, &b->loss);
    put_bits(numbers + 8, &known);
    if (best_file(r, path, numbers, 0) == GLAM_OK) b->beside = b->step;
    else {
        warn("the best weights: %s", glam_error_text(r->ctx));
        glam_clear_error(r->ctx);
    }
    free(path);
}

// After --resume: the best weights so far.  Where there are none, the words say so.
static void load_beside(run *r)
{
    best_weights *b = &r->best;
    int64_t step = 0;
    double loss = 0, of = 0, known = glam_trainer_best(r->trainer);
    float numbers[BEST_NUMBERS];
    if (known < 0 || !keeps_best(r) || !make_room(r)) return;
    char *path = beside(r->s->resume);
    int there = kind_of(path) != NOTHING;
    if (there && best_file(r, path, numbers, 1) == GLAM_OK) {
        get_bits(numbers, &step);
        get_bits(numbers + 4, &loss);
        get_bits(numbers + 8, &of);
    }
    if (of == known && !glam_error(r->ctx)) {
        b->step = (int)step;
        b->loss = loss;
    } else {
        warn("the best validation so far was %.4f, but its weights are not at hand: %s%s", known,
             glam_error(r->ctx) ? glam_error_text(r->ctx) : path,
             glam_error(r->ctx) ? "" : there ? " is of another run" : " is not there");
        glam_clear_error(r->ctx);
        forget_best(b);
    }
    free(path);
}

// Is there a number among the weights that is none?
static int are_finite(const run *r)
{
    const glam_tensor *t;
    for (int i = 0; (t = glam_model_tensor_at(r->model, i)) != NULL; i++)
        for (size_t k = 0, size = glam_size(t); k < size; k++)
            if (!isfinite(t->data[k])) return 0;
    return 1;
}

// == a place for them =======================================================================

enum { MODEL, CHECKPOINT };

// One attempt; a failure is told and forgotten, so that there can be another.
static int try_save(run *r, int what, const char *path)
{
    if (what == CHECKPOINT) save_beside(r, path);
    glam_status status = what == MODEL && count_adapters(r->model) ? glam_save_adapter(r->model, path)
                       : what == MODEL ? glam_save(r->model, path)
                                       : glam_save_checkpoint(r->trainer, path);
    if (status == GLAM_OK && glam_error(r->ctx) == GLAM_OK) return 1;
    warn("%s", glam_error_text(r->ctx));
    glam_clear_error(r->ctx);
    return 0;
}

// Saves where it was asked, else in the folder of the checkpoint, in this one, in that for
// temporary files, and at last beside it under another name.  The name that it has; the caller
// frees it.  NULL: nothing could be written anywhere.  (All ranks of a mesh take the same way.)
static char *save_somewhere(run *r, int what, const char *path)
{
    if (try_save(r, what, path)) return joined("%s", path);
    const char *temporary = getenv("TMPDIR");
    char *own = folder_of(path), *other = folder_of(what == MODEL ? r->checkpoint : r->out);
    const char *folders[4] = {other, ".", temporary && *temporary ? temporary : "/tmp", own};
    char *found = NULL, *plain = stem_of(name_of(path));
    const char *ending = name_of(path) + strlen(plain);
    for (int i = 0; i < 4 && !found; i++) {
        int again = i < 3 && strcmp(folders[i], own) == 0, refused;      // that is the last one
        for (int k = 0; k < i; k++) again |= strcmp(folders[i], folders[k]) == 0 && i < 3;
        if (again) continue;
        char *stem = in_folder(folders[i], plain), *name = free_name(stem, ending, &refused);
        if ((!refused || ranks.size) && try_save(r, what, name)) found = name;
        else free(name);
        free(stem);
    }
    free(plain);
    free(own);
    free(other);
    return found;
}

// On the way: a checkpoint that cannot be written is no reason to stop.
static void save_on_the_way(run *r)
{
    if (r->best.beside != r->best.step) save_beside(r, r->checkpoint);
    glam_status status = glam_save_checkpoint(r->trainer, r->checkpoint);
    if (status == GLAM_OK) {
        if (r->missed) warn("%s is written again", r->checkpoint);
        r->missed = 0;
        return;
    }
    if (r->missed++ == 0)
        warn("%s; the run goes on, and will try again", glam_error_text(r->ctx));
    glam_clear_error(r->ctx);
}

#endif
