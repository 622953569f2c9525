// A prediction by fused Group Shift Pointwise layers: each reads its input once and writes its output once.
//
// A layer stores its raw convolution output and sums up its moments; whoever reads that output applies InstanceNorm,
// leaky ReLU and the shift while loading. plan.h says where a tile's input comes from, loading.h brings it in,
// product.h multiplies, output.h stores and sums up, norm.h makes coefficients of the sums; forward.h does all of it
// for a layer, and team.h has the threads.
#include "forward.h"
#include "team.h"

typedef struct {
    Batch batch;
    const Layer *layers;
    int32_t n_layers;
    atomic_int *next;    // of each layer, the next unit of work; behind them the next layer to pack
    Scratch *scratches;  // of each thread
} Prediction;

static void predict(Team *team, void *job, int32_t member) {
    const Prediction *prediction = job;
    const Batch *batch = &prediction->batch;
    for (int32_t i; (i = atomic_fetch_add(&prediction->next[prediction->n_layers], 1)) < prediction->n_layers;)
        pack(batch, &prediction->layers[i]);
    if (meet(team)) release(team);
    for (int32_t i = 0; i < prediction->n_layers; i++) {
        const Layer *layer = &prediction->layers[i];
        run_units(batch, layer, &prediction->next[i], atomic_load(&team->threads), &prediction->scratches[member]);
        finish_stores();
        if (meet(team)) {
            if (layer->moments >= 0) finish_norm(batch, layer);
            release(team);
        }
    }
}

// library.py refuses a build whose structures are not its own.
const int64_t gsp_layer_bytes = sizeof(Layer);
const int64_t gsp_target_bytes = sizeof(Target);

// Runs the layers one after the other on up to `threads` threads. Returns 0, or -1 where memory ran out.
int32_t gsp_run(const Layer *layers, int32_t n_layers, int32_t n_samples, int32_t threads, float *const *spaces) {
    Prediction prediction = {.batch = {.spaces = spaces, .n_samples = n_samples},
                             .layers = layers, .n_layers = n_layers,
                             .next = calloc(n_layers + 1, sizeof *prediction.next),
                             .scratches = calloc(threads, sizeof *prediction.scratches)};
    const ScratchSize size = scratch_size(layers, n_layers);
    int32_t ready = 0;  // fewer threads need less memory
    if (prediction.next && prediction.scratches)
        while (ready < threads && !allocate_scratch(&prediction.scratches[ready], &size)) ready++;
    if (ready) work_together(predict, &prediction, ready);
    for (int32_t i = 0; i < ready; i++) free(prediction.scratches[i].memory);
    free(prediction.scratches);
    free(prediction.next);
    return ready ? 0 : -1;
}
