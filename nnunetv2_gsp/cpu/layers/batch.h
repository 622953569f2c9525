// Where the maps of a batch lie in memory.
#pragma once
#include "layer.h"

typedef struct {
    float *spaces[SPACES];
    int32_t n_samples;
} Batch;

// Where a row of channel 0 begins.
static inline float *row_of(const Batch *batch, const Map *map, int32_t sample, int32_t row) {
    return batch->spaces[map->space] + map->offset + sample * map->sample_stride
           + (row >> map->log2_rows) * map->tile_stride
           + (int64_t)(row & ((1 << map->log2_rows) - 1)) * map->size[2];
}
