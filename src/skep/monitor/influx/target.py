"""Where points are written: InfluxDB's three APIs, which differ in a path, a word and a header. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from msgspec import Struct

from skep.runtime.errors import Invalid


class Target(Struct, frozen=True):
    """`write_url` takes points whose times are seconds. `scheme`: how a secret is shown (`Basic` for
    USER:PASSWORD). `create_url`, `create_query`: what makes the database, where that can be asked for."""

    write_url: str
    scheme: str
    name: str
    create_url: str = ""
    create_query: str = ""

    def headers(self, secret: str) -> Mapping[str, str]:
        """Returns what a request says of who asks; nothing where there is no secret."""
        if not secret:
            return {}
        shown = base64.b64encode(secret.encode()).decode() if self.scheme == "Basic" else secret
        return {"Authorization": f"{self.scheme} {shown}"}


def v1_target(url: str, database: str) -> Target:
    """InfluxDB 1, and VictoriaMetrics. The database's default retention policy is written to. `s`: any other
    word than s, ms, u and ns is taken for nanoseconds there, without an error. Errors: `Invalid`."""
    base, name = _base(url), _named(database, "a database: --v1 DB")
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return Target(
        f"{base}/write?{_query(db=name, precision='s')}",
        "Basic",
        f"database '{name}'",
        f"{base}/query",
        f'CREATE DATABASE "{quoted}"',
    )


def v2_target(url: str, org_and_bucket: str) -> Target:
    """InfluxDB 2. Errors: `Invalid`."""
    org, _, bucket = org_and_bucket.partition("/")
    org, bucket = (
        _named(org, "an organization and a bucket: --v2 ORG/BUCKET"),
        _named(bucket, "a bucket: --v2 ORG/BUCKET"),
    )
    query = _query(org=org, bucket=bucket, precision="s")
    return Target(f"{_base(url)}/api/v2/write?{query}", "Token", f"bucket '{bucket}' of '{org}'")


def v3_target(url: str, database: str) -> Target:
    """InfluxDB 3, by its own API: on its paths for older clients one bad line refuses all of a write.
    Errors: `Invalid`."""
    name = _named(database, "a database: --v3 DB")
    query = _query(db=name, precision="second")
    return Target(f"{_base(url)}/api/v3/write_lp?{query}", "Bearer", f"database '{name}'")


def _base(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises, where it is none
    except ValueError as error:
        raise Invalid(f"--url {url}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid(f"--url must be http://HOST:PORT or https://…, not '{url}'")
    if parts.username is not None or parts.password is not None:
        raise Invalid(
            "--url must not name a user or a password: everybody on this host would see it; --user has the"
            " name, SKEP_INFLUX_PASSWORD or SKEP_INFLUX_PASSWORD_FILE the password"
        )
    if parts.query or parts.fragment:
        raise Invalid(
            f"--url must have no '?' and no '#': --v1, --v2 and --v3 say what is written where, not '{url}'"
        )
    return urlunsplit((parts.scheme, parts.netloc, quote(parts.path.rstrip("/"), safe="/%"), "", ""))


def _named(name: str, what: str) -> str:
    if not name.strip():
        raise Invalid(f"name {what}")
    if not name.isprintable():
        raise Invalid(f"a name must not hold control characters: {name!r}")
    return name


def _query(**values: str) -> str:
    return urlencode(values, quote_via=quote)
