/* A shim between a process and the kernel, loaded with LD_PRELOAD, for x86-64 Linux.
 *
 * vellum makes its system calls without the C library, so there are no functions to put others in the place of. Instead
 * a seccomp filter turns the calls in question into signals, and the handler makes them, or doesn't.
 *
 * VELLUM_SHIM="sync N"   the N-th fsync or fdatasync fails with EIO, and is not made
 * VELLUM_SHIM="short 0"  each third pwritev or pread64 is interrupted (EINTR); the others do half of what they are asked for
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

/* The one place from which the filter lets the calls through. */
long shim_call(long number, long a, long b, long c, long d, long e);
extern const char shim_called[];
__asm__(".text\n"
        ".type shim_call,@function\n"
        "shim_call:\n"
        "  mov %rdi, %rax\n"
        "  mov %rsi, %rdi\n"
        "  mov %rdx, %rsi\n"
        "  mov %rcx, %rdx\n"
        "  mov %r8, %r10\n"
        "  mov %r9, %r8\n"
        "  xor %r9, %r9\n"
        "  syscall\n"
        "shim_called:\n"
        "  ret\n");

static long fails_at;
static int is_short;
static long count;

static long half(long bytes) { return bytes > 1 ? bytes / 2 : bytes; }

static long handle(long number, const greg_t *regs) {
    long a = regs[REG_RDI], b = regs[REG_RSI], c = regs[REG_RDX], d = regs[REG_R10], e = regs[REG_R8];
    long nth = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
    switch (number) {
    case SYS_fsync:
    case SYS_fdatasync:
        return nth == fails_at ? -EIO : shim_call(number, a, b, c, d, e);
    case SYS_pread64:
        return nth % 3 == 0 ? -EINTR : shim_call(number, a, b, half(c), d, e);
    case SYS_pwritev: {
        if (nth % 3 == 0) return -EINTR;
        const struct iovec *bufs = (const struct iovec *)b;
        for (long i = 0; i < c; i++)
            if (bufs[i].iov_len > 0)
                return shim_call(SYS_pwrite64, a, (long)bufs[i].iov_base, half((long)bufs[i].iov_len), d, 0);
        return 0;
    }
    default:
        return shim_call(number, a, b, c, d, e);
    }
}

static void on_call(int signal, siginfo_t *info, void *context) {
    (void)signal;
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    regs[REG_RAX] = handle(info->si_syscall, regs);
}

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define TRAP BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

__attribute__((constructor)) static void start(void) {
    const char *what = getenv("VELLUM_SHIM");
    if (what == NULL) return;
    is_short = strncmp(what, "short ", 6) == 0;
    if (!is_short) fails_at = atol(what + strlen("sync "));
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_call;
    action.sa_flags = SA_SIGINFO;
    uint64_t own = (uint64_t)(uintptr_t)shim_called;
    uint32_t first = is_short ? SYS_pread64 : SYS_fsync, second = is_short ? SYS_pwritev : SYS_fdatasync;
    struct sock_filter code[] = {
        LOAD(arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 7),
        LOAD(nr),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, first, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, second, 0, 4),
        LOAD(instruction_pointer),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)own, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(own >> 32), 0, 1),
        ALLOW,
        TRAP,
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    if (sigaction(SIGSYS, &action, NULL) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        perror("shim");
        return;
    }
    /* The parent waits for this line: a shim that isn't there proves nothing. */
    if (write(STDOUT_FILENO, "shim\n", 5) != 5) perror("shim");
}
