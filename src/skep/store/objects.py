"""What the store holds but tasks, in memory: the swarm, nodes, services, networks, secrets, configs.

Everything handed out is frozen or must not be changed by the reader. `store.view` has the tasks, too.
"""

from __future__ import annotations

from skep.model.aside import NODE, SERVICE, Aside, AsideKey, Unreadable
from skep.model.attachment import Attachment
from skep.model.cluster import Cluster
from skep.model.material import KINDS, Material
from skep.model.network import PREDEFINED, Network, ingress_of
from skep.model.node import NODE_UNKNOWN, READY, Node, NodeStatus, NodeTls
from skep.model.service import RemovedService, Service, TaskTemplate
from skep.store.allocations import Allocations
from skep.store.counts import NodeCounts, ServiceCounts
from skep.store.demand import ResourceRequest
from skep.store.host_networks import KnownHostNetworks
from skep.store.interfaces import Member


class Objects:
    """The part of a `View` without tasks."""

    def __init__(self) -> None:
        self.revision = 0
        self.incarnation = ""  # which history of writes it is (`store.codec`)
        self.led_since = 0.0  # when this leader began: what was to be waited for is waited for anew
        self.cluster: Cluster | None = None
        self.members: tuple[Member, ...] = ()  # who holds the store, as the leader last saw
        self.reachable: frozenset[str] = frozenset()  # node ids of members that answer
        self.nodes: dict[str, Node] = {}
        self.node_status: dict[str, NodeStatus] = {}
        self.node_counts = NodeCounts()
        self.node_tls: dict[str, NodeTls] = {}  # as the nodes say it, to this leader
        self.services: dict[str, Service] = {}
        self.service_counts = ServiceCounts()
        self.tasks_wanted = 0  # by all services together, those on each node not counted
        self.service_ids: dict[str, str] = {}  # name -> id
        self.service_names: dict[str, str] = {}  # name in lower case -> id: no two may differ by case only
        self.removed: dict[str, RemovedService] = {}
        self.networks: dict[str, Network] = {}
        self.network_ids: dict[str, str] = {}  # name -> id
        self.materials: dict[str, Material] = {}  # secrets and configs
        # kind -> name in lower case -> id
        self.material_ids: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
        self.allocations = Allocations()  # addresses and ports that are given out
        self.hosts = KnownHostNetworks()  # what nodes' hosts have of their own, as they say it to this leader
        self.attached: dict[str, dict[str, Attachment]] = {}  # node -> id -> a single container on a network
        self._demands: dict[tuple[str, int], ResourceRequest] = {}
        self.asides: dict[AsideKey, Aside] = {}  # services and nodes that nothing is decided about
        self.quarantine: dict[str, Unreadable] = {}  # key -> what of the store cannot be read
        self.half_known: set[str] = set()  # nodes of whose tasks some cannot be read
        for network in PREDEFINED:
            self.put_network(network)

    # Reading

    def is_aside(self, kind: str, object_id: str) -> bool:
        """True while nothing is decided about a service or node."""
        return bool(self.asides) and (kind, object_id) in self.asides

    def why_aside(self, service_id: str, node_id: str = "") -> str:
        """Returns why nothing is decided about a task of that service on that node; an empty text where it
        is."""
        if not self.asides:
            return ""
        aside = self.asides.get((SERVICE, service_id)) or self.asides.get((NODE, node_id))
        return aside.sentence if aside is not None else ""

    def node_state(self, node_id: str) -> NodeStatus:
        return self.node_status.get(node_id, NODE_UNKNOWN)

    def is_member(self, node_id: str) -> bool:
        """True when the node holds a copy of the store."""
        return any(member.node_id == node_id for member in self.members)

    def is_learner(self, node_id: str) -> bool:
        """True when the node's copy of the store has no vote (yet)."""
        return any(member.node_id == node_id and member.is_learner for member in self.members)

    def reachability_of(self, node_id: str) -> str:
        """Returns Docker's word for a manager; an empty text for a node that holds no copy of the store."""
        if not self.is_member(node_id):
            return ""
        if self.is_learner(node_id):
            return "unknown"  # Docker's own third word: it does not count as a manager yet
        return "reachable" if node_id in self.reachable else "unreachable"

    def role_of(self, node: Node) -> str:
        """Returns what the node is to act as: a manager stays one until its copy of the store is let go."""
        return "manager" if node.spec.role == "manager" or self.is_member(node.id) else "worker"

    def manager_addresses(self, first: str = "") -> list[str]:
        """Returns where managers are reached (host:port), that of node `first` before the others."""
        managers = [n for n in self.nodes.values() if n.manager_addr and self.is_member(n.id)]
        return [n.manager_addr for n in sorted(managers, key=lambda n: (n.id != first, n.id))]

    def is_schedulable(self, node: Node) -> bool:
        """True when new tasks may go to the node."""
        return node.spec.availability == "active" and self.node_state(node.id).state == READY

    def is_job(self, service_id: str) -> bool:
        """True for a job, also while it is being removed."""
        service = self.services.get(service_id)
        if service is not None:
            return service.spec.is_job
        removed = self.removed.get(service_id)
        return removed is not None and removed.is_job

    def template(self, service_id: str, version: int) -> TaskTemplate | None:
        """Returns what tasks of that version are made of, also while the service is being removed."""
        service = self.services.get(service_id)
        if service is not None:
            return service.template_of(version)
        removed = self.removed.get(service_id)
        if removed is None or not removed.templates:
            return None
        for template in removed.templates:
            if template.version == version:
                return template
        return removed.templates[-1]

    def material(self, kind: str, material_id: str, name: str) -> Material | None:
        """Returns the secret or config that a service refers to: its name has to be right as well."""
        found = self.materials.get(material_id)
        is_meant = found is not None and found.kind == kind and found.spec.name == name
        return found if is_meant else None

    def demand(self, service_id: str, spec_version: int) -> ResourceRequest:
        """Returns what a task of that version takes, also while its service is being removed."""
        key = (service_id, spec_version)
        found = self._demands.get(key)
        if found is None:
            template = self.template(service_id, spec_version)
            found = ResourceRequest(template, self._networks_of(template))
            if template is not None:
                self._demands[key] = found
        return found

    def _networks_of(self, template: TaskTemplate | None) -> tuple[str, ...]:
        if template is None or not (template.ports or template.spec.networks or template.networks):
            return ()
        found: dict[str, None] = {}
        if any(port.publish_mode in ("", "ingress") for port in template.endpoint.ports):
            ingress = ingress_of(self.networks.values())
            if ingress is not None:
                found[ingress.id] = None
        for attached in template.spec.networks or template.networks:
            if attached.target in self.allocations.books:
                found[attached.target] = None
        return tuple(found)

    # Changing: durable objects after their commit, and what nodes say

    def begin(self, led_since: float, incarnation: str, own_id: str, members: tuple[Member, ...]) -> None:
        """A leader begins with it. Of the members it knows only that it reaches itself."""
        self.led_since, self.incarnation = led_since, incarnation
        self.put_members(members, frozenset({own_id}))

    def put_members(self, members: tuple[Member, ...], reachable: frozenset[str]) -> None:
        """Who holds the store, and which of them answer."""
        self.members, self.reachable = members, reachable

    def put_incarnation(self, incarnation: str) -> None:
        self.incarnation = incarnation

    def saw_revision(self, revision: int) -> None:
        """The store has it, whatever was seen of it first."""
        self.revision = max(self.revision, revision)

    def put_cluster(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def put_node(self, node: Node) -> None:
        known = self.nodes.get(node.id)
        if known is None or known.version <= node.version:
            self._count_node(node.id, -1)
            self.nodes[node.id] = node
            self._count_node(node.id, +1)

    def drop_node(self, node_id: str) -> None:
        self._count_node(node_id, -1)
        self.nodes.pop(node_id, None)
        self.node_status.pop(node_id, None)
        self.node_tls.pop(node_id, None)
        self.hosts.drop_node(node_id)
        for attachment in list(self.attached.get(node_id, {}).values()):
            self.drop_attachment(attachment)

    def put_node_status(self, node_id: str, status: NodeStatus) -> None:
        self._count_node(node_id, -1)
        self.node_status[node_id] = status
        self._count_node(node_id, +1)

    def _count_node(self, node_id: str, sign: int) -> None:
        """Called with -1 before and +1 after a change."""
        self.node_counts.count(self.nodes.get(node_id), self.node_state(node_id).state, sign)

    def put_node_tls(self, node_id: str, tls: NodeTls) -> None:
        self.node_tls[node_id] = tls

    def put_service(self, service: Service) -> None:
        known = self.services.get(service.id)
        if known is None or known.version <= service.version:
            self.tasks_wanted += service.spec.tasks_wanted - (known.spec.tasks_wanted if known else 0)
            self.service_counts.count(known, -1)
            self.service_counts.count(service, +1)
            self.services[service.id] = service
            self.service_ids[service.spec.name] = service.id
            self.service_names[service.spec.name.lower()] = service.id
            self.allocations.settle(service.id, service.endpoint)

    def remove_service(self, removed: RemovedService) -> None:
        """The service is gone for users; its tasks are on their way out."""
        service = self.services.pop(removed.id, None)
        if service is not None:
            self.tasks_wanted -= service.spec.tasks_wanted
            self.service_counts.count(service, -1)
            self.service_ids.pop(service.spec.name, None)
            self.service_names.pop(service.spec.name.lower(), None)
            self.allocations.settle(service.id, None)
        self.removed[removed.id] = removed

    def drop_removed(self, service_id: str) -> None:
        self.removed.pop(service_id, None)
        for key in [k for k in self._demands if k[0] == service_id]:
            del self._demands[key]

    def put_network(self, network: Network) -> None:
        known = self.networks.get(network.id)
        if known is None or known.version <= network.version:
            self.networks[network.id] = network
            self.network_ids[network.spec.name] = network.id
            self.allocations.add_network(network)
            self.hosts.put_network(network)

    def drop_network(self, network_id: str) -> None:
        network = self.networks.pop(network_id, None)
        self.allocations.drop_network(network_id)
        self.hosts.drop_network(network_id)
        if network is not None and self.network_ids.get(network.spec.name) == network_id:
            del self.network_ids[network.spec.name]

    def put_attachment(self, attachment: Attachment) -> None:
        self.attached.setdefault(attachment.node_id, {})[attachment.id] = attachment
        self.allocations.hold_attached(attachment)

    def drop_attachment(self, attachment: Attachment) -> None:
        of_node = self.attached.get(attachment.node_id, {})
        if of_node.pop(attachment.id, None) is not None and not of_node:
            del self.attached[attachment.node_id]
        self.allocations.release(attachment.address, attachment)

    def put_material(self, material: Material) -> None:
        known = self.materials.get(material.id)
        if known is None or known.version <= material.version:
            self.materials[material.id] = material
            self.material_ids[material.kind][material.spec.name.lower()] = material.id

    def drop_material(self, material_id: str) -> None:
        material = self.materials.pop(material_id, None)
        if material is not None:
            self.material_ids[material.kind].pop(material.spec.name.lower(), None)
