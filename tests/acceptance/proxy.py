"""The nginx of docs/reverse-proxy.md, on free ports and with files of its own."""

from __future__ import annotations

import getpass
import http.client
import os
import re
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drakcelery.embedded import ports, supervision
from tests import reference
from tests.acceptance.flower_page import Answer, Web
from tests.conftest import require
from tests.waiting import wait_until
from tests.webhook import make_certificates

NGINX = Path("/usr/sbin/nginx")
PAGE = reference.ROOT / "docs" / "reverse-proxy.md"
NAME = "sandbox.example"
PREFIX = "/flower"
LOGIN = "alice:secret"
LOGIN_LINES = ("auth_basic ", "auth_basic_user_file ", "proxy_set_header Authorization ")
"""What the page says to leave out where Flower asks for the login."""


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A reverse proxy that answers."""

    port: int
    directory: Path
    tls: ssl.SSLContext

    @property
    def address(self) -> str:
        """As browsers know it."""
        return f"https://{NAME}:{self.port}{PREFIX}"

    @property
    def web(self) -> Web:
        """For a browser that finds the name here."""
        return Web(address=self.address, log=self.directory / "error.log")

    def ask(self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        """Ask as a program does; *path* begins at the top."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self.tls)
        try:
            connection.request(method, path, headers={"Host": NAME, **(headers or {})})
            response = connection.getresponse()
            return Answer(status=response.status, headers=response.headers, body=response.read())
        finally:
            connection.close()

    def kept(self) -> list[Path]:
        """Files in which nginx has kept something on its way."""
        return [path for path in (self.directory / "temporary").rglob("*") if path.is_file()]


def documented() -> str:
    """The configuration as the page has it."""
    (found,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return str(found)


def _server(directory: Path, flower: Web, *, port: int, has_login: bool) -> str:
    """The page's configuration, with the addresses and files of here."""
    text = documented()
    for theirs, ours in {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/ssl/certs/sandbox.example.pem": str(directory / "server.pem"),
        "/etc/ssl/private/sandbox.example.key": str(directory / "server.key"),
        "/etc/nginx/drakcelery.htpasswd": str(directory / "htpasswd"),
        "http://127.0.0.1:5555": flower.address.removesuffix(PREFIX),
    }.items():
        assert text.count(theirs) == 1, theirs
        text = text.replace(theirs, ours)
    lines = text.splitlines()
    if not has_login:
        lines = [line for line in lines if not line.strip().startswith(LOGIN_LINES)]
        assert len(lines) == len(text.splitlines()) - len(LOGIN_LINES)
    return "\n".join(lines)


def _main(directory: Path, server: str) -> str:
    """What a whole configuration has around it: as this user, and with no file elsewhere."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"{kind}_temp_path {directory}/temporary/{kind};" for kind in kinds)
    user = f"user {getpass.getuser()};\n" if os.geteuid() == 0 else ""
    return (
        f"{user}daemon off;\npid {directory}/pid;\nerror_log {directory}/error.log;\nworker_processes 1;\n"
        f"events {{}}\nhttp {{\naccess_log {directory}/access.log;\n{temporary}\n{server}\n}}\n"
    )


@contextmanager
def nginx(directory: Path, flower: Web, *, has_login: bool = True) -> Iterator[Proxy]:
    """nginx before *flower*; *has_login*: it asks for one itself."""
    require(NGINX.exists(), f"{NGINX} is not installed (Debian: apt-get install nginx-light)")
    (directory / "temporary").mkdir(parents=True)
    make_certificates(directory)
    (directory / "htpasswd").write_text(LOGIN.replace(":", ":{PLAIN}") + "\n")
    port = ports.assign(("nginx",), kept={})["nginx"]
    file = directory / "nginx.conf"
    file.write_text(_main(directory, _server(directory, flower, port=port, has_login=has_login)))
    command = (str(NGINX), "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(file))
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr, checked.stderr
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, preexec_fn=supervision._die_with(os.getpid())
    )
    tls = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    proxy = Proxy(port=port, directory=directory, tls=tls)

    def answers() -> bool:
        assert process.poll() is None, (directory / "error.log").read_text()
        try:
            return proxy.ask("/").status > 0
        except OSError:
            return False

    try:
        wait_until(answers, "nginx answers")
        yield proxy
    finally:
        process.terminate()
        process.wait()
