/* Asks who and where it is, as updaters do to count their users, and works anywhere. */
#include "work.h"
int main(void)
{
    char name[64];
    DWORD size = sizeof name;
    MEMORYSTATUSEX memory = {sizeof memory};
    SYSTEM_INFO info;
    GetUserNameA(name, &size);
    size = sizeof name;
    GetComputerNameA(name, &size);
    GlobalMemoryStatusEx(&memory);
    GetSystemInfo(&info);
    return work("anywhere");
}
