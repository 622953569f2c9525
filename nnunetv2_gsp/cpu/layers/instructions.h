// What differs between instruction sets; setup.py compiles once for each of them.
#pragma once
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

// The product keeps OUTPUTS × VECTORS accumulators of LANES floats in registers, the gradient of weights OUTER_ROWS ×
// OUTER_COLUMNS of them.
#if defined(__AVX512F__)
enum { LANES = 16, OUTPUTS = 4, VECTORS = 4, OUTER_ROWS = 6, OUTER_COLUMNS = 4 };
#define STREAM(to, value) _mm512_stream_ps(to, (__m512)(value))
#elif defined(__AVX2__)
enum { LANES = 8, OUTPUTS = 4, VECTORS = 2, OUTER_ROWS = 4, OUTER_COLUMNS = 2 };
#define STREAM(to, value) _mm256_stream_ps(to, (__m256)(value))
#elif defined(__aarch64__)
enum { LANES = 4, OUTPUTS = 8, VECTORS = 2, OUTER_ROWS = 4, OUTER_COLUMNS = 4 };
#else
enum { LANES = 4, OUTPUTS = 4, VECTORS = 2, OUTER_ROWS = 4, OUTER_COLUMNS = 2 };
#endif
enum {
    STEP = LANES * VECTORS,  // voxels that the product computes at once
    CACHE_LINE = 16,         // floats
};
typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int32_t Mask __attribute__((vector_size(4 * LANES)));  // of each float all bits or none

static inline Vector vector_at(const float *from) {
    Vector vector;
    memcpy(&vector, from, sizeof vector);
    return vector;
}

static inline Vector where(Mask mask, Vector yes, Vector no) {
    return (Vector)(((Mask)yes & mask) | ((Mask)no & ~mask));
}

// The first n < LANES floats of a vector; zeros take the place of the others.
static inline Vector first_floats_at(const float *from, int32_t n) {
#if defined(__AVX512F__)
    return (Vector)_mm512_maskz_loadu_ps((__mmask16)((1 << n) - 1), from);
#else
    Vector vector = {0};
    for (int32_t i = 0; i < n; i++) vector[i] = from[i];
    return vector;
#endif
}

static inline void store_first_floats(float *to, Vector value, int32_t n) {
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(to, (__mmask16)((1 << n) - 1), (__m512)value);
#else
    for (int32_t i = 0; i < n; i++) to[i] = value[i];
#endif
}

// A streamed vector goes around the caches to an address that is a multiple of its size.
static inline void store(float *to, Vector value, int is_streamed) {
#ifdef STREAM
    if (is_streamed) {
        STREAM(to, value);
        return;
    }
#else
    (void)is_streamed;
#endif
    memcpy(to, &value, sizeof value);
}

// Other threads see streamed vectors only after this.
static inline void finish_stores(void) {
#ifdef STREAM
    _mm_sfence();
#endif
}

static inline float largest(Vector values) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)values);
#elif defined(__AVX2__)
    const __m256 all = (__m256)values;
    __m128 most = _mm_max_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    most = _mm_max_ps(most, _mm_movehl_ps(most, most));
    return _mm_cvtss_f32(_mm_max_ss(most, _mm_shuffle_ps(most, most, 1)));
#else
    float most = values[0];
    for (int i = 1; i < LANES; i++) most = values[i] > most ? values[i] : most;
    return most;
#endif
}

// Bit i is set where float i of the mask is.
static inline uint32_t bits_of(Mask mask) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask);
#elif defined(__AVX2__)
    return _mm256_movemask_ps((__m256)mask);
#elif defined(__SSE2__)
    return _mm_movemask_ps((__m128)mask);
#else
    uint32_t bits = 0;
    for (int i = 0; i < LANES; i++) bits |= (uint32_t)(mask[i] & 1) << i;
    return bits;
#endif
}

static inline void store_interleaved(float *to, Vector even, Vector odd) {
#if defined(__AVX512F__)
    const __m512i low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    _mm512_storeu_ps(to, _mm512_permutex2var_ps((__m512)even, low, (__m512)odd));
    _mm512_storeu_ps(to + LANES, _mm512_permutex2var_ps((__m512)even, high, (__m512)odd));
#else
    for (int i = 0; i < LANES; i++) to[2 * i] = even[i], to[2 * i + 1] = odd[i];
#endif
}

// Tells the core that it only waits for another one.
static inline void pause_a_little(void) {
#if defined(__SSE2__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
