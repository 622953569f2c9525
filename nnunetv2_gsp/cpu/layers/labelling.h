// What is to be labelled. library.py mirrors this structure field by field.
#pragma once
#include "interpolation.h"

// Logits (classes, D, H, W) at the network's resolution become labels at the voxels that `taps` lie between: of the D
// axis of the labels first, then of H and W.
typedef struct {
    const float *logits;
    int64_t class_stride;     // of the logits, in floats; voxels of a class lie one after the other
    const Taps *taps;
    const int32_t *label_of;  // of each winner
    uint8_t *out;             // or uint16_t
    int64_t strides[3];       // of `out`, in bytes
    int32_t low[3], size[3];  // voxels of the logits, and of the labels
    int32_t classes;
    int32_t has_regions;      // a region wins wherever it is above 0, the last one first; else the largest class, the first
    int32_t label_bytes, threads;
} Labelling;
