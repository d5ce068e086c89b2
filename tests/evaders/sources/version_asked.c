/* Asks for the version and the bits of Windows, as installers do, and works with every one. */
#include "work.h"
int main(void)
{
    OSVERSIONINFOA version = {sizeof version};
    BOOL inside = FALSE;
    GetVersionExA(&version);
    IsWow64Process(GetCurrentProcess(), &inside);
    return work("everywhere");
}
