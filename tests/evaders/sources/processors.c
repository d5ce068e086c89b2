/* Evades a machine with one processor, which are rare but for VMs. */
#include "work.h"
int main(void)
{
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    if (info.dwNumberOfProcessors < 2)
        return 0;
    return work("many");
}
