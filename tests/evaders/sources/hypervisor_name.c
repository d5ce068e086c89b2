/* Evades some hypervisors, by the names that they give in cpuid. */
#include "work.h"
#include <cpuid.h>
#include <string.h>
static const char *const names[] = {"VBoxVBoxVBox", "VMwareVMware", "KVMKVMKVM\0\0\0", "XenVMMXenVMM"};
int main(void)
{
    unsigned eax, number;
    char name[12];
    __cpuid(0x40000000, eax, *(unsigned *)name, *(unsigned *)(name + 4), *(unsigned *)(name + 8));
    for (number = 0; number < sizeof names / sizeof *names; number++)
        if (memcmp(name, names[number], sizeof name) == 0)
            return 0;
    return work("nameless");
}
