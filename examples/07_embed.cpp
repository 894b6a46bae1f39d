/* 07_embed.cpp - the C++ twin of 07_embed: the same library in a C++11 program.

   You learn: that the header compiles as C++, to let a unique_ptr close the context, std::thread
   as workers through options.parallel_for, a std::vector as the file of a model, and one place
   where failures become an exception, outside of the library.

   Build: c++ -std=c++11 -O2 examples/07_embed.cpp -o embed_cpp -pthread && ./embed_cpp

   Prints:
       a file of ... bytes, in memory
       2 workers wrote:  brown fox jumps over the lazy dog and the quick ...
       and as an exception: matmul: ... */

#define GLAM_NO_STDIO
#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <atomic>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Close {
    void operator()(glam_ctx *ctx) const { glam_close(ctx); }
};
using Context = std::unique_ptr<glam_ctx, Close>;

// The first thing that went wrong, thrown at a moment of our choice.
void check(const Context &ctx)
{
    if (glam_error(ctx.get()) != GLAM_OK) throw std::runtime_error(glam_error_text(ctx.get()));
}

// The plainest workers: threads that live for one loop.  A program with a pool uses its pool.
void parallel_for(void *user, int chunks, glam_body *body, void *arg)
{
    int workers = *static_cast<const int *>(user);
    std::atomic<int> next(0);
    auto work = [&](int worker) {
        for (int chunk; (chunk = next++) < chunks;) body(arg, chunk, chunk + 1, worker);
    };
    std::vector<std::thread> crew;
    for (int worker = 1; worker < workers && worker < chunks; worker++)
        crew.emplace_back(work, worker);
    work(0);
    for (auto &thread : crew) thread.join();
}

// A model that knows one sentence, as the bytes of a safetensors file.
std::vector<char> teach(const Context &ctx, const std::string &sentence)
{
    std::string text;
    for (int i = 0; i < 40; i++) text += sentence;

    glam_config size = glam_config_default();
    size.layers  = 2;
    size.d_model = 32;
    size.context = 64;
    glam_recipe recipe = glam_recipe_default();
    recipe.steps  = 300;
    recipe.warmup = 30;
    glam_model *model = glam_model_new(ctx.get(), &size);
    glam_text *source = glam_text_from(ctx.get(), text.data(), text.size(), nullptr);
    glam_trainer *trainer = glam_trainer_new(model, source, nullptr, &recipe);
    while (glam_train_step(trainer, nullptr)) {}

    std::vector<char> file(glam_save_memory(model, nullptr, 0));
    glam_save_memory(model, file.data(), file.size());
    return file;
}

std::string complete(glam_model *model, const std::string &prompt)
{
    glam_sampling sampling = glam_sampling_default();
    sampling.temperature = 0;
    char text[50];
    int count = glam_complete(model, prompt.c_str(), text, sizeof text, &sampling);
    return std::string(text, static_cast<size_t>(count));
}

} // namespace

int main()
{
    int failed = 0;
    try {
        int workers = 2;
        glam_options options = glam_options_default();
        options.threads       = workers;
        options.parallel_for  = parallel_for;
        options.parallel_user = &workers;

        std::vector<char> file;
        {
            Context school(glam_open(nullptr));              // closed at the end of this block
            file = teach(school, "the quick brown fox jumps over the lazy dog and ");
            check(school);
        }
        std::cout << "a file of " << file.size() << " bytes, in memory\n";

        Context ctx(glam_open(&options));
        glam_model *model = glam_load_memory(ctx.get(), file.data(), file.size());
        std::string text = complete(model, "the quick");
        check(ctx);
        std::cout << workers << " workers wrote: " << text << "...\n";

        try {                                                // a mistake, to see it arrive
            glam_tensor *a = glam_zeros(ctx.get(), glam_dim2(2, 3));
            glam_matmul(ctx.get(), a, a);
            check(ctx);
        } catch (const std::exception &mistake) {
            std::cout << "and as an exception: " << mistake.what() << "\n";
        }
    } catch (const std::exception &error) {
        std::cerr << error.what() << "\n";
        failed = 1;
    }
    return failed;
}
