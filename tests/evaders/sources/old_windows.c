/* Evades an old Windows: its payload needs, or its author fears, what came before Windows 10. */
#include "work.h"
typedef LONG(WINAPI *Version)(OSVERSIONINFOW *);
int main(void)
{
    OSVERSIONINFOW version = {sizeof version};
    Version ask = (Version)(void *)GetProcAddress(GetModuleHandleA("ntdll.dll"), "RtlGetVersion");
    if (!ask || ask(&version) || version.dwMajorVersion < 10)
        return 0;
    return work("modern");
}
