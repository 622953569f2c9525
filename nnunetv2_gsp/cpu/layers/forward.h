// A layer, computed unit by unit: loaded, multiplied, summed up and stored.
#pragma once
#include "loading.h"
#include "output.h"
#include "prefetch.h"
#include "product.h"

#include <stdatomic.h>

// One block of outputs for the loaded tile.
static inline void compute_block(const Batch *batch, const Layer *layer, const Tiling *tiling, const Tile *tile,
                                 int32_t index, double *moments, double count, Prefetch *prefetch,
                                 const Scratch *scratch) {
    const int32_t channels = channels_in(layer), channel = index * OUTPUTS, voxels = tile->rows * tiling->row_voxels;
    const float *packed = batch->spaces[ARENA] + layer->packed + (int64_t)channel * channels;
    OutputBlock block = output_block_of(batch, layer, tiling, tile, channel, scratch);
    float bias[OUTPUTS] = {0};
    if (layer->bias) memcpy(bias, layer->bias + channel, sizeof(float) * block.outputs);
    if (layer->has_low)
        for (int32_t k = 0; k < block.outputs; k++)
            interpolate(layer, scratch->low_rows, tile->rows, channel + k, scratch->line,
                        scratch->sums + k * scratch->stride);
    for (int32_t v = 0; v < voxels; v += STEP) {
        prefetch_step(prefetch);
        Vector total[OUTPUTS][VECTORS];
        multiply(total, scratch->sums + v, layer->has_low ? NULL : bias, packed, scratch->tile + v, channels,
                 scratch->stride);
        if (v + STEP <= voxels) {
            finish_step(total, &block, v);
        } else {
            finish_rest(total, &block, v, voxels - v);
        }
    }
    if (layer->target) add_to_target(layer, tile, channel, &block);
    if (block.has_moments) add_moments(moments + 2 * channel, count, &block, voxels);
}

static inline void clear_moments(const Layer *layer, const Unit *unit, double *moments) {
    const int32_t first_channel = unit->first_block * OUTPUTS;
    const int32_t end_channel = min_of(unit->end_block * OUTPUTS, layer->out.channels);
    for (int32_t i = 2 * first_channel; i < 2 * end_channel; i++) moments[i] = 0;
}

// Runs a unit, whose first tile is planned, and plans the first tile of this thread's next one, if there is a next one.
static inline void run_unit(const Batch *batch, const Layer *layer, const Tiling *tiling, const Unit *unit,
                            const Unit *next_unit, Scratch *scratch) {
    double *moments = NULL, count = 0;
    if (layer->moments >= 0) {
        moments = moments_of(batch, layer, tiling, unit->sample, unit->chunk);
        clear_moments(layer, unit, moments);
    }
    for (int32_t index = unit->begin; index < unit->end; index++) {
        const Tile tile = tile_of(tiling, unit->sample, index);
        load_tile(batch, layer, &tile, scratch);
        if (layer->has_low) plan_low_rows(batch, layer, &tile, scratch->low_rows);
        if (index + 1 < unit->end || next_unit) {
            const Tile next = index + 1 < unit->end ? tile_of(tiling, unit->sample, index + 1)
                                                    : tile_of(tiling, next_unit->sample, next_unit->begin);
            plan_tile(batch, layer, &next, scratch->plans);
        } else {
            plan_nothing(scratch->plans);
        }
        const int32_t voxels = tile.rows * tiling->row_voxels, blocks = unit->end_block - unit->first_block;
        Prefetch prefetch = prefetch_of(layer, scratch->plans, (int64_t)(voxels + STEP - 1) / STEP * blocks);
        for (int32_t block = unit->first_block; block < unit->end_block; block++)
            compute_block(batch, layer, tiling, &tile, block, moments, count, &prefetch, scratch);
        count += voxels;
    }
}

// Runs units as long as there are any; `next` is the next one, for all threads. While there are many, a thread takes
// the next one before it computes this one's last tile, and asks memory for what that will read; the last ones go to
// whoever is ready for them.
static inline void run_units(const Batch *batch, const Layer *layer, atomic_int *next, int32_t threads,
                             Scratch *scratch) {
    const Tiling tiling = tiling_of(layer);
    const int32_t n_units = units_of(&tiling, batch->n_samples);
    int32_t index = atomic_fetch_add(next, 1), is_planned = 0;
    while (index < n_units) {
        const Unit unit = unit_of(&tiling, index);
        if (!is_planned) {
            const Tile tile = tile_of(&tiling, unit.sample, unit.begin);
            plan_tile(batch, layer, &tile, scratch->plans);
        }
        const int32_t are_many = atomic_load(next) + threads < n_units;
        const int32_t next_index = are_many ? atomic_fetch_add(next, 1) : n_units;
        const Unit next_unit = unit_of(&tiling, next_index);
        is_planned = next_index < n_units;
        run_unit(batch, layer, &tiling, &unit, is_planned ? &next_unit : NULL, scratch);
        index = is_planned ? next_index : atomic_fetch_add(next, 1);
    }
}
