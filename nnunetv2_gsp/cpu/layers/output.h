// What becomes of a product: it goes from the registers to the moments and to memory.
#pragma once
#include "norm.h"
#include "scratch.h"

// Floats of a map that no cache keeps until it is read: stored around the caches.
enum { STREAMED_FROM = 2 << 20 };

// Where a block of outputs goes. Sums of the moments are taken about the mean of the tile's first step: about zero they
// would cancel where the mean is large, and about a single voxel where that one lies far off.
typedef struct {
    float *to;
    int64_t channel_stride;
    int32_t outputs, is_streamed, has_moments;
    float pivot[OUTPUTS];
    Vector sum[OUTPUTS], squares[OUTPUTS];
} OutputBlock;

static inline OutputBlock output_block_of(const Batch *batch, const Layer *layer, const Tiling *tiling,
                                          const Tile *tile, int32_t channel, const Scratch *scratch) {
    const Map *out = &layer->out;
    OutputBlock block = {.outputs = min_of(OUTPUTS, out->channels - channel), .has_moments = layer->moments >= 0};
    if (layer->target) {
        block.to = scratch->sums;
        block.channel_stride = scratch->stride;
        return block;
    }
    block.to = row_of(batch, out, tile->sample, tile->first_row) + channel * out->channel_stride;
    block.channel_stride = out->channel_stride;
    block.is_streamed = (int64_t)out->channels * tiling->rows * tiling->row_voxels >= STREAMED_FROM
                        && (uintptr_t)block.to % sizeof(Vector) == 0 && block.channel_stride % LANES == 0;
    return block;
}

static inline float mean_of_step(const Vector values[VECTORS]) {
    Vector sums = {0};
    for (int j = 0; j < VECTORS; j++) sums += values[j];
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += sums[i];
    return sum / STEP;
}

// Whole vectors go from the registers to the moments and to memory; not unrolled, they would go by the stack.
static inline void finish_step(Vector total[OUTPUTS][VECTORS], OutputBlock *block, int32_t voxel) {
#pragma GCC unroll 8
    for (int k = 0; k < OUTPUTS; k++) {
        if (k >= block->outputs) continue;
        if (block->has_moments) {
            if (voxel == 0) block->pivot[k] = mean_of_step(total[k]);
            Vector sum = {0}, squares = {0};
            for (int j = 0; j < VECTORS; j++) {
                const Vector difference = total[k][j] - block->pivot[k];
                sum += difference;
                squares += difference * difference;
            }
            block->sum[k] += sum;
            block->squares[k] += squares;
        }
        float *to = block->to + k * block->channel_stride + voxel;
        for (int j = 0; j < VECTORS; j++) store(to + j * LANES, total[k][j], block->is_streamed);
    }
}

// The `n` voxels behind the last whole step.
static inline void finish_rest(Vector total[OUTPUTS][VECTORS], OutputBlock *block, int32_t voxel, int32_t n) {
    float values[STEP];
    for (int32_t k = 0; k < block->outputs; k++) {
        memcpy(values, total[k], sizeof values);
        if (voxel == 0) {
            float sum = 0;
            for (int32_t i = 0; i < n; i++) sum += values[i];
            block->pivot[k] = sum / n;
        }
        for (int32_t i = 0; i < n; i++) {
            const float difference = values[i] - block->pivot[k];
            block->sum[k][i % LANES] += difference;
            block->squares[k][i % LANES] += difference * difference;
        }
        memcpy(block->to + k * block->channel_stride + voxel, values, sizeof(float) * n);
    }
}

static inline void add_row(float *restrict sums, const float *restrict weights, const float *restrict values, int32_t n,
                           int64_t step) {
    if (step > 0)
        for (int32_t i = 0; i < n; i++) sums[i] += weights[i] * values[i];
    else
        for (int32_t i = 0; i < n; i++) sums[-i] += weights[-i] * values[i];
}

// Adds a block's outputs, which are in the scratch memory, to where they are summed up.
static inline void add_to_target(const Layer *layer, const Tile *tile, int32_t channel, const OutputBlock *block) {
    const Target *target = layer->target;
    const int32_t height = layer->out.size[1], width = layer->out.size[2];
    for (int32_t r = 0; r < tile->rows; r++) {
        const int32_t d = (tile->first_row + r) / height, h = (tile->first_row + r) % height;
        const float *weights = target->weights + d * target->weight_strides[0] + h * target->weight_strides[1];
        const float *from = block->to + (int64_t)r * width;
        float *to = target->sums + channel * target->strides[0] + d * target->strides[1] + h * target->strides[2];
        for (int32_t k = 0; k < block->outputs; k++, from += block->channel_stride, to += target->strides[0])
            add_row(to, weights, from, width, target->step);
    }
}

// Adds the tile's `n` voxels to the moments that its block's channels have of `count` voxels.
static inline void add_moments(double *moments, double count, const OutputBlock *block, int32_t n) {
    for (int32_t k = 0; k < block->outputs; k++, moments += 2) {
        double total = 0, squares = 0;
        for (int i = 0; i < LANES; i++) total += block->sum[k][i], squares += block->squares[k][i];
        merge_moments(moments, count, block->pivot[k] + total / n, squares - total * total / n, n);
    }
}
