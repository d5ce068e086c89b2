"""What the settings say about reading Karton's tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from drakcelery.settings import Settings, WatchSection


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The settings that decide how a sample task is read."""

    default_timeout: int
    """Seconds."""
    hard_time_limit: int
    """Seconds; a task that asks for more is refused."""
    max_sample_size: int
    """Bytes."""
    default_bucket: str
    """Karton's own bucket, for resources that name none."""
    use_root_uid: bool
    plugins_of: Callable[[str], Sequence[str]]
    """The plugins that a task with this quality may ask for."""
    default_plugins_of: Callable[[str], Sequence[str]]
    """The plugins that run if it does not ask for any."""
    profile_of: Callable[[Mapping[str, str]], str]
    """The VM profile of a sample that asks for none, by its :data:`~drakcelery.model.profiles.FACTS`."""
    test_filters: Sequence[Mapping[str, Any]] = ()
    """Empty unless ``sample_testing`` is on."""
    watch: WatchSection = field(default_factory=WatchSection)
    """When runs may be stopped before their time is over."""
    most_variants: int = 0
    """How many second looks a task may ask for; 0: they are off."""
    hiding_plugins: Sequence[str] = ()
    """What second looks may have beside :attr:`plugins_of`."""


def policy_of(settings: Settings) -> Policy:
    """What the settings say about reading tasks."""
    drakrun, ours = settings.drakrun, settings.drakcelery
    return Policy(
        default_timeout=drakrun.analysis_timeout,
        hard_time_limit=ours.hard_time_limit,
        max_sample_size=ours.max_sample_size,
        default_bucket=settings.s3.bucket,
        use_root_uid=drakrun.use_root_uid,
        plugins_of=settings.plugins_of,
        default_plugins_of=settings.default_plugins_of,
        profile_of=settings.profile_of,
        test_filters=drakrun.test_filters if drakrun.sample_testing else (),
        watch=settings.watch,
        most_variants=settings.variants.most,
        hiding_plugins=settings.variants.plugin_names,
    )
