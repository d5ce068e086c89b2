/* Measures its own speed by the clock, again and again, and works. */
#include "work.h"
int main(void)
{
    LARGE_INTEGER now;
    unsigned number;
    for (number = 0; number < 100; number++)
        QueryPerformanceCounter(&now);
    return work("measured");
}
