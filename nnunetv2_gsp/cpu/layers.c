// Fused Group Shift Pointwise layers: each reads its input once and writes its output once.
//
// A layer stores its raw convolution output and sums up its moments; whoever reads that output applies InstanceNorm,
// leaky ReLU and the shift while loading. Compiled once for each instruction set; `gsp_run` is the entry.
#include "layers.h"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif
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
    STEP = LANES * VECTORS,
    CACHE_LINE = 16,               // floats
    STREAMED_FROM = 2 << 20,       // floats of a map that no cache keeps until it is read: stored around the caches
    MIN_UNITS = 8,                 // pieces of work that a small map is cut into
    PAUSES = 4000,                 // about a tenth of a millisecond
};
_Static_assert(4 * CACHE_LINE % STEP == 0, "rows of a tile are padded to whole steps");
typedef float Vector __attribute__((vector_size(4 * LANES)));

// Consecutive voxels of one channel that are consecutive in memory too. NULL stands for zeros.
typedef struct { const float *from; int32_t to, voxels; } Run;
// Channels whose voxels come from the same places.
typedef struct { int32_t channel, channels, first_run, runs; } Group;
// Rows before the shift that follow each other in a block along D and H: from which on, how many, where in the tile.
typedef struct { int32_t block, row_in_block, rows, to; } Place;
typedef struct { Group *groups; Run *runs; Place *places; int32_t n_groups, n_runs; } Plan;
// What of a plan was already asked from memory: of this run of this channel, what lies before `from`.
typedef struct {
    const Plan *plan;
    int64_t channel_stride;
    int32_t group, channel, run;
    const float *from, *end;
} Cursor;

// A row of the map that is interpolated along D and H, of channel 0: from[2·i + j] at D's tap i and H's tap j.
typedef struct { const float *from[4]; float d, h; } LowRow;

typedef struct {
    float *tile, *sums, *staging, *line;  // input of a tile; a block of outputs; rows before pooling; one low row
    int64_t stride;                       // between channels of `tile` and `sums`
    Plan plans[2];                        // of the tile to load next, for each input
    LowRow *low_rows;                     // of this tile
} Scratch;

typedef struct {
    const Layer *layers;
    int32_t n_layers, n_samples;
    float *spaces[SPACES];
    atomic_int *next;  // of each layer, the next unit of work; behind them the next layer to pack
    pthread_mutex_t mutex;
    pthread_cond_t released;
    int32_t waiting;
    atomic_int threads, joined;
    atomic_uint round;
} Call;

// How a layer is cut: tiles of rows, chunks of tiles that keep moments, units of work.
typedef struct { int32_t rows, row_voxels, tile_rows, tiles, chunks, splits, blocks; } Cut;

static inline Vector vector_at(const float *from) {
    Vector vector;
    memcpy(&vector, from, sizeof vector);
    return vector;
}
static inline int32_t min_of(int32_t a, int32_t b) { return a < b ? a : b; }
static inline int32_t max_of(int32_t a, int32_t b) { return a > b ? a : b; }
static inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

static Cut cut_of(const Layer *layer) {
    Cut cut = {.rows = layer->out.size[0] * layer->out.size[1], .row_voxels = layer->out.size[2]};
    cut.tile_rows = min_of(1 << layer->log2_rows, cut.rows);
    cut.tiles = (cut.rows + cut.tile_rows - 1) / cut.tile_rows;
    cut.chunks = min_of(cut.tiles, MAX_CHUNKS);
    cut.blocks = (layer->out.channels + OUTPUTS - 1) / OUTPUTS;
    cut.splits = max_of(1, min_of(cut.blocks, MIN_UNITS / cut.tiles));
    return cut;
}

static int32_t first_tile(const Cut *cut, int32_t chunk) { return (int64_t)cut->tiles * chunk / cut->chunks; }

static int32_t rows_of_tile(const Cut *cut, int32_t tile) {
    return min_of(cut->tile_rows, cut->rows - tile * cut->tile_rows);
}

static int32_t rows_of_chunk(const Cut *cut, int32_t chunk) {
    return min_of(first_tile(cut, chunk + 1) * cut->tile_rows, cut->rows) - first_tile(cut, chunk) * cut->tile_rows;
}

static int32_t channels_in(const Layer *layer) {
    int32_t channels = 0;
    for (int32_t i = 0; i < layer->n_inputs; i++) channels += layer->inputs[i].map.channels;
    return channels;
}

static inline float *row_of(const Call *call, const Map *map, int32_t sample, int32_t row) {
    return call->spaces[map->space] + map->offset + sample * map->sample_stride
           + (row >> map->log2_rows) * map->tile_stride
           + (int64_t)(row & ((1 << map->log2_rows) - 1)) * map->size[2];
}

// ---- where a tile's input comes from

static void begin_group(Plan *plan, int32_t channel, int32_t channels) {
    plan->groups[plan->n_groups++] = (Group){channel, channels, plan->n_runs, 0};
}

static void add_run(Plan *plan, const float *from, int32_t to, int32_t voxels) {
    Group *group = &plan->groups[plan->n_groups - 1];
    Run *last = &plan->runs[plan->n_runs - 1];
    if (group->runs && from && last->from && last->from + last->voxels == from && last->to + last->voxels == to) {
        last->voxels += voxels;
    } else {
        plan->runs[plan->n_runs++] = (Run){from, to, voxels};
        group->runs++;
    }
}

// Loops over the rows before pooling that make `rows` rows of the layer from `first` on: sets d, h, the row's `width`,
// and where it goes, `to`.
#define FOR_EACH_SOURCE_ROW(input, out_height, first, rows)                                                            \
    for (int32_t r_ = 0, to = 0, width = (input)->map.size[2]; r_ < (rows); r_++)                                      \
        for (int32_t i_ = 0; i_ < (input)->pool[0]; i_++)                                                              \
            for (int32_t j_ = 0, d = ((first) + r_) / (out_height) * (input)->pool[0] + i_,                            \
                         h = ((first) + r_) % (out_height) * (input)->pool[1];                                         \
                 j_ < (input)->pool[1]; j_++, h++, to += width)

// Along W a shift is a rotation: of every row there are at most two runs.
static void plan_group_shift(const Call *call, const Input *input, int32_t sample, int32_t height, int32_t first,
                             int32_t rows, Plan *plan) {
    const Map *map = &input->map;
    const int32_t g_d = input->groups[0], g_h = input->groups[1], g_w = input->groups[2], n_groups = g_d * g_h * g_w;
    const int32_t d_size = map->size[0] / g_d, h_size = map->size[1] / g_h, w_size = map->size[2] / g_w;
    const int32_t c_g = input->shift_channels / n_groups;
    Place *end = plan->places;
    FOR_EACH_SOURCE_ROW(input, height, first, rows) {
        const int32_t block = d / d_size + h / h_size * g_d;  // Eq. 2 without the term of W
        const int32_t row = d % d_size * map->size[1] + h % h_size;
        if (end > plan->places && end[-1].block == block && end[-1].row_in_block + end[-1].rows == row) {
            end[-1].rows++;
        } else {
            *end++ = (Place){block, row, 1, to};
        }
    }
    for (int32_t step = 0; step < n_groups; step++) {  // Eq. 3
        begin_group(plan, step * c_g, c_g);
        for (const Place *place = plan->places; place < end; place++) {
            const int32_t source = (place->block - step + n_groups) % n_groups;  // Eq. 4 solved for cur_ind
            const int32_t w_block = source / (g_d * g_h), dh_block = source - w_block * g_d * g_h;
            const int32_t h_block = dh_block / g_d, d_block = dh_block - h_block * g_d;  // Eq. 5-7
            const int32_t first_row = d_block * d_size * map->size[1] + h_block * h_size + place->row_in_block;
            const int32_t begin = w_block * w_size, length = map->size[2] - begin;
            for (int32_t r = 0, to = place->to; r < place->rows; r++, to += map->size[2]) {
                const float *from = row_of(call, map, sample, first_row + r) + step * c_g * map->channel_stride;
                add_run(plan, from + begin, to, length);
                if (begin) add_run(plan, from, to + length, begin);
            }
        }
    }
}

static void plan_local_shift(const Call *call, const Input *input, int32_t sample, int32_t height, int32_t first,
                             int32_t rows, Plan *plan) {
    const Map *map = &input->map;
    const int32_t part = input->local_channels / (2 * (3 - input->local_axis));
    int32_t channel = input->shift_channels;
    for (int32_t axis = input->local_axis; axis < 3; axis++) {
        for (int32_t step = 1; step >= -1; step -= 2, channel += part) {  // voxel i takes the value of voxel i + step
            begin_group(plan, channel, part);
            FOR_EACH_SOURCE_ROW(input, height, first, rows) {
                const int32_t d_from = d + (axis == 0) * step, h_from = h + (axis == 1) * step;
                if (d_from < 0 || d_from >= map->size[0] || h_from < 0 || h_from >= map->size[1]) {
                    add_run(plan, NULL, to, width);
                    continue;
                }
                const float *from = row_of(call, map, sample, d_from * map->size[1] + h_from)
                                    + channel * map->channel_stride;
                if (axis < 2) {
                    add_run(plan, from, to, width);
                } else {
                    add_run(plan, from + (step > 0), to + (step < 0), width - 1);
                    add_run(plan, NULL, step > 0 ? to + width - 1 : to, 1);
                }
            }
        }
    }
}

static void plan_input(const Call *call, const Layer *layer, const Input *input, int32_t sample, int32_t first,
                       int32_t rows, Plan *plan) {
    const Map *map = &input->map;
    const int32_t height = layer->out.size[1], moved = input->shift_channels + input->local_channels;
    plan->n_groups = plan->n_runs = 0;
    if (input->shift_channels) plan_group_shift(call, input, sample, height, first, rows, plan);
    if (input->local_channels) plan_local_shift(call, input, sample, height, first, rows, plan);
    if (moved == map->channels) return;
    begin_group(plan, moved, map->channels - moved);
    FOR_EACH_SOURCE_ROW(input, height, first, rows)
        add_run(plan, row_of(call, map, sample, d * map->size[1] + h) + moved * map->channel_stride, to, width);
}

static int32_t source_rows(const Layer *layer, const Input *input) {
    return cut_of(layer).tile_rows * input->pool[0] * input->pool[1];
}

static int32_t max_groups(const Input *input) {
    return input->groups[0] * input->groups[1] * input->groups[2] + 2 * 3 + 1;
}

static int64_t max_runs(const Layer *layer, const Input *input) {
    const int64_t shifted = input->groups[0] * input->groups[1] * input->groups[2];
    return source_rows(layer, input) * (2 * shifted + 2 * 3 * 2 + 1);
}

static Cursor cursor_of(const Plan *plan, int64_t channel_stride) {
    return (Cursor){.plan = plan, .channel_stride = channel_stride, .run = -1};
}

// Moves on to the next run; returns 0 at the end of the plan.
static int next_run(Cursor *cursor) {
    const Plan *plan = cursor->plan;
    if (cursor->group >= plan->n_groups) return 0;
    const Group *group = &plan->groups[cursor->group];
    if (++cursor->run == group->runs) {
        cursor->run = 0;
        if (++cursor->channel == group->channels) {
            cursor->channel = 0;
            if (++cursor->group == plan->n_groups) return 0;
            group++;
        }
    }
    const Run *run = &plan->runs[group->first_run + cursor->run];
    cursor->from = run->from ? run->from + cursor->channel * cursor->channel_stride : NULL;
    cursor->end = run->from ? cursor->from + run->voxels : NULL;
    return 1;
}

// Asks memory for the next lines of a plan, so that they are in the cache when the next tile is loaded.
static inline void prefetch(Cursor *cursor, int32_t lines) {
    const float *from = cursor->from;
    for (; lines > 0; lines--, from += CACHE_LINE) {
        while (from >= cursor->end) {
            if (!next_run(cursor)) {
                cursor->from = cursor->end;
                return;
            }
            from = cursor->from;
        }
        __builtin_prefetch(from, 0, 2);
    }
    cursor->from = from;
}

// ---- loading

static inline void activate(float *restrict to, const float *restrict from, int32_t n, float scale, float offset,
                            float slope) {
    for (int32_t i = 0; i < n; i++) {
        const float value = scale * from[i] + offset;
        to[i] = value > 0 ? value : slope * value;
    }
}

// The larger one, or NaN if one is, as PyTorch's pooling has it.
static inline float larger(float a, float b) { return a >= b || a != a ? a : b; }

static void max_pool(const int32_t *pool, int32_t width, int32_t rows, float *restrict rows_in, float *restrict to) {
    const int32_t rows_a_window = pool[0] * pool[1], width_out = width / pool[2];
    for (int32_t r = 0; r < rows; r++, rows_in += (int64_t)rows_a_window * width, to += width_out) {
        for (int32_t k = 1; k < rows_a_window; k++)
            for (int32_t i = 0; i < width; i++) rows_in[i] = larger(rows_in[i], rows_in[(int64_t)k * width + i]);
        if (pool[2] == 2) {
            for (int32_t i = 0; i < width_out; i++) to[i] = larger(rows_in[2 * i], rows_in[2 * i + 1]);
            continue;
        }
        for (int32_t i = 0; i < width_out; i++) {
            to[i] = rows_in[i * pool[2]];
            for (int32_t k = 1; k < pool[2]; k++) to[i] = larger(to[i], rows_in[i * pool[2] + k]);
        }
    }
}

static void load(const Call *call, const Input *input, const Plan *plan, int32_t sample, int32_t rows, float *tile,
                 const Scratch *scratch) {
    const Map *map = &input->map;
    const int is_pooled = input->pool[0] * input->pool[1] * input->pool[2] > 1;
    const float *scales = input->scale < 0 ? NULL : call->spaces[ARENA] + input->scale + sample * map->channels;
    const float *offsets = input->scale < 0 ? NULL : call->spaces[ARENA] + input->offset + sample * map->channels;
    for (const Group *group = plan->groups; group < plan->groups + plan->n_groups; group++) {
        const Run *runs = plan->runs + group->first_run;
        for (int32_t k = 0; k < group->channels; k++) {
            const int32_t channel = group->channel + k;
            const float scale = scales ? scales[channel] : 1, offset = offsets ? offsets[channel] : 0;
            float *to = is_pooled ? scratch->staging : tile + channel * scratch->stride;
            for (const Run *run = runs; run < runs + group->runs; run++) {
                if (run->from) {
                    activate(to + run->to, run->from + k * map->channel_stride, run->voxels, scale, offset,
                             input->slope);
                } else {
                    memset(to + run->to, 0, sizeof(float) * run->voxels);
                }
            }
            if (is_pooled) max_pool(input->pool, map->size[2], rows, to, tile + channel * scratch->stride);
        }
    }
}

// ---- linear interpolation, as PyTorch's with align_corners=False, and exact between equal values

// Not (1 - weight)·a + weight·b, whose rounding would differ from voxel to voxel of a constant map.
#define BETWEEN(a, b, weight) ((a) + (weight) * ((b) - (a)))

typedef struct { int32_t first, second; float weight; } Taps;

static Taps taps_of(int32_t index, int32_t factor, int32_t low_size) {
    const float position = fmaxf((index + 0.5f) / factor - 0.5f, 0);
    const int32_t first = (int32_t)position;
    const float weight = position - first;
    return (Taps){first, weight > 0 ? min_of(first + 1, low_size - 1) : first, weight};
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

// Interpolates along W; `line` may be read one voxel before its begin and behind its end.
static void interpolate_row(float *restrict line, int32_t n, int32_t factor, float *restrict to) {
    line[-1] = line[0];
    line[n] = line[n - 1];
    if (factor == 2) {
        int32_t i = 0;
        for (; i + LANES <= n; i += LANES) {
            const Vector middle = vector_at(line + i);
            store_interleaved(to + 2 * i, BETWEEN(middle, vector_at(line + i - 1), 0.25f),
                              BETWEEN(middle, vector_at(line + i + 1), 0.25f));
        }
        for (; i < n; i++) {
            to[2 * i] = BETWEEN(line[i], line[i - 1], 0.25f);
            to[2 * i + 1] = BETWEEN(line[i], line[i + 1], 0.25f);
        }
        return;
    }
    for (int32_t phase = 0; phase < factor; phase++) {
        const float position = (phase + 0.5f) / factor - 0.5f;
        const int32_t first = position < 0 ? -1 : 0;
        const float weight = position - first;
        for (int32_t i = 0; i < n; i++)
            to[i * factor + phase] = weight > 0 ? BETWEEN(line[i + first], line[i + first + 1], weight)
                                                : line[i + first];
    }
}

static void plan_low_rows(const Call *call, const Layer *layer, int32_t sample, int32_t first, int32_t rows,
                          LowRow *low_rows) {
    const Map *low = &layer->low;
    const int32_t height = layer->out.size[1];
    for (int32_t r = first; r < first + rows; r++, low_rows++) {
        const Taps d = taps_of(r / height, layer->factor[0], low->size[0]);
        const Taps h = taps_of(r % height, layer->factor[1], low->size[1]);
        for (int i = 0; i < 4; i++) {
            const int32_t row = (i / 2 ? d.second : d.first) * low->size[1] + (i % 2 ? h.second : h.first);
            low_rows->from[i] = row_of(call, low, sample, row);
        }
        low_rows->d = d.weight, low_rows->h = h.weight;
    }
}

static void interpolate(const Layer *layer, const LowRow *low_rows, int32_t rows, int32_t channel, float *line,
                        float *to) {
    const int32_t width = layer->low.size[2];
    const int64_t in_channel = channel * layer->low.channel_stride;
    for (const LowRow *row = low_rows; row < low_rows + rows; row++, to += layer->out.size[2]) {
        const float *restrict a = row->from[0] + in_channel, *restrict b = row->from[1] + in_channel;
        const float *restrict e = row->from[2] + in_channel, *restrict f = row->from[3] + in_channel;
        const float d = row->d, h = row->h;
        for (int32_t i = 0; i < width; i++) {
            const float first = BETWEEN(a[i], b[i], h), second = BETWEEN(e[i], f[i], h);
            line[i] = BETWEEN(first, second, d);
        }
        interpolate_row(line, width, layer->factor[2], to);
    }
}

// ---- the product, the moments, the store

// Where a block of outputs goes. Sums of the moments are taken about the mean of the tile's first step: about zero they
// would cancel where the mean is large, and about a single voxel where that one lies far off.
typedef struct {
    float *to;
    int64_t channel_stride;
    int32_t outputs, is_streamed, has_moments;
    float pivot[OUTPUTS];
    Vector sum[OUTPUTS], squares[OUTPUTS];
} Block;

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

// total[k] = (sums or bias)[k] + Σ_c packed[c][k] · tile[c] for OUTPUTS outputs k and STEP voxels.
static inline void multiply(Vector total[OUTPUTS][VECTORS], const float *restrict sums, const float *restrict bias,
                            const float *restrict packed, const float *restrict tile, int32_t channels,
                            int64_t stride) {
    for (int k = 0; k < OUTPUTS; k++)
        for (int j = 0; j < VECTORS; j++)
            total[k][j] = bias ? bias[k] - (Vector){0} : vector_at(sums + k * stride + j * LANES);
    for (int32_t c = 0; c < channels; c++, tile += stride, packed += OUTPUTS) {
        Vector x[VECTORS];
        for (int j = 0; j < VECTORS; j++) x[j] = vector_at(tile + j * LANES);
        for (int k = 0; k < OUTPUTS; k++)
            for (int j = 0; j < VECTORS; j++) total[k][j] += packed[k] * x[j];
    }
}

static inline float mean_of_step(const Vector values[VECTORS]) {
    Vector sums = {0};
    for (int j = 0; j < VECTORS; j++) sums += values[j];
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += sums[i];
    return sum / STEP;
}

// Whole vectors go from the registers to the moments and to memory; not unrolled, they would go by the stack.
static inline void finish_step(Vector total[OUTPUTS][VECTORS], Block *block, int32_t voxel) {
#pragma GCC unroll 8
    for (int k = 0; k < OUTPUTS; k++) {
        if (k >= block->outputs) continue;
        if (block->has_moments) {
            if (voxel == 0) block->pivot[k] = mean_of_step(total[k]);
            Vector sum = {0}, squares = {0};
            for (int j = 0; j < VECTORS; j++) {
                const Vector difference = total[k][j] - block->pivot[k];
                sum += difference;
                squares += difference * difference;
            }
            block->sum[k] += sum;
            block->squares[k] += squares;
        }
        float *to = block->to + k * block->channel_stride + voxel;
        for (int j = 0; j < VECTORS; j++) store(to + j * LANES, total[k][j], block->is_streamed);
    }
}

// The voxels behind the last whole step.
static void finish_rest(Vector total[OUTPUTS][VECTORS], Block *block, int32_t voxel, int32_t n) {
    float values[STEP];
    for (int32_t k = 0; k < block->outputs; k++) {
        memcpy(values, total[k], sizeof values);
        if (voxel == 0) {
            float sum = 0;
            for (int32_t i = 0; i < n; i++) sum += values[i];
            block->pivot[k] = sum / n;
        }
        for (int32_t i = 0; i < n; i++) {
            const float difference = values[i] - block->pivot[k];
            block->sum[k][i % LANES] += difference;
            block->squares[k][i % LANES] += difference * difference;
        }
        memcpy(block->to + k * block->channel_stride + voxel, values, sizeof(float) * n);
    }
}

// Merges the mean and the sum of squared deviations of two parts (Chan et al. 1983).
static inline void merge(double *moments, double count, double mean, double deviations, double other_count) {
    const double delta = mean - moments[0], share = other_count / (count + other_count);
    moments[0] += delta * share;
    moments[1] += deviations + delta * delta * count * share;
}

static void add_moments(double *moments, double count, const Block *block, int32_t n) {
    for (int32_t k = 0; k < block->outputs; k++, moments += 2) {
        double total = 0, squares = 0;
        for (int i = 0; i < LANES; i++) total += block->sum[k][i], squares += block->squares[k][i];
        merge(moments, count, block->pivot[k] + total / n, squares - total * total / n, n);
    }
}

static void finish_stores(void) {
#ifdef STREAM
    _mm_sfence();
#endif
}

// ---- a layer

static void plan_tile(const Call *call, const Layer *layer, const Cut *cut, int32_t sample, int32_t tile, Plan *plans) {
    plans[0].n_groups = plans[1].n_groups = 0;
    for (int32_t i = 0; i < layer->n_inputs; i++)
        plan_input(call, layer, &layer->inputs[i], sample, tile * cut->tile_rows, rows_of_tile(cut, tile), &plans[i]);
}

static void load_tile(const Call *call, const Layer *layer, int32_t sample, int32_t rows, const Plan *plans,
                      const Scratch *scratch) {
    float *tile = scratch->tile;
    for (int32_t i = 0; i < layer->n_inputs; tile += layer->inputs[i++].map.channels * scratch->stride)
        load(call, &layer->inputs[i], &plans[i], sample, rows, tile, scratch);
}

// One block of outputs for the loaded tile.
static void compute_block(const Call *call, const Layer *layer, const Cut *cut, int32_t sample, int32_t first,
                          int32_t rows, int32_t index, double *moments, double count, Cursor *cursors, int32_t lines,
                          const Scratch *scratch) {
    const int32_t channels = channels_in(layer), channel = index * OUTPUTS, voxels = rows * cut->row_voxels;
    const float *packed = call->spaces[ARENA] + layer->packed + (int64_t)channel * channels;
    Block block = {.to = row_of(call, &layer->out, sample, first) + channel * layer->out.channel_stride,
                   .channel_stride = layer->out.channel_stride, .has_moments = moments != NULL,
                   .outputs = min_of(OUTPUTS, layer->out.channels - channel)};
    block.is_streamed = (int64_t)layer->out.channels * cut->rows * cut->row_voxels >= STREAMED_FROM
                        && (uintptr_t)block.to % sizeof(Vector) == 0 && block.channel_stride % LANES == 0;
    float bias[OUTPUTS] = {0};
    if (layer->bias) memcpy(bias, layer->bias + channel, sizeof(float) * block.outputs);
    if (layer->has_low)
        for (int32_t k = 0; k < block.outputs; k++)
            interpolate(layer, scratch->low_rows, rows, channel + k, scratch->line,
                        scratch->sums + k * scratch->stride);
    for (int32_t v = 0; v < voxels; v += STEP) {
        prefetch(&cursors[0], lines);
        prefetch(&cursors[1], lines);
        Vector total[OUTPUTS][VECTORS];
        multiply(total, scratch->sums + v, layer->has_low ? NULL : bias, packed, scratch->tile + v, channels,
                 scratch->stride);
        if (v + STEP <= voxels) {
            finish_step(total, &block, v);
        } else {
            finish_rest(total, &block, v, voxels - v);
        }
    }
    if (moments) add_moments(moments + 2 * channel, count, &block, voxels);
}

static int64_t lines_of(const Plan *plan) {
    int64_t lines = 0;
    for (const Group *group = plan->groups; group < plan->groups + plan->n_groups; group++)
        for (int32_t i = group->first_run; i < group->first_run + group->runs; i++)
            lines += group->channels * (plan->runs[i].voxels / CACHE_LINE + 1);
    return lines;
}

// A unit of work: some tiles of a sample, some blocks of outputs.
typedef struct { int32_t sample, chunk, begin, end, first_block, end_block; } Unit;

static Unit unit_of(const Cut *cut, int32_t index) {
    const int32_t splits = cut->splits, split = index % splits, chunk = index / splits % cut->chunks;
    return (Unit){.sample = index / splits / cut->chunks, .chunk = chunk,
                  .begin = first_tile(cut, chunk), .end = first_tile(cut, chunk + 1),
                  .first_block = cut->blocks * split / splits, .end_block = cut->blocks * (split + 1) / splits};
}

// Runs a unit, whose first tile is planned, and plans the first tile of this thread's next one, if there is a next one.
static void run_unit(const Call *call, const Layer *layer, const Cut *cut, const Unit *unit, const Unit *next_unit,
                     Scratch *scratch) {
    double *moments = layer->moments < 0 ? NULL
                      : (double *)(call->spaces[ARENA] + layer->moments)
                        + ((int64_t)unit->sample * cut->chunks + unit->chunk) * 2 * layer->out.channels;
    const int32_t first_channel = unit->first_block * OUTPUTS;
    const int32_t end_channel = min_of(unit->end_block * OUTPUTS, layer->out.channels);
    if (moments)
        for (int32_t i = 2 * first_channel; i < 2 * end_channel; i++) moments[i] = 0;
    double count = 0;
    for (int32_t tile = unit->begin; tile < unit->end; tile++) {
        const int32_t first = tile * cut->tile_rows, rows = rows_of_tile(cut, tile);
        load_tile(call, layer, unit->sample, rows, scratch->plans, scratch);
        if (layer->has_low) plan_low_rows(call, layer, unit->sample, first, rows, scratch->low_rows);
        if (tile + 1 < unit->end) {
            plan_tile(call, layer, cut, unit->sample, tile + 1, scratch->plans);
        } else if (next_unit) {
            plan_tile(call, layer, cut, next_unit->sample, next_unit->begin, scratch->plans);
        } else {
            scratch->plans[0].n_groups = scratch->plans[1].n_groups = 0;
        }
        Cursor cursors[2];
        for (int32_t i = 0; i < 2; i++)
            cursors[i] = cursor_of(&scratch->plans[i], layer->inputs[i].map.channel_stride);
        const int32_t blocks = unit->end_block - unit->first_block;
        const int64_t steps = (int64_t)(rows * cut->row_voxels + STEP - 1) / STEP * blocks;
        const int64_t lines = (lines_of(&scratch->plans[0]) + lines_of(&scratch->plans[1]) + steps - 1) / steps;
        for (int32_t block = unit->first_block; block < unit->end_block; block++)
            compute_block(call, layer, cut, unit->sample, first, rows, block, moments, count, cursors, lines, scratch);
        count += (double)rows * cut->row_voxels;
    }
}

// Runs units as long as there are any. While there are many, a thread takes the next one before it computes this one's
// last tile, and asks memory for what that will read; the last ones go to whoever is ready for them.
static void run_units(Call *call, const Layer *layer, atomic_int *next, Scratch *scratch) {
    const Cut cut = cut_of(layer);
    const int32_t n_units = call->n_samples * cut.chunks * cut.splits;
    int32_t index = atomic_fetch_add(next, 1), is_planned = 0;
    while (index < n_units) {
        const Unit unit = unit_of(&cut, index);
        if (!is_planned) plan_tile(call, layer, &cut, unit.sample, unit.begin, scratch->plans);
        const int32_t are_many = atomic_load(next) + atomic_load(&call->threads) < n_units;
        const int32_t next_index = are_many ? atomic_fetch_add(next, 1) : n_units;
        const Unit next_unit = unit_of(&cut, next_index);
        is_planned = next_index < n_units;
        run_unit(call, layer, &cut, &unit, is_planned ? &next_unit : NULL, scratch);
        index = is_planned ? next_index : atomic_fetch_add(next, 1);
    }
}

// Merges the moments of a sample's chunks into those of the first: mean and variance of every channel.
static void merge_chunks(const Layer *layer, const Cut *cut, double *moments) {
    const int32_t channels = layer->out.channels;
    for (int32_t channel = 0; channel < channels; channel++) {
        double total[2] = {0, 0}, count = 0;
        for (int32_t chunk = 0; chunk < cut->chunks; chunk++) {
            const double *part = moments + 2 * ((int64_t)chunk * channels + channel);
            const double voxels = (double)rows_of_chunk(cut, chunk) * cut->row_voxels;
            merge(total, count, part[0], part[1], voxels);
            count += voxels;
        }
        moments[2 * channel] = total[0];
        moments[2 * channel + 1] = total[1] < 0 ? 0 : total[1] / count;
    }
}

// Which part of a channel is more than rounding: ops/instance_norm.py has the rule. NaN stays NaN.
static double kept(double variance, double threshold) {
    const double keep = (variance - threshold) / (threshold + DBL_MIN);
    return keep < 0 ? 0 : keep > 1 ? 1 : keep;
}

// InstanceNorm's coefficients from the moments of all chunks: y = scale·x + offset.
static void finish_norm(const Call *call, const Layer *layer) {
    const Cut cut = cut_of(layer);
    const int32_t channels = layer->out.channels;
    double *moments = (double *)(call->spaces[ARENA] + layer->moments);
    for (int32_t sample = 0; sample < call->n_samples; sample++, moments += 2 * (int64_t)cut.chunks * channels) {
        merge_chunks(layer, &cut, moments);
        double threshold = 0;
        for (int32_t channel = 0; channel < channels; channel++)
            threshold += moments[2 * channel] * moments[2 * channel] / channels;
        threshold *= (double)layer->least_deviation * layer->least_deviation;
        for (int32_t channel = 0; channel < channels; channel++) {
            const double mean = moments[2 * channel], variance = moments[2 * channel + 1];
            const double scale = kept(variance, threshold) * (layer->gamma ? layer->gamma[channel] : 1)
                                 / sqrt(variance + layer->eps);
            const int64_t index = (int64_t)sample * channels + channel;
            call->spaces[ARENA][layer->scale + index] = (float)scale;
            call->spaces[ARENA][layer->offset + index] = (float)((layer->beta ? layer->beta[channel] : 0)
                                                                 - mean * scale);
        }
    }
}

// Weights as `multiply` reads them: [block of outputs][channel in][output in block].
static void pack(const Call *call, const Layer *layer) {
    const int32_t channels = channels_in(layer), blocks = cut_of(layer).blocks;
    float *to = call->spaces[ARENA] + layer->packed;
    for (int32_t block = 0; block < blocks; block++)
        for (int32_t c = 0; c < channels; c++)
            for (int32_t output = block * OUTPUTS; output < (block + 1) * OUTPUTS; output++)
                *to++ = output >= layer->out.channels ? 0
                        : layer->weight ? layer->weight[output * layer->weight_stride + c] : output == c;
}

// ---- threads

static inline void pause_a_little(void) {
#if defined(__SSE2__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Waits for all threads, awake at first, for small layers take less time than waking up; the last one finishes the
// layer's norm before it lets the others go on.
static void meet(Call *call, const Layer *layer) {
    pthread_mutex_lock(&call->mutex);
    const unsigned round = atomic_load(&call->round);
    if (++call->waiting == call->threads) {
        if (layer && layer->moments >= 0) finish_norm(call, layer);
        call->waiting = 0;
        atomic_store(&call->round, round + 1);
        pthread_cond_broadcast(&call->released);
        pthread_mutex_unlock(&call->mutex);
        return;
    }
    pthread_mutex_unlock(&call->mutex);
    for (int i = 0; i < PAUSES; i++) {
        if (atomic_load(&call->round) != round) return;
        pause_a_little();
    }
    pthread_mutex_lock(&call->mutex);
    while (atomic_load(&call->round) == round) pthread_cond_wait(&call->released, &call->mutex);
    pthread_mutex_unlock(&call->mutex);
}

typedef struct { Call *call; Scratch scratch; void *memory; pthread_t thread; } Worker;

static void work(Worker *worker) {
    Call *call = worker->call;
    for (int32_t i; (i = atomic_fetch_add(&call->next[call->n_layers], 1)) < call->n_layers;)
        pack(call, &call->layers[i]);
    meet(call, NULL);
    for (int32_t i = 0; i < call->n_layers; i++) {
        const Layer *layer = &call->layers[i];
        run_units(call, layer, &call->next[i], &worker->scratch);
        finish_stores();
        meet(call, layer);
    }
}

typedef struct { int64_t tile, sums, staging, line, stride, groups, runs, places, rows; } Needs;

static Needs needs_of(const Layer *layers, int32_t n_layers) {
    Needs needs = {0};
#define AT_LEAST(field, value) if (needs.field < (value)) needs.field = (value)
    for (const Layer *layer = layers; layer < layers + n_layers; layer++) {
        const Cut cut = cut_of(layer);
        // not a multiple of 4 KiB: channels of a voxel would compete for the same few lines of the cache
        const int64_t stride = round_up((int64_t)cut.tile_rows * cut.row_voxels, 4 * CACHE_LINE) + CACHE_LINE;
        AT_LEAST(stride, stride);
        AT_LEAST(rows, cut.tile_rows);
        AT_LEAST(tile, channels_in(layer));
        AT_LEAST(line, layer->low.size[2] + 2 * CACHE_LINE);
        for (int32_t i = 0; i < layer->n_inputs; i++) {
            const Input *input = &layer->inputs[i];
            AT_LEAST(staging, (int64_t)source_rows(layer, input) * input->map.size[2]);
            AT_LEAST(groups, max_groups(input));
            AT_LEAST(runs, max_runs(layer, input));
            AT_LEAST(places, source_rows(layer, input));
        }
    }
#undef AT_LEAST
    needs.tile *= needs.stride;
    needs.sums = OUTPUTS * needs.stride;
    return needs;
}

static int allocate(Worker *worker, const Needs *needs) {
    const int64_t floats = needs->tile + needs->sums + round_up(needs->staging, CACHE_LINE)
                           + round_up(needs->line, CACHE_LINE);
    const int64_t runs = needs->runs * sizeof(Run), groups = needs->groups * sizeof(Group);
    const int64_t plan = round_up(runs + groups + needs->places * sizeof(Place), 64);
    const int64_t bytes = round_up(sizeof(float) * floats, 64) + 2 * plan + needs->rows * sizeof(LowRow);
    if (posix_memalign(&worker->memory, 64, bytes)) {
        worker->memory = NULL;  // POSIX leaves it undefined
        return -1;
    }
    memset(worker->memory, 0, bytes);
    Scratch *scratch = &worker->scratch;
    scratch->stride = needs->stride;
    scratch->tile = worker->memory;
    scratch->sums = scratch->tile + needs->tile;
    scratch->staging = scratch->sums + needs->sums;
    scratch->line = scratch->staging + round_up(needs->staging, CACHE_LINE) + CACHE_LINE;
    char *plans = (char *)worker->memory + round_up(sizeof(float) * floats, 64);
    for (int32_t i = 0; i < 2; i++, plans += plan)
        scratch->plans[i] = (Plan){.runs = (Run *)plans, .groups = (Group *)(plans + runs),
                                   .places = (Place *)(plans + runs + groups)};
    scratch->low_rows = (LowRow *)plans;
    return 0;
}

// ---- teams of threads

// PyTorch's OpenMP threads stay awake for milliseconds after each of its operators, and others would have to share the
// cores with them. So they do the work where the process has them; a forked child has lost them.
#if defined(__linux__)
extern void GOMP_parallel(void (*function)(void *), void *data, unsigned threads, unsigned flags)
    __attribute__((weak));
extern int omp_get_num_threads(void) __attribute__((weak));

static int is_forked;
static void after_fork(void) { is_forked = 1; }
__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, after_fork); }

static void join_team(void *argument) {
    Worker *workers = argument;
    Call *call = workers->call;
    atomic_store(&call->threads, omp_get_num_threads());  // the same for all of them
    work(&workers[atomic_fetch_add(&call->joined, 1)]);
}

static int work_in_openmp(Worker *workers, int32_t threads) {
    if (!GOMP_parallel || !omp_get_num_threads || is_forked) return 0;
    GOMP_parallel(join_team, workers, threads, 0);
    return 1;
}
#else
static int work_in_openmp(Worker *workers, int32_t threads) { return (void)workers, (void)threads, 0; }
#endif

static void *start(void *worker) {
    work(worker);
    return NULL;
}

static void work_in_threads(Worker *workers, int32_t threads) {
    Call *call = workers->call;
    // held until it is known how many threads there are; nobody meets before that
    pthread_mutex_lock(&call->mutex);
    int32_t started = 1;
    while (started < threads && !pthread_create(&workers[started].thread, NULL, start, &workers[started])) started++;
    atomic_store(&call->threads, started);
    pthread_mutex_unlock(&call->mutex);
    work(&workers[0]);
    for (int32_t i = 1; i < started; i++) pthread_join(workers[i].thread, NULL);
}

// library.py refuses a build whose structures are not its own.
const int64_t gsp_layer_bytes = sizeof(Layer);

// New memory comes a page at a time as it is touched, which takes longer than writing it; large pages are far fewer.
void gsp_ask_for_large_pages(float *memory, int64_t floats) {
#if defined(MADV_HUGEPAGE)
    const uintptr_t page = 2 << 20, begin = ((uintptr_t)memory + page - 1) / page * page;
    const uintptr_t end = (uintptr_t)(memory + floats) / page * page;
    if (begin < end) madvise((void *)begin, end - begin, MADV_HUGEPAGE);  // a refusal does no harm
#else
    (void)memory, (void)floats;
#endif
}

// Runs the layers one after the other on up to `threads` threads. Returns 0, or -1 where memory ran out.
int32_t gsp_run(const Layer *layers, int32_t n_layers, int32_t n_samples, int32_t threads, float *arena, float *image,
                float *logits) {
    Call call = {.layers = layers, .n_layers = n_layers, .n_samples = n_samples, .spaces = {arena, image, logits},
                 .mutex = PTHREAD_MUTEX_INITIALIZER, .released = PTHREAD_COND_INITIALIZER};
    const Needs needs = needs_of(layers, n_layers);
    Worker *workers = calloc(threads, sizeof *workers);
    call.next = calloc(n_layers + 1, sizeof *call.next);
    int32_t ready = 0;
    while (workers && call.next && ready < threads && !allocate(&workers[ready], &needs))
        workers[ready++].call = &call;
    if (ready && !work_in_openmp(workers, ready)) work_in_threads(workers, ready);
    for (int32_t i = 0; i < ready; i++) free(workers[i].memory);
    free(workers);
    free(call.next);
    pthread_mutex_destroy(&call.mutex);
    pthread_cond_destroy(&call.released);
    return ready ? 0 : -1;
}
