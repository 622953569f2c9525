// Asks memory for what a plan names, some lines at every step of the product, so that they are in the cache when the
// plan's tile is loaded.
#pragma once
#include "plan.h"

// What of a plan was already asked for: of this run of this channel, what lies before `from`.
typedef struct {
    const Plan *plan;
    int64_t channel_stride;
    int32_t group, channel, run;
    const float *from, *end;
} Cursor;

typedef struct { Cursor cursors[2]; int32_t lines; } Prefetch;

// Moves on to the next run; returns 0 at the end of the plan.
static inline int next_run(Cursor *cursor) {
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

static inline void prefetch_lines(Cursor *cursor, int32_t lines) {
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

static inline int64_t lines_of(const Plan *plan) {
    int64_t lines = 0;
    for (const Group *group = plan->groups; group < plan->groups + plan->n_groups; group++)
        for (int32_t i = group->first_run; i < group->first_run + group->runs; i++)
            lines += group->channels * (plan->runs[i].voxels / CACHE_LINE + 1);
    return lines;
}

// All lines of both plans in `steps` steps. `layer` names the strides of what is loaded next.
static inline Prefetch prefetch_of(const Layer *layer, const Plan plans[2], int64_t steps) {
    Prefetch prefetch = {.lines = (lines_of(&plans[0]) + lines_of(&plans[1]) + steps - 1) / steps};
    for (int32_t i = 0; i < 2; i++)
        prefetch.cursors[i] = (Cursor){.plan = &plans[i], .channel_stride = layer->inputs[i].map.channel_stride,
                                       .run = -1};
    return prefetch;
}

static inline void prefetch_step(Prefetch *prefetch) {
    prefetch_lines(&prefetch->cursors[0], prefetch->lines);
    prefetch_lines(&prefetch->cursors[1], prefetch->lines);
}
