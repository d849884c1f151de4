"""What Grafana is given: boards, and files by which it finds them and the databases.

The boards' JSON beside this file is made by `python -m scripts.boards`, which has their queries.
"""

from __future__ import annotations

from importlib import resources
from typing import Literal

Source = Literal["prometheus", "influx"]
SOURCES: tuple[Source, ...] = ("prometheus", "influx")
FOLDER = "skep"  # of boards, as Grafana shows it
BOARDS_DIR = (
    "/etc/grafana/provisioning/dashboards/skep"  # where Grafana's own image, and Debian's package, look
)
DATABASE = "telegraf"  # as Telegraf's `outputs.influxdb` has it


def boards(source: Source) -> dict[str, str]:
    """Returns the boards' JSON by the names of their files."""
    found = {}
    for file in resources.files(__package__).iterdir():
        if file.name.endswith(f"-{source}.json"):
            found[file.name] = file.read_text(encoding="utf-8")
    return dict(sorted(found.items()))


def datasources(urls: dict[Source, str], database: str = DATABASE) -> str:
    """Returns Grafana's provisioning file for databases; `urls` are as Grafana reaches them. What the boards
    ask goes by `uid`, whatever else Grafana has."""
    lines = ["# Made by skep: how Grafana reaches what skep's boards ask.", "apiVersion: 1", "datasources:"]
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


def providers(directory: str = BOARDS_DIR) -> str:
    """Returns Grafana's provisioning file for boards, which are in that directory of Grafana's."""
    return f"""# Made by skep: where its boards are.
apiVersion: 1
providers:
  - name: skep
    folder: {FOLDER}
    type: file
    allowUiUpdates: false
    options:
      path: {quoted(directory)}
"""


def quoted(text: str) -> str:
    """Returns a text for YAML. In Grafana's files a dollar sign begins a variable, so it is doubled."""
    return "'" + text.replace("'", "''").replace("$", "$$") + "'"
