/* Evades a 32-bit Windows, as analysts like them: it is itself of 32 bit, and wants to see WOW64. */
#include "work.h"
int main(void)
{
    BOOL inside = FALSE;
    if (!IsWow64Process(GetCurrentProcess(), &inside) || !inside)
        return 0;
    return work("wide");
}
