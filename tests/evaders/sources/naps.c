/* Waits a little for something that comes by itself, and works. */
#include "work.h"
int main(void)
{
    Sleep(300);
    return work("refreshed");
}
