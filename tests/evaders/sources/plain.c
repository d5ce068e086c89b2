/* Does its work at once, and asks nothing. */
#include "work.h"
int main(void)
{
    return work("plain");
}
