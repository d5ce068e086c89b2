/* Was called without the arguments that it needs: says so, and ends with an error. */
#include <stdio.h>
int main(int count, char **arguments)
{
    if (count < 2) {
        fprintf(stderr, "usage: %s FILE\n", arguments[0]);
        return 1;
    }
    return 0;
}
