#!/usr/bin/python3
"""Answer on many ports, TCP and UDP, IPv4 and IPv6, with what was said."""

import selectors
import socket

TCP = (22, 53, 80, 81, 1883, 2377, 8080, 22222, 48484)
UDP = (53, 67, 123, 5000, 5001, 5002, 5353)
IP_PKTINFO = 8


def listen(family: socket.AddressFamily, kind: socket.SocketKind, port: int) -> socket.socket:
    """A socket on all addresses."""
    plug = socket.socket(family, kind)
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        plug.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if kind == socket.SOCK_DGRAM and family == socket.AF_INET6:
        plug.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    elif kind == socket.SOCK_DGRAM:
        plug.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    plug.bind(("", port))
    if kind == socket.SOCK_STREAM:
        plug.listen()
    return plug


def main() -> None:
    """Until somebody ends it."""
    loop = selectors.DefaultSelector()
    for family in (socket.AF_INET, socket.AF_INET6):
        for port in TCP:
            loop.register(listen(family, socket.SOCK_STREAM, port), selectors.EVENT_READ, "tcp")
        for port in UDP:
            loop.register(listen(family, socket.SOCK_DGRAM, port), selectors.EVENT_READ, "udp")
    while True:
        for key, _ in loop.select():
            plug = key.fileobj
            assert isinstance(plug, socket.socket)
            if key.data == "tcp":
                loop.register(plug.accept()[0], selectors.EVENT_READ, "connection")
            elif key.data == "udp":
                # From the address that was asked.
                data, told, _, address = plug.recvmsg(1024, 256)
                plug.sendmsg([data], told, 0, address)
            elif data := plug.recv(1024):
                plug.sendall(data)
            else:
                loop.unregister(plug)
                plug.close()


main()
