"""What a release is made of beside the wheel: the constraints for production, and the Debian package.

``python -m distribution constraints`` writes the first, ``python -m distribution deb`` the second;
``make wheel`` and ``make deb`` run them. Nothing of it is in the wheel.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.lock"
