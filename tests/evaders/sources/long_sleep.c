/* Evades a short watch: it sleeps longer than sandboxes wait, and looks whether somebody cut that short. */
#include "work.h"
int main(void)
{
    ULONGLONG before = GetTickCount64();
    Sleep(15 * 60 * 1000);
    if (GetTickCount64() - before < 14 * 60 * 1000)
        return 0;
    return work("rested");
}
