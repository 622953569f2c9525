// The backward pass of a layer, unit by unit: its input and the gradient of its output are loaded, the gradient of the
// weights is summed up, and that of the input stored where the input came from.
#pragma once
#include "adjoint.h"
#include "outer_product.h"
#include "product.h"
#include "unloading.h"

#include <stdatomic.h>

// What a thread has to itself: as in the forward pass, the gradient of a tile's output, rows of it before pooling, three
// numbers for each column of them, a high row and a low one.
typedef struct {
    Scratch forward;
    float *gradient, *spread_rows, *columns, *line, *low_line;
    void *memory;
} BackwardScratch;

// Returns 0, or -1 where memory ran out. `memory` and forward.memory are to be freed.
static inline int allocate_backward_scratch(BackwardScratch *scratch, const Layer *layers, int32_t n_layers) {
    const ScratchSize size = scratch_size(layers, n_layers);
    int64_t channels = 0, line = 0, width = 0;
    for (const Layer *layer = layers; layer < layers + n_layers; layer++) {
        if (layer->out.channels > channels) channels = layer->out.channels;
        if (layer->out.size[2] > line) line = layer->out.size[2];
        for (int32_t i = 0; i < layer->n_inputs; i++)
            if (layer->inputs[i].map.size[2] > width) width = layer->inputs[i].map.size[2];
    }
    const int64_t spread = round_up(size.staging, CACHE_LINE), columns = round_up(3 * width, CACHE_LINE);
    const int64_t row = round_up(line, CACHE_LINE) + 2 * CACHE_LINE;
    const int64_t floats = channels * size.stride + spread + columns + 2 * row;
    if (allocate_scratch(&scratch->forward, &size) || posix_memalign(&scratch->memory, 64, sizeof(float) * floats)) {
        scratch->memory = NULL;  // POSIX leaves it undefined
        return -1;
    }
    memset(scratch->memory, 0, sizeof(float) * floats);
    scratch->gradient = scratch->memory;
    scratch->spread_rows = scratch->gradient + channels * size.stride;
    scratch->columns = scratch->spread_rows + spread;
    scratch->line = scratch->columns + columns + CACHE_LINE;
    scratch->low_line = scratch->line + row;
    return 0;
}

// ---- weights

// [input][block of its channels][channel out][channel in block], for the product of the transposed weights and a
// gradient; channels that only fill the last block are zeros.
static inline void pack_transposed(const Batch *batch, const Layer *layer, const Gradient *gradient) {
    if (!layer->weight) return;
    float *to = batch->spaces[GRADIENTS] + gradient->packed;
    for (int32_t i = 0, first = 0; i < layer->n_inputs; first += layer->inputs[i++].map.channels)
        for (int32_t block = 0; block < layer->inputs[i].map.channels; block += OUTPUTS)
            for (int32_t output = 0; output < layer->out.channels; output++)
                for (int32_t c = block; c < block + OUTPUTS; c++)
                    *to++ = c < layer->inputs[i].map.channels ? layer->weight[output * layer->weight_stride + first + c]
                                                              : 0;
}

static inline int64_t part_floats(const Layer *layer) {
    return (int64_t)layer->out.channels * (channels_in(layer) + 1);
}

// A part of the gradient of weights, [channel out][channel in], and behind it of the bias.
static inline float *part_of(const Batch *batch, const Layer *layer, const Gradient *gradient, int32_t part) {
    return batch->spaces[GRADIENTS] + gradient->parts + part * part_floats(layer);
}

static inline float sum_of_voxels(const float *values, int32_t n) {
    Vector sum = {0};
    for (int32_t v = 0; v < n; v += LANES) sum += vector_at(values + v);
    return sum_of(sum);
}

static inline void add_to_part(const Layer *layer, const Gradient *gradient, const BackwardScratch *scratch,
                               int32_t voxels, float *part) {
    const int32_t channels = channels_in(layer);
    const int64_t stride = scratch->forward.stride;
    if (gradient->weight)
        add_outer_product(scratch->gradient, layer->out.channels, scratch->forward.tile, channels, stride, voxels, part);
    if (gradient->bias && layer->moments < 0)
        for (int32_t output = 0; output < layer->out.channels; output++)
            part[layer->out.channels * channels + output] += sum_of_voxels(scratch->gradient + output * stride, voxels);
}

// Sums up the parts of one output's weights and of its bias. A norm takes any bias away, so its gradient is zero.
static inline void merge_parts(const Batch *batch, const Layer *layer, const Gradient *gradient, int32_t output) {
    const Tiling tiling = tiling_of(layer);
    const int32_t parts = batch->n_samples * tiling.chunks, channels = channels_in(layer);
    for (int32_t c = 0; gradient->weight && c < channels; c++) {
        double sum = 0;
        for (int32_t part = 0; part < parts; part++)
            sum += part_of(batch, layer, gradient, part)[output * channels + c];
        gradient->weight[output * layer->weight_stride + c] = (float)sum;
    }
    if (gradient->bias) {
        double sum = 0;
        for (int32_t part = 0; layer->moments < 0 && part < parts; part++)
            sum += part_of(batch, layer, gradient, part)[layer->out.channels * channels + output];
        gradient->bias[output] = (float)sum;
    }
}

// ---- units

static inline double *sums_of(const Batch *batch, const Layer *layer, const Gradient *gradient, int32_t part) {
    return (double *)(batch->spaces[GRADIENTS] + gradient->sums) + (int64_t)part * 2 * channels_in(layer);
}

static inline void clear_to_whole_vector(float *channel, int32_t voxels) {
    for (; voxels % LANES; voxels++) channel[voxels] = 0;
}

static inline void load_gradients(const Batch *batch, const Layer *layer, const Gradient *gradient, const Tile *tile,
                                  const BackwardScratch *scratch) {
    const int32_t voxels = tile->rows * layer->out.size[2];
    const Coefficients *coefficients = layer->moments < 0 ? NULL
                                       : coefficients_of(batch, layer, gradient, tile->sample);
    const float *from = row_of(batch, &gradient->of_out, tile->sample, tile->first_row);
    const float *values = coefficients ? row_of(batch, &layer->out, tile->sample, tile->first_row) : NULL;
    float *to = scratch->gradient;
    for (int32_t channel = 0; channel < layer->out.channels; channel++, to += scratch->forward.stride) {
        load_gradient(layer, coefficients ? coefficients + channel : NULL, from, values, voxels, to);
        clear_to_whole_vector(to, voxels);
        from += gradient->of_out.channel_stride;
        if (values) values += layer->out.channel_stride;
    }
}

// The gradient of an input takes the place of the input in the tile, before shift, pooling and nonlinearity are undone.
static inline void multiply_transposed(const Layer *layer, const float *packed, int32_t channels, int32_t voxels,
                                       const BackwardScratch *scratch, float *to) {
    const int64_t stride = scratch->forward.stride;
    const float zeros[OUTPUTS] = {0};
    for (int32_t c = 0; c < channels; c += OUTPUTS, packed += OUTPUTS * layer->out.channels) {
        const int32_t outputs = min_of(OUTPUTS, channels - c);
        for (int32_t v = 0; v < voxels; v += STEP) {
            Vector total[OUTPUTS][VECTORS];
            multiply(total, NULL, zeros, packed, scratch->gradient + v, layer->out.channels, stride);
#pragma GCC unroll 8
            for (int k = 0; k < OUTPUTS; k++) {
                if (k >= outputs) continue;
                for (int j = 0; j < VECTORS; j++) store(to + (c + k) * stride + v + j * LANES, total[k][j], 0);
            }
        }
    }
}

static inline void differentiate_tile(const Batch *batch, const Layer *layers, const Gradient *gradients,
                                      const Gradient *gradient, const Tile *tile, float *part, double *sums,
                                      const BackwardScratch *scratch) {
    const Layer *layer = &layers[gradient->layer];
    const Scratch *forward = &scratch->forward;
    const int32_t voxels = tile->rows * layer->out.size[2];
    plan_tile(batch, layer, tile, (Plan *)forward->plans);
    load_tile(batch, layer, tile, forward);
    for (int32_t c = 0; c < channels_in(layer); c++) clear_to_whole_vector(forward->tile + c * forward->stride, voxels);
    load_gradients(batch, layer, gradient, tile, scratch);
    add_to_part(layer, gradient, scratch, voxels, part);
    const float *packed = batch->spaces[GRADIENTS] + gradient->packed;
    float *into = forward->tile;
    for (int32_t i = 0; i < layer->n_inputs; i++) {
        const int32_t channels = layer->inputs[i].map.channels;
        if (gradient->wants_inputs[i]) {
            const Gradient *norm = gradient->norms_of_inputs[i] < 0 ? NULL : &gradients[gradient->norms_of_inputs[i]];
            const Layer *producer = norm ? &layers[norm->layer] : NULL;
            const Tiling tiling = tiling_of(producer ? producer : layer);
            const double *moments = producer ? moments_of(batch, producer, &tiling, tile->sample, 0) : NULL;
            if (layer->weight) multiply_transposed(layer, packed, channels, voxels, scratch, into);
            unload_input(batch, layer, gradient, i, &forward->plans[i], tile, layer->weight ? into : scratch->gradient,
                         moments, sums, forward, scratch->spread_rows, scratch->columns);
        }
        packed += round_up(channels, OUTPUTS) * layer->out.channels;
        into += channels * forward->stride;
        sums += 2 * channels;
    }
}

static inline int32_t parts_of(const Batch *batch, const Layer *layer) {
    return layer->n_inputs ? batch->n_samples * tiling_of(layer).chunks : 0;
}

// Computes parts, each a chunk of a sample's tiles, as long as there are any.
static inline void differentiate_parts(const Batch *batch, const Layer *layers, const Gradient *gradients,
                                       const Gradient *gradient, atomic_int *next, const BackwardScratch *scratch) {
    const Layer *layer = &layers[gradient->layer];
    const Tiling tiling = tiling_of(layer);
    const int32_t parts = parts_of(batch, layer);
    for (int32_t index; (index = atomic_fetch_add(next, 1)) < parts;) {
        const int32_t sample = index / tiling.chunks, chunk = index % tiling.chunks;
        float *part = part_of(batch, layer, gradient, index);
        double *sums = sums_of(batch, layer, gradient, index);
        memset(part, 0, sizeof(float) * part_floats(layer));
        memset(sums, 0, sizeof(double) * 2 * channels_in(layer));
        for (int32_t tile_index = first_tile(&tiling, chunk); tile_index < first_tile(&tiling, chunk + 1); tile_index++) {
            const Tile tile = tile_of(&tiling, sample, tile_index);
            differentiate_tile(batch, layers, gradients, gradient, &tile, part, sums, scratch);
        }
    }
}

// Sums up the sums of parts, for the norms of what was read.
static inline void merge_sums(const Batch *batch, const Layer *layers, const Gradient *gradients,
                              const Gradient *gradient) {
    const Layer *layer = &layers[gradient->layer];
    const int32_t chunks = tiling_of(layer).chunks;
    for (int32_t i = 0, first = 0; i < layer->n_inputs; first += layer->inputs[i++].map.channels) {
        if (!gradient->wants_inputs[i] || gradient->norms_of_inputs[i] < 0) continue;
        double *totals = totals_at(batch, gradients[gradient->norms_of_inputs[i]].totals, 0);
        for (int32_t sample = 0; sample < batch->n_samples; sample++)
            for (int32_t k = 0; k < 2 * layer->inputs[i].map.channels; k++, totals++) {
                if (!gradient->adds_to_inputs[i]) *totals = 0;
                for (int32_t chunk = 0; chunk < chunks; chunk++)
                    *totals += sums_of(batch, layer, gradient, sample * chunks + chunk)[2 * first + k];
            }
    }
}

// Merges what parts came to, and goes on to the map that was interpolated, as long as there is something to do.
static inline void differentiate_rest(const Batch *batch, const Layer *layer, const Gradient *gradient,
                                      atomic_int *next, const BackwardScratch *scratch) {
    const int32_t outputs = layer->n_inputs ? layer->out.channels : 0;
    const int32_t planes = gradient->wants_low ? layer->low.size[0] : 0, of_sample = layer->out.channels * planes;
    for (int32_t index; (index = atomic_fetch_add(next, 1)) < outputs + batch->n_samples * of_sample;) {
        if (index < outputs) {
            merge_parts(batch, layer, gradient, index);
        } else {
            const int32_t plane = index - outputs;
            differentiate_interpolation(batch, layer, gradient, plane / of_sample, plane % of_sample / planes,
                                        plane % planes, scratch->line, scratch->low_line);
        }
    }
}
