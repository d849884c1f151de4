/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The fast path between containers of one overlay network, on different nodes, that address each other
 * directly: fast_path.py says what it is for, and what keeps it right. `scripts/bpf.sh` compiles it; what came
 * of that is beside it, for hosts have no compiler.
 *
 * `sent` is run for each packet that a container gives its host, `came` for each that comes out of a tunnel.
 * What they do not know goes on to other programs, the bridge and the host's rules. From Linux 5.10 on
 * (bpf_redirect_peer). Addresses and ports are as on the wire.
 */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define OTHER_WAY TC_ACT_UNSPEC
#define AF_INET 2
#define PART bpf_htons(0x3fff) /* of a packet: more parts follow, or came before */
#define SECOND_NS 1000000000ULL
/* How long a client's port that began a connection to a service's address begins none by the fast path. */
#define LED_NS (60 * SECOND_NS)
#define THERE_TICKS 250 /* a quarter of a second where there are 1,000 a second, 2.5 s where there are 100 */

/* A container's port of a bridge; its key is its device's number. */
struct port {
	__u32 subnet, mask;
	__u32 own; /* the host's address on the network: nobody else sends as it */
	__u32 bridge, tunnel;
	__u8 mac[ETH_ALEN]; /* the bridge's: containers send to it what is not on their own node */
	__u16 unused;
	__u64 there; /* when its device was there last, in the kernel's ticks; the program's own */
};

/* A connection as its container on this host sees it. */
struct flow_id {
	__u32 near, far;
	__u16 near_port, far_port;
};

#define NEAR_ENDED 1
#define FAR_ENDED 2
#define BOTH_ENDED (NEAR_ENDED | FAR_ENDED)

struct flow {
	__u64 begun_ns, looked_ns;
	__u32 port; /* the device's number */
	__u8 near_mac[ETH_ALEN], far_mac[ETH_ALEN];
	__u32 ended;
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
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct flow_id);
	__type(value, struct flow);
} skep_flows SEC(".maps");

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
static __always_inline int finds(struct __sk_buff *skb, const struct port *port, const struct flow_id *id,
				 __u8 *far_mac)
{
	struct bpf_fib_lookup way = {
		.family = AF_INET,
		.l4_protocol = IPPROTO_TCP,
		.ipv4_src = id->near,
		.ipv4_dst = id->far,
		.ifindex = port->bridge,
	};

	if (bpf_fib_lookup(skb, &way, sizeof(way), BPF_FIB_LOOKUP_DIRECT) != BPF_FIB_LKUP_RET_SUCCESS)
		return 0;
	__builtin_memcpy(far_mac, way.dmac, ETH_ALEN);
	return way.ifindex == port->bridge && is_of_node(far_mac, port);
}

/* True for a port whose device is there, by now or, for what goes on, a moment ago. One that went without a word to
 * the map (nobody says it where no skepd runs) would swallow what its container, by another one, is to have. */
static __always_inline int is_there(struct __sk_buff *skb, struct port *port, __u32 index, int is_first)
{
	__u64 now = bpf_jiffies64(); /* a clock's time would cost each packet a third more */
	struct bpf_fib_lookup way = { .family = AF_INET, .ifindex = index };

	if (!is_first && now - port->there <= THERE_TICKS)
		return 1;
	/* Whatever the way: less than 0 where there is no such device. */
	if (bpf_fib_lookup(skb, &way, sizeof(way), BPF_FIB_LOOKUP_DIRECT) < 0)
		return 0;
	port->there = now;
	return 1;
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

/* Forgets a connection with the packet that is its last. */
static __always_inline void note_end(const struct tcphdr *tcp, const struct flow_id *id, struct flow *flow, __u32 who)
{
	if (tcp->fin)
		flow->ended |= who;
	else if (tcp->rst || flow->ended == BOTH_ENDED)
		bpf_map_delete_elem(&skep_flows, id);
}

/* Makes a connection known with its container's first packet, which may be an answer. */
static __always_inline int begin(struct __sk_buff *skb, struct packet *packet, const struct port *port,
				 const struct flow_id *id, __u64 now)
{
	__u32 index = skb->ifindex;
	struct client client = { id->near, id->near_port };
	struct flow flow = { .begun_ns = now, .looked_ns = now, .port = index };
	struct home home = { .port = index };
	struct home *known = bpf_map_lookup_elem(&skep_homes, &id->near);
	int is_asking = !packet->tcp->ack;

	if (!is_of(port, id->near) || !is_of(port, id->far))
		return OTHER_WAY;
	/* An address is where it was seen first, as long as that port is there: nobody takes another's. */
	if (known && known->port != index && bpf_map_lookup_elem(&skep_ports, &known->port))
		return OTHER_WAY;
	if (!finds(skb, port, id, flow.far_mac)) {
		if (is_asking)
			bpf_map_update_elem(&skep_led, &client, &now, BPF_ANY);
		return OTHER_WAY;
	}
	__u64 *led_ns = bpf_map_lookup_elem(&skep_led, &client);
	if (is_asking && led_ns && now - *led_ns < LED_NS)
		return OTHER_WAY;
	__builtin_memcpy(home.mac, packet->eth->h_source, ETH_ALEN);
	__builtin_memcpy(flow.near_mac, packet->eth->h_source, ETH_ALEN);
	bpf_map_update_elem(&skep_homes, &id->near, &home, BPF_ANY);
	bpf_map_update_elem(&skep_flows, id, &flow, BPF_ANY);
	hop(packet, port->mac, flow.far_mac);
	return bpf_redirect(port->tunnel, 0);
}

/* A client's port has left the fast path as long as it asks for a service's address, by a connection that may last.
 * Another one by the same ports to the same task would be answered by that one. */
static __always_inline void keep_led(struct __sk_buff *skb, const struct port *port, const struct flow_id *id,
				     __u64 now)
{
	struct client client = { id->near, id->near_port };
	__u64 *led_ns = bpf_map_lookup_elem(&skep_led, &client);
	__u8 far_mac[ETH_ALEN];

	if (led_ns && now - *led_ns > SECOND_NS && !finds(skb, port, id, far_mac))
		*led_ns = now;
}

SEC("tc")
int skep_sent(struct __sk_buff *skb)
{
	struct packet packet;
	__u32 index = skb->ifindex;
	struct port *port = bpf_map_lookup_elem(&skep_ports, &index);

	if (!port || !is_whole(skb, &packet) || !is_same(packet.eth->h_dest, port->mac))
		return OTHER_WAY;
	struct flow_id id = { packet.ip->saddr, packet.ip->daddr, packet.tcp->source, packet.tcp->dest };
	__u64 now = bpf_ktime_get_ns();
	if (packet.tcp->syn)
		return begin(skb, &packet, port, &id, now);
	struct flow *flow = bpf_map_lookup_elem(&skep_flows, &id);
	if (!flow || flow->port != index) {
		keep_led(skb, port, &id, now);
		return OTHER_WAY;
	}
	/* Another node may have the address by now. */
	if (now - flow->looked_ns > SECOND_NS) {
		__u8 far_mac[ETH_ALEN];

		if (!finds(skb, port, &id, far_mac))
			return OTHER_WAY;
		__builtin_memcpy(flow->far_mac, far_mac, ETH_ALEN);
		flow->looked_ns = now;
	}
	hop(&packet, port->mac, flow->far_mac);
	note_end(packet.tcp, &id, flow, NEAR_ENDED);
	return bpf_redirect(port->tunnel, 0);
}

SEC("tc")
int skep_came(struct __sk_buff *skb)
{
	struct packet packet;
	__u8 near_mac[ETH_ALEN];
	__u32 index;

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
		if (!flow)
			return OTHER_WAY;
		/* This one answers for a service if its port began another connection since. */
		__u64 *led_ns = bpf_map_lookup_elem(&skep_led, &client);
		if (led_ns && *led_ns >= flow->begun_ns)
			return OTHER_WAY;
		index = flow->port;
		__builtin_memcpy(near_mac, flow->near_mac, ETH_ALEN);
	}
	struct port *port = bpf_map_lookup_elem(&skep_ports, &index);
	if (!port || port->tunnel != skb->ifindex || !is_of(port, id.near) || !is_of(port, id.far))
		return OTHER_WAY;
	if (!is_there(skb, port, index, !flow))
		return OTHER_WAY;
	if (flow)
		note_end(packet.tcp, &id, flow, FAR_ENDED);
	hop(&packet, port->mac, near_mac);
	skb->mark = 0;
	/* It was for the bridge's MAC, not the tunnel's own: before Linux 6.15 the container would be told so. */
	bpf_skb_change_type(skb, PACKET_HOST);
	return bpf_redirect_peer(index, 0);
}

char LICENSE[] SEC("license") = "GPL"; /* the kernel asks: without it no program may ask for ways */
/* The checksum of this file, by which a test sees that it is what was compiled. */
char SOURCE[] SEC("source") = SOURCE_HASH;
