"""The values that travel through drakcelery. Pure: no input or output, no clock, no settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field

from drakcelery.model.names import Name, Uid
from drakcelery.model.news import News, WatchPlan, WatchRun
from drakcelery.model.reuse import Reuse
from drakcelery.model.states import STAGES as STAGES
from drakcelery.model.states import WITH_FILES as WITH_FILES
from drakcelery.model.states import WITH_GUEST as WITH_GUEST
from drakcelery.model.states import Priority as Priority
from drakcelery.model.states import Stage as Stage
from drakcelery.model.states import StartMethod as StartMethod
from drakcelery.model.states import State as State
from drakcelery.model.value import Text as Text
from drakcelery.model.value import Value as Value
from drakcelery.model.word import Word


class Execution(Word):
    """Whether the sample ran at all (DRAKVUF exit code 4: injection unsuccessful)."""

    EXECUTED = "executed"
    NOT_EXECUTED = "not_executed"


class ObjectRef(Value):
    """An object in S3, as a Karton resource names it."""

    bucket: str
    key: str
    name: Text
    """The name that others gave it; for display only."""
    sha256: str | None = None
    size: int | None = None


class Place(Value):
    """Where a sample may run: a slot of a profile, on any host or on the one that was asked for."""

    profile: Name
    host: Name | None = None

    def __str__(self) -> str:
        return f"{self.profile}@{self.host}" if self.host else self.profile

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the output of ``str``; neither name can contain an ``@``."""
        profile, _, host = text.partition("@")
        return cls(profile=profile, host=host or None)


class Analysis(Value):
    """One accepted sample task: everything that was decided when it came in."""

    uid: Uid
    task_uid: str
    """uid of the routed Karton task, which stays STARTED until the analysis is over."""
    root_uid: str
    priority: Priority
    sample: ObjectRef
    magic: str
    """libmagic's description of the sample."""
    extension: str
    quality: str
    file_name: str
    """Name in the guest, without extension."""
    timeout: int
    """Seconds that the engine watches."""
    start_command: str | None = None
    """As the task asked; ``%f`` is the path in the guest. None: by extension."""
    start_method: StartMethod | None = None
    """As the task asked, like the next two. None: as the engine chooses."""
    guest_working_directory: str | None = None
    """None: where the sample lies."""
    net_enable: bool | None = None
    """None: as the host's settings say."""
    plugins: tuple[str, ...]
    custom_hooks: ObjectRef | None = None
    is_test: bool = False
    profile: Name
    """The VM profile: asked for, or picked by a rule, or the default one."""
    target_host: Name | None = None
    identity: str | None = None
    """The identity of the deployment that took it; None, like the next two, if an older ingress did."""
    headers: Mapping[str, str] | None = None
    """The headers of the analysis task."""
    bucket: str | None = None
    """The bucket of the artifacts."""
    retry_of: Uid | None = None
    """The analysis that it repeats, if it is a retry."""
    variant_of: Uid | None = None
    """The analysis whose second look it is."""
    variant_why: tuple[Text, ...] = ()
    """The clues that led to it, and what is changed for it, in words."""
    variants: int | None = None
    """How many second looks its root may have, as the task says; None: as the settings say."""
    watch: WatchPlan | None = None
    """When it may be stopped before its time is over; None: never."""
    reuse: Reuse = Reuse()
    """What was decided about reuse."""

    @property
    def longest(self) -> int:
        """The seconds after which its run ends in any case."""
        return self.timeout if self.watch is None else self.watch.longest(self.timeout)

    @property
    def place(self) -> Place:
        """The place that it waits for."""
        return Place(profile=self.profile, host=self.target_host)

    @property
    def sample_label(self) -> str:
        """A short name for tables and for Flower: sha256 prefix and file name."""
        return f"{(self.sample.sha256 or '?')[:12]} {self.file_name}.{self.extension}"


class Step(Value):
    """The message of a stage: ids only, never content (I6). Travels as JSON through Celery."""

    uid: Uid
    attempt: int = Field(ge=1, lt=2**31)
    profile: Name
    host: Name | None = None
    """Set by prepare; from then on the chain is pinned to it. Before: the host that was asked for."""
    slot: Name | None = None

    @classmethod
    def parse(cls, message: dict[str, Any]) -> Self:
        """Read a message. Raises :class:`pydantic.ValidationError`."""
        return cls.model_validate(message)

    def message(self) -> dict[str, Any]:
        """The JSON form of this step."""
        return self.model_dump(mode="json", exclude_none=True)


class Fault(Word):
    """How a failed attempt ended, which decides what follows. Whose fault it was: :attr:`Failure.charged`."""

    FAILED = "failed"
    """Something did not work. Counts against ``max_attempts``."""
    LOST = "lost"
    """The process that worked on this sample alone died, or its slot was lost. Counts; two are poison."""
    GONE = "gone"
    """The worker or the host died, with all its work. The third time the sample is poison."""
    AWAY = "away"
    """S3 did not answer. Does not count: it is waited for, for ``storage_patience``."""
    STOPPED = "stopped"
    """An operator stopped the host. Does not count."""
    DOUBTED = "doubted"
    """The slot may be to blame for what is missing in the run. Does not count."""


class Failure(Value):
    """Why one attempt ended; the ledger keeps one for each."""

    attempt: int
    """Which try of this analysis it was, from 1."""
    number: int | None = None
    """Its number in the ledger's fences, logs and the ids of Celery's tasks; see :attr:`Record.attempt`."""
    stage: Stage
    error: Text
    host: str | None = None
    slot: str | None = None
    fault: Fault = Fault.FAILED
    charged: str | None = None
    """What it is charged to so far: a :class:`~drakcelery.errors.Blame`; None if nothing is to blame."""
    code: int | None = None
    """The error code of Windows in the guest, if that is the reason."""
    lacks: str | None = None
    """What is missing in the run, if it was doubted for that: words, separated by commas."""
    at: float

    def sentence(self) -> str:
        """One line for Karton's ``error`` list and for ``drakcelery status``."""
        where = f" on {self.host}" if self.host else ""
        slot = f"/{self.slot}" if self.slot else ""
        return f"attempt {self.attempt}: {self.stage.value}{where}{slot}: {self.error}"


class Snapshot(Value):
    """What a slot's VM was restored from."""

    version: int
    """UNIX time of the snapshot."""
    sha256: str


class RawFiles(Value):
    """What a run left on disk, so that a later stage can check that all of it is still there."""

    count: int
    size: int
    """Bytes, of all together."""
    digest: str
    """sha256 over path and size of each."""
    sizes: Mapping[str, int] = Field(default_factory=dict)
    """The sizes of the largest files, by path; others are only in the digest."""


class MissingFunction(Value):
    """A function of Windows that a program called and an emulator does not imitate."""

    name: Text
    count: int
    guessed: bool = False
    """Whether its number of arguments is only guessed, so that what came after it may be wrong."""


class Outcome(Value):
    """What an engine says about a finished run."""

    engine: str
    """Name and version: an emulator's result must never pass for DRAKVUF's."""
    snapshot: Snapshot
    started: int
    finished: int
    execution: Execution
    complete: bool | None = None
    """Whether it was watched until it ended or the time was over; None from an older version."""
    missing: tuple[MissingFunction, ...] = ()
    """What the emulator lacked, the most frequent first."""
    start_command: str | None = None
    """What was started in the guest, its path filled in; None if the engine does not say."""
    reason: str | None = None
    """Why the run ended early or the sample did not execute; None if it simply ended."""
    windows_error: int | None = None
    """The error code of Windows, if it did not start the sample."""
    start_method: str | None = None
    """How it was started; None if the engine does not say."""
    guest_working_directory: str | None = None
    """Where it was started; None likewise."""
    net_enable: bool = False
    """Whether the guest could reach the Internet."""
    boot_id: str | None = None
    """The machine's boot while it ran: after another boot, files that were not synced may be lost."""
    raw: RawFiles | None = None
    """The files that it left, noted by the stage run. None from an older version."""
    watch: WatchRun | None = None
    """How it ended, if it was watched for news; None otherwise, and from an older version."""
    news: News | None = None
    """What it showed by second, likewise."""

    @property
    def is_quiet_stop(self) -> bool:
        """Whether it was stopped before its time was over, since nothing new came."""
        return self.watch is not None and self.watch.ended == "quiet"
