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

// Adds up along W what each of `n` low voxels gave; `line` has n·factor voxels, and may be written one voxel before its
// begin and behind its end, as may `to`.
static inline void gather_row(float *restrict line, int32_t n, int32_t factor, float *restrict to) {
    if (factor == 2) {
        line[-1] = line[0];
        line[2 * n] = line[2 * n - 1];
        for (int32_t i = 0; i < n; i++)
            to[i] = 0.75f * (line[2 * i] + line[2 * i + 1]) + 0.25f * (line[2 * i - 1] + line[2 * i + 2]);
        return;
    }
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

// Adds up along D what each low voxel of a plane gave: one row of the high map's height.
static inline void gather_planes(const Batch *batch, const Layer *layer, const Gradient *gradient,
                                 const Coefficients *coefficients, int32_t sample, int32_t channel, int32_t d_low,
                                 int32_t h, float *restrict line) {
    const Map *out = &layer->out;
    const int32_t factor = layer->factor[0], size = layer->low.size[0], width = out->size[2];
    memset(line, 0, sizeof(float) * width);
    for (int32_t d = first_high(d_low, factor); d < end_high(d_low, factor, size); d++) {
        const float share = share_of(d_low, d, factor, size);
        if (share == 0) continue;
        const int32_t row = d * out->size[1] + h;
        const float *restrict g = row_of(batch, &gradient->of_out, sample, row)
                                  + channel * gradient->of_out.channel_stride;
        if (coefficients) {
            const float *restrict values = row_of(batch, out, sample, row) + channel * out->channel_stride;
            const float direct = share * coefficients->direct, by_value = share * coefficients->by_value;
            const float constant = share * coefficients->constant, pivot = coefficients->pivot;
            for (int32_t i = 0; i < width; i++)
                line[i] += direct * g[i] + (by_value * (values[i] - pivot) + constant);
        } else {
            for (int32_t i = 0; i < width; i++) line[i] += share * g[i];
        }
    }
}

// One plane of a channel of the low map's gradient. line, low_line: room for a high row and for a low one, each with a
// voxel on either side.
static inline void differentiate_interpolation(const Batch *batch, const Layer *layer, const Gradient *gradient,
                                               int32_t sample, int32_t channel, int32_t d_low, float *line,
                                               float *low_line) {
    const Map *low = &layer->low, *to = &gradient->of_low;
    const Coefficients *coefficients = layer->moments < 0 ? NULL
                                       : coefficients_of(batch, layer, gradient, sample) + channel;
    const int32_t height = low->size[1], width = low->size[2];
#define LOW_ROW(h) (row_of(batch, to, sample, d_low * height + (h)) + channel * to->channel_stride)
    for (int32_t h = 0; h < height; h++) memset(LOW_ROW(h), 0, sizeof(float) * width);
    for (int32_t h = 0; h < layer->out.size[1]; h++) {
        gather_planes(batch, layer, gradient, coefficients, sample, channel, d_low, h, line);
        gather_row(line, width, layer->factor[2], low_line);
        const Taps taps = taps_of(h, layer->factor[1], height);
        float *restrict first = LOW_ROW(taps.first), *restrict second = LOW_ROW(taps.second);
        for (int32_t i = 0; i < width; i++) first[i] += (1 - taps.weight) * low_line[i];
        if (taps.weight > 0)
            for (int32_t i = 0; i < width; i++) second[i] += taps.weight * low_line[i];
    }
#undef LOW_ROW
}
