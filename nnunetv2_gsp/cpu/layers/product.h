// The product of weights and a loaded tile, and the weights in the order in which it reads them.
#pragma once
#include "batch.h"
#include "tiling.h"

_Static_assert(PACKED_MULTIPLE % OUTPUTS == 0, "packed weights are padded to whole blocks of outputs");

// [block of outputs][channel in][output in block]; outputs that only fill the last block are zeros.
static inline void pack(const Batch *batch, const Layer *layer) {
    const int32_t channels = channels_in(layer), blocks = tiling_of(layer).blocks;
    float *to = batch->spaces[ARENA] + layer->packed;
    for (int32_t block = 0; block < blocks; block++)
        for (int32_t c = 0; c < channels; c++)
            for (int32_t output = block * OUTPUTS; output < (block + 1) * OUTPUTS; output++)
                *to++ = output >= layer->out.channels ? 0
                        : layer->weight ? layer->weight[output * layer->weight_stride + c] : output == c;
}

// total[k] = (sums or bias)[k] + Σ_c packed[c][k] · tile[c] for OUTPUTS outputs k and STEP voxels.
static inline void multiply(Vector total[OUTPUTS][VECTORS], const float *restrict sums, const float *restrict bias,
                            const float *restrict packed, const float *restrict tile, int32_t channels,
                            int64_t stride) {
    for (int k = 0; k < OUTPUTS; k++)
        for (int j = 0; j < VECTORS; j++)
            total[k][j] = bias ? bias[k] - (Vector){0} : vector_at(sums + k * stride + j * LANES);
    for (int32_t c = 0; c < channels; c++, tile += stride, packed += OUTPUTS) {
        Vector x[VECTORS];
        for (int j = 0; j < VECTORS; j++) x[j] = vector_at(tile + j * LANES);
        for (int k = 0; k < OUTPUTS; k++)
            for (int j = 0; j < VECTORS; j++) total[k][j] += packed[k] * x[j];
    }
}
