/* Evades nothing, but its manifest asks for an administrator: Windows does not start it without one. */
#include "work.h"
int main(void)
{
    return work("elevated");
}
