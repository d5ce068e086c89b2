"""The library; importing it takes what the real one takes."""

from drakrun.simulated import SHARE, cost

cost(SHARE)
