"""`skep monitor influx` into a real InfluxDB 1.6.7, and what becomes of points that it does not take; versions 2 and 3
are fakes of their HTTP APIs (`tests/fake_influx.py`)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skep.monitor.line_protocol import lines_of
from skep.monitor.points import Point
from tests.certificates import make_certificates
from tests.fake_influx import V2, V3, FakeInflux
from tests.influx_server import InfluxServer

from .fixtures import starting, swarm_fixture
from .hosts import Host, Swarm, free_port, wait_until
from .monitor_feed import Feed, feeding
from .skep_cli import skep

pytestmark = pytest.mark.timeout(120)
DATABASE = "swarm 2k"
ADMIN = ("admin", "pw")


def of_two_alike(directory: Path) -> Swarm:
    """A manager, and two workers of one host name."""
    swarm = Swarm(directory, "simulated", workers=0)
    swarm.workers = [Host(directory, f"w{n}", "simulated", "--name", "same") for n in range(2)]
    return swarm


swarm = swarm_fixture(of_two_alike)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer]:
    with starting(server(tmp_path_factory.mktemp("i"))) as made:
        yield made


@pytest.fixture
def influx(shared: InfluxServer) -> InfluxServer:
    """An empty database in the server that tests share. Who ends it starts it again."""
    for name in (DATABASE, "nosuch"):
        shared.query(f'DROP DATABASE "{name}"')
    shared.query(f'CREATE DATABASE "{DATABASE}"')
    return shared


def server(directory: Path, **options: Any) -> InfluxServer:
    place = directory / "influx"
    place.mkdir(exist_ok=True)
    return InfluxServer(place, (free_port(), free_port()), **options)


def seconds(influx: InfluxServer) -> list[int]:
    """Returns the times at which the swarm was written."""
    series = influx.query("SELECT n_nodes FROM swarm", DATABASE)
    return [row[0] for row in series[0]["values"]] if series else []


def databases(influx: InfluxServer) -> list[str]:
    return influx.numbers("SHOW DATABASES", "")


def wait_points(influx: InfluxServer, more_than: int = 0) -> int:
    """Returns how many gathers are written, once there are so many."""
    return int(wait_until("points", lambda: (n := len(seconds(influx))) > more_than and n, 30))


def test_what_is_written_is_what_the_api_says(swarm: Swarm, influx: InfluxServer, tmp_path: Path) -> None:
    swarm.manager.docker("service create -q -d --name web --replicas 6 image")
    swarm.manager.docker("service create -q -d --name nowhere --constraint node.id==x --replicas 2 image")
    wait_until("they run", lambda: len(swarm.manager.running("web")) == 6)
    with feeding(tmp_path, "--url {} --v1 {} -H {}", influx.url, DATABASE, swarm.manager.url) as feed:
        wait_points(influx, 1)
        feed.end()
    last = {
        series["name"]: [
            dict(zip(series["columns"], row, strict=True))
            for row in series["values"]
            if row[0] == series["values"][-1][0]
        ]
        for name in ("swarm", "swarm_task_status", "swarm_service", "swarm_node", "swarm_manager")
        for series in influx.query(f"SELECT * FROM {name}", DATABASE)
    }
    (whole,) = last["swarm"]
    assert (whole["n_nodes"], whole["n_services"], whole["n_tasks"]) == (3, 2, 8)
    states = {row["status"]: row["n_tasks"] for row in last["swarm_task_status"]}
    assert {state: count for state, count in states.items() if count} == {"running": 6, "pending": 2}
    assert states["failed"] == 0
    services = {
        s["service_name"]: (s["n_desired"], s["n_running"], s["n_pending"]) for s in last["swarm_service"]
    }
    assert services == {"web": (6, 6, 0), "nowhere": (2, 0, 2)}
    nodes = {node["ID"]: node["Description"] for node in swarm.manager.get("/nodes")}
    assert {row["node_id"]: row["node_hostname"] for row in last["swarm_node"]} == {
        node_id: each["Hostname"] for node_id, each in nodes.items()
    }
    assert sorted(row["node_hostname"] for row in last["swarm_node"]) == ["mg0", "same", "same"]
    for row in last["swarm_node"]:
        resources = nodes[row["node_id"]]["Resources"]
        assert (row["cpu_shares"], row["memory"]) == (resources["NanoCPUs"], resources["MemoryBytes"])
    assert [(row["node_hostname"], row["leader"], row["reachable"]) for row in last["swarm_manager"]] == [
        ("mg0", 1, 1)
    ]


def test_names_that_need_escapes_come_back_as_they_are(influx: InfluxServer) -> None:
    """skepd refuses such host names; what a stranger's node says is written all the same."""
    names = [
        "my host",
        "a,b=c",
        '"quoted"',
        "c:\\dir",
        "c:\\,x",
        "\\ ",
        "=",
        "#x",
        "wörker 日本",
        "tab\tnew\nline",
    ]
    points = [
        Point("swarm_node", {"node_id": str(n), "node_hostname": name}, {"memory": n})
        for n, name in enumerate(names)
    ]
    influx.write(b"\n".join(lines_of(points, 1_796_000_000_000_000_000)), DATABASE)
    found = {
        series["tags"]["node_id"]: (series["tags"]["node_hostname"], series["values"][0][1])
        for series in influx.query("SELECT memory FROM swarm_node GROUP BY node_id, node_hostname", DATABASE)
    }
    assert [found[str(n)][0] for n in range(len(names))] == [*names[:-1], "tab\\tnew\\nline"]
    assert [found[str(n)][1] for n in range(len(names))] == list(range(len(names)))


def test_a_database_that_is_away_misses_nothing(swarm: Swarm, influx: InfluxServer, tmp_path: Path) -> None:
    with feeding(tmp_path, "--url {} --v1 {} -H {}", influx.url, DATABASE, swarm.manager.url) as feed:
        wait_points(influx)
        influx.kill()
        assert "cannot be reached" in feed.wait_said("nothing can be written")
        time.sleep(2.5)
        influx.start()
        feed.wait_said("takes points again")
        wait_points(influx, len(seconds(influx)))
        feed.end()
        assert len([line for line in feed.said() if "nothing can be written" in line]) == 1
    assert without_holes(seconds(influx))


def test_a_database_that_hangs_misses_nothing(swarm: Swarm, influx: InfluxServer, tmp_path: Path) -> None:
    with feeding(tmp_path, "--url {} --v1 {} -H {}", influx.url, DATABASE, swarm.manager.url) as feed:
        wait_points(influx)
        influx.pause()
        feed.wait_said("no answer within 10 s")
        influx.resume()
        feed.wait_said("takes points again")
        feed.end()
    assert without_holes(seconds(influx))


def without_holes(times: list[int]) -> bool:
    assert len(times) > 3
    return times == list(range(times[0], times[0] + len(times)))


@pytest.mark.root
def test_a_database_that_is_full_is_tried_again(swarm: Swarm, tmp_path: Path) -> None:
    place = tmp_path / "influx"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], check=True)
    try:
        with starting(server(tmp_path)) as influx:
            influx.query(f'CREATE DATABASE "{DATABASE}"')
            ballast = place / "ballast"
            with feeding(tmp_path, "--url {} --v1 {} -H {}", influx.url, DATABASE, swarm.manager.url) as feed:
                wait_points(influx)
                subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=64k"], capture_output=True)
                assert "no space left" in feed.wait_said("nothing can be written")
                ballast.unlink()
                influx.stop()  # it goes on to say so until it is started again, and shows what it refused
                influx.start()
                feed.wait_said("takes points again")
                assert ", 0 were dropped, 0 had to wait" in feed.end()
            assert without_holes(seconds(influx))
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_missing_database_is_said_and_can_be_made(
    swarm: Swarm, influx: InfluxServer, tmp_path: Path
) -> None:
    options = "-H {} --url {} --v1 nosuch"
    with feeding(tmp_path, options, swarm.manager.url, influx.url) as feed:
        said = feed.wait_said("nothing can be written")
        assert "no such database" in said
        assert 'database not found: "nosuch"' in said
        influx.query("CREATE DATABASE nosuch")  # somebody mends it
        feed.wait_said("takes points again")
        assert "0 were dropped" in feed.end()
    influx.query("DROP DATABASE nosuch")
    with feeding(tmp_path, f"--create {options}", swarm.manager.url, influx.url) as feed:
        wait_until("it is made", lambda: influx.query("SHOW MEASUREMENTS", "nosuch"))
        influx.query("DROP DATABASE nosuch")
        wait_until("it is made again", lambda: "nosuch" in databases(influx))
        assert ", 0 were dropped, 0 had to wait" in feed.end()
    assert influx.numbers("SELECT last(n_nodes) FROM swarm", "nosuch") == [3]


def test_a_missing_default_retention_policy_is_refused_for_good(
    swarm: Swarm, influx: InfluxServer, tmp_path: Path
) -> None:
    influx.query(f'DROP RETENTION POLICY autogen ON "{DATABASE}"')
    with feeding(tmp_path, "--url {} --v1 {} -H {}", influx.url, DATABASE, swarm.manager.url) as feed:
        assert "retention policy not found" in feed.wait_said("points are dropped")
        assert " 0 had to wait" in feed.end()


def test_users(swarm: Swarm, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("wrong\n")
    with starting(server(tmp_path, admin=ADMIN)) as influx:
        options = ("--url {} --v1 {} --create -H {}", influx.url, DATABASE, swarm.manager.url)
        with feeding(tmp_path, options[0], *options[1:]) as feed:
            assert "401" in feed.wait_said("nothing can be written")
        with feeding(
            tmp_path, f"{options[0]} --user admin", *options[1:], SKEP_INFLUX_PASSWORD_FILE=str(password)
        ) as feed:
            assert "authorization failed" in feed.wait_said(
                "does not take the token, or the user and password"
            )
            assert "wrong" not in Path(f"/proc/{feed.process.pid}/cmdline").read_text()
            password.write_text("pw")
            feed.wait_said("takes points again")
            feed.end()
        assert seconds(influx)
        influx.query("CREATE USER reader WITH PASSWORD 'pw'")
        with feeding(
            tmp_path,
            "--url {} --v1 {} -H {} --user reader",
            *options[1:],
            SKEP_INFLUX_PASSWORD="pw",
        ) as feed:
            assert 'not authorized to write to database "swarm 2k"' in feed.wait_said("may not write there")


def test_a_type_of_before_is_said_in_the_servers_words(
    swarm: Swarm, influx: InfluxServer, tmp_path: Path
) -> None:
    influx.write(b"swarm n_nodes=1.5", DATABASE)
    with feeding(tmp_path, "--url {} --v1 {} -H {}", influx.url, DATABASE, swarm.manager.url) as feed:
        said = feed.wait_said("points are dropped")
        assert "field type conflict" in said
        assert "dropped=1" in said
        feed.end()
    assert influx.numbers("SELECT last(memory) FROM swarm_node", DATABASE)  # the others are there


def fake_v2() -> FakeInflux:
    return FakeInflux("t0ken", "my org/my bucket")


def fake_v3() -> FakeInflux:
    return FakeInflux("t0ken", "my db")


@pytest.mark.parametrize(
    ("make", "option", "path", "precision"),
    [(fake_v2, ("--v2", "my org/my bucket"), V2, "s"), (fake_v3, ("--v3", "my db"), V3, "second")],
    ids=["v2", "v3"],
)
def test_the_other_versions(
    swarm: Swarm,
    tmp_path: Path,
    make: Callable[[], FakeInflux],
    option: tuple[str, str],
    path: str,
    precision: str,
) -> None:
    token = tmp_path / "token"
    token.write_text("t0ken\n")
    with starting(make()) as fake:
        partial = {"code": "unprocessable entity", "message": "partial write: 2 points rejected"}
        fake.faults = [(422, {}, partial), (429, {"Retry-After": "3"}, {"message": "too many"})]
        # As a service of the swarm has it: by its environment alone.
        environment = {
            "SKEP_INFLUX_URL": fake.url,
            f"SKEP_INFLUX_{option[0][2:].upper()}": option[1],
            "SKEP_INFLUX_TOKEN_FILE": str(token),
            "DOCKER_HOST": swarm.manager.url,
        }
        with feeding(tmp_path, "", **environment) as feed:
            assert "422: partial write: 2 points rejected" in feed.wait_said("points are dropped")
            began = time.monotonic()
            assert "429: too many" in feed.wait_said("too many")
            feed.wait_said("takes points again")
            assert time.monotonic() - began > 2
            feed.end()
    assert {query.get("precision") for _, query in fake.requests} == {precision}
    assert {each for each, _ in fake.requests} == {path}
    times = sorted({int(line.rpartition(" ")[2]) for line in fake.lines if line.startswith("swarm ")})
    assert times == list(range(times[0], times[-1] + 1))
    assert abs(times[-1] - time.time()) < 30  # seconds, not another unit


@pytest.mark.parametrize(
    ("token", "bucket", "said", "words"),
    [
        ("t0ken", "my org/other", "no such database or bucket", 'bucket "other" not found'),
        ("other", "my org/my bucket", "does not take the token", "unauthorized access"),
    ],
)
def test_a_wrong_bucket_and_a_wrong_token(
    swarm: Swarm, tmp_path: Path, token: str, bucket: str, said: str, words: str
) -> None:
    with starting(fake_v2()) as fake:
        options = ("--url {} --v2 {} -H {}", fake.url, bucket, swarm.manager.url)
        with feeding(tmp_path, *options, SKEP_INFLUX_TOKEN=token) as feed:
            assert words in feed.wait_said(said)


def test_a_redirect_takes_the_token_nowhere(swarm: Swarm, tmp_path: Path) -> None:
    with starting(fake_v3()) as fake, starting(fake_v3()) as elsewhere:
        fake.faults = [(307, {"Location": elsewhere.url}, {})]
        environment = {"SKEP_INFLUX_TOKEN": "t0ken"}
        options = ("--url {} --v3 {} -H {}", fake.url, "my db", swarm.manager.url)
        with feeding(tmp_path, *options, **environment) as feed:
            assert elsewhere.url in feed.wait_said("is the --url right?")
        assert elsewhere.requests == []


def test_https_by_an_authority_of_ones_own(swarm: Swarm, tmp_path: Path) -> None:
    make_certificates(tmp_path)
    with starting(FakeInflux("t0ken", "my db", certificates=tmp_path)) as fake:
        options = ("--url {} --v3 {} -H {}", fake.url, "my db", swarm.manager.url)
        with feeding(tmp_path, *options, SKEP_INFLUX_TOKEN="t0ken") as feed:
            assert "certificate" in feed.wait_said("cannot be reached").lower()
            assert fake.requests == []
        with feeding(
            tmp_path, *options, SKEP_INFLUX_TOKEN="t0ken", SKEP_INFLUX_CA=str(tmp_path / "ca.pem")
        ) as feed:
            wait_until("points", lambda: fake.lines)
            feed.end()


def test_what_cannot_begin_says_why() -> None:
    done = skep("monitor influx --url http://127.0.0.1:1 --v3 d")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "SKEP_INFLUX_TOKEN" in done.stderr


def test_a_swarm_that_is_away_is_said_and_awaited(tmp_path: Path, influx: InfluxServer) -> None:
    missing = f"unix://{tmp_path}/missing.sock"
    with feeding(tmp_path, "--url {} --v1 {} --timeout 500ms -H {}", influx.url, DATABASE, missing) as feed:
        assert "is skepd running there?" in feed.wait_said("cannot be had")
        assert isinstance(feed, Feed)
        assert feed.process.poll() is None
        assert feed.end().startswith("ended: 0 points")
