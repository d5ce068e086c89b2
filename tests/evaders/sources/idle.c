/* Evades a desktop at which nobody sits: the last key was pressed minutes ago. */
#include "work.h"
int main(void)
{
    LASTINPUTINFO last = {sizeof last, 0};
    if (!GetLastInputInfo(&last) || GetTickCount() - last.dwTime > 60 * 1000)
        return 0;
    return work("present");
}
