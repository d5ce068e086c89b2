/* Ends by its own exit code, after what atexit noted ran in the right order and wrote a file. */
#include <stdio.h>
#include <stdlib.h>

static FILE *file;

static void first(void)
{
    fputs("first noted, last run\n", file);
}

static void second(void)
{
    fputs("second noted, first run\n", file);
}

int main(void)
{
    file = fopen("C:\\Users\\Public\\ending.txt", "wb");
    atexit(first);
    atexit(second);
    setvbuf(file, NULL, _IONBF, 0);
    exit(17);
}
