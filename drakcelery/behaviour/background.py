"""What Windows does by itself in a program's name, more in one run than in another. Pure.

Places of its caches, histories and logs, which its libraries write whichever program has loaded them.
"""

from __future__ import annotations

import re

_FILES = re.compile(
    r"\\windows\\(?:prefetch|appcompat|debug|inf|logs|softwaredistribution|servicestate|winsxs|csc)\\"
    r"|\\windows\\system32\\(?:config|winevt|wdi|sru|catroot2?|logfiles)\\"
    r"|\\appdata\\local\\microsoft\\(?:windows\\(?:inetcache|webcache|explorer|history|caches|notifications"
    r"|temporary internet files|usrclass\.dat)|clr_v)"
    r"|\\appdata\\roaming\\microsoft\\(?:windows\\(?:recent|cookies|ietldcache)|crypto|protect)\\"
    r"|\\appdata\\locallow\\microsoft\\cryptneturlcache\\"
    r"|\\programdata\\microsoft\\(?:windows\\(?:wer|caches)|search|windows defender|crypto|diagnosis)\\"
    r"|\\(?:pagefile|swapfile|hiberfil)\.sys$|\\\$(?:extend|logfile|mft|bitmap)|\\ntuser\.dat|\\desktop\.ini$"
)
_REGISTRY = re.compile(
    r"\\explorer\\(?:userassist|recentdocs|sessioninfo|comdlg32|mountpoints2|typedpaths|streammru|fileexts"
    r"|featureusage|startpage|menuorder|wordwheelquery|mscache)"
    r"|\\muicache|\\shell\\(?:bags|bagmru)|\\shellnoroam\\|\\microsoft\\tracing\\|\\services\\bam\\"
    r"|\\internet settings\\(?:5\.0\\cache|zonemap|connections|wpad)|\\cryptography\\rng"
    r"|\\microsoft\\systemcertificates\\|\\appcompatflags\\|\\currentversion\\(?:diagnostics|notifications)\\"
    r"|\\windows nt\\currentversion\\(?:prefetcher|networklist|perflib)|\\windows\\windows error reporting"
    r"|\\control\\(?:nsi|deviceclasses|session manager\\kernel)\\|\\windows search\\|\\reliability analysis\\"
)


def is_background_file(path: str) -> bool:
    """Whether a path, as :func:`drakcelery.behaviour.alike.plain` has it, is one of Windows' own."""
    return _FILES.search(path) is not None


def is_background_key(key: str) -> bool:
    """Whether a registry key, as :func:`drakcelery.behaviour.alike.plain` has it, is one of Windows' own."""
    return _REGISTRY.search(key) is not None
