// Arithmetic of whole numbers that C's library lacks.
#pragma once
#include <stdint.h>

static inline int32_t min_of(int32_t a, int32_t b) { return a < b ? a : b; }
static inline int32_t max_of(int32_t a, int32_t b) { return a > b ? a : b; }
static inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
