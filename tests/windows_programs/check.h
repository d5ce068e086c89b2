/* A check that fails ends the program: its exit code is the line of the check. */
#ifndef CHECK_H
#define CHECK_H
#include <stdlib.h>
#define CHECK(holds)         \
    do {                     \
        if (!(holds))        \
            exit(__LINE__);  \
    } while (0)
#endif
