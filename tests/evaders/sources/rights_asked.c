/* Asks whether it may do more, for a title, and works with what it has. */
#include "work.h"
#include <shlobj.h>
int main(void)
{
    IsUserAnAdmin();
    return work("content");
}
