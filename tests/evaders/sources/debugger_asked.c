/* Asks for a debugger, as a runtime does before it tells of an error, and works either way. */
#include "work.h"
int main(void)
{
    BOOL remote = FALSE;
    if (IsDebuggerPresent())
        OutputDebugStringA("hello");
    CheckRemoteDebuggerPresent(GetCurrentProcess(), &remote);
    return work("undisturbed");
}
