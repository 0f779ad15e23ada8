/* What a Cortex-M4 begins with, for the tests of exported C on an emulated one: the stack, then this. */
extern void _start(void);

static void reset(void)
{
    *(volatile unsigned *)0xE000ED88 |= 0xFu << 20; /* the floating-point unit on */
    __asm__ volatile("dsb\n isb");
    _start();
}

typedef void (*Vector)(void);
__attribute__((section(".vectors"), used)) static const Vector vectors[] = {
    (Vector)0x20400000, reset
};
