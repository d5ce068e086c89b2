"""drakcelery: Karton in, Celery across the hosts, DRAKVUF in the VM slots, Karton out."""

from __future__ import annotations

__version__ = "0.1.0"
