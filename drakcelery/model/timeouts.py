"""Signs of life: how often who lives gives one, and after which silence he counts as dead.

All follow from one setting, ``[drakcelery] lease_seconds``, as fixed shares of it. So what has to hold
between them holds for every lease, and a shorter one buys a sooner recovery with more commands to Redis:

* A claim in the ledger is renewed ten times before its silence is over, a host reports three times before it
  counts as gone, messages are renewed nine times before they are delivered to somebody else.
* A connection that hangs is given up while there is time left to renew the messages by another one.
* A message comes back when its claim counts as silent: earlier, the ledger would send it away.
* Who judges hears all the time: he notes it twice before his watch counts as interrupted; and an outage that
  goes unnoticed is over, with all who were cut off back, before anybody counts as lost.
* Whoever judges a host, a claim or a message goes by Redis' clock, and by the silence that its worker has
  promised to keep within, which is in Redis beside it. So hosts with different leases do each other no harm.

Nothing here decides who may write: that is the attempt's number, inside Redis. Whoever was considered dead
and lives has worked for nothing, and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

SHORTEST = 5
"""Seconds. Below it a process that waits for a busy disk or processor would count as dead."""
LONGEST = 30
"""Seconds. Above it a message of a dead worker would come back after more than a minute."""


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Seconds, for one lease. In brackets: for the longest, which is the default, and for the shortest."""

    heartbeat: float
    """Between two renewals of a claim in the ledger, and until a cancelled guest is gone (2; 0.33)."""
    silence: float
    """Until another delivery of the same message may take over a claim (20; 3.3)."""
    lost: float
    """Until reconcile ends an attempt whose host is gone, or sends its message again (30; 5)."""
    unsent: float
    """Until reconcile sends an attempt that nobody has sent (15; 2.5)."""
    reconcile: float
    """Between two runs of reconcile (10; 1.7)."""
    report: float
    """Between two reports of a host (5; 0.83)."""
    host: float
    """Until a host that does not report is gone (15; 2.5)."""
    check: float
    """Between two looks of an ingress at what others have left (5; 0.83)."""
    orphan: float
    """Until an ingress that took a task counts as dead (20; 3.3)."""
    renew: float
    """Between two renewals of a worker's messages, and two looks for those of others (5; 0.83)."""
    visibility: float
    """Until a message is delivered to somebody else (45; 7.5)."""
    connection: float
    """Until a connection to the broker that hangs is given up (20; 3.3)."""
    retry: float
    """The longest pause before a patient client tries Redis again (10; 1.7)."""
    pause: float
    """Longest between two notes of a watch that has no break (15; 2.5)."""


def timeouts_of(lease: float) -> Timeouts:
    """The times that follow from a lease."""
    return Timeouts(
        heartbeat=lease / 15,
        silence=lease * 2 / 3,
        lost=lease,
        unsent=lease / 2,
        reconcile=lease / 3,
        report=lease / 6,
        host=lease / 2,
        check=lease / 6,
        orphan=lease * 2 / 3,
        renew=lease / 6,
        visibility=lease * 3 / 2,
        connection=lease * 2 / 3,
        retry=lease / 3,
        pause=lease / 2,
    )


DEFAULT = timeouts_of(LONGEST)


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What can be said of silence now. Times are UNIX times by Redis' clock."""

    now: float
    since: float
    """When the watch began that has had no break."""
    gaps: tuple[tuple[float, float], ...] = ()
    """(from, to) of the stretches in which nobody watched, oldest first."""

    @property
    def lasts(self) -> float:
        """For how many seconds it has had no break."""
        return self.now - self.since

    def watched(self, sign: float) -> float:
        """For how many seconds there was nothing since *sign*, those left out in which nobody watched."""
        missed = sum(end - max(begin, sign) for begin, end in self.gaps if end > sign)
        return max(0.0, self.now - sign - missed)

    def ago(self, seconds: float) -> float:
        """The time since which nobody has watched for more than *seconds*."""
        at = self.now
        for begin, end in reversed(self.gaps):
            if at - end >= seconds:
                break
            seconds -= max(0.0, at - end)
            at = begin
        return at - seconds
