/* Throws an int and catches it, by tables as Visual C++ lays them down. Exit code 0, or a line. */
#include <stdlib.h>

#include "check.h"

int throw_and_catch(int value);
int destroyed;

#ifdef _WIN64
__asm__(
    ".text\n"
    ".globl throw_and_catch\n"
    ".seh_proc throw_and_catch\n"
    "throw_and_catch:\n"
    "push %rbp\n .seh_pushreg %rbp\n"
    "sub $0x50, %rsp\n .seh_stackalloc 0x50\n"
    ".seh_endprologue\n"
    ".seh_handler __CxxFrameHandler, @except, @unwind\n"
    ".seh_handlerdata\n"
    ".rva .Linfo\n"
    ".text\n"
    "movq $-2, 0x38(%rsp)\n"
    "mov %ecx, 0x28(%rsp)\n"
    "lea 0x28(%rsp), %rcx\n"
    "lea .Lthrow(%rip), %rdx\n"
    ".Ltry: call _CxxThrowException\n"
    "nop\n"
    ".Lend: mov $-1, %eax\n"
    ".Lleave: add $0x50, %rsp\n"
    "pop %rbp\n"
    "ret\n"
    ".Lcontinue: mov 0x30(%rsp), %eax\n"
    "jmp .Lleave\n"
    ".seh_endproc\n"
    ".seh_proc catch_block\n"
    "catch_block: sub $0x28, %rsp\n .seh_stackalloc 0x28\n"
    ".seh_endprologue\n"
    "addl $1, 0x30(%rdx)\n"
    "lea .Lcontinue(%rip), %rax\n"
    "add $0x28, %rsp\n"
    "ret\n"
    ".seh_endproc\n"
    ".seh_proc destroy\n"
    "destroy: .seh_endprologue\n"
    "incl destroyed(%rip)\n"
    "ret\n"
    ".seh_endproc\n"
    ".section .rdata\n .align 8\n"
    ".Linfo: .long 0x19930522, 3\n .rva .Lstates\n .long 1\n .rva .Ltries\n .long 3\n .rva .Lplaces\n"
    ".long 0x38, 0, 1\n"
    ".Lstates: .long -1, 0, 0\n .rva destroy\n .long -1, 0\n"
    ".Ltries: .long 0, 1, 2, 1\n .rva .Lcatches\n"
    ".Lcatches: .long 0\n .rva .Ltype\n .long 0x30\n .rva catch_block\n .long 0x28\n"
    ".Lplaces: .rva throw_and_catch\n .long -1\n .rva .Ltry\n .long 1\n .rva .Lend\n .long -1\n"
    ".Lthrow: .long 0, 0, 0\n .rva .Larray\n"
    ".Larray: .long 1\n .rva .Lcatchable\n"
    ".Lcatchable: .long 1\n .rva .Ltype\n .long 0, -1, 0, 4, 0\n"
    ".section .data\n .align 8\n"
    ".Ltype: .quad 0, 0\n .asciz \".H\"\n"
    ".text\n");
#else
__asm__(
    ".text\n"
    ".globl _throw_and_catch\n"
    "_throw_and_catch: push %ebp\n"
    "mov %esp, %ebp\n"
    "push $-1\n"
    "push $.Lhandler\n"
    "push %fs:0\n"
    "mov %esp, %fs:0\n"
    "sub $0x20, %esp\n"
    "mov %esp, -16(%ebp)\n"
    "mov 8(%ebp), %eax\n"
    "mov %eax, -0x18(%ebp)\n"
    "movl $1, -4(%ebp)\n"
    "push $.Lthrow\n"
    "lea -0x18(%ebp), %eax\n"
    "push %eax\n"
    "call *__imp___CxxThrowException@8\n"
    "movl $-1, -0x1c(%ebp)\n"
    ".Lcontinue: mov -12(%ebp), %ecx\n"
    "mov %ecx, %fs:0\n"
    "mov -0x1c(%ebp), %eax\n"
    "mov %ebp, %esp\n"
    "pop %ebp\n"
    "ret\n"
    ".Lcatch: incl -0x1c(%ebp)\n"
    "mov $.Lcontinue, %eax\n"
    "ret\n"
    ".Ldestroy: incl _destroyed\n"
    "ret\n"
    ".Lhandler: mov $.Linfo, %eax\n"
    "jmp *__imp____CxxFrameHandler\n"
    ".section .rdata\n .align 4\n"
    ".Linfo: .long 0x19930522, 3, .Lstates, 1, .Ltries, 0, 0, 0, 1\n"
    ".Lstates: .long -1, 0, 0, .Ldestroy, -1, 0\n"
    ".Ltries: .long 0, 1, 2, 1, .Lcatches\n"
    ".Lcatches: .long 0, .Ltype, -0x1c, .Lcatch\n"
    ".Lthrow: .long 0, 0, 0, .Larray\n"
    ".Larray: .long 1, .Lcatchable\n"
    ".Lcatchable: .long 1, .Ltype, 0, -1, 0, 4, 0\n"
    ".section .data\n .align 4\n"
    ".Ltype: .long 0, 0\n .asciz \".H\"\n"
    ".text\n");
#endif

int main(void)
{
    CHECK(throw_and_catch(41) == 42);
    CHECK(destroyed == 1);
    CHECK(throw_and_catch(6) == 7 && destroyed == 2);
    return 0;
}
