"""All sections together: what has to agree between them, and what follows from several of them."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from drakcelery.model import profiles, reuse
from drakcelery.model.emulated_guest import EmulatedGuest
from drakcelery.model.names import Name
from drakcelery.model.plugins import DEFAULT_PLUGINS, OFFERED_PLUGINS
from drakcelery.settings.section import Section
from drakcelery.settings.sections import (
    CanarySection,
    CelerySection,
    DrakcelerySection,
    DrakmonSection,
    DrakrunSection,
    DrakvufSection,
    EmulatorSection,
    FlowerSection,
    MetricsSection,
    NotificationsSection,
    ReplaySection,
    ReportSection,
    ReuseSection,
    TracingSection,
    WatchSection,
)
from drakcelery.settings.servers import TLS_FILES, RedisSection, S3Section
from drakcelery.settings.values import (
    EmulatedGuestText,
    PluginList,
    ProfileRuleText,
    ReuseRuleText,
    database_of,
    sentinel_master_of,
)
from drakcelery.settings.variants import VariantsSection

XEN_CONTROL = Path("/proc/xen/privcmd")
"""Exists in the control domain of a Xen host, and nowhere else."""
EMULATOR_ADVICE = {
    "net_enable": "an emulated guest reaches no network; its traffic is simulated and recorded",
    "out_interface": "an emulated guest reaches no network",
    "dns_server": "an emulated guest reaches no network; every name resolves inside the emulator",
    "syscall_filter": "the emulator sees API calls, not system calls",
    "raw_memory_dump": "there is no guest memory; take the blocks in dumps.zip instead",
    "anti_hammering_threshold": "bound the run with [emulator] max_instructions instead",
    "attach_profiles": "the emulator has no DLL profiles",
    "attach_apiscout_profile": "the emulator has no ApiScout profile",
    "xen_cmdline_check": "there is no Xen to check",
}


class Settings(Section):
    """All settings. Build with :func:`drakcelery.settings.load`; tests may call the constructor."""

    redis: RedisSection = RedisSection()
    s3: S3Section = S3Section()
    celery: CelerySection = CelerySection()
    drakmon: DrakmonSection = DrakmonSection()
    drakrun: DrakrunSection = DrakrunSection()
    drakvuf_plugins: dict[str, PluginList] = Field(default={})
    drakcelery: DrakcelerySection = Field(default_factory=DrakcelerySection)
    slots: dict[Name, Name] = Field(default={"vm-1": "default"}, description="slot name = profile")
    profile_rules: dict[str, ProfileRuleText] = Field(
        default={}, description="rule name = profile if conditions"
    )
    drakvuf: DrakvufSection = DrakvufSection()
    canary: CanarySection = CanarySection()
    watch: WatchSection = WatchSection()
    emulator: EmulatorSection = EmulatorSection()
    emulator_profiles: dict[Name, EmulatedGuestText] = Field(
        default={}, description="profile = key=value and further ones after a comma"
    )
    report: ReportSection = ReportSection()
    replay: ReplaySection = ReplaySection()
    reuse: ReuseSection = ReuseSection()
    reuse_rules: dict[str, ReuseRuleText] = Field(default={}, description="rule name = age if conditions")
    flower: FlowerSection = FlowerSection()
    metrics: MetricsSection = MetricsSection()
    notifications: NotificationsSection = NotificationsSection()
    tracing: TracingSection = TracingSection()
    variants: VariantsSection = VariantsSection()
    source: Path | None = Field(default=None, description="the file these settings came from")
    remarks: tuple[str, ...] = Field(default=(), description="what loading the file had to say")

    @model_validator(mode="after")
    def _timeouts_agree(self) -> Self:
        timeout, limit = self.drakrun.analysis_timeout, self.drakcelery.hard_time_limit
        if timeout > limit:
            raise PydanticCustomError(
                "disagreement",
                "at most {limit}, the [drakcelery] hard_time_limit",
                {"section": "drakrun", "key": "analysis_timeout", "value": timeout, "limit": limit},
            )
        return self

    @model_validator(mode="after")
    def _an_extension_agrees(self) -> Self:
        least, most = self.drakrun.analysis_timeout, self.drakcelery.hard_time_limit
        longer = self.watch.extend_to
        if longer and not least < longer <= most:
            raise PydanticCustomError(
                "disagreement",
                "0, or more than {least}, the [drakrun] analysis_timeout, "
                "and at most {most}, the [drakcelery] hard_time_limit",
                {"section": "watch", "key": "extend_to", "value": longer, "least": least, "most": most},
            )
        return self

    @model_validator(mode="after")
    def _reuse_has_records(self) -> Self:
        age, limit = self.reuse.max_age, self.drakcelery.record_ttl
        if age is not None and age > limit:
            raise PydanticCustomError(
                "disagreement",
                "at most {limit}, the [drakcelery] record_ttl: without its record no analysis is reused",
                {"section": "reuse", "key": "max_age", "value": age, "limit": limit},
            )
        return self

    @model_validator(mode="after")
    def _notices_are_signed(self) -> Self:
        ours = self.notifications
        if ours.url is not None and ours.secret is None:
            raise PydanticCustomError(
                "disagreement",
                "a secret, since [notifications] url is set: every notice is signed",
                {"section": "notifications", "key": "secret", "value": ""},
            )
        return self

    @model_validator(mode="after")
    def _tls_files_have_an_effect(self) -> Self:
        for name, ours in (("redis", self.redis), ("s3", self.s3)):
            named = [key for key in TLS_FILES if getattr(ours, key) is not None]
            if not named:
                continue
            wish = "ssl = 1, or a url with rediss://" if name == "redis" else "an address with https://"
            told = {"section": name, "key": named[0], "value": str(getattr(ours, named[0]))}
            if not ours.is_encrypted:
                raise PydanticCustomError("disagreement", f"{wish}, since there is no TLS without it", told)
            if named[-1] == "ssl_keyfile" and ours.ssl_certfile is None:
                told["key"], told["value"] = "ssl_keyfile", str(ours.ssl_keyfile)
                raise PydanticCustomError("disagreement", "ssl_certfile as well: the key is of that", told)
        return self

    @property
    def engine(self) -> str:
        """The engine's name; ``auto`` is DRAKVUF on a Xen host, the emulator on any other."""
        if self.drakcelery.engine != "auto":
            return self.drakcelery.engine
        return "drakvuf" if XEN_CONTROL.exists() else "emulator"

    @property
    def broker_url(self) -> str:
        """Celery's broker, credentials included: never to be logged.

        kombu reads TLS options in the URL only, takes no others there, and unlike redis-py does not
        verify the server's certificate unless told to.
        """
        given = self.celery.broker_url
        url = given.get_secret_value() if given else self.redis.address(db_offset=1)
        if url.startswith("sentinel:"):
            return ";".join(node.partition("?")[0] for node in url.split(";"))
        if url.startswith("amqp"):
            return url
        parts = urllib.parse.urlsplit(url)
        query = {key: value for key, value in urllib.parse.parse_qsl(parts.query) if key.startswith("ssl_")}
        if parts.scheme == "rediss":
            query.setdefault("ssl_cert_reqs", "required")
        return urllib.parse.urlunsplit(
            parts._replace(path=f"/{database_of(parts)}", query=urllib.parse.urlencode(query))
        )

    @property
    def sentinel_master(self) -> str | None:
        """The name of the master at Sentinel, if the broker uses Sentinel; kombu does not read it from a
        URL."""
        given = self.celery.broker_url
        return sentinel_master_of(given.get_secret_value()) if given else None

    def plugins_of(self, quality: str) -> tuple[str, ...]:
        """The plugins that a quality may have: its own list, or else ``_all_``, or else all that are
        offered."""
        return self._listed(quality, OFFERED_PLUGINS)

    def default_plugins_of(self, quality: str) -> tuple[str, ...]:
        """The plugins that run if a task names none: the same lists, or else the default."""
        return self._listed(quality, DEFAULT_PLUGINS)

    def _listed(self, quality: str, without: tuple[str, ...]) -> tuple[str, ...]:
        lists = self.drakvuf_plugins
        return lists.get(quality, lists.get("_all_", without))

    def profile_of(self, facts: Mapping[str, str]) -> str:
        """The VM profile of a sample that asks for none: by the first rule that matches, or else the
        default."""
        return profiles.pick(self.profile_rules.values(), facts) or self.drakcelery.default_profile

    def emulated_guest(self, slot: str) -> EmulatedGuest:
        """What the emulator's guests in *slot* see, by its profile, whose name is a key: in lower case."""
        return self.emulator_profiles.get(self.slots.get(slot, "").lower(), EmulatedGuest())

    @property
    def reuse_age(self) -> int:
        """How old, in seconds, an analysis may be at most that is given to another task."""
        return self.drakcelery.record_ttl if self.reuse.max_age is None else self.reuse.max_age

    def reuse_of(self, facts: Mapping[str, str]) -> int | None:
        """What a task agrees to that says nothing of reuse, by the first rule that matches; None: to none."""
        return reuse.pick(self.reuse_rules.values(), facts)

    def without_effect(self) -> list[str]:
        """What to log at the start: remarks on the file, and each setting that has no effect with this
        engine."""
        return [*self.remarks, *self._without_effect()]

    def _without_effect(self) -> Iterable[str]:
        engine = self.engine
        defaults = DrakrunSection()
        if self.reuse_rules and not self.reuse.enabled:
            yield "[reuse_rules] has no effect with [reuse] enabled = 0: every sample is run"
        watch, longest = self.watch, max(self.drakrun.analysis_timeout, self.watch.extend_to)
        if watch.enabled and max(watch.min_seconds, watch.quiet_seconds) >= longest:
            numbers = f"min_seconds = {watch.min_seconds} and quiet_seconds = {watch.quiet_seconds}"
            yield f"[watch] enabled has no effect on runs of {longest} s, which most are, with {numbers}"
        if engine == "drakvuf":  # DRAKVUF honours all settings, or refuses to start
            return
        used = {profile.lower() for profile in self.slots.values()}
        for name in self.emulator_profiles:
            if engine == "emulator" and name not in used:
                yield f"[emulator_profiles] {name} has no effect: no slot of this host has that profile"
        for key, advice in EMULATOR_ADVICE.items():
            if getattr(self.drakrun, key) != getattr(defaults, key):
                why = advice if engine == "emulator" else "a recorded run is played back as it was"
                yield f"[drakrun] {key} has no effect with the engine {engine}: {why}"
