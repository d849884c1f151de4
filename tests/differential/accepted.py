"""The differences from Docker's swarm that are meant, each with its reason.

docs/compatibility.md lists the same (tests/unit/test_compatibility.py). One that no scenario shows any more fails
the whole run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .compare import Difference


@dataclass(frozen=True)
class Accepted:
    """`what` and `why` are the row in the document; the rest are patterns that a difference must match in full."""

    what: str
    why: str
    where: str
    scenario: str = ".*"
    step: str = ".*"
    docker: str = ".*"
    skep: str = ".*"
    engines: str = ".*"
    """A pattern of the engine's version (`20.10`, `28.5`): on others the difference is not there."""
    sometimes: bool = False
    """Depends on when Docker's parts run: a whole run need not show it."""

    def is_of(self, engine: str) -> bool:
        """Whether it is to be met beside an engine of that version."""
        return re.fullmatch(self.engines, engine) is not None

    def matches(self, difference: Difference, engine: str) -> bool:
        pairs = (
            (self.engines, engine),
            (self.scenario, difference.scenario),
            (self.step, difference.step),
            (self.where, difference.where),
            (self.docker, str(difference.docker)),
            (self.skep, str(difference.skep)),
        )
        return all(re.fullmatch(pattern, text, re.DOTALL) for pattern, text in pairs)


_OLD = r"20\.10"
_NEW = r"2[5-9]\..*"
_TEXT = r"body\.message|stderr|text"
ACCEPTED: tuple[Accepted, ...] = (
    Accepted(
        "`/_ping` has the header `Swarm`",
        "as Docker has since API 1.42",
        where="Swarm",
        docker="None",
        skep="inactive|active/manager",
        engines=_OLD,
    ),
    Accepted(
        "API versions below 1.24 are refused",
        "as Docker does since 25.0",
        where="status|Content-Type|body|body.MinAPIVersion",
        step="GET /(version|services)",
        docker=r"1\.12|200|\[\]|\(absent\)|application/json",
        skep=r"1\.24|400|.*client version 1\.23 is too old.*|text/plain; charset=utf-8",
        engines=_OLD,
    ),
    Accepted(
        "`invalid filter 'x'`, where the engine says `Invalid filter 'x'`",
        "as Docker writes it since 23.0",
        where=_TEXT,
        docker=r"(Error response from daemon: )?Invalid filter.*",
        skep=r"(Error response from daemon: )?invalid filter.*",
        engines=_OLD,
    ),
    Accepted(
        "JSON that cannot be read: the words",
        "the text says where in the request and what was expected, not which Go type",
        where=_TEXT,
        docker=r"(invalid JSON: )?(json: cannot unmarshal|illegal base64|unexpected end of JSON|invalid character|"
        "got EOF).*|invalid filter|mismatched .*",
        skep=r"invalid (request body|JSON in the request body|filters).*|the request body must be .*|mismatched .*|"
        "got EOF while reading request body|illegal base64 data at input byte .*",
    ),
    Accepted(
        "an update without a version: the words",
        "the text says what is missing, not which Go function failed",
        where=_TEXT,
        docker=r"invalid \w+ version '.*': strconv.ParseUint: .*",
        skep=r"invalid \w+ version '.*': an update needs the object's version",
    ),
    Accepted(
        "`TLSInfo.CertIssuerSubject` is in UTF-8, not a PrintableString",
        "RFC 5280 asks for it; the name is the same",
        where=r".*CertIssuerSubject|stdout",
        docker=r"( Issuer Subject:\t)?MBMxETAPBgNVBAMTCHN3YXJtLWNh",
        skep=r"( Issuer Subject:\t)?MBMxETAPBgNVBAMMCHN3YXJtLWNh",
    ),
    Accepted(
        "`docker service ps` shows a host port once",
        "Docker shows it once for IPv4 and once for IPv6",
        where="stdout",
        step="docker service ps .*",
        docker=r"\(absent\)|(.*)(\*:\d+->\d+/\w+),\2.*",
        skep=r"\(absent\)|[^,]*\*:\d+->\d+/\w+",
    ),
    Accepted(
        "settings of the swarm that an update leaves out are shown with the defaults in force",
        "Docker shows what was stored: nothing, or zeros",
        where=r".*\.(Raft|Dispatcher)\.\w+",
        docker=r"0|\(absent\)",
        skep="[1-9][0-9]*",
    ),
    Accepted(
        "a node that was updated is still found by `membership=accepted`",
        "Docker forgets a node's membership when it is updated",
        where="stdout",
        step="docker node ls -q --filter membership=([aA]ccepted|pending)",
    ),
    Accepted(
        "networks show `EnableIPv4`",
        "as Docker does since API 1.48",
        where=r".*\.EnableIPv4",
        docker=r"\(absent\)",
        skep="True",
        engines=r"2[0-7]\..*",
    ),
    Accepted(
        "a network whose subnet another has is refused",
        "Docker makes it and never gives it the subnet: services on it do not start",
        where="exit|stdout|stderr",
        scenario="networks wrongly",
        step="docker network (create .* (two|three)|ls .*)",
    ),
    Accepted(
        "a network that services are attached to is not `dangling`",
        "Docker takes it for that while its tasks run",
        where="stdout",
        scenario="network ls filtered",
        step=".*dangling=.*",
        docker=r"one swarm|\(absent\)",
        skep=r"one swarm|\(absent\)",
    ),
    Accepted(
        "mounts of cluster volumes are 501",
        "skep has no CSI",
        where=_TEXT,
        docker='.*(invalid MountType: "cluster"|name conflicts with an existing object: service web already exists)',
        skep=".*mounts of type cluster are not supported by skep yet",
    ),
    Accepted(
        "cluster volumes are 501",
        "skep has no CSI; an engine of before API 1.42 makes a local volume, and knows no `PUT`",
        where=r"status|body.*",
        scenario="volumes by the API",
        step="(PUT /volumes/one.*|POST /volumes/create)",
        skep=r"501|cluster volumes are not supported by skep|\(absent\)|\{'message': .*\}",
    ),
    Accepted(
        "the mode `dnsrr` is in a new service's `Endpoint`",
        "Docker shows it only where there were ports or virtual addresses before",
        where=r"body\.Endpoint\.Spec\.Mode",
        docker=r"\(absent\)",
        skep="dnsrr",
    ),
    Accepted(
        "logs say what they are: `Content-Type`",
        "as Docker does since API 1.42",
        where="Content-Type",
        step="GET /services/.*/logs.*",
        docker="None",
        skep=r"application/vnd\.docker\..*",
        engines=_OLD,
    ),
    Accepted(
        "a new network has no event `update`",
        "Docker tells that its allocator wrote the network again",
        where="events",
        scenario="events of networks",
        docker=r'\{"Action": "update".*',
        skep=r"\(absent\)",
        sometimes=True,
    ),
    Accepted(
        "what a node says of itself anew is no event",
        "Docker has an `update` without a change whenever a node registers again",
        where="events",
        scenario="events of nodes",
        docker=r'(\{"Action": "update", "Actor": \{"Attributes": \{"name": "\w+"\}[^\n]*\n?)+',
        skep=r"\(absent\)",
        sometimes=True,
    ),
    Accepted(
        "a name that is empty: the words",
        "the text says what is wrong with it",
        where=r"body\.message",
        docker="invalid name:",
        skep="invalid name: name is empty",
        engines=r"2[0-7]\..*",
    ),
    Accepted(
        "names that are made up",
        "`service-` and a part of the id says more than a famous name",
        where="body.ID",
        docker=r"<service \w+_\w+>",
        skep=r"<service service-\w+>",
    ),
    Accepted(
        "warnings where something of a service is unknown or has no effect",
        "Docker says nothing",
        where=r"body\.Warnings|stderr|value\.Warnings",
        docker=r"\(absent\)|None",
        skep=r".*(not known to skep|has an effect|not supported yet).*",
    ),
    Accepted(
        "a service that could not work is refused",
        "Docker takes it, and its tasks fail or ignore what was asked",
        where=r"status|body\.(ID|message|Warnings)",
        scenario="create: what cannot work",
        docker=r"201|<service \w+>|\(absent\)|None",
    ),
    Accepted(
        "templates that cannot be read: the words",
        "the text says what there is, not which Go type lacks it",
        where=r"body\.message",
        docker=r".*expanding (hostname|env) failed: .*",
        skep=r".*expanding (hostname|env) failed: .*",
    ),
    Accepted(
        "what is unset or unknown in `RestartPolicy`, `Privileges`, `Preferences` and `Isolation` is shown as given",
        "Docker shows its defaults, nulls or nothing",
        where=r".*\.(RestartPolicy\.\w+|Privileges\..*|Placement\.Preferences|Isolation)",
        docker=r"any|0|None||default|\(absent\)",
        skep=r"\(absent\)|nonsense|\[\{\}\]",
    ),
    Accepted(
        "services of plugins are 501",
        "skep has none",
        where=r"status|body\.message",
        docker="400|plugins must not use replicated mode",
        skep="501|services of plugins are not supported by skep yet",
    ),
    Accepted(
        "tasks' addresses on a network begin one later",
        "each node that has tasks there holds a gateway of its own",
        where=r"body\[\d\]\.NetworksAttachments\[\d\]\.Addresses",
        scenario="services on networks",
    ),
    Accepted(
        "a network's `Containers` are containers",
        "Docker counts its load balancer among them",
        where="stdout",
        scenario="services on networks",
        step=r".*len \.Containers.*",
        docker="3",
        skep="2",
    ),
    Accepted(
        "a container on a network that nobody has: the words",
        "the engine's own when it is to be started; the swarm's where it is connected",
        where="stderr",
        step="docker run .*",
        docker=r"docker: Error response from daemon: (failed to set up container networking: )?"
        r"Could not attach to network (\w+): rpc error: code = NotFound desc = network \2 not found\.?",
        skep=r"docker: Error response from daemon: (failed to set up container networking: )?network \w+ not found\.?",
    ),
    Accepted(
        "a container on a network of the swarm's that is not attachable is refused when it is made",
        "Docker makes it, prints its id and refuses to start it",
        where="stdout|stderr",
        step="docker run .*",
        docker=r"<hash>|\(absent\)|docker: .*failed to set up container networking: Could not attach to network .*",
        skep=r"\(absent\)|See 'docker run --help'\.|docker: Error response from daemon: Could not attach to network .*",
    ),
    Accepted(
        "services that use a secret or a config are named in order",
        "Docker's order is that of their ids, which are made up",
        where=_TEXT,
        docker=r".* is in use by the following services: \w+, \w+",
        skep=r".* is in use by the following services: two, web",
        sometimes=True,
    ),
    Accepted(
        "what runs on a node that is down is not counted",
        "nobody knows whether it does; Docker counts it beside what replaced it",
        where="stdout",
        scenario="a worker (leaves|dies and comes back)",
        step="docker service ls",
        docker=r".* 3/2 .*",
        skep=r".* 2/2 .*",
        sometimes=True,
    ),
    Accepted(
        "of two managers that answer one may leave, the other holds the swarm",
        "who leaves is taken out of the quorum first, which Docker asks its users to do",
        where="stderr",
        step="docker swarm leave.*",
        docker=r".* (Removing this node leaves 1 managers out of 2|Doing so may lose the consensus).*",
        sometimes=True,
    ),
    Accepted(
        "a request that is wrong is 400 or 404",
        "Docker answers 500 where it forgot to say whose fault it is",
        where="status",
        docker="500",
        skep="400|404",
    ),
    Accepted(
        "`Warnings` of a new service is null where there are none",
        "as Docker does since 23.0",
        where=r"body\.Warnings",
        step="POST /services/create",
        docker=r"\(absent\)",
        skep="None",
        engines=_OLD,
    ),
    Accepted(
        "tasks have `Volumes`, null",
        "as Docker does since 23.0; skep has no cluster volumes",
        where=r".*\.Volumes",
        docker=r"\(absent\)",
        skep="None",
        engines=_OLD,
    ),
    Accepted(
        "`Privileges.NoNewPrivileges` is shown",
        "as Docker does since 26.0",
        where=r".*\.Privileges\.NoNewPrivileges",
        docker=r"\(absent\)",
        skep="False",
        engines=_OLD,
    ),
    Accepted(
        "subnets, ranges and gateways of a new network that do not fit are refused, all that is wrong at once",
        "as Docker does since 25.0; before, it took some and gave nothing out of them, in other words for others",
        where=rf"exit|stdout.*|status|body.*|{_TEXT}",
        scenario="network options|networks wrongly|networks by the API|networks with wrong subnets by the API",
        step="docker network (create|inspect) .*|POST /networks/create",
        skep=r".*invalid network config:.*|\(absent\)|1|400|.*network within6 not found|Error: No such network: within6|",
        engines=_OLD,
    ),
    Accepted(
        "a network without IPv4 is refused",
        "as Docker does since 28.0; before, it does not know the option",
        where="exit|stdout|stderr",
        step="docker network create -d overlay --ipv4=false .*",
        skep=r"1|\(absent\)|Error response from daemon: IPv4 cannot be disabled in a Swarm scoped network",
        engines=r"2[0-7]\..*",
    ),
    Accepted(
        "a network of a configuration that the node does not have is refused",
        "as Docker does since 28.0; before, each task on it was rejected",
        where="exit|stdout|stderr|status|body.*",
        scenario="a network of a configuration that nobody has",
        skep=r'1|404|\(absent\)|.*configuration network "nobody" does not exist|',
        engines=r"2[0-7]\..*",
    ),
    Accepted(
        "an overlay network of IPv6 is refused",
        "skep leads IPv4 only; Docker 28.5 makes it and never gives it any subnet: services on it do not start",
        where="exit|stdout|stderr",
        step="docker network create -d overlay --ipv6 .*",
        skep=r"1|\(absent\)||Error response from daemon: IPv6 is not supported on overlay networks yet: .*",
    ),
    Accepted(
        "a container that is taken off a network twice: the words",
        "it is said which container is not on it; Docker says the network is not there, as far as the node goes",
        where="stderr",
        step="docker network disconnect one alone",
        docker="Error response from daemon: network one not found",
        skep="Error response from daemon: container <hash> is not connected to network one",
        engines=r"28\..*",
        sometimes=True,
    ),
    Accepted(
        "a volume that nobody has: the words",
        "the engine's own; Docker's swarm says so of its cluster volumes since 23.0",
        where="stderr",
        step="docker volume rm .*",
        docker=r"(Error response from daemon: volume \w+ not found\n?)+",
        skep=r"(Error response from daemon: get \w+: no such volume\n?)+",
        engines=_NEW,
    ),
    Accepted(
        "a manager that cannot be reached when a node joins: a colon",
        "as Docker writes it before 25.0",
        where=_TEXT,
        scenario="joining nobody",
        docker=r".*Error while dialing: dial tcp.*",
        skep=r".*Error while dialing dial tcp.*",
        engines=r"2[5-9]\..*",
    ),
    Accepted(
        "a worker that is asked for a network of the swarm says where to make it",
        "Docker says since 28.0 that it is no manager, as if it were in no swarm",
        where=_TEXT,
        scenario="what a worker is refused",
        step=".*network.*",
        docker=".*This node is not a swarm manager. Use .*",
        skep=".*Cannot create a multi-host network from a worker node.*",
        engines=_NEW,
    ),
    Accepted(
        "clients below API 1.24 are told so in plain text",
        "as Docker does since 28.0",
        where="Content-Type|body",
        scenario="versions",
        step="GET /services",
        docker=r"application/json|\{'message': .*client version 1\.23 is too old.*",
        skep=r"text/plain; charset=utf-8|\[.client version 1\.23 is too old.*",
        engines=r"2[5-7]\..*",
    ),
    Accepted(
        "a new swarm's networks come from its own pools",
        "Docker 26 goes on with those of the swarm that the node was in before",
        where=r".*\.(Subnet|Gateway|Addr)",
        docker=r"172\.30\.\d+\.\d+(/26)?",
        skep="<address>(/24)?",
        engines=r"26\..*",
        sometimes=True,
    ),
)
