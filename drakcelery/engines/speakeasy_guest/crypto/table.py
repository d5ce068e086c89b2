"""The modules with functions of advapi32, bcrypt and crypt32: what encrypts, hashes and encodes."""

from __future__ import annotations

from drakcelery.engines.speakeasy_guest.crypto import (
    certificates,
    cng,
    cng_keys,
    encryption,
    hashing,
    keys,
    protected,
    providers,
    signatures,
    texts,
)

MODULES = (certificates, cng, cng_keys, encryption, hashing, keys, protected, providers, signatures, texts)
