// How a layer's output is cut: into tiles of rows, chunks of tiles that keep moments of their own, and units of work.
#pragma once
#include "instructions.h"
#include "integers.h"
#include "layer.h"

enum { MIN_UNITS = 8 };  // pieces of work that a small map is cut into

// A small map is split by its outputs too: into so many `splits` of its `blocks` of OUTPUTS channels.
typedef struct { int32_t rows, row_voxels, tile_rows, tiles, chunks, splits, blocks; } Tiling;
typedef struct { int32_t sample, first_row, rows; } Tile;
// Tiles [begin, end), which make a chunk of a sample, and blocks [first_block, end_block) of their outputs.
typedef struct { int32_t sample, chunk, begin, end, first_block, end_block; } Unit;

static inline Tiling tiling_of(const Layer *layer) {
    Tiling tiling = {.rows = layer->out.size[0] * layer->out.size[1], .row_voxels = layer->out.size[2]};
    tiling.tile_rows = min_of(1 << layer->log2_rows, tiling.rows);
    tiling.tiles = (tiling.rows + tiling.tile_rows - 1) / tiling.tile_rows;
    tiling.chunks = min_of(tiling.tiles, MAX_CHUNKS);
    tiling.blocks = (layer->out.channels + OUTPUTS - 1) / OUTPUTS;
    tiling.splits = max_of(1, min_of(tiling.blocks, MIN_UNITS / tiling.tiles));
    return tiling;
}

static inline Tile tile_of(const Tiling *tiling, int32_t sample, int32_t index) {
    const int32_t first_row = index * tiling->tile_rows;
    return (Tile){sample, first_row, min_of(tiling->tile_rows, tiling->rows - first_row)};
}

static inline int32_t first_tile(const Tiling *tiling, int32_t chunk) {
    return (int64_t)tiling->tiles * chunk / tiling->chunks;
}

static inline int32_t rows_of_chunk(const Tiling *tiling, int32_t chunk) {
    return min_of(first_tile(tiling, chunk + 1) * tiling->tile_rows, tiling->rows)
           - first_tile(tiling, chunk) * tiling->tile_rows;
}

static inline int32_t units_of(const Tiling *tiling, int32_t n_samples) {
    return n_samples * tiling->chunks * tiling->splits;
}

static inline Unit unit_of(const Tiling *tiling, int32_t index) {
    const int32_t splits = tiling->splits, split = index % splits, chunk = index / splits % tiling->chunks;
    return (Unit){.sample = index / splits / tiling->chunks, .chunk = chunk,
                  .begin = first_tile(tiling, chunk), .end = first_tile(tiling, chunk + 1),
                  .first_block = tiling->blocks * split / splits, .end_block = tiling->blocks * (split + 1) / splits};
}
