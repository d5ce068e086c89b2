"""What a process knows is in an object that is handed on: no module and no class is where others leave it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Set

import pytest

from tests.modules import MODULES, Module, walk

PLACES = {
    "broker.listening": {"listening_to": "since when this process hears a broker, by any connection"},
    "celery": {"app": "`celery -A` finds the app here; its state is Celery's and bootstrap's"},
    "embedded.supervision": {"_LIBC": "found before a fork: after it nothing may be loaded any more"},
    "engines.emulator": {"_digest": "of the package's files, which are there for as long as the process"},
    "engines.speakeasy_guest.apis.guids": {"_random": "one guest to a process; the same on each run"},
    "failpoints": {"_PROCESS": "which faults tests plan: forked processes take it over, nobody hands it on"},
    "host.history": {"_KNOWN": "runs as they were read from the file's rows, which say all there is of them"},
    "host.tables": {"_KEPT": "the connection of this process, and who of it is in the file, or forks"},
    "karton.filetype": {"_looker": "the process that libmagic runs in; one serves all"},
    "behaviour.methods": {"_wanted": "what is looked for of some methods, which are the same in each report"},
    "ledger.scripts": {"source": "the texts of the scripts, which are files of the package"},
    "storage.client": {"_check": "what ends a thread's requests; minio hands nothing on"},
    "telemetry.metrics": {"_RELAY": "the pipe that pool processes count by; counters are the process' own"},
    "telemetry.tracing": {"_PROCESS": "what sends this process' spans; each forked process starts its own"},
    "embedded.ports": {"_reserved": "what the kernel has reserved for this process, and keeps until it ends"},
    "flower.command": {"options": "Flower's own, which its command reads where no file gives them"},
    "telemetry.logs": {
        "_analysis_log": "to which file the lines of an analysis go as well, by context",
        "sys": "the interpreter has one hook for what nobody has caught",
        "threading": "likewise, for threads",
    },
}
"""What is a place for state all the same, in which module, and why."""
FIXED_TYPES = frozenset(
    {
        *("ExceptionRenderer", "MappingProxyType", "ParamSpec", "Path", "PurePosixPath", "Retry", "Struct"),
        *("Timeout", "TypeAdapter", "TypeVar"),
    }
)
"""Classes of others whose objects nobody changes."""
METRICS = frozenset({"CollectorRegistry", "Counter", "Gauge", "Histogram"})
"""What telemetry.instruments is there for; test_metrics.py holds that nothing else makes one."""
CONTAINERS = frozenset({"list", "dict", "set", "deque", "defaultdict", "Counter", "OrderedDict"})


def _imported(module: Module) -> Iterator[str]:
    for node in walk(module.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ClassDef):
            yield node.name


def _targets(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return [
            part
            for target in node.targets
            for part in ast.walk(target)
            if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store)
        ]
    if isinstance(node, ast.AugAssign | ast.AnnAssign):
        return [node.target]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setattr":
        return [ast.Attribute(value=node.args[0], attr="?", ctx=ast.Store())]
    return []


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def left_outside(module: Module) -> Iterator[str]:
    """What an assignment leaves in a class, or in a module or object that was imported."""
    names = set(_imported(module))
    for node in walk(module.tree):
        for target in _targets(node):
            root = _root(target)
            if isinstance(target, ast.Attribute) and root in names:
                yield root


def globals_of(module: Module) -> Iterator[str]:
    """Names that functions assign to their module, and what of it can change: containers that begin empty,
    objects of classes that are not frozen, functions that remember."""
    for node in walk(module.tree):
        if isinstance(node, ast.Global):
            yield from node.names
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(
            _last(one) in ("cache", "lru_cache") for one in node.decorator_list
        ):
            yield node.name
    fixed = FIXED_TYPES | set(frozen_here(module))
    fixed |= METRICS if module.name == "telemetry.instruments" else set()
    for node in module.tree.body:
        if (
            isinstance(node, ast.Assign | ast.AnnAssign)
            and node.value is not None
            and (_is_empty(node.value) or _is_object(node.value, fixed))
        ):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (ast.unparse(target) for target in targets)


def _last(node: ast.expr) -> str:
    """The name of what is called, or that decorates: ``cache`` of ``functools.cache``."""
    while isinstance(node, ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return ast.unparse(node).rpartition(".")[2]


def _is_object(value: ast.expr, fixed: Set[str]) -> bool:
    """Whether *value* makes an object of a class, which begins with a capital, and is none of the *fixed*."""
    name = _last(value)
    return isinstance(value, ast.Call) and name.strip("_")[:1].isupper() and name not in fixed


def frozen_here(module: Module) -> Iterator[str]:
    """The classes of *module*, and those of the package that it imports, whose objects cannot change."""
    yield from frozen_classes(module)
    others = {f"drakcelery.{one.name}": one for one in MODULES}
    for node in module.tree.body:
        if isinstance(node, ast.ImportFrom) and node.module in others:
            yield from frozen_classes(others[node.module]) & {alias.name for alias in node.names}


def frozen_classes(module: Module) -> set[str]:
    """Those that it defines: frozen ones, and such that have nothing."""
    found = set()
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef):
            text = " ".join(map(ast.unparse, (*node.decorator_list, *node.bases)))
            if "frozen=True" in text or "NamedTuple" in text or _is_bare(node):
                found.add(node.name)
    return found


def _is_bare(node: ast.ClassDef) -> bool:
    return not node.bases and all(isinstance(one, ast.Expr | ast.Pass) for one in node.body)


def _is_empty(value: ast.expr) -> bool:
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in CONTAINERS:
        return not value.args
    return isinstance(value, ast.List | ast.Dict) and not ast.unparse(value).strip("[]{}")


def test_no_module_is_a_place_for_state() -> None:
    """No `global`, no list or dict that fills up, nothing that is assigned to a class from outside."""
    found = {one.name: {*globals_of(one), *left_outside(one)} for one in MODULES}
    assert {name: places for name, places in found.items() if places} == {
        name: set(places) for name, places in PLACES.items()
    }


def test_nobody_imports_the_tasks() -> None:
    """Only Celery needs them, by the -A of `celery`: who sends, or asks, has `wiring.make_client`."""
    assert [one.name for one in MODULES if "drakcelery.celery" in set(one.imports())] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from a import Gate\nGate.site = 1", {"Gate"}),
        ("from a import b\nb.Gate.site = b.Ground.site = 1", {"b"}),
        ("class Gate:\n    def f(self):\n        Gate.site = self.x = 1", {"Gate"}),
        ("import a\nsetattr(a, 'x', 1)\na.y += 1", {"a"}),
        ("def f():\n    global x\n    x = 1", {"x"}),
        ("x = {}\ny: list[int] = []\nz = set()\nW = {1: 2}", {"x", "y", "z"}),
        ("import a\nb = a.b\nself.x = a.y", set()),
        ("@dataclass\nclass _Process:\n    x: int = 0\n\n_PROCESS = _Process()", {"_PROCESS"}),
        ("import a\nb: a.Relay = a.Relay(1)\nc = a.Place[int](1)", {"b", "c"}),
        ("import functools\n@functools.cache\ndef f(): ...\n@lru_cache(1)\ndef g(): ...", {"f", "g"}),
        ("class C:\n    @cache\n    def f(self): ...\n    @cached_property\n    def g(self): ...", {"f"}),
        ("P = Path('x')\nclass Nothing:\n    pass\nN = Nothing()", set()),
        ("from drakcelery.host.history import Facts\nUNKNOWN = Facts()", set()),
    ],
)
def test_the_reading_of_code_works(text: str, found: set[str]) -> None:
    """The check above sees what it is there for."""
    module = Module(name="probe", text=text)
    assert {*globals_of(module), *left_outside(module)} == found
