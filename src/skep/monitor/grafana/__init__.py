"""What Grafana is given: boards, and files by which it finds them and the databases.

The boards' JSON beside this file is made by `python -m scripts.boards`, which has their queries.
"""

from __future__ import annotations

from importlib import resources
from typing import Literal

import msgspec

from skep.monitor.yaml_text import Value, yaml_of

Source = Literal["prometheus", "influx"]
SOURCES: tuple[Source, ...] = ("prometheus", "influx")
FOLDER = "skep"  # of boards, as Grafana shows it
PROVISIONING = "/etc/grafana/provisioning"  # where Grafana's image and its packages look for files
MARK = "Made by skep"
DATABASE = "telegraf"  # as Telegraf's `outputs.influxdb` has it


def boards(source: Source) -> dict[str, str]:
    """Returns the boards' JSON by the names of their files."""
    found = {}
    for file in resources.files(__package__).iterdir():
        if file.name.endswith(f"-{source}.json"):
            found[file.name] = file.read_text(encoding="utf-8")
    return dict(sorted(found.items()))


def provisioning(urls: dict[Source, str], database: str, seen_as: str = PROVISIONING) -> dict[str, str]:
    """Returns all that Grafana needs, by paths in its directory of provisioning, its own `seen_as`."""
    files = {
        "datasources/skep.yaml": datasources(urls, database),
        "dashboards/skep.yaml": providers(f"{seen_as}/dashboards/skep"),
    }
    for source in urls:
        files |= {f"dashboards/skep/{name}": text for name, text in boards(source).items()}
    return files


def datasources(urls: dict[Source, str], database: str = DATABASE) -> str:
    """Returns Grafana's provisioning file for databases; `urls` are as Grafana reaches them. What the boards
    ask goes by `uid`, whatever else Grafana has."""
    value: dict[str, Value] = {
        "apiVersion": 1,
        "datasources": [
            _datasource(source, _dollars(url), _dollars(database)) for source, url in urls.items()
        ],
    }
    return yaml_of(value, f"{MARK}: how Grafana reaches what skep's boards ask.")


def _datasource(source: Source, url: str, database: str) -> dict[str, Value]:
    # `timeInterval`: how often there is something new.
    own: dict[str, Value]
    if source == "prometheus":
        name, kind = "skep (Prometheus)", "prometheus"
        own = {"timeInterval": "15s"}
    else:
        name, kind = "skep (InfluxDB)", "influxdb"
        own = {"timeInterval": "10s", "dbName": database}
    return {
        "name": name,
        "uid": f"skep-{kind}",
        "type": kind,
        "access": "proxy",
        "url": url,
        "jsonData": own,
    }


def providers(directory: str) -> str:
    """Returns Grafana's provisioning file for boards, which are in that directory of Grafana's."""
    provider: dict[str, Value] = {
        "name": "skep",
        "folder": FOLDER,
        "type": "file",
        "allowUiUpdates": False,
        "options": {"path": _dollars(directory)},
    }
    return yaml_of({"apiVersion": 1, "providers": [provider]}, f"{MARK}: where its boards are.")


def _dollars(text: str) -> str:
    """Returns a text for Grafana's files, in which a dollar sign begins a variable."""
    return text.replace("$", "$$")


def is_own(text: str) -> bool:
    """Returns whether a file that is there is one of these, of this skep or an earlier one."""
    if text.startswith(f"# {MARK}"):
        return True
    try:
        return str(msgspec.json.decode(text, type=_BoardHead).uid).startswith("skep-")
    except msgspec.MsgspecError:
        return False


class _BoardHead(msgspec.Struct):
    uid: str
