"""A task of the routing mesh's tests: `mesh_server.py NAME PORT` answers `NAME CLIENT` over TCP and UDP, the
client's address as it is seen here. Only what Python has without its library's packages: images are small.

NAME `-` is the host's own. A connection is answered again whenever it sends something."""

import _socket
import _thread
import sys


def answer(connection, text):
    try:
        connection.send(text)
        while True:
            data = connection.recv(4096)
            if not data:
                break
            connection.send(text)
    except OSError:
        pass
    connection.close()


def bound(kind, port):
    server = _socket.socket(_socket.AF_INET, kind)
    server.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, kind == _socket.SOCK_STREAM)
    server.bind(("0.0.0.0", port))
    return server


def tcp(name, server):
    while True:
        number, (client, _) = server._accept()
        connection = _socket.socket(fileno=number)
        _thread.start_new_thread(answer, (connection, f"{name} {client}\n".encode()))


def udp(name, server):
    while True:
        _, client = server.recvfrom(4096)
        server.sendto(f"{name} {client[0]}\n".encode(), client)


own = _socket.gethostname() if sys.argv[1] == "-" else sys.argv[1]
streams, packets = (bound(kind, int(sys.argv[2])) for kind in (_socket.SOCK_STREAM, _socket.SOCK_DGRAM))
streams.listen(512)
print("ready", flush=True)
_thread.start_new_thread(udp, (own, packets))
tcp(own, streams)
