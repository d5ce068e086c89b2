/* Evades nothing, but is of 64 bit: a 32-bit Windows does not start it. */
#include "work.h"
int main(void)
{
    return work("large");
}
