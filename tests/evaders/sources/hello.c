/* Prints a line, and has done all that it can. */
#include <stdio.h>
int main(void)
{
    puts("Hello.");
    return 0;
}
