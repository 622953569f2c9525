// What a program of fused layers is made of. library.py mirrors these structures field by field.
#pragma once
#include <stdint.h>

// Where a map's memory is: the network's own, the image that came, what the backward pass needs meanwhile, or the logits
// that go out. Behind the first logits come those of lower resolutions, or the gradients of all of them and of the image.
enum { ARENA, IMAGE, GRADIENTS, LOGITS };

// A feature map (samples, channels, D, H, W) of floats. Its rows of W voxels, numbered d·H + h, are cut into tiles of
// 2^log2_rows, stored as [sample][tile][channel][row in tile][W]. One tile for all rows is the layout of PyTorch.
typedef struct {
    int64_t offset, sample_stride, tile_stride, channel_stride;  // floats
    int32_t space, channels, size[3], log2_rows;
} Map;

// What a layer reads: leaky_relu(scale·map + offset), shifted, then max-pooled.
typedef struct {
    Map map;
    int64_t scale, offset;  // [sample][channel] in the arena, -1: 1 and 0
    float slope;
    int32_t groups[3], shift_channels;                // group shift, Eq. 2-8 of the paper
    int32_t local_axis, local_channels;               // local shift: its first axis, how many channels
    int32_t pool[3];
} Input;

// Where logits are summed up instead of stored: sums += weights · out, in a part of a larger volume. Along a mirrored axis
// the first voxel is the last one of the part, and strides are negative.
typedef struct {
    float *sums;           // at the first voxel
    const float *weights;  // of the part's voxels, for all channels, at the first voxel
    int64_t strides[3];    // of `sums`, in floats: from channel to channel, from slice to slice, from row to row
    int64_t weight_strides[2];  // from slice to slice, from row to row
    int64_t step;               // of both, from voxel to voxel: 1, or -1 where rows are mirrored
} Target;

// out = weight · inputs + bias, or with `low`: weight · inputs + the linear interpolation of `low`.
typedef struct {
    Input inputs[2];
    Map low, out;
    const float *weight, *bias;      // weight: [out channel][weight_stride], NULL: the identity; bias NULL: zeros
    const Target *target;            // NULL: the output is stored
    const float *gamma, *beta;       // of the InstanceNorm that follows; NULL: ones, zeros
    int64_t weight_stride, packed;   // packed: room in the arena for the weights as the product reads them
    int64_t scale, offset, moments;  // the InstanceNorm's coefficients and room for sums, in the arena; -1: no norm
    int32_t n_inputs, has_low, factor[3], log2_rows;
    float eps, least_deviation;      // of the InstanceNorm; channels that vary by less of the map's values are constant
} Layer;

// The backward pass of a layer: from the gradient of its output come those of what it read, of its weights, and of the
// norm behind it. A map's gradient is that of norm(map): what reaches the map through the norm's statistics is added
// by whoever reads it.
typedef struct {
    Map of_out, of_low, of_inputs[2];       // cut as the maps they belong to
    float *weight, *bias, *gamma, *beta;    // of the parameters; NULL: nobody wants it. Rows lie as those of the weight
    int64_t packed, coefficients;           // room in GRADIENTS, as those below: the weights, transposed; of of_out
    int64_t parts, sums;                    // parts of the weights' gradient; sums over parts of the inputs' gradients
    int64_t totals;                         // sums over of_out, for its norm
    int32_t layer, wants_low, wants_inputs[2], adds_to_inputs[2];  // adds: somebody else has written there before
    int32_t norms_of_inputs[2];             // the backward passes of the layers whose norms apply to inputs; -1: none
} Gradient;

// At least so many output channels wide are packed weights, and so many chunks of tiles keep sums of their own.
enum { PACKED_MULTIPLE = 16, MAX_CHUNKS = 64 };

// Of all inputs together: so many products are summed up in every output.
static inline int32_t channels_in(const Layer *layer) {
    int32_t channels = 0;
    for (int32_t i = 0; i < layer->n_inputs; i++) channels += layer->inputs[i].map.channels;
    return channels;
}
