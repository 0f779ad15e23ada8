/* Which instruction sets this CPU and operating system offer. Asked of the baseline module only. */
#ifndef FASTBP_CPU_H
#define FASTBP_CPU_H

#include <string.h>

static int cpu_has(const char *instruction_set) {
    if (!strcmp(instruction_set, "baseline")) return 1;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!strcmp(instruction_set, "avx2"))
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (!strcmp(instruction_set, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#endif
    return 0;
}

#endif
