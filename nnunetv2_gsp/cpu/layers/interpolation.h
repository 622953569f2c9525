// Linear interpolation, as PyTorch's with align_corners=False, and exact between equal values.
#pragma once
#include "batch.h"
#include "tiling.h"

#include <math.h>

// Not (1 - weight)·a + weight·b, whose rounding would differ from voxel to voxel of a constant map.
#define BETWEEN(a, b, weight) ((a) + (weight) * ((b) - (a)))

// What a row of the output lies between, in channel 0: from[2·i + j] at D's tap i and H's tap j.
typedef struct { const float *from[4]; float d, h; } LowRow;
typedef struct { int32_t first, second; float weight; } Taps;

static inline Taps taps_of(int32_t index, int32_t factor, int32_t low_size) {
    const float position = fmaxf((index + 0.5f) / factor - 0.5f, 0);
    const int32_t first = (int32_t)position;
    const float weight = position - first;
    return (Taps){first, weight > 0 ? min_of(first + 1, low_size - 1) : first, weight};
}

static inline void plan_low_rows(const Batch *batch, const Layer *layer, const Tile *tile, LowRow *low_rows) {
    const Map *low = &layer->low;
    const int32_t height = layer->out.size[1];
    for (int32_t r = tile->first_row; r < tile->first_row + tile->rows; r++, low_rows++) {
        const Taps d = taps_of(r / height, layer->factor[0], low->size[0]);
        const Taps h = taps_of(r % height, layer->factor[1], low->size[1]);
        for (int i = 0; i < 4; i++) {
            const int32_t row = (i / 2 ? d.second : d.first) * low->size[1] + (i % 2 ? h.second : h.first);
            low_rows->from[i] = row_of(batch, low, tile->sample, row);
        }
        low_rows->d = d.weight, low_rows->h = h.weight;
    }
}

// Interpolates along W; `line` may be read one voxel before its begin and behind its end.
static inline void interpolate_row(float *restrict line, int32_t n, int32_t factor, float *restrict to) {
    line[-1] = line[0];
    line[n] = line[n - 1];
    if (factor == 2) {
        int32_t i = 0;
        for (; i + LANES <= n; i += LANES) {
            const Vector middle = vector_at(line + i);
            store_interleaved(to + 2 * i, BETWEEN(middle, vector_at(line + i - 1), 0.25f),
                              BETWEEN(middle, vector_at(line + i + 1), 0.25f));
        }
        for (; i < n; i++) {
            to[2 * i] = BETWEEN(line[i], line[i - 1], 0.25f);
            to[2 * i + 1] = BETWEEN(line[i], line[i + 1], 0.25f);
        }
        return;
    }
    for (int32_t phase = 0; phase < factor; phase++) {
        const float position = (phase + 0.5f) / factor - 0.5f;
        const int32_t first = position < 0 ? -1 : 0;
        const float weight = position - first;
        for (int32_t i = 0; i < n; i++)
            to[i * factor + phase] = weight > 0 ? BETWEEN(line[i + first], line[i + first + 1], weight)
                                                : line[i + first];
    }
}

// One channel of a tile's rows; `line` has room for a row of `low` and a voxel on either side.
static inline void interpolate(const Layer *layer, const LowRow *low_rows, int32_t rows, int32_t channel, float *line,
                               float *to) {
    const int32_t width = layer->low.size[2];
    const int64_t in_channel = channel * layer->low.channel_stride;
    for (const LowRow *row = low_rows; row < low_rows + rows; row++, to += layer->out.size[2]) {
        const float *restrict a = row->from[0] + in_channel, *restrict b = row->from[1] + in_channel;
        const float *restrict e = row->from[2] + in_channel, *restrict f = row->from[3] + in_channel;
        const float d = row->d, h = row->h;
        for (int32_t i = 0; i < width; i++) {
            const float first = BETWEEN(a[i], b[i], h), second = BETWEEN(e[i], f[i], h);
            line[i] = BETWEEN(first, second, d);
        }
        interpolate_row(line, width, layer->factor[2], to);
    }
}
