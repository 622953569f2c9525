// The gradient of a layer's product: what reaches it directly, and through the statistics of the norm behind it.
//
// With u = scale·y + offset, scale = keep·γ/σ, and g the gradient of u, that of y is
//     scale·(g - mean(g) - (y - mean)/σ² · mean(g·(y - mean)))
// which is a sum of g, y and a constant, once g is summed up over the map. keep counts as a constant.
#pragma once
#include "norm.h"

// The gradient of y is direct·g + by_value·(y - pivot) + constant.
typedef struct { float direct, by_value, constant, pivot; } Coefficients;

static inline double *totals_at(const Batch *batch, int64_t offset, int64_t index) {
    return (double *)(batch->spaces[GRADIENTS] + offset) + 2 * index;
}

static inline Coefficients *coefficients_of(const Batch *batch, const Layer *layer, const Gradient *gradient,
                                            int32_t sample) {
    return (Coefficients *)(batch->spaces[GRADIENTS] + gradient->coefficients) + (int64_t)sample * layer->out.channels;
}

// Makes coefficients of the sums of g and g·(y - mean), and adds these to the gradients of γ and β.
static inline void differentiate_norm(const Batch *batch, const Layer *layer, const Gradient *gradient) {
    const Tiling tiling = tiling_of(layer);
    const double voxels = (double)tiling.rows * tiling.row_voxels;
    for (int32_t sample = 0; sample < batch->n_samples; sample++) {
        const double *moments = moments_of(batch, layer, &tiling, sample, 0);
        const double threshold = threshold_of(layer, moments);
        const double *totals = totals_at(batch, gradient->totals, (int64_t)sample * layer->out.channels);
        Coefficients *coefficients = coefficients_of(batch, layer, gradient, sample);
        for (int32_t channel = 0; channel < layer->out.channels; channel++) {
            const double mean = moments[2 * channel], variance = moments[2 * channel + 1];
            const double keep = kept_part(variance, threshold), inverse_deviation = 1 / sqrt(variance + layer->eps);
            const double scale = keep * (layer->gamma ? layer->gamma[channel] : 1) * inverse_deviation;
            const double sum = totals[2 * channel], by_value = totals[2 * channel + 1];
            const double slope = -scale * inverse_deviation * inverse_deviation * by_value / voxels;
            const float pivot = (float)mean;
            coefficients[channel] = (Coefficients){.direct = (float)scale, .by_value = (float)slope, .pivot = pivot,
                                                   .constant = (float)(slope * (pivot - mean) - scale * sum / voxels)};
            if (gradient->gamma)
                gradient->gamma[channel] = (float)((sample ? gradient->gamma[channel] : 0)
                                                   + keep * inverse_deviation * by_value);
            if (gradient->beta) gradient->beta[channel] = (float)((sample ? gradient->beta[channel] : 0) + sum);
        }
    }
}

// Consecutive voxels of one channel of a product's gradient.
static inline void load_gradient(const Layer *layer, const Coefficients *coefficients, const float *restrict gradient,
                                 const float *restrict values, int32_t n, float *restrict to) {
    if (layer->moments < 0) {
        memcpy(to, gradient, sizeof(float) * n);
        return;
    }
    const Coefficients c = *coefficients;
    for (int32_t i = 0; i < n; i++)
        to[i] = c.direct * gradient[i] + (c.by_value * (values[i] - c.pivot) + c.constant);
}
