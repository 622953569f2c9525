// The gradient of a tile's input goes back to where the input came from: the reverse of loading.h.
#pragma once
#include "gradient.h"
#include "loading.h"

// What the gradient of one channel of an input needs: its map's coefficients, where it goes, and its sums.
typedef struct {
    float scale, offset, slope, pivot;  // sums are about the pivot, the mean as a float
    int32_t adds;
    Vector sum, by_value;
} Unloading;

// The gradient of u = scale·value + offset, given that of the leaky ReLU of u; adds it to the sums.
static inline Vector undo_nonlinearity(Unloading *channel, Vector gradient, Vector value) {
    const Vector g = where(channel->scale * value + channel->offset > 0, gradient, channel->slope * gradient);
    channel->sum += g;
    channel->by_value += g * (value - channel->pivot);
    return g;
}

// gradient: of the activated voxels; values: as they were before norm and nonlinearity.
static inline void unload_run(Unloading *in_memory, const float *restrict gradient, const float *restrict values,
                              int32_t n, float *restrict to) {
    Unloading channel = *in_memory;
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const Vector g = undo_nonlinearity(&channel, vector_at(gradient + i), vector_at(values + i));
        store(to + i, channel.adds ? vector_at(to + i) + g : g, 0);
    }
    if (i < n) {
        const Vector g = undo_nonlinearity(&channel, first_floats_at(gradient + i, n - i),
                                           first_floats_at(values + i, n - i));
        store_first_floats(to + i, channel.adds ? first_floats_at(to + i, n - i) + g : g, n - i);
    }
    *in_memory = channel;
}

// Adds the sums of g and g·(y - mean).
static inline void add_sums(const Unloading *channel, double mean, double *sums) {
    double sum = 0, by_value = 0;
    for (int i = 0; i < LANES; i++) sum += channel->sum[i], by_value += channel->by_value[i];
    sums[0] += sum;
    sums[1] += by_value + (channel->pivot - mean) * sum;
}

// The first row of a window's rows in which each column is largest, and how large.
static inline void find_largest(int32_t width, int32_t rows, const float *restrict from, float *restrict largest,
                                int32_t *restrict row_of_largest) {
    for (int32_t i = 0; i < width; i++) largest[i] = from[i], row_of_largest[i] = 0;
    for (int32_t k = 1; k < rows; k++)
        for (int32_t i = 0; i < width; i++) {
            const float value = from[(int64_t)k * width + i];
            const int32_t is_larger = value > largest[i];
            largest[i] = is_larger ? value : largest[i];
            row_of_largest[i] = is_larger ? k : row_of_largest[i];
        }
}

// Gives the gradient of each window's maximum to the first voxel that has it, and zero to the others. rows_in: the
// activated rows before pooling; columns: room for three numbers a column.
static inline void spread(const int32_t *pool, int32_t width, int32_t rows, const float *restrict rows_in,
                          const float *restrict gradient, float *restrict to, float *restrict columns) {
    const int32_t rows_a_window = pool[0] * pool[1], width_out = width / pool[2], step = pool[2];
    float *restrict largest = columns, *restrict share = columns + width;
    int32_t *restrict row_of_largest = (int32_t *)(columns + 2 * width);
    for (int32_t r = 0; r < rows; r++, rows_in += (int64_t)rows_a_window * width, gradient += width_out) {
        find_largest(width, rows_a_window, rows_in, largest, row_of_largest);
        if (step == 2) {
            for (int32_t i = 0; i < width_out; i++) {
                const float a = largest[2 * i], b = largest[2 * i + 1], g = gradient[i];
                const int32_t takes_second = (b > a) | ((b == a) & (row_of_largest[2 * i + 1] < row_of_largest[2 * i]));
                share[2 * i] = takes_second ? 0 : g;
                share[2 * i + 1] = takes_second ? g : 0;
            }
        } else {
            for (int32_t i = 0; i < width_out; i++) {
                int32_t best = i * step;
                for (int32_t j = i * step; j < (i + 1) * step; j++) {
                    share[j] = 0;
                    if (largest[j] > largest[best]
                        || (largest[j] == largest[best] && row_of_largest[j] < row_of_largest[best])) best = j;
                }
                share[best] = gradient[i];
            }
        }
        for (int32_t k = 0; k < rows_a_window; k++, to += width)
            for (int32_t i = 0; i < width; i++) to[i] = row_of_largest[i] == k ? share[i] : 0;
    }
}

// All channels of an input, from `from`, which is laid out as load_input leaves it. moments: of the norm that applies to
// it, or NULL.
static inline void unload_input(const Batch *batch, const Layer *layer, const Gradient *gradient, int32_t number,
                                const Plan *plan, const Tile *tile, const float *from,
                                const double *moments, double *sums, const Scratch *scratch,
                                float *spread_rows, float *columns) {
    const Input *input = &layer->inputs[number];
    const Map *map = &input->map, *to = &gradient->of_inputs[number];
    const int is_pooled = input->pool[0] * input->pool[1] * input->pool[2] > 1;
    const int64_t coefficients = tile->sample * map->channels;
    const float *scales = input->scale < 0 ? NULL : batch->spaces[ARENA] + input->scale + coefficients;
    const float *offsets = input->scale < 0 ? NULL : batch->spaces[ARENA] + input->offset + coefficients;
    const float *values = batch->spaces[map->space] + map->offset;
    float *gradients = batch->spaces[to->space] + to->offset;
    for (const Group *group = plan->groups; group < plan->groups + plan->n_groups; group++) {
        const Run *runs = plan->runs + group->first_run, *end = runs + group->runs;
        for (int32_t k = 0; k < group->channels; k++) {
            const int32_t channel = group->channel + k;
            const float *g = from + channel * scratch->stride;
            Unloading unloading = {.scale = scales ? scales[channel] : 1, .offset = offsets ? offsets[channel] : 0,
                                   .slope = input->slope, .adds = gradient->adds_to_inputs[number],
                                   .pivot = moments ? (float)moments[2 * channel] : 0};
            if (is_pooled) {
                for (const Run *run = runs; run < end; run++) {
                    if (run->is_border) {
                        memset(scratch->staging + run->to, 0, sizeof(float) * run->voxels);
                    } else {
                        activate(scratch->staging + run->to, run->from + k * map->channel_stride, run->voxels,
                                 unloading.scale, unloading.offset, unloading.slope);
                    }
                }
                spread(input->pool, map->size[2], tile->rows, scratch->staging, g, spread_rows, columns);
                g = spread_rows;
            }
            for (const Run *run = runs; run < end; run++) {
                const float *at = run->from + k * map->channel_stride;
                float *target = gradients + (at - values);
                if (!run->is_border) {
                    unload_run(&unloading, g + run->to, at, run->voxels, target);
                } else if (!unloading.adds) {
                    memset(target, 0, sizeof(float) * run->voxels);
                }
            }
            if (moments) add_sums(&unloading, moments[2 * channel], sums + 2 * channel);
        }
    }
}
