// The backward pass of a training step by fused Group Shift Pointwise layers.
//
// The forward pass is that of a prediction (prediction.c), whose products and moments are kept. What layers read is
// loaded as it was then, gradients go back to where it came from. gradient.h has the norm's derivative, backward.h a
// layer's, unloading.h takes shifts, pooling and nonlinearities back, adjoint.h the interpolation.
#include "backward.h"
#include "team.h"

typedef struct {
    Batch batch;
    const Layer *layers;
    const Gradient *gradients;
    int32_t n_gradients;
    atomic_int *next;  // of each layer, the next part and the next of the rest; behind them the next weight to pack
    BackwardScratch *scratches;
} Backward;

static void begin_layer(const Backward *job, int32_t index) {
    if (index == job->n_gradients) return;
    const Gradient *gradient = &job->gradients[index];
    if (job->layers[gradient->layer].moments >= 0)
        differentiate_norm(&job->batch, &job->layers[gradient->layer], gradient);
}

static void differentiate(Team *team, void *job, int32_t member) {
    const Backward *backward = job;
    const Batch *batch = &backward->batch;
    const BackwardScratch *scratch = &backward->scratches[member];
    const int32_t n = backward->n_gradients;
    for (int32_t i; (i = atomic_fetch_add(&backward->next[2 * n], 1)) < n;)
        pack_transposed(batch, &backward->layers[backward->gradients[i].layer], &backward->gradients[i]);
    if (meet(team)) {
        begin_layer(backward, 0);
        release(team);
    }
    for (int32_t i = 0; i < n; i++) {
        const Gradient *gradient = &backward->gradients[i];
        differentiate_parts(batch, backward->layers, backward->gradients, gradient, &backward->next[2 * i], scratch);
        if (meet(team)) {
            merge_sums(batch, backward->layers, backward->gradients, gradient);
            release(team);
        }
        differentiate_rest(batch, &backward->layers[gradient->layer], gradient, &backward->next[2 * i + 1], scratch);
        if (meet(team)) {
            begin_layer(backward, i + 1);
            release(team);
        }
    }
}

// library.py refuses a build whose structures are not its own.
const int64_t gsp_gradient_bytes = sizeof(Gradient);

// Runs the backward passes of some layers, one after the other, on up to `threads` threads. Returns 0, or -1 where
// memory ran out.
int32_t gsp_differentiate(const Layer *layers, int32_t n_layers, const Gradient *gradients, int32_t n_gradients,
                          int32_t n_samples, int32_t threads, float *const *spaces) {
    Backward backward = {.batch = {.spaces = spaces, .n_samples = n_samples}, .layers = layers, .gradients = gradients,
                         .n_gradients = n_gradients, .next = calloc(2 * n_gradients + 1, sizeof *backward.next),
                         .scratches = calloc(threads, sizeof *backward.scratches)};
    int32_t ready = 0;  // fewer threads need less memory
    if (backward.next && backward.scratches)
        while (ready < threads && !allocate_backward_scratch(&backward.scratches[ready], layers, n_layers)) ready++;
    if (ready) work_together(differentiate, &backward, ready);
    for (int32_t i = 0; backward.scratches && i < threads; i++) {
        free(backward.scratches[i].forward.memory);
        free(backward.scratches[i].memory);
    }
    free(backward.scratches);
    free(backward.next);
    return ready ? 0 : -1;
}
