// The gradient of weights: products of a tile's gradient and its input, summed up over the voxels.
#pragma once
#include "instructions.h"
#include "integers.h"

enum { OUTER_VOXELS = 1024 };  // so many of some channels stay in the first-level cache

static inline float sum_of(Vector vector) {
    typedef float Quarter __attribute__((vector_size(16)));
    Quarter parts[LANES / 4];
    memcpy(parts, &vector, sizeof vector);
    for (int width = LANES / 8; width; width /= 2)
        for (int i = 0; i < width; i++) parts[i] += parts[i + width];
    return (parts[0][0] + parts[0][2]) + (parts[0][1] + parts[0][3]);
}

// total[k·stride + l] += Σ_v rows[k][v]·columns[l][v] for the first `n_rows` and `n_columns` of them.
static inline void multiply_rows(const float *const rows[OUTER_ROWS], const float *const columns[OUTER_COLUMNS],
                                 int32_t voxels, int32_t n_rows, int32_t n_columns, float *total, int64_t stride) {
    Vector sums[OUTER_ROWS][OUTER_COLUMNS] = {{{0}}};
    for (int32_t v = 0; v < voxels; v += LANES) {
        Vector column[OUTER_COLUMNS];
        for (int l = 0; l < OUTER_COLUMNS; l++) column[l] = vector_at(columns[l] + v);
        for (int k = 0; k < OUTER_ROWS; k++) {
            const Vector row = vector_at(rows[k] + v);
            for (int l = 0; l < OUTER_COLUMNS; l++) sums[k][l] += row * column[l];
        }
    }
#pragma GCC unroll 8
    for (int k = 0; k < OUTER_ROWS; k++)
#pragma GCC unroll 8
        for (int l = 0; l < OUTER_COLUMNS; l++)
            if (k < n_rows && l < n_columns) total[k * stride + l] += sum_of(sums[k][l]);
}

// total[r][c] += Σ_v rows[r][v]·columns[c][v]; both are readable, and one of them zero, up to the next whole vector.
static inline void add_outer_product(const float *rows, int32_t n_rows, const float *columns, int32_t n_columns,
                                     int64_t stride, int32_t voxels, float *total) {
    for (int32_t first = 0; first < voxels; first += OUTER_VOXELS) {
        const int32_t n = min_of(OUTER_VOXELS, voxels - first);
        for (int32_t r = 0; r < n_rows; r += OUTER_ROWS) {
            const float *some_rows[OUTER_ROWS];  // behind the last one it again, to be left out
            for (int k = 0; k < OUTER_ROWS; k++) some_rows[k] = rows + min_of(r + k, n_rows - 1) * stride + first;
            for (int32_t c = 0; c < n_columns; c += OUTER_COLUMNS) {
                const float *some_columns[OUTER_COLUMNS];
                for (int l = 0; l < OUTER_COLUMNS; l++)
                    some_columns[l] = columns + min_of(c + l, n_columns - 1) * stride + first;
                multiply_rows(some_rows, some_columns, n, min_of(OUTER_ROWS, n_rows - r),
                              min_of(OUTER_COLUMNS, n_columns - c), total + (int64_t)r * n_columns + c, n_columns);
            }
        }
    }
}
