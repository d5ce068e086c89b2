/* Evades users of sandboxes, by their names. */
#include "work.h"
static const char *const names[] = {"sandbox", "malware", "maltest", "virus", "currentuser", "test", "john doe"};
int main(void)
{
    char user[64];
    DWORD size = sizeof user;
    unsigned number;
    if (!GetUserNameA(user, &size))
        return 1;
    for (number = 0; number < sizeof names / sizeof *names; number++)
        if (lstrcmpiA(user, names[number]) == 0)
            return 0;
    return work("somebody");
}
