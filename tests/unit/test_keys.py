"""Every key stands in one table: the code, docs/keys.md and the doctor go by it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import redis
from karton.core.backend import (
    KARTON_BINDS_HSET,
    KARTON_TASK_NAMESPACE,
    KARTON_TASKS_QUEUE,
    KartonBackendBase,
    KartonMetrics,
)
from karton.core.task import TaskPriority
from redis.commands.core import (
    HashCommands,
    ListCommands,
    ScriptCommands,
    SetCommands,
    SortedSetCommands,
    StreamCommands,
)

from drakcelery.broker.routing import io_queue, prepare_queue, vm_queue
from drakcelery.doctor.rights import ledger_commands
from drakcelery.ledger import Ledger
from drakcelery.ledger.foreignkeys import BROKER, KARTON
from drakcelery.ledger.keys import FIXED, PREFIX, queue_keys, task_key
from drakcelery.ledger.keytable import LEDGER
from drakcelery.model.analysis import Priority
from tests import keys
from tests.modules import MODULES, parsed, walk
from tests.reference import ROOT

PACKAGE = ROOT / "drakcelery"
TABLES = {
    PACKAGE / "ledger" / f"{name}.py"
    for name in ("keys", "keytable", "indexkeys", "newskeys", "reusekeys", "variantkeys", "foreignkeys")
}
NAMED = re.compile(rf"\b{PREFIX}|\bkarton\.(?:tasks?|queue|binds|metrics|outputs)\b")
KARTONS = re.compile(r"KARTON_[A-Z_]+|KartonMetrics")
ALIASES = {
    "origin": "record",
    "from": "inbox aside",
    "to": "inbox aside",
    "analysis_task": "task",
    "first_record": "record",
    "variant_task": "task",
    "variant_queue": "queue",
}
"""What a script calls a key of which it knows two."""


def modules() -> list[Path]:
    """Those that may name no key."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path not in TABLES]


def names_a_key(node: ast.AST, *, has_prefix: bool) -> bool:
    """Whether *node* is a text with a key, makes one of the prefix, or takes one from Karton."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and NAMED.search(node.value) is not None
    if isinstance(node, ast.Attribute):
        return node.attr.startswith("get_queue_name") or (node.attr == "PREFIX" and not has_prefix)
    if isinstance(node, ast.ImportFrom):
        names, module = {alias.name for alias in node.names}, str(node.module)
        if module.startswith("drakcelery.ledger"):
            return "PREFIX" in names and not has_prefix
        return module.startswith("karton.core") and any(map(KARTONS.fullmatch, names))
    return False


def test_a_key_is_named_in_the_table_only() -> None:
    """No text of a module has one, none is made of the prefix, and none is taken from Karton."""
    wrong = []
    for path in modules():
        has_prefix = path.parent == PACKAGE / "ledger" or path == PACKAGE / "doctor" / "rights.py"
        wrong += [
            f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
            for node in walk(parsed(path))
            if names_a_key(node, has_prefix=has_prefix)
        ]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("x = 'drak:inbox'", True),
        ("x = backend.get_queue_names(identity)", True),
        ("x = keys.PREFIX", True),
        ("from drakcelery.ledger.keys import PREFIX", True),
        ("from karton.core.backend import KARTON_TASK_NAMESPACE", True),
        ("from karton.core import Task\nx = 'an inbox'", False),
    ],
)
def test_what_names_a_key(text: str, names: bool) -> None:
    """The look above sees each way to do it."""
    found = [node for node in ast.walk(ast.parse(text)) if names_a_key(node, has_prefix=False)]
    assert bool(found) is names


def test_the_page_is_the_table() -> None:
    """``python -m tests.keys`` writes it."""
    page = keys.PAGE.read_text(encoding="utf-8")
    assert page == keys.written(page)


def test_every_key_stands_there_once() -> None:
    """By its pattern, and by its name where it has one."""
    names = [key.name for key in keys.ALL if key.name]
    assert len(set(names)) == len(names)
    assert len({key.pattern for key in keys.ALL}) == len(keys.ALL)
    assert {key.kind for key in keys.ALL} <= {"hash", "zset", "set", "list", "string", "set or zset"}


def test_kartons_own_keys_are_as_karton_names_them() -> None:
    """The table has them, since to import Karton is slow."""
    assert FIXED["binds"] == KARTON_BINDS_HSET
    assert FIXED["karton_tasks"] == KARTON_TASKS_QUEUE
    assert task_key("x") == f"{KARTON_TASK_NAMESPACE}:x"
    assert [priority.value for priority in Priority] == [priority.value for priority in TaskPriority]
    assert queue_keys("karton.test") == KartonBackendBase.get_queue_names("karton.test")
    for name in ("consumed", "crashed", "produced"):
        assert FIXED[f"karton_{name}"] == KartonMetrics[f"TASK_{name.upper()}"].value


def test_queues_of_the_broker_are_in_the_table() -> None:
    """Whatever routing calls them."""
    own = (prepare_queue("win10"), prepare_queue("win10", "rack-1"), vm_queue("rack-1"), io_queue("rack-1"))
    for queue in own:
        assert any(key.matches(queue) for key in BROKER), queue


def asked() -> Iterator[tuple[str, str, str]]:
    """(script, name of a key, command) of each command of a script whose key has a name."""
    call = re.compile(r"redis\.p?call\(\s*'([A-Z]+)',\s*KEY\.([a-z_]+)")
    for path in sorted((PACKAGE / "ledger" / "lua").rglob("*.lua")):
        for command, name in call.findall(path.read_text()):
            yield path.stem, name, command


def test_the_table_has_each_command_of_a_script() -> None:
    """So the doctor asks for the right to each of them."""
    by_name = {key.name: set(key.commands.split()) for key in keys.ALL}
    by_name |= {name: by_name["metrics"] for name in FIXED if name not in by_name}
    found = list(asked())
    assert len(found) > 100
    for script, name, command in found:
        for one in ALIASES.get(name, name).split():
            assert command in by_name[one], (script, name, command)


def test_the_doctor_asks_for_each_command_of_the_table() -> None:
    """On a key of the pattern that it is for."""
    commands = {(command, words[0]) for command, *words in ledger_commands("karton.test") if words}
    for key in (*LEDGER, *KARTON):
        for command in key.commands.split():
            names = {name for one, name in commands if one == command}
            known = ("karton.test",) if key.name == "queue" else ()
            assert any(key.matches(name) or name in known for name in names), (key.name, command)


HANDS = {
    "wiring": "makes the ledger",
    "host.presence": "a worker's signs of life, with a short patience of its own",
    "embedded.services": "asks whether the server that it started is up",
    "doctor.subject": "asks the server of itself, as well as the ledger",
    "doctor.rights": "asks which commands a user may send, and sends none",
}
"""Modules outside of the ledger that have a client of Redis, and why; others have the ledger's methods."""


def has_a_client(tree: ast.AST) -> bool:
    """Whether a module names redis-py's client, or connects."""
    for node in walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "redis.Redis":
            return True
        if isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            if node.module == "redis" and "Redis" in names:
                return True
            if node.module in ("drakcelery.ledger", "drakcelery.ledger.connection") and "connect" in names:
                return True
    return False


COMMANDS: Mapping[str, frozenset[str]] = {
    "broker.redis_transport": frozenset(
        {"brpop", "delete", "hdel", "hset", "lrange", "pipeline", "zadd", "zrange", "zrem"}
    ),
    "doctor.karton_side": frozenset({"client_list"}),
    "doctor.redis_server": frozenset({"config_get", "info", "ping"}),
    "embedded.services": frozenset({"close", "ping"}),
    "host.presence": frozenset({"close"}),
}
"""What modules outside of the ledger send by a client: to the broker, or to ask the server of itself."""
OF_DATA = (HashCommands, ListCommands, ScriptCommands, SetCommands, SortedSetCommands, StreamCommands)
CONTAINERS = {name for kind in (str, dict, list, set) for name in dir(kind)}
KEYED = {name for part in OF_DATA for name in dir(part) if name[0] != "_"} - CONTAINERS
"""Methods that nothing but a client of Redis has."""
CLIENTS = {name for name in dir(redis.Redis) if name[0] != "_"} - CONTAINERS
"""Those that what is called a client has, unless it is a mapping that tells of one."""


def sent(tree: ast.AST) -> set[str]:
    """The commands that a module sends itself, whatever it calls the client."""
    found = set()
    for node in walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            client, command = ast.unparse(node.func.value).rpartition(".")[2], node.func.attr
            is_redis = client.strip("_") == "redis" and hasattr(redis.Redis, command)
            is_client = client.strip("_") == "client" and command in CLIENTS
            if is_redis or is_client or command in KEYED:
                found.add(command)
    return found


def test_redis_is_sent_no_command_past_its_door() -> None:
    """Only the ledger does; the others that send one are listed, with what they send."""
    found = {one.name: sent(one.tree) for one in MODULES if not f"{one.name}.".startswith("ledger.")}
    assert {name: commands for name, commands in found.items() if commands} == COMMANDS


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("subject.redis.hget(BINDS, x)", {"hget"}),
        ("self._redis.get(x)", {"get"}),
        ("with_another_name.lrange(x, 0, 99)", {"lrange"}),
        ("ledger._client.pipeline()", {"pipeline"}),
        ("client.get('name')\nredis.Redis(port=1)\nredis.ConnectionError()", set()),
    ],
)
def test_commands_are_seen(text: str, commands: set[str]) -> None:
    """Who holds the client does not matter, nor what it is called."""
    assert sent(ast.parse(text)) == commands


def test_redis_has_a_door() -> None:
    """Who is not of the ledger asks it, and sends Redis no command; its client is its own."""
    found = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent != PACKAGE / "ledger" and has_a_client(parsed(path))
    }
    assert found == HANDS.keys()
    with redis.Redis(port=1) as client:
        ledger = Ledger(client, identity="karton.test", record_ttl=1)
        for part in (ledger, ledger.inbox(), ledger.fleet, ledger.quarantine, ledger.outbox):
            assert [name for name, value in vars(part).items() if value is client and name[0] != "_"] == []
