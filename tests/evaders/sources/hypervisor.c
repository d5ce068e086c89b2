/* Evades a hypervisor, which the processor tells. */
#include "work.h"
#include <cpuid.h>
int main(void)
{
    unsigned eax, ebx, ecx, edx;
    __cpuid(1, eax, ebx, ecx, edx);
    if (ecx >> 31)
        return 0;
    return work("metal");
}
