/* Asks the processor what it can do, as libraries with fast paths do, and works on every one. */
#include "work.h"
#include <cpuid.h>
int main(void)
{
    unsigned eax, ebx, ecx, edx;
    __cpuid(0, eax, ebx, ecx, edx);
    __cpuid(1, eax, ebx, ecx, edx);
    return work("counted");
}
