/* Looks where the mouse is and how large the screen, to place a window, and works. */
#include "work.h"
int main(void)
{
    POINT mouse;
    GetCursorPos(&mouse);
    if (GetSystemMetrics(SM_CXSCREEN) <= 0)
        return 1;
    return work("placed");
}
