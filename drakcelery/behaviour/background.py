"""What Windows does by itself in a program's name, more in one run than in another. Pure.

Places of its caches, histories and logs, which its libraries write whichever program has loaded them. Nothing
else may be in them: no program, no place by which something is started, no setting.

Sources. DRAKVUF Sandbox v0.21 leaves out of its report what is written below ``Windows/Prefetch``, nothing
else (``get_modified_files_info.py``). Noriben, which filters Procmon's records of malware, has most of the
others (``Noriben.config`` of 2026, *file_approvelist* and *reg_approvelist*). Those that it lacks are of
Microsoft's documentation: logs of .NET (*UsageLogs*) and of setup (*setupapi.dev.log*), WER, INetCache,
CryptnetUrlCache, DPAPI's and CryptoAPI's files of keys, the hives with their logs, Compatibility Assistant,
BAM. Noriben has more, which is not here: what services write, whose processes are not the sample's, and what
a sample may set, such as *User Shell Folders*.
"""

from __future__ import annotations

import re

_FILES = re.compile(
    r"\\windows\\(?:prefetch|appcompat|debug|logs|softwaredistribution|servicestate)\\"
    r"|\\windows\\inf\\setupapi\.[^\\]*log$"
    r"|\\windows\\system32\\config\\[^\\]+$"
    r"|\\windows\\system32\\(?:winevt|wdi|sru|catroot2?|logfiles|wbem\\logs)\\"
    r"|\\appdata\\local\\(?:gdipfontcachev1\.dat$|microsoft\\(?:windows\\(?:inetcache|webcache|explorer|history"
    r"|caches|notifications|temporary internet files|usrclass\.dat)|clr_v))"
    r"|\\appdata\\roaming\\microsoft\\(?:windows\\(?:recent|cookies|ietldcache)|crypto|protect)\\"
    r"|\\appdata\\locallow\\microsoft\\cryptneturlcache\\"
    r"|\\programdata\\microsoft\\(?:windows\\(?:wer|caches)|search|windows defender|crypto|diagnosis|rac)\\"
    r"|\\(?:pagefile|swapfile|hiberfil)\.sys$|\\\$(?:extend|logfile|mft|bitmap)|\\ntuser\.dat"
    r"|\\(?:desktop\.ini|thumbs\.db)$"
)
_REGISTRY = re.compile(
    r"\\explorer\\(?:userassist|recentdocs|sessioninfo|comdlg32|mountpoints2|typedpaths|streammru|runmru"
    r"|featureusage|startpage|menuorder|wordwheelquery|mscache|fileexts\\[^\\]+\\openwith)"
    r"|\\(?:muicache|mrtcache)(?:\\|$)|\\shell\\(?:bags|bagmru)|\\shellnoroam\\|\\services\\bam\\"
    r"|\\microsoft\\(?:windows nt\\currentversion\\)?tracing\\"
    r"|\\internet settings\\(?:5\.0\\cache|cache\\|zonemap$|wpad)|\\cryptography\\rng"
    r"|\\microsoft\\systemcertificates\\(?!(?:root|trustedpublisher|trustedpeople|disallowed)\\)"
    r"|\\appcompatflags\\(?:compatibility assistant|appraiser|inventory)"
    r"|\\currentversion\\(?:diagnostics|notifications)\\"
    r"|\\windows nt\\currentversion\\(?:prefetcher|networklist|perflib)"
    r"|\\windows error reporting\\(?:debug|termreason)"
    r"|\\control\\(?:nsi|deviceclasses)\\|\\windows search\\|\\reliability analysis\\"
)


def is_background_file(path: str) -> bool:
    """Whether a path, as :func:`drakcelery.behaviour.alike.plain` has it, is one of Windows' own.

    A file there that can be run is not: ask for others only.
    """
    return _FILES.search(path) is not None


def is_background_key(key: str) -> bool:
    """Whether a registry key, as :func:`drakcelery.behaviour.alike.plain` has it, is one of Windows' own."""
    return _REGISTRY.search(key) is not None
