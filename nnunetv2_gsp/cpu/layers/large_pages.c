// New memory comes a page at a time as it is touched, which takes longer than writing it; large pages are far fewer.
#include <stdint.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

void gsp_ask_for_large_pages(float *memory, int64_t floats) {
#if defined(MADV_HUGEPAGE)
    const uintptr_t page = 2 << 20, begin = ((uintptr_t)memory + page - 1) / page * page;
    const uintptr_t end = (uintptr_t)(memory + floats) / page * page;
    if (begin < end) madvise((void *)begin, end - begin, MADV_HUGEPAGE);  // a refusal does no harm
#else
    (void)memory, (void)floats;
#endif
}
