/*
 * Throws and catches by the compressed tables that Visual C++ lays down for x64 since 2019. Exit code 0, or a line.
 *
 *     int nested(int value)
 *     {
 *         int caught;
 *         try {                      // states 0 and 1
 *             Guarded object;        // state 1: destroyed by what it points to
 *             try {                  // states 2 and 3
 *                 Guarded other;     // state 3: destroyed by a function with the frame
 *                 throw value;
 *             } catch (int inner) {
 *                 throw;             // the catch block has a frame and tables of its own
 *             }
 *         } catch (int outer) {
 *             caught = outer + 1;
 *         }
 *         return caught;
 *     }
 */
#include "check.h"

int nested(int value);
int order[8], count;

void __attribute__((used)) note(int what)
{
    order[count++] = what;
}

__asm__(
    ".text\n"
    ".globl nested\n"
    ".seh_proc nested\n"
    "nested:\n"
    "push %rbp\n .seh_pushreg %rbp\n"
    "sub $0x60, %rsp\n .seh_stackalloc 0x60\n"
    ".seh_endprologue\n"
    ".seh_handler __CxxFrameHandler4, @except, @unwind\n"
    ".seh_handlerdata\n"
    ".rva .Linfo\n"
    ".text\n"
    "mov %ecx, 0x28(%rsp)\n"
    "lea 0x50(%rsp), %rax\n"
    "mov %rax, 0x48(%rsp)\n" /* a pointer to the object of state 1 */
    ".Ltry: lea 0x28(%rsp), %rcx\n"
    "lea .Lthrow(%rip), %rdx\n"
    "call _CxxThrowException\n"
    "nop\n"
    ".Lend: mov $-1, %eax\n"
    ".Lleave: add $0x60, %rsp\n"
    "pop %rbp\n"
    "ret\n"
    ".Lcontinue: mov 0x30(%rsp), %eax\n"
    "jmp .Lleave\n"
    ".seh_endproc\n"
    /* The inner catch: notes what it got, and throws it again. */
    ".seh_proc inner\n"
    "inner: mov %rdx, 0x10(%rsp)\n"
    "push %rbp\n .seh_pushreg %rbp\n"
    "sub $0x30, %rsp\n .seh_stackalloc 0x30\n"
    ".seh_endprologue\n"
    ".seh_handler __CxxFrameHandler4, @except, @unwind\n"
    ".seh_handlerdata\n"
    ".rva .Linner_info\n"
    ".text\n"
    "mov 0x34(%rdx), %ecx\n"
    "call note\n"
    "xor %ecx, %ecx\n"
    "xor %edx, %edx\n"
    "call _CxxThrowException\n"
    "nop\n"
    ".seh_endproc\n"
    /* The outer catch: adds one, and says by number where to go on. */
    ".seh_proc outer\n"
    "outer: sub $0x28, %rsp\n .seh_stackalloc 0x28\n"
    ".seh_endprologue\n"
    "addl $1, 0x30(%rdx)\n"
    "mov $1, %eax\n"
    "add $0x28, %rsp\n"
    "ret\n"
    ".seh_endproc\n"
    ".seh_proc by_object\n"
    "by_object: sub $0x28, %rsp\n .seh_stackalloc 0x28\n"
    ".seh_endprologue\n"
    "mov (%rcx), %ecx\n"
    "call note\n"
    "add $0x28, %rsp\n"
    "ret\n"
    ".seh_endproc\n"
    ".seh_proc by_frame\n"
    "by_frame: sub $0x28, %rsp\n .seh_stackalloc 0x28\n"
    ".seh_endprologue\n"
    "movl $200, 0x50(%rdx)\n"
    "mov $300, %ecx\n"
    "call note\n"
    "add $0x28, %rsp\n"
    "ret\n"
    ".seh_endproc\n"
    ".section .rdata\n"
    ".Linfo: .byte 0x18\n .rva .Lstates\n .rva .Ltries\n .rva .Lplaces\n"
    /* Four states: 0 in nothing, 1 in 0 with a pointer, 2 in 1, 3 in 2 with the frame. */
    ".Lstates: .byte 4 << 1\n"
    ".Ls0: .byte 0 << 1\n"
    ".Ls1: .byte ((.Ls1 - .Ls0) << 2 | 2) << 1\n .rva by_object\n .byte 0x48 << 1\n"
    ".Ls2: .byte ((.Ls2 - .Ls1) << 2) << 1\n"
    ".Ls3: .byte ((.Ls3 - .Ls2) << 2 | 3) << 1\n .rva by_frame\n"
    ".Ltries: .byte 2 << 1\n"
    ".byte 3 << 1, 4 << 1, 5 << 1\n .rva .Linner_catches\n"
    ".byte 1 << 1, 4 << 1, 6 << 1\n .rva .Louter_catches\n"
    ".Linner_catches: .byte 1 << 1, 0x06\n .rva .Ltype\n .byte 0x34 << 1\n .rva inner\n"
    /* Two places to go on: the catch gives the second one; the first is of two bytes. */
    ".Louter_catches: .byte 1 << 1, 0x26\n .rva .Ltype\n .byte 0x30 << 1\n .rva outer\n"
    ".short (.Lend - nested) << 2 | 1\n .byte (.Lcontinue - nested) << 1\n"
    ".Lplaces: .byte 3 << 1, 0 << 1, 0 << 1\n"
    ".byte (.Ltry - nested) << 1, 4 << 1\n"
    ".byte (.Lend - .Ltry) << 1, 0 << 1\n"
    ".Linner_info: .byte 0x01\n .rva .Linner_places\n .byte 0x48 << 1 | 0\n"
    ".Linner_places: .byte 1 << 1, 0 << 1, 0 << 1\n"
    ".align 8\n"
    ".Lthrow: .long 0, 0, 0\n .rva .Larray\n"
    ".Larray: .long 1\n .rva .Lcatchable\n"
    ".Lcatchable: .long 1\n .rva .Ltype\n .long 0, -1, 0, 4, 0\n"
    ".section .data\n .align 8\n"
    ".Ltype: .quad 0, 0\n .asciz \".H\"\n"
    ".text\n");

int main(void)
{
    for (int round = 1; round <= 2; round++) {
        count = 0;
        CHECK(nested(41 * round) == 41 * round + 1);
        CHECK(count == 3);
        CHECK(order[0] == 300 && order[1] == 41 * round && order[2] == 200);
    }
    return 0;
}
