/* Evades a machine with little memory. */
#include "work.h"
int main(void)
{
    MEMORYSTATUSEX memory = {sizeof memory};
    if (!GlobalMemoryStatusEx(&memory) || memory.ullTotalPhys < 2ull << 30)
        return 0;
    return work("roomy");
}
