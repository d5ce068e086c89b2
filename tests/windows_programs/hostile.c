/* Asks for more than there is. Exit code 0, or the line of the check that failed. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "check.h"

static int compare(const void *left, const void *right)
{
    return *(const int *)left - *(const int *)right;
}

int main(void)
{
    static char small[8];
    static int numbers[4] = {3, 1, 2, 0};
    char *form = malloc(1000001);
    FILE *file = fopen("C:\\Users\\Public\\hostile.bin", "wb");
    CHECK(_snprintf(small, sizeof small, "%2000000000d|%.2000000000f", 1, 1.0) == -1);
    CHECK(_snprintf(small, sizeof small, "%*d%-*d", 2000000000, 1, -2000000000, 2) == -1);
    memset(form, '%', 1000000);
    form[1000000] = 0;
    CHECK(_snprintf(small, sizeof small, form) == -1);
    qsort(numbers, 1u << 30, sizeof numbers[0], compare);
    CHECK(numbers[0] == 3);
    qsort(numbers, 4, sizeof numbers[0], compare);
    CHECK(numbers[0] == 0 && numbers[3] == 3);
    CHECK(!malloc((size_t)-64));
    CHECK(!calloc((size_t)1 << 30, 1 << 20));
    CHECK(memchr("text", 'x', (size_t)-1));
    CHECK(fseek(file, 0x7fffffff, SEEK_SET) == 0);
    fputc('x', file);
    CHECK(fflush(file) == EOF && errno == ENOSPC);
    return 0;
}
