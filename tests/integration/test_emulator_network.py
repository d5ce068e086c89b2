"""Network programs as they are written: sockets with select, HTTP with headers; the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulating import Bench
from tests.guest_programs import build, marks, said

BITS = pytest.mark.parametrize("bits", [32, 64])


@BITS
def test_sockets_and_http(tmp_path: Path, bits: int) -> None:
    """What is sent is in the traffic, headers too; what is asked about connections has an answer."""
    source = r"""
    #include <winsock2.h>
    #include <wininet.h>
    #include <string.h>
    int main(void)
    {
        WSADATA data;
        struct sockaddr_in address = {AF_INET}, peer = {0};
        struct timeval second = {1, 0};
        int error = 5, size = sizeof error;
        u_long mode = 1;
        fd_set writable;
        char text[64];
        DWORD number = 0, length = sizeof number, flags = 0;
        WSAStartup(0x202, &data);
        SOCKET one = socket(AF_INET, SOCK_STREAM, 0);
        ioctlsocket(one, FIONBIO, &mode);
        address.sin_port = htons(4444);
        memcpy(&address.sin_addr, gethostbyname("c2.drakcelery.invalid")->h_addr, 4);
        connect(one, (struct sockaddr *)&address, sizeof address);
        FD_ZERO(&writable);
        FD_SET(one, &writable);
        mark(select(0, NULL, &writable, NULL, &second) == 1 ? "ready" : "wrong");
        mark(!getsockopt(one, SOL_SOCKET, SO_ERROR, (char *)&error, &size) && !error ? "no-error" : "wrong");
        size = sizeof peer;
        getpeername(one, (struct sockaddr *)&peer, &size);
        mark(peer.sin_port == htons(4444) ? "peer" : "wrong");
        send(one, "PING drakcelery", 15, 0);
        closesocket(one);
        number = GetTickCount();
        select(0, NULL, NULL, NULL, &second);
        mark(GetTickCount() - number >= 1000 ? "slept" : "skipped");
        HINTERNET session = InternetOpenA("agent", 0, NULL, NULL, 0);
        HINTERNET page = InternetOpenUrlA(session, "http://dl.drakcelery.invalid/p.bin", NULL, 0, 0, 0);
        mark(HttpQueryInfoA(page, HTTP_QUERY_STATUS_CODE | HTTP_QUERY_FLAG_NUMBER, &number, &length, NULL)
             && number == 200 ? "status" : "wrong");
        int total = 0;
        while (InternetReadFile(page, text, sizeof text, &number) && number)
            total += number;
        mark(total > 64 ? "read" : "empty");
        HINTERNET server = InternetConnectA(session, "post.drakcelery.invalid", 80, NULL, NULL, 3, 0, 0);
        HINTERNET post = HttpOpenRequestA(server, "POST", "/gate", NULL, NULL, NULL, 0, 0);
        HttpAddRequestHeadersA(post, "X-Bot: 7\r\n", -1, HTTP_ADDREQ_FLAG_ADD);
        mark(HttpSendRequestA(post, "X-More: 8", 9, "user=1", 6) ? "posted" : "wrong");
        mark(InternetGetConnectedState(&flags, 0) && flags ? "online" : "offline");
        return 0;
    }
    """
    run = Bench(tmp_path).detonate(build(tmp_path, source, bits, "-lws2_32", "-lwininet"))
    assert run.outcome.reason is None
    seen = ["ready", "no-error", "peer", "slept", "status", "read", "posted", "online"]
    assert marks(run) == seen
    sent = b"".join(bytes(packet) for packet in run.packets())
    for part in (
        b"PING drakcelery",
        b"GET /p.bin HTTP/1.1",
        b"POST /gate",
        b"X-Bot: 7",
        b"X-More: 8",
        b"user=1",
    ):
        assert part in sent


@BITS
def test_the_environment(tmp_path: Path, bits: int) -> None:
    """Windows' functions and the C runtime's see the same one; what is not there is said."""
    source = r"""
    #include <stdlib.h>
    #include <string.h>
    int main(void)
    {
        char text[64];
        SetEnvironmentVariableA("DRAKCELERY", "here");
        mark(GetEnvironmentVariableA("drakcelery", text, 64) == 4 && !strcmp(text, "here") ? "set" : "lost");
        mark(getenv("DRAKCELERY") && !strcmp(getenv("DRAKCELERY"), "here") ? "both" : "apart");
        mark(GetEnvironmentVariableA("DRAKCELERY", text, 2) == 5 ? "too-small" : "wrong");
        int length = ExpandEnvironmentStringsA("%DRAKCELERY%\\%NONE%", text, 64);
        mark(length == 12 && !strcmp(text, "here\\%NONE%") ? "expanded" : "wrong");
        int found = 0, count = 0;
        for (char *one = GetEnvironmentStrings(); *one; one += strlen(one) + 1, count++)
            found += !strcmp(one, "DRAKCELERY=here");
        mark(found == 1 && count > 5 ? "listed" : "wrong");
        SetEnvironmentVariableA("DRAKCELERY", NULL);
        mark(!GetEnvironmentVariableA("DRAKCELERY", text, 64) && GetLastError() == ERROR_ENVVAR_NOT_FOUND
             ? "gone" : "left");
        return 0;
    }
    """
    assert said(tmp_path, source, bits) == ["set", "both", "too-small", "expanded", "listed", "gone"]


@BITS
def test_a_connected_socket_and_a_check(tmp_path: Path, bits: int) -> None:
    """Data without an address goes where the socket is connected to; errors, DNS records, the adapter."""
    source = r"""
    #include <winsock2.h>
    #include <iphlpapi.h>
    #include <stdlib.h>
    #include <windns.h>
    #include <wininet.h>
    int main(void)
    {
        WSADATA data;
        struct sockaddr_in address = {AF_INET};
        WSABUF parts[2] = {{4, "gath"}, {4, "ered"}};
        DWORD sent = 0;
        WSAStartup(0x202, &data);
        SOCKET one = socket(AF_INET, SOCK_DGRAM, 0);
        mark(sendto(one, "nowhere", 7, 0, NULL, 0) == SOCKET_ERROR && WSAGetLastError() == WSAENOTCONN
             ? "not-connected" : "wrong");
        address.sin_port = htons(5353);
        address.sin_addr.s_addr = 0x0100000a;
        connect(one, (struct sockaddr *)&address, sizeof address);
        mark(sendto(one, "no address", 10, 0, NULL, 0) == 10 ? "sent" : "wrong");
        address.sin_port = htons(5354);
        mark(!WSASendTo(one, parts, 2, &sent, 0, (struct sockaddr *)&address, sizeof address, NULL, NULL)
             && sent == 8 ? "gathered" : "wrong");
        mark(sendto(7777, "x", 1, 0, NULL, 0) == SOCKET_ERROR && WSAGetLastError() == WSAENOTSOCK
             ? "no-socket" : "wrong");
        char text[64];
        int short_time = 20, count = 0;
        u_long waiting = 0;
        WSANETWORKEVENTS seen;
        while ((count = recv(one, text, sizeof text, 0)) > 0);
        mark(count == SOCKET_ERROR && WSAGetLastError() == WSAECONNRESET ? "nobody" : "wrong");
        setsockopt(one, SOL_SOCKET, SO_RCVTIMEO, (char *)&short_time, sizeof short_time);
        mark(recv(one, text, 1, 0) == SOCKET_ERROR && WSAGetLastError() == WSAETIMEDOUT ? "late" : "wrong");
        SOCKET two = socket(AF_INET, SOCK_STREAM, 0);
        WSAEVENT event = WSACreateEvent();
        mark(recv(two, text, 1, 0) == SOCKET_ERROR && WSAGetLastError() == WSAENOTCONN
             && shutdown(two, SD_SEND) == SOCKET_ERROR && recv(7777, text, 1, 0) == SOCKET_ERROR
             && WSAGetLastError() == WSAENOTSOCK ? "alone" : "wrong");
        WSAEventSelect(two, event, FD_CONNECT | FD_READ | FD_CLOSE);
        mark(connect(two, (struct sockaddr *)&address, sizeof address) == SOCKET_ERROR
             && WSAGetLastError() == WSAEWOULDBLOCK
             && WSAWaitForMultipleEvents(1, &event, FALSE, WSA_INFINITE, FALSE) == WSA_WAIT_EVENT_0
             && !WSAEnumNetworkEvents(two, event, &seen) && seen.lNetworkEvents == (FD_CONNECT | FD_READ)
             && WSAWaitForMultipleEvents(1, &event, FALSE, 0, FALSE) == WSA_WAIT_TIMEOUT
             ? "events" : "wrong");
        mark(!ioctlsocket(two, FIONREAD, &waiting) && waiting ? "data" : "wrong");
        for (; (count = recv(two, text, sizeof text, 0)) > 0; waiting -= count);
        mark(!waiting && !WSAEnumNetworkEvents(two, event, &seen) && seen.lNetworkEvents & FD_CLOSE
             ? "closed" : "wrong");
        mark(connect(two, (struct sockaddr *)&address, sizeof address) == SOCKET_ERROR
             && WSAGetLastError() == WSAEISCONN && !shutdown(two, SD_SEND)
             && send(two, "x", 1, 0) == SOCKET_ERROR && WSAGetLastError() == WSAESHUTDOWN
             && WSACloseEvent(event) && !WSACloseEvent(event) ? "shut" : "wrong");
        mark(InternetCheckConnectionW(L"https://check.drakcelery.invalid/a", FLAG_ICC_FORCE_CONNECTION, 0)
             ? "online" : "offline");
        InternetCheckConnectionA(NULL, FLAG_ICC_FORCE_CONNECTION, 0);
        DNS_RECORD *record = NULL;
        mark(!DnsQuery_W(L"Dns.drakcelery.invalid", DNS_TYPE_A, 0, NULL, (void *)&record, NULL) && record
             && !record->pNext && record->wType == DNS_TYPE_A && record->wDataLength == 4
             && record->Data.A.IpAddress == inet_addr("198.51.100.3") ? "record" : "none");
        DnsRecordListFree(record, DnsFreeRecordList);
        mark(DnsQuery_A("mx.drakcelery.invalid", DNS_TYPE_MX, 0, NULL, (void *)&record, NULL)
             == DNS_INFO_NO_RECORDS && !record ? "no-mail" : "mail");
        ULONG room = 0;
        IP_ADAPTER_INFO *adapter = malloc(sizeof *adapter);
        mark(GetAdaptersInfo(NULL, &room) == ERROR_BUFFER_OVERFLOW && room == sizeof *adapter
             && !GetAdaptersInfo(adapter, &room) && !adapter->Next
             && !strcmp(adapter->IpAddressList.IpAddress.String, "10.13.1.2") ? "adapter" : "no-adapter");
        return 0;
    }
    """
    libraries = ("-lws2_32", "-lwininet", "-ldnsapi", "-liphlpapi")
    run = Bench(tmp_path).detonate(build(tmp_path, source, bits, *libraries))
    assert run.outcome.reason is None
    assert marks(run) == [
        *("not-connected", "sent", "gathered", "no-socket", "nobody", "late", "alone", "events", "data"),
        *("closed", "shut", "online", "record", "no-mail", "adapter"),
    ]
    sent = b"".join(bytes(packet) for packet in run.packets())
    assert b"no address" in sent
    assert b"gathered" in sent
    assert b"nowhere" not in sent
    lines = run.lines("socketmon")
    names = [line.get("DnsName") for line in lines]
    assert {"check.drakcelery.invalid", "Dns.drakcelery.invalid", "mx.drakcelery.invalid"} <= {*names}
    reached = {(line["Protocol"], line["RemotePort"]) for line in lines if "RemotePort" in line}
    assert reached >= {("UDPv4", 5353), ("TCPv4", 443)}
