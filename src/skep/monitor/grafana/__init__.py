"""What Grafana is given: boards, and files by which it finds them and the databases.

The boards' JSON beside this file is made by `python -m scripts.boards`, which has their queries.
"""

from __future__ import annotations

from importlib import resources
from typing import Literal

import msgspec

Source = Literal["prometheus", "influx"]
SOURCES: tuple[Source, ...] = ("prometheus", "influx")
FOLDER = "skep"  # of boards, as Grafana shows it
PROVISIONING = "/etc/grafana/provisioning"  # where Grafana's image and its packages look for files
MARK = "# Made by skep"
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
    lines = [f"{MARK}: how Grafana reaches what skep's boards ask.", "apiVersion: 1", "datasources:"]
    for source, url in urls.items():
        lines += _datasource(source, url, database)
    return "\n".join(lines) + "\n"


def _datasource(source: Source, url: str, database: str) -> list[str]:
    if source == "prometheus":
        own = ["    jsonData:", "      httpMethod: POST", "      timeInterval: 10s"]
        name, kind = "skep (Prometheus)", "prometheus"
    else:
        own = ["    jsonData:", f"      dbName: {quoted(database)}", "      timeInterval: 10s"]
        name, kind = "skep (InfluxDB)", "influxdb"
    uid = f"skep-{kind}"
    head = [f"  - name: {name}", f"    uid: {uid}", f"    type: {kind}", "    access: proxy"]
    return [*head, f"    url: {quoted(url)}", *own]


def providers(directory: str) -> str:
    """Returns Grafana's provisioning file for boards, which are in that directory of Grafana's."""
    return f"""{MARK}: where its boards are.
apiVersion: 1
providers:
  - name: skep
    folder: {FOLDER}
    type: file
    allowUiUpdates: false
    options:
      path: {quoted(directory)}
"""


def is_own(text: str) -> bool:
    """Returns whether a file that is there is one of these, of this skep or an earlier one."""
    if text.startswith(MARK):
        return True
    try:
        return str(msgspec.json.decode(text, type=_BoardHead).uid).startswith("skep-")
    except msgspec.MsgspecError:
        return False


class _BoardHead(msgspec.Struct):
    uid: str


def quoted(text: str) -> str:
    """Returns a text for YAML. In Grafana's files a dollar sign begins a variable, so it is doubled."""
    return "'" + text.replace("'", "''").replace("$", "$$") + "'"
