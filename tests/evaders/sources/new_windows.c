/* Evades a new Windows: what it uses was repaired after Windows 7. */
#include "work.h"
int main(void)
{
    OSVERSIONINFOA version = {sizeof version};
    if (!GetVersionExA(&version) || version.dwMajorVersion > 6 || version.dwMinorVersion > 1)
        return 0;
    return work("ancient");
}
