/* One zeroed block for all the buffers of an engine, in huge pages where it is big. */
#ifndef FASTBP_MEMORY_H
#define FASTBP_MEMORY_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

static void *allocate(int64_t bytes) {
    const size_t huge = (size_t)1 << 21;
    const int big = (size_t)bytes >= 2 * huge;
    void *p = NULL;
    if (posix_memalign(&p, big ? huge : 4096, (size_t)bytes)) return NULL;
#if defined(MADV_HUGEPAGE)
    if (big) madvise(p, (size_t)bytes, MADV_HUGEPAGE);
#endif
    return memset(p, 0, (size_t)bytes);
}

#endif
