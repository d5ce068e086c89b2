"""The program that the emulator engine starts for each run: Speakeasy behind limits of its own.

It is a process of its own so that what it may use can be bounded and so that it can be ended. The
engine hands it a :class:`~drakcelery.engines.speakeasy_guest.job.GuestJob` on stdin and reads its states
from stdout; what the program under analysis did goes into files as it happens, so that a run which is
killed keeps what was seen.
"""
