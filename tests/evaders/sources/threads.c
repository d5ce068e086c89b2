/* Has a thread do its work. */
#include "work.h"
static DWORD WINAPI body(void *name)
{
    return work(name);
}
int main(void)
{
    HANDLE thread = CreateThread(NULL, 0, body, "spun", 0, NULL);
    WaitForSingleObject(thread, INFINITE);
    return 0;
}
