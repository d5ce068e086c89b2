/* A __try with a __finally in it, as Visual C++ lays it down for x86. Exit code 0, or a line. */
#include "check.h"

int guarded(int *where);
int order;

int __attribute__((used)) filter(void)
{
    order = order * 10 + 1;
    return 1;
}

void __attribute__((used)) at_last(void)
{
    order = order * 10 + 2;
}

__asm__(
    ".globl _guarded\n"
    "_guarded: push %ebp\n mov %esp, %ebp\n"
    "push $-1\n push $.Lscopes\n push $__except_handler3\n push %fs:0\n mov %esp, %fs:0\n"
    "sub $0x10, %esp\n push %ebx\n push %esi\n push %edi\n mov %esp, -0x18(%ebp)\n"
    "movl $0, -4(%ebp)\n movl $1, -4(%ebp)\n" /* into the outer block, and the inner one */
    "mov 8(%ebp), %eax\n movl $5, (%eax)\n"
    "movl $0, -4(%ebp)\n call _at_last\n"
    "movl $-1, -4(%ebp)\n mov $1, %eax\n jmp .Lout\n"
    ".Lhandler: mov -0x18(%ebp), %esp\n movl $-1, -4(%ebp)\n mov $2, %eax\n"
    ".Lout: mov -0x10(%ebp), %ecx\n mov %ecx, %fs:0\n"
    "pop %edi\n pop %esi\n pop %ebx\n mov %ebp, %esp\n pop %ebp\n ret\n"
    ".Lfilter: call _filter\n ret\n"
    ".Lfinally: call _at_last\n ret\n"
    ".data\n .align 4\n"
    ".Lscopes: .long -1, .Lfilter, .Lhandler, 0, 0, .Lfinally\n"
    ".text\n");

int main(void)
{
    int here = 0;
    CHECK(guarded(&here) == 1 && here == 5 && order == 2);
    for (int round = 0; round < 2; round++) {
        order = 0;
        CHECK(guarded((int *)16) == 2 && order == 12);
    }
    return 0;
}
