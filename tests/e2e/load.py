"""A constant load on web servers, as `wrk` makes one: `load.py PORT ADDRESS …` until it is told to end.

To each address go half of the requests by new connections, half by one that stays. What was asked and what
failed is said in the end, as JSON; what failed with the seconds since the begin.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
import time

PAUSE_S = 0.02  # between two requests of a client
WAIT_S = 5.0

began = time.monotonic()
ending = threading.Event()
requests: list[int] = []
failures: list[str] = []


def opened(address: str, port: int) -> socket.socket:
    return socket.create_connection((address, port), WAIT_S)


def ask(made: socket.socket, closes: bool) -> bool:
    """Returns whether the connection goes on."""
    made.sendall(b"GET / HTTP/1.1\r\nHost: web\r\n%b\r\n" % (b"Connection: close\r\n" if closes else b""))
    answer = b""
    while not answer.endswith(b"ok\n"):
        more = made.recv(4096)
        if not more:
            raise OSError(f"closed after {answer!r}")
        answer += more
    return b"Connection: close" not in answer


def client(address: str, port: int, keeps: bool) -> None:
    made: socket.socket | None = None
    count = 0
    while not ending.is_set():
        what = "connecting"
        try:
            made = made or opened(address, port)
            what = "a kept connection" if keeps else "a new connection"
            goes_on = ask(made, closes=not keeps)
        except OSError as error:
            failures.append(f"{time.monotonic() - began:.2f} s, {address}, {what}: {error!r}")
            goes_on = False
        if not goes_on and made is not None:
            made.close()
            made = None
        count += 1
        time.sleep(PAUSE_S)
    requests.append(count)


def main() -> None:
    port, addresses = int(sys.argv[1]), sys.argv[2:]
    clients = [
        threading.Thread(target=client, args=(address, port, keeps))
        for address in addresses
        for keeps in (True, False)
    ]
    for each in clients:
        each.start()
    signal.signal(signal.SIGTERM, lambda number, frame: ending.set())
    while not ending.wait(0.5):
        pass
    for each in clients:
        each.join()
    print(json.dumps({"requests": sum(requests), "failures": failures}))


if __name__ == "__main__":
    main()
