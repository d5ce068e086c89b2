"""What the settings say about reading Karton's tasks."""

from __future__ import annotations

from drakcelery.karton.contract import Policy
from drakcelery.settings import Settings


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
    )
