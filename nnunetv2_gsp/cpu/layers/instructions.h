// What differs between instruction sets; setup.py compiles once for each of them.
#pragma once
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

// The product keeps OUTPUTS × VECTORS accumulators of LANES floats in registers.
#if defined(__AVX512F__)
enum { LANES = 16, OUTPUTS = 4, VECTORS = 4 };
#define STREAM(to, value) _mm512_stream_ps(to, (__m512)(value))
#elif defined(__AVX2__)
enum { LANES = 8, OUTPUTS = 4, VECTORS = 2 };
#define STREAM(to, value) _mm256_stream_ps(to, (__m256)(value))
#elif defined(__aarch64__)
enum { LANES = 4, OUTPUTS = 8, VECTORS = 2 };
#else
enum { LANES = 4, OUTPUTS = 4, VECTORS = 2 };
#endif
enum {
    STEP = LANES * VECTORS,  // voxels that the product computes at once
    CACHE_LINE = 16,         // floats
};
typedef float Vector __attribute__((vector_size(4 * LANES)));

static inline Vector vector_at(const float *from) {
    Vector vector;
    memcpy(&vector, from, sizeof vector);
    return vector;
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
