/* Which instruction sets this CPU and operating system offer. Asked of the baseline module only. */
#ifndef FASTBP_CPU_H
#define FASTBP_CPU_H

#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

enum { CPU_LACKS, CPU_OFFERS, SYSTEM_REFUSES };

#if defined(__x86_64__)
/* By CPUID itself: what compilers offer for it is not in every compiler's library, and then answers 0.
   Bits of leaf 1, ECX: 12 FMA, 27 OSXSAVE, 28 AVX. Whether the system keeps the vector registers of each
   thread is in XCR0: bits 1 and 2 for AVX, 5 … 7 too for AVX-512. */
static int system_keeps(unsigned registers) {
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & registers) == registers;
}

/* Leaf 7, EBX. */
static int has_extended(unsigned features) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & features) == features;
}

/* Bit 5: AVX2. */
static int has_avx2(void) {
    const unsigned fma_and_avx = 1u << 12 | 1u << 28;
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & fma_and_avx) == fma_and_avx && has_extended(1u << 5) &&
           system_keeps(0x06);
}

/* Bits 16 F, 17 DQ, 30 BW, 31 VL. */
static int has_avx512(void) {
    return has_avx2() && has_extended(1u << 16 | 1u << 17 | 1u << 30 | 1u << 31) && system_keeps(0xE6);
}

/* Leaf 7 of CPUID, its subleaf 1: bit 5 of EAX. */
static int has_avx512_bf16(void) {
    unsigned a, b, c, d;
    return has_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
}

/* The tiles' registers are so large that Linux gives them only to a process that has asked. This asks
   whether it can, and does not ask for them: amx.h does. */
static int system_knows_tiles(void) {
#if defined(__linux__) && defined(SYS_arch_prctl)
    const long supported = 0x1021, tile_data = 18; /* ARCH_GET_XCOMP_SUPP, XFEATURE_XTILEDATA */
    uint64_t features = 0;
    return syscall(SYS_arch_prctl, supported, &features) == 0 && (features >> tile_data & 1);
#else
    return 0;
#endif
}

/* Leaf 7 of CPUID, bits 22 (AMX-BF16) and 24 (AMX-TILE) of EDX. */
static int amx(void) {
    unsigned a, b, c, d;
    if (!has_avx512_bf16() || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & d >> 24 & 1))
        return CPU_LACKS;
    return system_knows_tiles() ? CPU_OFFERS : SYSTEM_REFUSES;
}
#endif

static int cpu_has(const char *instruction_set) {
    if (!strcmp(instruction_set, "baseline")) return CPU_OFFERS;
#if defined(__x86_64__)
    if (!strcmp(instruction_set, "avx2")) return has_avx2();
    if (!strcmp(instruction_set, "avx512")) return has_avx512();
    if (!strcmp(instruction_set, "avx512_bf16")) return has_avx512_bf16();
    if (!strcmp(instruction_set, "amx")) return amx();
#endif
    return CPU_LACKS;
}

#endif
