/* Evades a mouse that nobody moves. */
#include "work.h"
int main(void)
{
    POINT before, after;
    GetCursorPos(&before);
    Sleep(1500);
    GetCursorPos(&after);
    if (before.x == after.x && before.y == after.y)
        return 0;
    return work("moved");
}
