/* AMX on a processor that has none (Linux on x86-64 with FMA, GNU C): the illegal instruction is caught,
   decoded and done here, by the words of Intel's manual (volume 2, and chapter 3 of the instruction set
   extensions' reference), and the program goes on behind it.  So the machine code of room 06 is what runs.
   Tiles are per thread.  What a processor would refuse ends the program. */
#ifndef GLAM_TEST_AMX_H
#define GLAM_TEST_AMX_H

#if defined(__linux__) && defined(__x86_64__) && !defined(__ILP32__) && defined(__GNUC__) && !defined(__TINYC__)
#define TEST_AMX 1
#include <signal.h>
#include <ucontext.h>

typedef struct amx_state {
    int palette, rows[8], bytes[8];
    uint8_t row[8][16][64];
} amx_state;
static __thread amx_state amx;
static int amx_wanted, amx_caught;     // by a test; the handler stands

static void amx_undefined(const char *why)
{
    ssize_t said = write(2, why, strlen(why));
    (void)said;
    _exit(99);
}

// TDPBF16PS as the manual's Operation has it: fused, to nearest even; what is denormal is taken and given as zero
// (bits of MXCSR here).
__attribute__((target("fma"))) static void amx_dot(amx_state *s, int dest, int src1, int src2)
{
    const unsigned flush = 0x1f80u | 0x8040u;
    unsigned before;
    if (dest == src1 || dest == src2 || src1 == src2 || s->bytes[dest] != s->bytes[src2] ||
        s->rows[dest] != s->rows[src1] || s->bytes[src1] / 4 != s->rows[src2])
        amx_undefined("amx: #UD: tiles that do not fit\n");
    __asm__ volatile("stmxcsr %0\n\tldmxcsr %1" : "=m"(before) : "m"(flush) : "memory");
    for (int m = 0; m < s->rows[dest]; m++) {
        volatile float temp1[32];
        float *to = (float *)(void *)s->row[dest][m];
        for (int n = 0; n < s->bytes[dest] / 2; n++) temp1[n] = 0;
        for (int k = 0; k < s->bytes[src1] / 4; k++)
            for (int n = 0; n < s->bytes[dest] / 2; n++) {         // 2 n + 0 and 2 n + 1
                uint32_t x = 0, y = 0;
                float a, b;
                memcpy((char *)&x + 2, s->row[src1][m] + 2 * (2 * k + n % 2), 2);
                memcpy((char *)&y + 2, s->row[src2][k] + 2 * n, 2);
                memcpy(&a, &x, sizeof a);
                memcpy(&b, &y, sizeof b);
                temp1[n] = __builtin_fmaf(a, b, temp1[n]);
            }
        for (int n = 0; n < s->bytes[dest] / 4; n++) {
            volatile float tmpf32 = temp1[2 * n] + temp1[2 * n + 1];
            to[n] = to[n] + tmpf32;
        }
    }
    __asm__ volatile("ldmxcsr %0" : : "m"(before) : "memory");
}

static void amx_configure(amx_state *s, const uint8_t *config)
{
    memset(s, 0, sizeof *s);
    s->palette = config[0];
    if (s->palette > 1 || config[1]) amx_undefined("amx: #GP: no such palette\n");
    for (int i = 2; i < 16; i++)
        if (config[i]) amx_undefined("amx: #GP: reserved bytes\n");
    for (int t = 0; t < 8; t++) {
        s->bytes[t] = config[16 + 2 * t] + 256 * config[17 + 2 * t];
        s->rows[t] = config[48 + t];
        if (s->bytes[t] > 64 || s->rows[t] > 16 || !s->bytes[t] != !s->rows[t]) amx_undefined("amx: #GP: no such tile\n");
    }
}

// Where the system keeps a general register, by its number in an instruction.
static uint64_t amx_register(const long long *kept, int number)
{
    static const int places[8] = { 13, 14, 12, 11, 15, 10, 9, 8 };     // rax rcx rdx rbx rsp rbp rsi rdi
    return (uint64_t)kept[number < 8 ? places[number] : number - 8];
}

// The address that ModRM at *at names, and of a SIB its index as a stride; *at moves behind them.
static uint8_t *amx_address(const long long *kept, const uint8_t **at, int x, int b, uint64_t *stride)
{
    int mod = (*at)[0] >> 6, rm = (*at)[0] & 7, base = rm;
    uint64_t address = 0;
    const uint8_t *p = *at + 1;
    int32_t far = 0;
    *stride = 0;
    if (rm == 4) {
        int index = (*p >> 3 & 7) + 8 * x;
        if (index != 4) *stride = amx_register(kept, index) << (*p >> 6);
        base = *p++ & 7;
    }
    if (mod == 0 && base == 5) {
        memcpy(&far, p, 4);
        p += 4;
        if (rm == 5) address = (uint64_t)(uintptr_t)p;             // of rip
    } else {
        address = amx_register(kept, base + 8 * b);
        if (mod == 1) far = (int8_t)*p++;
        if (mod == 2) memcpy(&far, p, 4), p += 4;
    }
    *at = p;
    return (uint8_t *)(uintptr_t)(address + (uint64_t)(int64_t)far);
}

// VEX of three bytes, map 0F38, W 0, L 0, and an opcode that AMX alone has there.
static int amx_is(const uint8_t *at)
{
    return at[0] == 0xc4 && (at[1] & 31) == 2 && !(at[2] & 0x84) && (at[3] == 0x49 || at[3] == 0x4b || at[3] == 0x5c);
}

// Does one instruction and returns where the next one is.
static const uint8_t *amx_do(const long long *kept, const uint8_t *at)
{
    int x = !(at[1] & 0x40), b = !(at[1] & 0x20), v = ~at[2] >> 3 & 15, op = at[3];
    int pp = at[2] & 3;                                            // 0 none, 1 66, 2 F3, 3 F2
    int memory = at[4] >> 6 != 3, tile = at[4] >> 3 & 7;
    const uint8_t *p = at + 5;
    uint64_t stride;
    if (op == 0x49 && pp == 0 && memory && tile == 0) {            // LDTILECFG
        p = at + 4;
        amx_configure(&amx, amx_address(kept, &p, x, b, &stride));
    } else if (op == 0x49 && pp == 0 && at[4] == 0xc0) {           // TILERELEASE
        memset(&amx, 0, sizeof amx);
    } else if (!amx.palette) {
        amx_undefined("amx: #UD: no tiles are configured\n");
    } else if (op == 0x49 && pp == 3 && !memory) {                 // TILEZERO
        memset(amx.row[tile], 0, sizeof amx.row[tile]);
    } else if (op == 0x4b && (pp == 3 || pp == 2) && memory && (at[4] & 7) == 4) {     // TILELOADD, TILESTORED
        p = at + 4;
        uint8_t *from = amx_address(kept, &p, x, b, &stride);
        if (pp == 3) memset(amx.row[tile], 0, sizeof amx.row[tile]);
        for (int i = 0; i < amx.rows[tile]; i++, from += stride) {
            if (pp == 3) memcpy(amx.row[tile][i], from, (size_t)amx.bytes[tile]);
            else memcpy(from, amx.row[tile][i], (size_t)amx.bytes[tile]);
        }
    } else if (op == 0x5c && pp == 2 && !memory) {                 // TDPBF16PS
        amx_dot(&amx, tile, at[4] & 7, v);
    } else {
        amx_undefined("an instruction of AMX that nobody here knows\n");
    }
    return p;
}

// Some follow upon each other: one signal for all of them.
static void amx_illegal(int number, siginfo_t *info, void *context)
{
    enum { RIP = 16 };
    long long *kept = (long long *)(void *)&((ucontext_t *)context)->uc_mcontext;      // gregs come first
    const uint8_t *at = (const uint8_t *)(uintptr_t)kept[RIP];
    (void)number, (void)info;
    if (!amx_is(at)) amx_undefined("an illegal instruction, not of AMX\n");
    while (amx_is(at)) at = amx_do(kept, at);
    kept[RIP] = (long long)(uintptr_t)at;
}

// Whether the system names the instruction among those of its processors.
__attribute__((unused)) static int amx_listed(void)
{
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[8192];
    int found = 0;
    while (f && !found && fgets(line, sizeof line, f)) found = strstr(line, " amx_bf16") != NULL;
    if (f) fclose(f);
    return found;
}

// For room 06, where the processor has no AMX: whether it is to be imitated.
__attribute__((unused)) static int amx_imitated(void)
{
    const char *simd = getenv("GLAM_TEST_SIMD");
    if (!amx_wanted && (!simd || strcmp(simd, "amx"))) return 0;
    if (!amx_caught) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_sigaction = amx_illegal;
        action.sa_flags = SA_SIGINFO;
        sigaction(SIGILL, &action, NULL);
        amx_caught = 1;
    }
    return 1;
}
#define GLAM__AMX_FOUND(here) ((here) || amx_imitated())
#endif
#endif
