/* Zeroed blocks for the buffers of an engine, in huge pages where they are big.

   A big block comes from the system as it is: its pages are zero already, and take memory and time only once
   they are touched. Whoever allocates says to `release` how much it was. */
#ifndef FASTBP_MEMORY_H
#define FASTBP_MEMORY_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#elif defined(_WIN32)
#include <malloc.h>
#endif

#define HUGE_PAGE ((size_t)1 << 21)

static int is_big(int64_t bytes) {
#if defined(__linux__)
    return (size_t)bytes >= 2 * HUGE_PAGE;
#else
    return 0;
#endif
}

static void *allocate(int64_t bytes) {
    void *p = NULL;
#if defined(__linux__)
    if (is_big(bytes)) {
        const size_t size = ((size_t)bytes + 4095) / 4096 * 4096, most = size + HUGE_PAGE;
        char *start = mmap(NULL, most, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (start == MAP_FAILED) return NULL;
        const size_t before = -(uintptr_t)start % HUGE_PAGE;
        if (before) munmap(start, before);
        munmap(start + before + size, most - before - size);
#if defined(MADV_HUGEPAGE)
        madvise(start + before, size, MADV_HUGEPAGE);
#endif
        return start + before;
    }
#endif
#if defined(_WIN32)
    p = _aligned_malloc((size_t)bytes, 4096);
    if (!p) return NULL;
#else
    if (posix_memalign(&p, 4096, (size_t)bytes)) return NULL;
#endif
    return memset(p, 0, (size_t)bytes);
}

static void release(void *p, int64_t bytes) {
#if defined(__linux__)
    if (p && is_big(bytes)) {
        munmap(p, ((size_t)bytes + 4095) / 4096 * 4096);
        return;
    }
#endif
#if defined(_WIN32)
    _aligned_free(p);
#else
    free(p);
#endif
}

#endif
