"""What `wrk` says is read as it is meant."""

from __future__ import annotations

import pytest

from tests.wrk import Said, read

QUIET = """Running 1s test @ http://127.0.0.1:8/
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    85.12us   31.04us   1.26ms   88.35%
    Req/Sec    46.55k     2.01k   49.90k    72.73%
  Latency Distribution
     50%   79.00us
     75%   90.00us
     90%  117.00us
     99%  201.00us
  50926 requests in 1.10s, 7.77MB read
Requests/sec:  46315.50
Transfer/sec:      7.07MB
"""
TROUBLED = """  Latency Distribution
     99%    1.50s{space}
  11 requests in 2.00s, 1.00KB read
  Socket errors: connect 1, read 20, write 300, timeout 4
  Non-2xx or 3xx responses: 5
Requests/sec:      5.50
""".replace("{space}", " ")  # it aligns its units


def test_a_run_without_errors_has_none() -> None:
    said = read(QUIET)
    assert (said.requests, said.per_second, said.failed) == (50926, 46315.5, 0)
    assert said.p99_ms == pytest.approx(0.201)


def test_errors_are_told_apart() -> None:
    assert read(TROUBLED) == Said(11, 5.5, 1500.0, refused=1, broken=320, late=4, others=5)
    assert read(TROUBLED).failed == 330


def test_what_is_no_result_is_refused() -> None:
    with pytest.raises(ValueError, match="unable to connect"):
        read("unable to connect to 127.0.0.1:8 Connection refused\n")
