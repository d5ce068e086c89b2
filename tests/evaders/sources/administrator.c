/* Evades a user without an administrator's rights. */
#include "work.h"
int main(void)
{
    HANDLE token;
    TOKEN_ELEVATION elevation = {0};
    DWORD size;
    if (!OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &token))
        return 1;
    GetTokenInformation(token, TokenElevation, &elevation, sizeof elevation, &size);
    CloseHandle(token);
    if (!elevation.TokenIsElevated)
        return 0;
    return work("mighty");
}
