// Labels of a whole image from logits at the network's resolution, without the logits of its voxels in memory.
//
// Interpolation is a mean: who wins at all eight corners of a voxel wins inside, too, and by far most voxels have such
// corners. So winners are looked for at the low resolution first, and only where they disagree is anything interpolated.
#include "labelling.h"
#include "team.h"

#include <float.h>

enum {
    VOXELS = 1024,   // of the low resolution, that are decided together
    ROWS = 16,       // of labels, that are a unit of work
    CONTESTED = -1,  // no winner
};

typedef struct {
    const Labelling *labelling;
    int16_t *winners;  // at the low resolution; without regions the number of a class, with them one more, and 0 for none
    char *scratches;
    int64_t scratch_bytes;
    atomic_llong next_voxels, next_rows;
} Job;

// Rows of one thread.
typedef struct { int32_t *agreed, *winner; float *line, *side_by_side, *best; } Rows;

static int64_t round_to_line(int64_t n) { return round_up(n, CACHE_LINE); }

static int64_t scratch_bytes(const Labelling *labelling) {
    const int64_t low = round_to_line(labelling->low[2]), size = round_to_line(labelling->size[2]);
    return sizeof(float) * ((2 + LANES) * low + 2 * max_of(size, VOXELS));
}

static Rows rows_of(const Job *job, int32_t member) {
    const int64_t low = round_to_line(job->labelling->low[2]);
    const int64_t size = max_of(round_to_line(job->labelling->size[2]), VOXELS);
    float *memory = (float *)(job->scratches + member * job->scratch_bytes);
    return (Rows){.agreed = (int32_t *)memory, .line = memory + low, .side_by_side = memory + 2 * low,
                  .winner = (int32_t *)(memory + (2 + LANES) * low), .best = memory + (2 + LANES) * low + size};
}

static inline void begin(int32_t n, float *restrict best, int32_t *restrict winner) {
    for (int32_t i = 0; i < n; i++) best[i] = -INFINITY, winner[i] = 0;
}

static inline void consider(const Labelling *labelling, int32_t class, const float *restrict values, int32_t n,
                            float *restrict best, int32_t *restrict winner) {
    if (labelling->has_regions) {
        for (int32_t i = 0; i < n; i++) winner[i] = values[i] > 0 ? class + 1 : winner[i];
        return;
    }
    for (int32_t i = 0; i < n; i++) {
        winner[i] = values[i] > best[i] ? class : winner[i];
        best[i] = values[i] > best[i] ? values[i] : best[i];
    }
}

static void find_winners(const Job *job, int64_t begin_voxel, int32_t n, const Rows *rows) {
    const Labelling *labelling = job->labelling;
    begin(n, rows->best, rows->winner);
    for (int32_t class = 0; class < labelling->classes; class++)
        consider(labelling, class, labelling->logits + class * labelling->class_stride + begin_voxel, n, rows->best, rows->winner);
    for (int32_t i = 0; i < n; i++) job->winners[begin_voxel + i] = (int16_t)rows->winner[i];
}

// Interpolates a row of the low resolution, voxels [from, to), for LANES classes from `class` on, which come to lie side
// by side for each voxel.
static void put_side_by_side(const Labelling *labelling, const int64_t corners[4], Taps d, Taps h, int32_t class,
                             int32_t from, int32_t to, const Rows *rows) {
    float *restrict line = rows->line, *restrict side_by_side = rows->side_by_side;
    for (int32_t lane = 0; lane < LANES; lane++) {
        if (class + lane < labelling->classes) {
            const float *logits = labelling->logits + (class + lane) * labelling->class_stride;
            const float *restrict a = logits + corners[0], *restrict b = logits + corners[1];
            const float *restrict e = logits + corners[2], *restrict f = logits + corners[3];
            for (int32_t i = from; i < to; i++) {
                const float low = BETWEEN(a[i], b[i], h.weight), high = BETWEEN(e[i], f[i], h.weight);
                line[i] = BETWEEN(low, high, d.weight);
            }
        } else {
            for (int32_t i = from; i < to; i++) line[i] = -FLT_MAX;  // no class, and never wins
        }
        for (int32_t i = from; i < to; i++) side_by_side[i * LANES + lane] = line[i];
    }
}

// Lets LANES classes of a voxel from `class` on compete with the best one before them.
static inline void compete(const Labelling *labelling, int32_t class, Vector values, float *best, int32_t *winner) {
    if (labelling->has_regions) {
        const uint32_t above = bits_of(values > 0);
        if (above) *winner = class + 32 - __builtin_clz(above);
        return;
    }
    const float most = largest(values);
    if (most > *best) *best = most, *winner = class + __builtin_ctz(bits_of(values == most));
}

// Interpolates voxels [first, end) of a row, and decides.
static void settle(const Labelling *labelling, const int64_t corners[4], Taps d, Taps h, const Taps *taps,
                   int32_t first, int32_t end, const Rows *rows) {
    begin(end - first, rows->best + first, rows->winner + first);
    for (int32_t class = 0; class < labelling->classes; class += LANES) {
        put_side_by_side(labelling, corners, d, h, class, taps[first].first, taps[end - 1].second + 1, rows);
        for (int32_t i = first; i < end; i++) {
            const Vector low = vector_at(rows->side_by_side + taps[i].first * LANES);
            const Vector high = vector_at(rows->side_by_side + taps[i].second * LANES);
            compete(labelling, class, BETWEEN(low, high, taps[i].weight), rows->best + i, rows->winner + i);
        }
    }
}

static void write_row(const Labelling *labelling, int32_t d, int32_t h, const int32_t *winner) {
    const int64_t stride = labelling->strides[2];
    uint8_t *out = labelling->out + d * labelling->strides[0] + h * labelling->strides[1];
    if (labelling->label_bytes == 1)
        for (int32_t i = 0; i < labelling->size[2]; i++)
            out[i * stride] = (uint8_t)labelling->label_of[winner[i]];
    else
        for (int32_t i = 0; i < labelling->size[2]; i++)
            *(uint16_t *)(out + i * stride) = (uint16_t)labelling->label_of[winner[i]];
}

static void label_row(const Job *job, int64_t row, const Rows *rows) {
    const Labelling *labelling = job->labelling;
    const int32_t *low = labelling->low, *size = labelling->size;
    const int32_t row_d = (int32_t)(row / size[1]), row_h = (int32_t)(row % size[1]);
    const Taps d = labelling->taps[row_d], h = labelling->taps[size[0] + row_h];
    const Taps *taps = labelling->taps + size[0] + size[1];
    int64_t corners[4];
    for (int i = 0; i < 4; i++)
        corners[i] = ((int64_t)(i / 2 ? d.second : d.first) * low[1] + (i % 2 ? h.second : h.first)) * low[2];
    const int16_t *a = job->winners + corners[0], *b = job->winners + corners[1];
    const int16_t *e = job->winners + corners[2], *f = job->winners + corners[3];
    int32_t *restrict agreed = rows->agreed, *restrict winner = rows->winner;
    for (int32_t i = 0; i < low[2]; i++)
        agreed[i] = (a[i] == b[i]) & (a[i] == e[i]) & (a[i] == f[i]) ? a[i] : CONTESTED;
    for (int32_t i = 0; i < size[2]; i++) {
        const int32_t one = agreed[taps[i].first], other = agreed[taps[i].second];
        winner[i] = one == other ? one : CONTESTED;
    }
    for (int32_t i = 0, end; i < size[2]; i = end + 1) {
        for (; i < size[2] && winner[i] != CONTESTED; i++);
        for (end = i; end < size[2] && winner[end] == CONTESTED; end++);
        if (i < end) settle(labelling, corners, d, h, taps, i, end, rows);
    }
    write_row(labelling, row_d, row_h, winner);
}

static void label(Team *team, void *argument, int32_t member) {
    Job *job = argument;
    const Labelling *labelling = job->labelling;
    const Rows rows = rows_of(job, member);
    const int64_t voxels = (int64_t)labelling->low[0] * labelling->low[1] * labelling->low[2];
    const int64_t n_rows = (int64_t)labelling->size[0] * labelling->size[1];
    for (int64_t i; (i = atomic_fetch_add(&job->next_voxels, VOXELS)) < voxels;)
        find_winners(job, i, (int32_t)(voxels - i < VOXELS ? voxels - i : VOXELS), &rows);
    if (meet(team)) release(team);
    for (int64_t i; (i = atomic_fetch_add(&job->next_rows, ROWS)) < n_rows;)
        for (int64_t row = i; row < i + ROWS && row < n_rows; row++) label_row(job, row, &rows);
}

// library.py refuses a build whose structures are not its own.
const int64_t gsp_labelling_bytes = sizeof(Labelling);

// Writes all labels. Returns 0, or -1 where memory ran out.
int32_t gsp_label(const Labelling *labelling) {
    const int64_t voxels = (int64_t)labelling->low[0] * labelling->low[1] * labelling->low[2];
    Job job = {.labelling = labelling, .scratch_bytes = round_up(scratch_bytes(labelling), 64),
               .winners = malloc(voxels * sizeof *job.winners)};
    job.scratches = malloc(labelling->threads * job.scratch_bytes);
    const int is_ready = job.winners && job.scratches;
    if (is_ready) work_together(label, &job, labelling->threads);
    free(job.winners);
    free(job.scratches);
    return is_ready ? 0 : -1;
}
