/* Its header is made to say that it is for another processor: no Windows of ours starts it. */
#include "work.h"
int main(void)
{
    return work("foreign");
}
