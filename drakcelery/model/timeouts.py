"""Timeouts: how often live processes show a sign of life, and after which silence they count as dead.

All follow from one setting, ``[drakcelery] lease_seconds``, as fixed shares of it. So the relations between
them hold for every lease. A shorter lease means faster recovery and more commands to Redis:

* A claim in the ledger is renewed ten times before its silence is over, a host reports three times before it
  counts as gone, messages are renewed nine times before they are delivered to somebody else.
* A connection that hangs is given up while there is time left to renew the messages by another one.
* A message comes back when its claim counts as silent: earlier, the ledger would send it away.
* A process that judges by silence notes twice that it hears Redis before its watch counts as interrupted. An
  outage that is too short to be noticed is over, and all processes are back, before anything counts as lost.
* Hosts, claims and messages are judged by Redis' clock, and by the longest silence that their worker has
  promised, which is in Redis beside them. So hosts with different leases do each other no harm.

Nothing here decides who may write: that is the attempt's number, inside Redis. A process that was wrongly
considered dead has worked in vain, but changes nothing.
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
    """Longest between two notes of a watch without a gap (15; 2.5)."""


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
    """The watch as it is now: what silence means. Times are UNIX times by Redis' clock."""

    now: float
    since: float
    """Since when the watch has had no gap."""
    gaps: tuple[tuple[float, float], ...] = ()
    """(from, to) of the times in which nobody watched, oldest first."""

    @property
    def lasts(self) -> float:
        """Seconds for which it has had no gap."""
        return self.now - self.since

    def watched(self, sign: float) -> float:
        """Seconds of silence since *sign*, without the times in which nobody watched."""
        missed = sum(end - max(begin, sign) for begin, end in self.gaps if end > sign)
        return max(0.0, self.now - sign - missed)

    def ago(self, seconds: float) -> float:
        """The time that lies *seconds* of watching back."""
        at = self.now
        for begin, end in reversed(self.gaps):
            if at - end >= seconds:
                break
            seconds -= max(0.0, at - end)
            at = begin
        return at - seconds
