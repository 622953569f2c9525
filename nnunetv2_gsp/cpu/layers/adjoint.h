// The adjoint of the linear interpolation: each low voxel gathers what the high ones took of it.
#pragma once
#include "gradient.h"
#include "interpolation.h"

// Which part of low index `low` is in high index `high`.
static inline float share_of(int32_t low, int32_t high, int32_t factor, int32_t low_size) {
    const Taps taps = taps_of(high, factor, low_size);
    return (taps.first == low ? 1 - taps.weight : 0) + (taps.second == low ? taps.weight : 0);
}

// No other high indices than [first, end) have a part of a low index.
static inline int32_t first_high(int32_t low, int32_t factor) { return max_of(0, (low - 1) * factor); }
static inline int32_t end_high(int32_t low, int32_t factor, int32_t low_size) {
    return min_of(low + 2, low_size) * factor;
}

// Adds up along W what each of `n` low voxels gave; `line` has n·factor voxels. `to` may be written one voxel before its
// begin and behind its end.
static inline void gather_row(const float *restrict line, int32_t n, int32_t factor, float *restrict to) {
    memset(to - 1, 0, sizeof(float) * (n + 2));
    for (int32_t phase = 0; phase < factor; phase++) {
        const float position = (phase + 0.5f) / factor - 0.5f;
        const int32_t first = position < 0 ? -1 : 0;
        const float weight = position - first;
        for (int32_t i = 0; i < n; i++) to[i + first] += (1 - weight) * line[i * factor + phase];
        if (weight > 0)
            for (int32_t i = 0; i < n; i++) to[i + first + 1] += weight * line[i * factor + phase];
    }
    to[0] += to[-1];
    to[n - 1] += to[n];
}

// One row of every channel of the low map's gradient. line, low_line: room for a high row and for a low one with a voxel
// on either side.
static inline void differentiate_interpolation(const Batch *batch, const Layer *layer, const Gradient *gradient,
                                               int32_t sample, int32_t row, float *line, float *low_line) {
    const Map *out = &layer->out, *low = &layer->low;
    const int32_t d_low = row / low->size[1], h_low = row % low->size[1], width = out->size[2];
    const Coefficients *coefficients = layer->moments < 0 ? NULL : coefficients_of(batch, layer, gradient, sample);
    float *to = row_of(batch, &gradient->of_low, sample, row);
    for (int32_t channel = 0; channel < out->channels; channel++, to += gradient->of_low.channel_stride) {
        memset(line, 0, sizeof(float) * width);
        for (int32_t d = first_high(d_low, layer->factor[0]); d < end_high(d_low, layer->factor[0], low->size[0]); d++) {
            const float share_d = share_of(d_low, d, layer->factor[0], low->size[0]);
            for (int32_t h = first_high(h_low, layer->factor[1]); h < end_high(h_low, layer->factor[1], low->size[1]);
                 h++) {
                const float share = share_d * share_of(h_low, h, layer->factor[1], low->size[1]);
                if (share == 0) continue;
                const int32_t high_row = d * out->size[1] + h;
                const float *g = row_of(batch, &gradient->of_out, sample, high_row)
                                 + channel * gradient->of_out.channel_stride;
                const float *values = row_of(batch, out, sample, high_row) + channel * out->channel_stride;
                const Coefficients c = coefficients ? coefficients[channel] : (Coefficients){.direct = 1};
                if (coefficients) {
                    for (int32_t i = 0; i < width; i++)
                        line[i] += share * (c.direct * g[i] + (c.by_value * (values[i] - c.pivot) + c.constant));
                } else {
                    for (int32_t i = 0; i < width; i++) line[i] += share * g[i];
                }
            }
        }
        gather_row(line, low->size[2], layer->factor[2], low_line);
        memcpy(to, low_line, sizeof(float) * low->size[2]);
    }
}
