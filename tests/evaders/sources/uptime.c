/* Evades a machine that was started a moment ago, as a restored VM is. */
#include "work.h"
int main(void)
{
    if (GetTickCount64() < 10 * 60 * 1000)
        return 0;
    return work("awake");
}
