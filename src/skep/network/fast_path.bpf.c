/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The fast path of TCP between containers of one overlay network: fast_path.py says what it is for, and what
 * keeps it right. `scripts/bpf.sh` compiles it; what came of that is beside it, for hosts have no compiler.
 *
 * `skep_sent` is run for each packet that a container gives its host, `skep_came` for each that comes out of a
 * tunnel. What they do not know goes on to other programs, the bridge and the host's rules. From Linux 5.10 on
 * (bpf_redirect_peer). Addresses and ports are as on the wire. A skepd takes over its predecessor's maps where
 * they have the same names and sizes: who changes what is in one gives it another name.
 */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define OTHER_WAY TC_ACT_UNSPEC
#define AF_INET 2
#define PART bpf_htons(0x3fff) /* of a packet: more parts follow, or came before */
#define SECOND_NS 1000000000ULL
/* How long a client's port that began a connection to a service by the rules begins none by the fast path. */
#define LED_NS (60 * SECOND_NS)
/* Until what was found is looked for again: a quarter of a second where the kernel ticks 1,000 times a second, 2.5 s
 * where it ticks 100 times. Ticks, as a clock's time for each packet would cost it a third more. */
#define LOOK_TICKS 250
#define TASKS_MAX 512 /* of a service; what has more is led by the rules */

/* A container's port of a bridge; its key is its device's number. */
struct port {
	__u32 subnet, mask;
	__u32 own; /* the host's address on the network: nobody else sends as it */
	__u32 bridge, tunnel;
	__u8 mac[ETH_ALEN]; /* the bridge's: containers send to it what is not on their own node */
	__u16 unused;
	__u64 there; /* when its device was there last, in ticks; the program's own */
};

/* A service's tasks that take connections; its key is its own address. */
struct service {
	__u32 count, first; /* the task whose turn is first: not the same one on all nodes */
	__u32 tasks[TASKS_MAX];
};

/* What of a service's was led here, as its clients' bytes and answers. */
struct counts {
	__u64 begun, received, sent;
};

/* A connection as one of its containers on this host sees it. */
struct flow_id {
	__u32 near, far;
	__u16 near_port, far_port;
};

/* One to a service's address is two: as its client sees it, and as the task does. Is the task on another node,
 * the second is as the client would see it, had it asked the task itself: so come the answers. */
enum kind { DIRECT, ASKS, ANSWERS };

/* Whose packet it is. Of a direct connection the near container counts as the client. */
enum side { CLIENT, SERVER };

#define ENDED(side) (1 << (side))
#define HEARD(side) (4 << (side)) /* its end was acknowledged */
#define IS_OVER (HEARD(CLIENT) | HEARD(SERVER))

struct flow {
	__u64 begun_ns;
	__u64 seen_ns; /* something was sent by the near container, then or a little later */
	__u64 looked; /* in ticks */
	__u32 port, to; /* devices: the near container's, and the far one's where that is here, else 0 */
	__u32 other; /* the task's address where the client asks, the service's where the task answers */
	__u8 near_mac[ETH_ALEN], far_mac[ETH_ALEN];
	__u16 kind, ended;
	__u32 client_end, server_end; /* the sequence number behind an end (FIN) */
};

struct home {
	__u32 port;
	__u8 mac[ETH_ALEN];
	__u16 unused;
};

struct client {
	__u32 address, port;
};

/* fast_path.py gives reasons for the bounds. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct port);
} skep_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct service);
} skep_services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct counts);
} skep_counts SEC(".maps");

/* Not one that forgets (LRU): a container that begins very many would end others' connections to services. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__type(key, struct flow_id);
	__type(value, struct flow);
} skep_flows SEC(".maps");

/* How many connections did not fit. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} skep_full SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct home);
} skep_homes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct client);
	__type(value, __u64);
} skep_led SEC(".maps");

struct packet {
	struct ethhdr *eth;
	struct iphdr *ip;
	struct tcphdr *tcp;
};

#define HEADERS (sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct tcphdr))

/* True for a whole packet of TCP's, without options of IP's, that may go further: of one that may not, routing
 * tells its sender. */
static __always_inline int is_whole(struct __sk_buff *skb, struct packet *packet)
{
	if (skb->protocol != bpf_htons(ETH_P_IP))
		return 0;
	if (skb->data + HEADERS > skb->data_end && bpf_skb_pull_data(skb, HEADERS) < 0)
		return 0;
	void *data = (void *)(long)skb->data;
	if (data + HEADERS > (void *)(long)skb->data_end)
		return 0;
	packet->eth = data;
	packet->ip = data + sizeof(struct ethhdr);
	packet->tcp = data + sizeof(struct ethhdr) + sizeof(struct iphdr);
	return packet->ip->version == 4 && packet->ip->ihl == 5 && packet->ip->protocol == IPPROTO_TCP &&
	       !(packet->ip->frag_off & PART) && packet->ip->ttl > 1;
}

static __always_inline int is_same(const __u8 *mac, const __u8 *other)
{
	const __u16 *a = (const __u16 *)mac, *b = (const __u16 *)other;

	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2];
}

/* True for a container's address of the network: not the network's own, not all of it, not the host's. */
static __always_inline int is_of(const struct port *port, __u32 address)
{
	__u32 rest = address & ~port->mask;

	return (address & port->mask) == port->subnet && rest != 0 && rest != ~port->mask && address != port->own;
}

/* True for what all nodes' bridges have, and no container (ways.py: mac_of). A container of this host that came
 * from another node is sent to by the bridge's MAC as long as others here know it by that, and has its own. So
 * has nobody who does not answer: before Linux 6.3 he is found all the same, without any. */
static __always_inline int is_of_node(const __u8 *mac, const struct port *port)
{
	return mac[0] == port->mac[0] && mac[1] == port->mac[1] && !is_same(mac, port->mac);
}

/* Finds which node's bridge has an address, by this host's routes and neighbours; false where none has. */
static __always_inline int finds(struct __sk_buff *skb, const struct port *port, __u32 near, __u32 far, __u8 *far_mac)
{
	struct bpf_fib_lookup way = {
		.family = AF_INET,
		.l4_protocol = IPPROTO_TCP,
		.ipv4_src = near,
		.ipv4_dst = far,
		.ifindex = port->bridge,
	};

	if (bpf_fib_lookup(skb, &way, sizeof(way), BPF_FIB_LOOKUP_DIRECT) != BPF_FIB_LKUP_RET_SUCCESS)
		return 0;
	__builtin_memcpy(far_mac, way.dmac, ETH_ALEN);
	return way.ifindex == port->bridge && is_of_node(far_mac, port);
}

/* Returns a port whose device is there, by now or, for what goes on, a moment ago; else none. One that went without a
 * word to the map (nobody says it where no skepd runs) would swallow what its container, by another one, is to have. */
static __always_inline struct port *port_at(struct __sk_buff *skb, __u32 index, int is_first)
{
	struct port *port = bpf_map_lookup_elem(&skep_ports, &index);
	struct bpf_fib_lookup way = { .family = AF_INET, .ifindex = index };
	__u64 now = bpf_jiffies64();

	if (!port || (!is_first && now - port->there <= LOOK_TICKS))
		return port;
	/* Whatever the way: less than 0 where there is no such device. */
	if (bpf_fib_lookup(skb, &way, sizeof(way), BPF_FIB_LOOKUP_DIRECT) < 0)
		return 0;
	port->there = now;
	return port;
}

/* Gives a packet to the container behind a port. It was for the bridge's MAC, not its device's own: before Linux
 * 6.15 the container would take it for somebody else's. */
static __always_inline int hand_over(struct __sk_buff *skb, __u32 index)
{
	skb->mark = 0;
	bpf_skb_change_type(skb, PACKET_HOST);
	return bpf_redirect_peer(index, 0);
}

/* Has the packet go one hop, as a router does. */
static __always_inline void hop(struct packet *packet, const __u8 *from, const __u8 *to)
{
	struct iphdr *ip = packet->ip;
	__u32 check = ip->check + (__u32)bpf_htons(0x0100);

	ip->check = check + (check >= 0xffff);
	ip->ttl--;
	__builtin_memcpy(packet->eth->h_source, from, ETH_ALEN);
	__builtin_memcpy(packet->eth->h_dest, to, ETH_ALEN);
}

#define IP_AT sizeof(struct ethhdr)
#define TCP_AT (sizeof(struct ethhdr) + sizeof(struct iphdr))
#define SOURCE_AT (IP_AT + offsetof(struct iphdr, saddr))
#define DESTINATION_AT (IP_AT + offsetof(struct iphdr, daddr))

/* Replaces an address; `packet` must not be looked at any more. */
static __always_inline void replace(struct __sk_buff *skb, __u32 at, __u32 from, __u32 to)
{
	bpf_l4_csum_replace(skb, TCP_AT + offsetof(struct tcphdr, check), from, to, BPF_F_PSEUDO_HDR | sizeof(to));
	bpf_l3_csum_replace(skb, IP_AT + offsetof(struct iphdr, check), from, to, sizeof(to));
	bpf_skb_store_bytes(skb, at, &to, sizeof(to), 0);
}

static __always_inline void count(struct __sk_buff *skb, __u32 service, int is_answer)
{
	struct counts *counts = bpf_map_lookup_elem(&skep_counts, &service);
	__u64 octets = skb->len - sizeof(struct ethhdr);

	if (counts && is_answer)
		__sync_fetch_and_add(&counts->sent, octets);
	else if (counts)
		__sync_fetch_and_add(&counts->received, octets);
}

static __always_inline struct flow_id twin_of(const struct flow_id *id, const struct flow *flow)
{
	struct flow_id twin = { id->near, flow->other, id->near_port, id->far_port };

	if (flow->to) {
		twin.near = flow->kind == ASKS ? flow->other : id->far;
		twin.far = flow->kind == ASKS ? id->near : flow->other;
		twin.near_port = id->far_port;
		twin.far_port = id->near_port;
	}
	return twin;
}

static __always_inline void forget(const struct flow_id *id, const struct flow *flow)
{
	if (flow->kind != DIRECT) {
		struct flow_id twin = twin_of(id, flow);

		bpf_map_delete_elem(&skep_flows, &twin);
	}
	bpf_map_delete_elem(&skep_flows, id);
}

/* Has a connection be known; false where no more fit. */
static __always_inline int keeps(const struct flow_id *id, const struct flow *flow)
{
	__u32 first = 0;
	__u64 *full = bpf_map_lookup_elem(&skep_full, &first);

	if (!bpf_map_update_elem(&skep_flows, id, flow, BPF_ANY))
		return 1;
	if (full)
		__sync_fetch_and_add(full, 1);
	return 0;
}

/* Forgets a connection that is over: one side has reset it, or each has ended and the other has heard all that came
 * before. What was lost is sent again until then. */
static __always_inline void note_end(struct __sk_buff *skb, const struct tcphdr *tcp, const struct flow_id *id,
				     struct flow *flow, enum side side)
{
	__u32 before = flow->ended, other_end = side == CLIENT ? flow->server_end : flow->client_end;

	if (tcp->fin) {
		__u32 end = bpf_ntohl(tcp->seq) + skb->len - (TCP_AT + 4 * tcp->doff) + 1;

		if (side == CLIENT)
			flow->client_end = end;
		else
			flow->server_end = end;
		flow->ended |= ENDED(side);
	}
	if (before & ENDED(!side) && tcp->ack && (__s32)(bpf_ntohl(tcp->ack_seq) - other_end) >= 0)
		flow->ended |= HEARD(!side);
	if (tcp->rst || (flow->ended & IS_OVER) == IS_OVER) {
		forget(id, flow);
	} else if (flow->ended != before && flow->kind != DIRECT) {
		struct flow_id id_of_twin = twin_of(id, flow);
		struct flow *twin = bpf_map_lookup_elem(&skep_flows, &id_of_twin);

		if (twin) {
			twin->ended = flow->ended;
			twin->client_end = flow->client_end;
			twin->server_end = flow->server_end;
		}
	}
}

/* Sends a packet on by a connection that is known: out of a container, to another node or to another one here. */
static __always_inline int carry(struct __sk_buff *skb, struct packet *packet, const struct port *port,
				 const struct flow_id *id, struct flow *flow)
{
	__u64 now = bpf_jiffies64();
	__u32 to = flow->to, other = flow->other, kind = flow->kind;

	if (to) {
		struct port *there = port_at(skb, to, packet->tcp->syn);

		if (!there || there->tunnel != port->tunnel)
			return OTHER_WAY;
	} else if (kind == ANSWERS) {
		return OTHER_WAY; /* to the task itself, from the port of a connection to its service */
	}
	if (now - flow->looked > LOOK_TICKS) {
		__u8 far_mac[ETH_ALEN];

		/* Another node may have the address by now. */
		if (!to && !finds(skb, port, id->near, kind == ASKS ? other : id->far, far_mac)) {
			if (kind == ASKS)
				forget(id, flow); /* the rules lead to somebody, who ends it */
			return OTHER_WAY;
		}
		if (!to)
			__builtin_memcpy(flow->far_mac, far_mac, ETH_ALEN);
		flow->looked = now;
		flow->seen_ns = bpf_ktime_get_ns();
	}
	hop(packet, port->mac, flow->far_mac);
	note_end(skb, packet->tcp, id, flow, kind == ANSWERS ? SERVER : CLIENT);
	if (kind == ASKS) {
		count(skb, id->far, 0);
		replace(skb, DESTINATION_AT, id->far, other);
	} else if (kind == ANSWERS) {
		count(skb, other, 1);
		replace(skb, SOURCE_AT, id->near, other);
	}
	return to ? hand_over(skb, to) : bpf_redirect(port->tunnel, 0);
}

/* Where a container's address is: where it was seen first, as long as that port is there. Nobody takes another
 * one's. */
static __always_inline int is_at_home(const struct packet *packet, __u32 address, __u32 index)
{
	struct home home = { .port = index };
	struct home *known = bpf_map_lookup_elem(&skep_homes, &address);

	if (known && known->port != index && bpf_map_lookup_elem(&skep_ports, &known->port))
		return 0;
	if (known && known->port == index && is_same(known->mac, packet->eth->h_source))
		return 1; /* mostly: nothing is written for each connection */
	__builtin_memcpy(home.mac, packet->eth->h_source, ETH_ALEN);
	bpf_map_update_elem(&skep_homes, &address, &home, BPF_ANY);
	return 1;
}

/* Has a connection to a service's address be known, by the task whose turn it is; false where the rules are to
 * lead it. */
static __always_inline struct flow *led(struct __sk_buff *skb, const struct port *port, const struct flow_id *id,
					struct flow *asks)
{
	struct service *service = bpf_map_lookup_elem(&skep_services, &id->far);
	struct counts *counts = bpf_map_lookup_elem(&skep_counts, &id->far);

	if (!service || !counts || !service->count)
		return 0;
	__u32 turn = (service->first + (__u32)counts->begun) % service->count;
	if (turn >= TASKS_MAX)
		return 0;
	struct flow answers = *asks;
	asks->kind = ASKS;
	asks->other = service->tasks[turn];
	answers.kind = ANSWERS;
	answers.other = id->far;
	if (asks->other == id->near)
		return 0;
	if (!finds(skb, port, id->near, asks->other, asks->far_mac)) {
		struct home *home = bpf_map_lookup_elem(&skep_homes, &asks->other);
		if (!home)
			return 0;
		struct port *there = port_at(skb, home->port, 1);
		if (!there || there->tunnel != port->tunnel)
			return 0;
		asks->to = home->port;
		__builtin_memcpy(asks->far_mac, home->mac, ETH_ALEN);
		answers.port = home->port;
		answers.to = asks->port;
		__builtin_memcpy(answers.near_mac, home->mac, ETH_ALEN);
		__builtin_memcpy(answers.far_mac, asks->near_mac, ETH_ALEN);
	}
	struct flow_id twin = twin_of(id, asks);
	struct flow *known = bpf_map_lookup_elem(&skep_flows, &twin);
	if (known && known->kind == DIRECT)
		return 0; /* from the same port, by the task's own address */
	if (!keeps(&twin, &answers))
		return 0;
	if (!keeps(id, asks)) {
		bpf_map_delete_elem(&skep_flows, &twin);
		return 0;
	}
	__sync_fetch_and_add(&counts->begun, 1);
	return bpf_map_lookup_elem(&skep_flows, id);
}

/* True for a service's connection whose client has sent something in the last minute: if not, nobody may have ended
 * it, and its client's port is another connection's now. */
static __always_inline int is_in_use(const struct flow_id *id, const struct flow *answers, __u64 now)
{
	struct flow_id twin = twin_of(id, answers);
	struct flow *asks = bpf_map_lookup_elem(&skep_flows, &twin);

	return asks && now - asks->seen_ns < LED_NS;
}

/* Makes a connection known with its container's first packet, which may be an answer. */
static __always_inline int begin(struct __sk_buff *skb, struct packet *packet, const struct port *port,
				 const struct flow_id *id, int is_asking)
{
	struct flow *before = bpf_map_lookup_elem(&skep_flows, id);
	__u64 now = bpf_ktime_get_ns();
	struct client client = { id->near, id->near_port };
	struct flow begun = { .begun_ns = now, .seen_ns = now, .looked = bpf_jiffies64(), .port = skb->ifindex };
	struct flow *flow = 0;

	if (!is_of(port, id->near) || !is_at_home(packet, id->near, skb->ifindex))
		return OTHER_WAY;
	if (before && before->kind == ANSWERS && is_in_use(id, before, now))
		return OTHER_WAY; /* from the port of a connection to the task's service */
	if (before)
		forget(id, before);
	if (!is_of(port, id->far) || !is_same(packet->eth->h_dest, port->mac))
		return OTHER_WAY;
	__builtin_memcpy(begun.near_mac, packet->eth->h_source, ETH_ALEN);
	if (finds(skb, port, id->near, id->far, begun.far_mac)) {
		__u64 *led_ns = bpf_map_lookup_elem(&skep_led, &client);

		if (is_asking && led_ns && now - *led_ns < LED_NS)
			return OTHER_WAY;
		if (keeps(id, &begun))
			flow = bpf_map_lookup_elem(&skep_flows, id);
	} else if (is_asking) {
		flow = led(skb, port, id, &begun);
		if (!flow)
			bpf_map_update_elem(&skep_led, &client, &now, BPF_ANY);
	}
	return flow ? carry(skb, packet, port, id, flow) : OTHER_WAY;
}

/* A client's port has left the fast path as long as it asks a service by the rules, by a connection that may last:
 * another one by the same ports to the same task would be answered by that one. */
static __always_inline void keep_led(struct __sk_buff *skb, const struct port *port, const struct flow_id *id)
{
	struct client client = { id->near, id->near_port };
	__u64 *led_ns = bpf_map_lookup_elem(&skep_led, &client);
	__u8 far_mac[ETH_ALEN];

	if (led_ns) {
		__u64 now = bpf_ktime_get_ns();

		if (now - *led_ns > SECOND_NS && !finds(skb, port, id->near, id->far, far_mac))
			*led_ns = now;
	}
}

SEC("tc")
int skep_sent(struct __sk_buff *skb)
{
	struct packet packet;
	__u32 index = skb->ifindex;
	struct port *port = bpf_map_lookup_elem(&skep_ports, &index);

	if (!port || !is_whole(skb, &packet))
		return OTHER_WAY;
	struct flow_id id = { packet.ip->saddr, packet.ip->daddr, packet.tcp->source, packet.tcp->dest };
	int is_asking = packet.tcp->syn && !packet.tcp->ack;
	struct flow *flow = is_asking ? 0 : bpf_map_lookup_elem(&skep_flows, &id);
	if (flow && flow->port == index) /* else it is of a port of before */
		return carry(skb, &packet, port, &id, flow);
	if (packet.tcp->syn)
		return begin(skb, &packet, port, &id, is_asking);
	keep_led(skb, port, &id);
	return OTHER_WAY;
}

SEC("tc")
int skep_came(struct __sk_buff *skb)
{
	struct packet packet;
	__u8 near_mac[ETH_ALEN];
	__u32 index, other = 0;

	if (!is_whole(skb, &packet))
		return OTHER_WAY;
	struct flow_id id = { packet.ip->daddr, packet.ip->saddr, packet.tcp->dest, packet.tcp->source };
	struct client client = { id.near, id.near_port };
	struct flow *flow = 0;
	if (packet.tcp->syn && !packet.tcp->ack) {
		struct home *home = bpf_map_lookup_elem(&skep_homes, &id.near);

		if (!home)
			return OTHER_WAY;
		index = home->port;
		__builtin_memcpy(near_mac, home->mac, ETH_ALEN);
	} else {
		flow = bpf_map_lookup_elem(&skep_flows, &id);
		if (!flow || flow->to || flow->kind == ASKS)
			return OTHER_WAY;
		/* This one answers for a service that the rules led to, if its port began such a connection since. */
		__u64 *led_ns = bpf_map_lookup_elem(&skep_led, &client);
		if (led_ns && *led_ns >= flow->begun_ns)
			return OTHER_WAY;
		index = flow->port;
		other = flow->other;
		__builtin_memcpy(near_mac, flow->near_mac, ETH_ALEN);
	}
	struct port *port = port_at(skb, index, !flow);
	if (!port || port->tunnel != skb->ifindex || !is_of(port, id.near) || !is_of(port, id.far))
		return OTHER_WAY;
	hop(&packet, port->mac, near_mac);
	if (flow)
		note_end(skb, packet.tcp, &id, flow, SERVER);
	if (other) {
		count(skb, other, 1);
		replace(skb, SOURCE_AT, id.far, other);
	}
	return hand_over(skb, index);
}

/* The kernel asks: without it no program may ask for ways. */
char LICENSE[] SEC("license") = "GPL";
/* The checksum of this file, by which a test sees that it is what was compiled. */
char SOURCE[] SEC("source") = SOURCE_HASH;
