/* A library that a process loads before others (LD_PRELOAD), and that makes its wall clock wrong by AHEAD_SECONDS.
 *
 * Steady clocks, and the times that the file system writes, stay right. Debian's libfaketime 0.9.10 would do, but
 * that Python's time.sleep, which is clock_nanosleep until a steady time, fails or never returns with it. */

#define _GNU_SOURCE
#include <semaphore.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t ahead;

__attribute__((constructor)) static void read_environment(void)
{
    const char *seconds = getenv("AHEAD_SECONDS");
    ahead = seconds ? atol(seconds) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += ahead;
    return failed;
}

int gettimeofday(struct timeval *now, void *zone)
{
    int failed = syscall(SYS_gettimeofday, now, zone);
    if (!failed)
        now->tv_sec += ahead;
    return failed;
}

time_t time(time_t *now)
{
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now)
        *now = precise.tv_sec;
    return precise.tv_sec;
}

/* Who waits until a time of the clock above waits as long as it meant to; billiard does. */
int sem_timedwait(sem_t *semaphore, const struct timespec *until)
{
    struct timespec right = {until->tv_sec - ahead, until->tv_nsec};
    return sem_clockwait(semaphore, CLOCK_REALTIME, &right);
}
