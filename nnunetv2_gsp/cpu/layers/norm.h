// InstanceNorm: moments of parts become those of the whole, and these the coefficients of y = scale·x + offset.
//
// A part's moments are the mean and the sum of squared deviations, of every channel.
#pragma once
#include "batch.h"
#include "tiling.h"

#include <float.h>
#include <math.h>

static inline double *moments_of(const Batch *batch, const Layer *layer, const Tiling *tiling, int32_t sample,
                                 int32_t chunk) {
    return (double *)(batch->spaces[ARENA] + layer->moments)
           + ((int64_t)sample * tiling->chunks + chunk) * 2 * layer->out.channels;
}

// Merges a channel's moments with those of another part (Chan et al. 1983).
static inline void merge_moments(double *moments, double count, double mean, double deviations, double other_count) {
    const double delta = mean - moments[0], share = other_count / (count + other_count);
    moments[0] += delta * share;
    moments[1] += deviations + delta * delta * count * share;
}

// Merges the moments of a sample's chunks into those of the first: mean and variance of every channel.
static inline void merge_chunks(const Layer *layer, const Tiling *tiling, double *moments) {
    const int32_t channels = layer->out.channels;
    for (int32_t channel = 0; channel < channels; channel++) {
        double total[2] = {0, 0}, count = 0;
        for (int32_t chunk = 0; chunk < tiling->chunks; chunk++) {
            const double *part = moments + 2 * ((int64_t)chunk * channels + channel);
            const double voxels = (double)rows_of_chunk(tiling, chunk) * tiling->row_voxels;
            merge_moments(total, count, part[0], part[1], voxels);
            count += voxels;
        }
        moments[2 * channel] = total[0];
        moments[2 * channel + 1] = total[1] < 0 ? 0 : total[1] / count;
    }
}

// Which part of a channel is more than rounding: ops/instance_norm.py has the rule. NaN stays NaN.
static inline double kept_part(double variance, double threshold) {
    const double keep = (variance - threshold) / (threshold + DBL_MIN);
    return keep < 0 ? 0 : keep > 1 ? 1 : keep;
}

static inline void finish_norm(const Batch *batch, const Layer *layer) {
    const Tiling tiling = tiling_of(layer);
    const int32_t channels = layer->out.channels;
    for (int32_t sample = 0; sample < batch->n_samples; sample++) {
        double *moments = moments_of(batch, layer, &tiling, sample, 0), threshold = 0;
        merge_chunks(layer, &tiling, moments);
        for (int32_t channel = 0; channel < channels; channel++)
            threshold += moments[2 * channel] * moments[2 * channel] / channels;
        threshold *= (double)layer->least_deviation * layer->least_deviation;
        for (int32_t channel = 0; channel < channels; channel++) {
            const double mean = moments[2 * channel], variance = moments[2 * channel + 1];
            const double scale = kept_part(variance, threshold) * (layer->gamma ? layer->gamma[channel] : 1)
                                 / sqrt(variance + layer->eps);
            const int64_t index = (int64_t)sample * channels + channel;
            batch->spaces[ARENA][layer->scale + index] = (float)scale;
            batch->spaces[ARENA][layer->offset + index] = (float)((layer->beta ? layer->beta[channel] : 0)
                                                                  - mean * scale);
        }
    }
}
