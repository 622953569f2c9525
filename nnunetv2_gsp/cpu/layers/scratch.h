// The memory that a thread has to itself.
#pragma once
#include "interpolation.h"
#include "plan.h"

#include <stdlib.h>

typedef struct {
    float *tile, *sums, *staging, *line;  // input of a tile; a block of outputs; rows before pooling; one low row
    int64_t stride;                       // between channels of `tile` and `sums`
    Plan plans[2];                        // of the tile to load next, for each input
    LowRow *low_rows;                     // of this tile
    void *memory;                         // what all of them lie in
} Scratch;

// The most that any of some layers needs, in floats and in elements.
typedef struct { int64_t tile, sums, staging, line, stride, groups, runs, spans, rows; } ScratchSize;

_Static_assert(4 * CACHE_LINE % STEP == 0, "rows of a tile are padded to whole steps");

static inline ScratchSize scratch_size(const Layer *layers, int32_t n_layers) {
    ScratchSize size = {0};
#define AT_LEAST(field, value) if (size.field < (value)) size.field = (value)
    for (const Layer *layer = layers; layer < layers + n_layers; layer++) {
        const Tiling tiling = tiling_of(layer);
        // not a multiple of 4 KiB: channels of a voxel would compete for the same few lines of the cache
        const int64_t stride = round_up((int64_t)tiling.tile_rows * tiling.row_voxels, 4 * CACHE_LINE) + CACHE_LINE;
        AT_LEAST(stride, stride);
        AT_LEAST(rows, tiling.tile_rows);
        AT_LEAST(tile, channels_in(layer));
        AT_LEAST(line, layer->low.size[2] + 2 * CACHE_LINE);
        for (int32_t i = 0; i < layer->n_inputs; i++) {
            const Input *input = &layer->inputs[i];
            AT_LEAST(staging, (int64_t)max_source_rows(layer, input) * input->map.size[2]);
            AT_LEAST(groups, max_groups(input));
            AT_LEAST(runs, max_runs(layer, input));
            AT_LEAST(spans, max_source_rows(layer, input));
        }
    }
#undef AT_LEAST
    size.tile *= size.stride;
    size.sums = OUTPUTS * size.stride;
    return size;
}

// Returns 0, or -1 where memory ran out. Its `memory` is to be freed.
static inline int allocate_scratch(Scratch *scratch, const ScratchSize *size) {
    const int64_t floats = size->tile + size->sums + round_up(size->staging, CACHE_LINE)
                           + round_up(size->line, CACHE_LINE);
    const int64_t runs = size->runs * sizeof(Run), groups = size->groups * sizeof(Group);
    const int64_t plan = round_up(runs + groups + size->spans * sizeof(RowSpan), 64);
    const int64_t bytes = round_up(sizeof(float) * floats, 64) + 2 * plan + size->rows * sizeof(LowRow);
    if (posix_memalign(&scratch->memory, 64, bytes)) {
        scratch->memory = NULL;  // POSIX leaves it undefined
        return -1;
    }
    memset(scratch->memory, 0, bytes);
    scratch->stride = size->stride;
    scratch->tile = scratch->memory;
    scratch->sums = scratch->tile + size->tile;
    scratch->staging = scratch->sums + size->sums;
    scratch->line = scratch->staging + round_up(size->staging, CACHE_LINE) + CACHE_LINE;
    char *plans = (char *)scratch->memory + round_up(sizeof(float) * floats, 64);
    for (int32_t i = 0; i < 2; i++, plans += plan)
        scratch->plans[i] = (Plan){.runs = (Run *)plans, .groups = (Group *)(plans + runs),
                                   .spans = (RowSpan *)(plans + runs + groups)};
    scratch->low_rows = (LowRow *)plans;
    return 0;
}
