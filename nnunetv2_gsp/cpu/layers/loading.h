// A tile's input comes in as planned, and is normalised, activated and pooled on the way.
#pragma once
#include "scratch.h"

static inline void activate(float *restrict to, const float *restrict from, int32_t n, float scale, float offset,
                            float slope) {
    for (int32_t i = 0; i < n; i++) {
        const float value = scale * from[i] + offset;
        to[i] = value > 0 ? value : slope * value;
    }
}

// The larger one, or NaN if one is, as PyTorch's pooling has it.
static inline float larger(float a, float b) { return a >= b || a != a ? a : b; }

static inline void max_pool(const int32_t *pool, int32_t width, int32_t rows, float *restrict rows_in,
                            float *restrict to) {
    const int32_t rows_a_window = pool[0] * pool[1], width_out = width / pool[2];
    for (int32_t r = 0; r < rows; r++, rows_in += (int64_t)rows_a_window * width, to += width_out) {
        for (int32_t k = 1; k < rows_a_window; k++)
            for (int32_t i = 0; i < width; i++) rows_in[i] = larger(rows_in[i], rows_in[(int64_t)k * width + i]);
        if (pool[2] == 2) {
            for (int32_t i = 0; i < width_out; i++) to[i] = larger(rows_in[2 * i], rows_in[2 * i + 1]);
            continue;
        }
        for (int32_t i = 0; i < width_out; i++) {
            to[i] = rows_in[i * pool[2]];
            for (int32_t k = 1; k < pool[2]; k++) to[i] = larger(to[i], rows_in[i * pool[2] + k]);
        }
    }
}

static inline void load_input(const Batch *batch, const Input *input, const Plan *plan, const Tile *tile, float *into,
                              const Scratch *scratch) {
    const Map *map = &input->map;
    const int is_pooled = input->pool[0] * input->pool[1] * input->pool[2] > 1;
    const int64_t coefficients = tile->sample * map->channels;
    const float *scales = input->scale < 0 ? NULL : batch->spaces[ARENA] + input->scale + coefficients;
    const float *offsets = input->scale < 0 ? NULL : batch->spaces[ARENA] + input->offset + coefficients;
    for (const Group *group = plan->groups; group < plan->groups + plan->n_groups; group++) {
        const Run *runs = plan->runs + group->first_run;
        for (int32_t k = 0; k < group->channels; k++) {
            const int32_t channel = group->channel + k;
            const float scale = scales ? scales[channel] : 1, offset = offsets ? offsets[channel] : 0;
            float *to = is_pooled ? scratch->staging : into + channel * scratch->stride;
            for (const Run *run = runs; run < runs + group->runs; run++) {
                if (run->from) {
                    activate(to + run->to, run->from + k * map->channel_stride, run->voxels, scale, offset,
                             input->slope);
                } else {
                    memset(to + run->to, 0, sizeof(float) * run->voxels);
                }
            }
            if (is_pooled) max_pool(input->pool, map->size[2], tile->rows, to, into + channel * scratch->stride);
        }
    }
}

// All inputs of the tile that the scratch's plans are of, channel behind channel.
static inline void load_tile(const Batch *batch, const Layer *layer, const Tile *tile, const Scratch *scratch) {
    float *into = scratch->tile;
    for (int32_t i = 0; i < layer->n_inputs; into += layer->inputs[i++].map.channels * scratch->stride)
        load_input(batch, &layer->inputs[i], &scratch->plans[i], tile, into, scratch);
}
