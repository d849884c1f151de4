"""A web server as a good one ends: `python3 -I -S web_server.py PORT [LATE_S]`.

Told to end, it takes no new connections, answers what still comes on open ones, says that they close, and is
gone when none is open. With LATE_S it listens that much later. It needs nothing but Python's built-in modules
and `_socket`: an image of it is a handful of files.
"""

import _signal
import _socket
import _thread
import sys
import time

IDLE_S = 5.0  # until an open connection that asks nothing is closed, when it is to end
ending = False
open_connections = 0
lock = _thread.allocate_lock()


def end(number, frame):
    global ending
    ending = True


def count(change):
    global open_connections
    with lock:
        open_connections += change


def converse(connection):
    try:
        connection.settimeout(0.1)
        waits_until = 0.0
        while True:
            try:
                asked = connection.recv(4096)
            except TimeoutError:
                waits_until = waits_until or (time.monotonic() + IDLE_S if ending else 0.0)
                if ending and time.monotonic() > waits_until:
                    return
                continue
            if not asked:
                return
            closes = ending or b"Connection: close" in asked
            head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n%b\r\nok\n"
            connection.sendall(head % (b"Connection: close\r\n" if closes else b""))
            if closes:
                return
    except OSError:
        pass
    finally:
        connection.close()
        count(-1)


def accept(server):
    """Takes who waits; raises TimeoutError where nobody does."""
    descriptor, _ = server._accept()
    count(+1)
    _thread.start_new_thread(converse, (_socket.socket(fileno=descriptor),))


_signal.signal(_signal.SIGTERM, end)
time.sleep(float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
server = _socket.socket()
server.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
server.bind(("0.0.0.0", int(sys.argv[1])))
server.listen(128)
server.settimeout(0.1)
while not ending:
    try:
        accept(server)
    except TimeoutError:
        pass
server.settimeout(0.0)
try:
    while True:  # whom the kernel has taken already
        accept(server)
except OSError:
    server.close()
while open_connections:
    time.sleep(0.05)
