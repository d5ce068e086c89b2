"""The services' user, their groups and directories: sysusers.d and tmpfiles.d, as text. Pure."""

from __future__ import annotations

from drakcelery.deploy.units import Machine


def sysusers(machine: Machine) -> str:
    """sysusers.d(5): the user that all but a Xen host's vm worker run as, its group, and the people's."""
    return (
        "# Written by drakcelery init.\n"
        "# People are put into this group, never into the services' one:\n"
        f"g {machine.operators} -\n"
        f'u {machine.user} - "drakcelery" {machine.state_dir} /usr/sbin/nologin\n'
        f"m {machine.user} {machine.operators}\n"
    )


def tmpfiles(machine: Machine) -> str:
    """tmpfiles.d(5): the directories of :mod:`drakcelery.host.state_dir`, and the file with secrets.

    What root's vm worker opens only root may change; the group may look. The group of ``workspaces`` is
    inherited by what is made in it.
    """
    state_dir, user = machine.state_dir, machine.user
    owner = "root" if machine.is_roots else user
    lines = [
        f"d {state_dir} 0750 {owner} {user} -",
        f"d {state_dir}/workspaces 2750 {owner} {user} -",
        f"d {state_dir}/engine 0700 {owner} {user} -",
        f"d {state_dir}/io 0700 {user} {user} -",
        f"z {machine.config} 0640 root {machine.operators} -",
    ]
    return "\n".join(["# Written by drakcelery init.", *lines, ""])
