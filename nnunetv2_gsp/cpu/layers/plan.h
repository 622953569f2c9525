// Where a tile's input comes from: shifts and pooling as addresses.
#pragma once
#include "batch.h"
#include "tiling.h"

// Consecutive voxels of one channel that are consecutive in memory too. NULL stands for zeros.
typedef struct { const float *from; int32_t to, voxels; } Run;
// Channels whose voxels come from the same places.
typedef struct { int32_t channel, channels, first_run, runs; } Group;
// Rows before the shift that follow each other in a block along D and H: from which on, how many, where in the tile.
typedef struct { int32_t block, row_in_block, rows, to; } RowSpan;
typedef struct { Group *groups; Run *runs; RowSpan *spans; int32_t n_groups, n_runs; } Plan;

static inline void begin_group(Plan *plan, int32_t channel, int32_t channels) {
    plan->groups[plan->n_groups++] = (Group){channel, channels, plan->n_runs, 0};
}

static inline void add_run(Plan *plan, const float *from, int32_t to, int32_t voxels) {
    Group *group = &plan->groups[plan->n_groups - 1];
    Run *last = &plan->runs[plan->n_runs - 1];
    if (group->runs && from && last->from && last->from + last->voxels == from && last->to + last->voxels == to) {
        last->voxels += voxels;
    } else {
        plan->runs[plan->n_runs++] = (Run){from, to, voxels};
        group->runs++;
    }
}

// Loops over the rows before pooling that make a tile: sets d, h, the row's `width`, and where it goes, `to`.
#define FOR_EACH_SOURCE_ROW(input, out_height, tile)                                                                   \
    for (int32_t r_ = 0, to = 0, width = (input)->map.size[2]; r_ < (tile)->rows; r_++)                                \
        for (int32_t i_ = 0; i_ < (input)->pool[0]; i_++)                                                              \
            for (int32_t j_ = 0, d = ((tile)->first_row + r_) / (out_height) * (input)->pool[0] + i_,                  \
                         h = ((tile)->first_row + r_) % (out_height) * (input)->pool[1];                               \
                 j_ < (input)->pool[1]; j_++, h++, to += width)

// Along W a shift is a rotation: of every row there are at most two runs.
static inline void plan_group_shift(const Batch *batch, const Input *input, int32_t height, const Tile *tile,
                                    Plan *plan) {
    const Map *map = &input->map;
    const int32_t g_d = input->groups[0], g_h = input->groups[1], g_w = input->groups[2], n_groups = g_d * g_h * g_w;
    const int32_t d_size = map->size[0] / g_d, h_size = map->size[1] / g_h, w_size = map->size[2] / g_w;
    const int32_t c_g = input->shift_channels / n_groups;
    RowSpan *end = plan->spans;
    FOR_EACH_SOURCE_ROW(input, height, tile) {
        const int32_t block = d / d_size + h / h_size * g_d;  // Eq. 2 without the term of W
        const int32_t row = d % d_size * map->size[1] + h % h_size;
        if (end > plan->spans && end[-1].block == block && end[-1].row_in_block + end[-1].rows == row) {
            end[-1].rows++;
        } else {
            *end++ = (RowSpan){block, row, 1, to};
        }
    }
    for (int32_t step = 0; step < n_groups; step++) {  // Eq. 3
        begin_group(plan, step * c_g, c_g);
        for (const RowSpan *span = plan->spans; span < end; span++) {
            const int32_t source = (span->block - step + n_groups) % n_groups;  // Eq. 4 solved for cur_ind
            const int32_t w_block = source / (g_d * g_h), dh_block = source - w_block * g_d * g_h;
            const int32_t h_block = dh_block / g_d, d_block = dh_block - h_block * g_d;  // Eq. 5-7
            const int32_t first_row = d_block * d_size * map->size[1] + h_block * h_size + span->row_in_block;
            const int32_t begin = w_block * w_size, length = map->size[2] - begin;
            for (int32_t r = 0, to = span->to; r < span->rows; r++, to += map->size[2]) {
                const float *from = row_of(batch, map, tile->sample, first_row + r) + step * c_g * map->channel_stride;
                add_run(plan, from + begin, to, length);
                if (begin) add_run(plan, from, to + length, begin);
            }
        }
    }
}

static inline void plan_local_shift(const Batch *batch, const Input *input, int32_t height, const Tile *tile,
                                    Plan *plan) {
    const Map *map = &input->map;
    const int32_t part = input->local_channels / (2 * (3 - input->local_axis));
    int32_t channel = input->shift_channels;
    for (int32_t axis = input->local_axis; axis < 3; axis++) {
        for (int32_t step = 1; step >= -1; step -= 2, channel += part) {  // voxel i takes the value of voxel i + step
            begin_group(plan, channel, part);
            FOR_EACH_SOURCE_ROW(input, height, tile) {
                const int32_t d_from = d + (axis == 0) * step, h_from = h + (axis == 1) * step;
                if (d_from < 0 || d_from >= map->size[0] || h_from < 0 || h_from >= map->size[1]) {
                    add_run(plan, NULL, to, width);
                    continue;
                }
                const float *from = row_of(batch, map, tile->sample, d_from * map->size[1] + h_from)
                                    + channel * map->channel_stride;
                if (axis < 2) {
                    add_run(plan, from, to, width);
                } else {
                    add_run(plan, from + (step > 0), to + (step < 0), width - 1);
                    add_run(plan, NULL, step > 0 ? to + width - 1 : to, 1);
                }
            }
        }
    }
}

static inline void plan_input(const Batch *batch, const Layer *layer, const Input *input, const Tile *tile,
                              Plan *plan) {
    const Map *map = &input->map;
    const int32_t height = layer->out.size[1], moved = input->shift_channels + input->local_channels;
    plan->n_groups = plan->n_runs = 0;
    if (input->shift_channels) plan_group_shift(batch, input, height, tile, plan);
    if (input->local_channels) plan_local_shift(batch, input, height, tile, plan);
    if (moved == map->channels) return;
    begin_group(plan, moved, map->channels - moved);
    FOR_EACH_SOURCE_ROW(input, height, tile)
        add_run(plan, row_of(batch, map, tile->sample, d * map->size[1] + h) + moved * map->channel_stride, to, width);
}

static inline void plan_nothing(Plan plans[2]) { plans[0].n_groups = plans[1].n_groups = 0; }

static inline void plan_tile(const Batch *batch, const Layer *layer, const Tile *tile, Plan plans[2]) {
    plan_nothing(plans);
    for (int32_t i = 0; i < layer->n_inputs; i++) plan_input(batch, layer, &layer->inputs[i], tile, &plans[i]);
}

// ---- what a plan needs at most

static inline int32_t max_source_rows(const Layer *layer, const Input *input) {
    return tiling_of(layer).tile_rows * input->pool[0] * input->pool[1];
}

static inline int32_t max_groups(const Input *input) {
    return input->groups[0] * input->groups[1] * input->groups[2] + 2 * 3 + 1;
}

static inline int64_t max_runs(const Layer *layer, const Input *input) {
    const int64_t shifted = input->groups[0] * input->groups[1] * input->groups[2];
    return max_source_rows(layer, input) * (2 * shifted + 2 * 3 * 2 + 1);
}
