//! Why packets end: the closed list of drop reasons, each with the text that CLI, metrics, API and docs show.

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal : $help:literal,)*) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];

            /// The name in CLI, metrics and API.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }

            /// What an operator can do about it.
            pub const fn help(self) -> &'static str {
                match self { $(Reason::$variant => $help,)* }
            }
        }
    };
}

drop_reasons! {
    /// Shorter than its headers say, or a header that contradicts itself.
    Malformed = "malformed": "the sender made a broken frame; capture at the port to see it",
    /// More tags, labels or extension headers than any sane sender stacks.
    TooManyHeaders = "too-many-headers": "the sender stacks VLAN tags, labels or extension headers without end",
    /// An IPv4 header checksum that does not fit.
    BadChecksum = "bad-checksum": "bits were flipped on the way, or the sender is broken",
    /// An ethertype other than IPv4, IPv6 and ARP.
    UnknownEthertype = "unknown-ethertype": "only IPv4, IPv6 and ARP are routed",
    /// A tagged frame whose VLAN no sub-interface or trunk of its port knows.
    UnknownVlan = "unknown-vlan": "add a VLAN sub-interface, or check the VLAN that the guest or switch sends",
    /// Sent to a MAC that is not the port's or the router's.
    NotForUs = "not-for-us": "the sender uses another MAC as its gateway; check its neighbour table",
    /// Broadcast or multicast that nothing here answers: never flooded.
    NotFlooded = "not-flooded": "broadcast and multicast are answered at the port or dropped",
    /// Tunnelled packet with a VNI that leads nowhere.
    UnknownVni = "unknown-vni": "add the VNI, or check the remote's configuration",
    /// Tunnelled packet with an MPLS label that leads nowhere.
    UnknownLabel = "unknown-label": "add the label, or check the remote's configuration",
    /// Tunnelled packet from an address that is no tunnel endpoint.
    UnknownEndpoint = "unknown-endpoint": "add a tunnel endpoint with this remote address if it is trusted",
    /// A tunnel header with flags or a form that weft does not take.
    BadTunnelHeader = "bad-tunnel-header": "the remote's encapsulation is broken or of another kind",
    /// A fragment of a tunnelled packet: tunnels do not fragment.
    OuterFragment = "outer-fragment": "raise the underlay's MTU above the tenants' by 74 bytes",
    /// RFC 6040: congestion was marked outside, but the inner packet cannot carry it.
    CongestionMark = "congestion-mark": "the underlay is congested and the flow does not know ECN",
    /// The VRF has no route for the destination.
    NoRoute = "no-route": "add a route, or check the address that the guest uses",
    /// The route says discard.
    Discarded = "discarded": "the route's next hop is discard",
    /// VRF leaks lead into each other.
    LeakLoop = "leak-loop": "routes of several VRFs point at each other",
    /// TTL or hop limit used up.
    TtlExceeded = "ttl-exceeded": "a routing loop, or a traceroute",
    /// No MAC of the underlay neighbour (yet).
    NeighbourUnresolved = "neighbour-unresolved": "the underlay neighbour does not answer ARP or ND",
    /// The tunnel's remote has no underlay route.
    NoUnderlayRoute = "no-underlay-route": "add a route to the tunnel's remote in the underlay",
    /// Every member of a next-hop group is out.
    EmptyGroup = "empty-group": "no member of the group is reachable",
    /// Larger than the way out takes, and may not be fragmented.
    TooBig = "too-big": "lower the sender's MTU, or raise that of the way out",
    /// A later fragment in packet mode, where a policy needs ports.
    Fragment = "fragment": "in packet mode later fragments have no ports for a policy to judge; use sessions, or avoid fragments",
    /// Some bytes of the datagram have come before.
    FragmentOverlap = "fragment-overlap": "the sender repeats fragments, or forges them",
    /// Too many datagrams in fragments under way, or one in too many parts.
    FragmentLimit = "fragment-limit": "the sender sends many fragments without their first ones; it may attack",
    /// The first fragment of its datagram did not come.
    FragmentTimeout = "fragment-timeout": "the datagram's first fragment was lost, or came by another worker",
    /// A port's policy does not allow the session.
    PolicyDenied = "policy-denied": "a rule or default of a port's policy; `weft describe policy` shows their hits",
    /// As policy-denied, and the sender was told.
    PolicyRejected = "policy-rejected": "a rule or default of a port's policy, which answers by a TCP reset or an ICMP error; \
        `weft describe policy` shows their hits",
    /// Its addresses or ports can't be rewritten: a source route, or headers that are not all there.
    Untranslatable = "untranslatable": "the packet is source-routed or cut short; its addresses cannot be translated",
    /// Translation needs a session, and the packet has none.
    NatWithoutSession = "nat-without-session": "take the VRF and port out of packet mode; lone ICMP messages pass no NAT",
    /// Every port that the pool has for this source and remote is in use.
    NatExhausted = "nat-exhausted": "add addresses or ports to the pool, or make its blocks smaller",
    /// To an address of a pool, but no answer to a session of it.
    NatNoSession = "nat-no-session": "nobody behind the pool has asked for it, or its session is over",
    /// The port sends more than its limit.
    EgressLimit = "egress-limit": "the port sends more than its `quality.egress` allows",
    /// The port at which it ends gets more than its limit.
    IngressLimit = "ingress-limit": "the port at which it would end gets more than its `quality.ingress` allows",
    /// To a virtual IP, but no service of it has the protocol and port.
    ServicePort = "service-port": "no service of the virtual IP has this protocol and port; `weft get services` lists them",
    /// No backend of the service takes new sessions.
    NoBackend = "no-backend": "every backend of the service is down, draining or missing, or is a virtual or floating IP itself; \
        `weft describe service`",
    /// The flow table is full.
    SessionTableFull = "session-table-full": "raise `sessions` in weftd.toml",
    /// The reply's key is held by another session.
    SessionConflict = "session-conflict": "two sessions would share the reply's addresses and ports",
    /// More re-decisions after a change than the burst's bound.
    RedecisionBudget = "redecision-budget": "passes within milliseconds of a large change",
    /// One port's new sessions took more of a shared queue than others can spare.
    NewFlowBudget = "new-flow-budget": "the port opens sessions faster than its worker can, at the cost of others; it may be \
        attacked, or attack",
    /// The egress port's ring or queue was full.
    TransmitFull = "transmit-full": "the receiver is slower than its senders",
    /// The egress port is gone or down.
    PortDown = "port-down": "the guest is not connected, or the link is down",
    /// No packet buffer for a copy.
    NoBuffer = "no-buffer": "raise `mbufs` in weftd.toml",
    /// A request that only the vRouter could answer, and does not.
    Unanswered = "unanswered": "nobody has the address that was asked for",
    /// Addressed to the vRouter, for a service that it does not offer.
    NotService = "no-service": "the vRouter answers ping, ARP and ND at its own addresses",
    /// An offload that the guest asked for does not fit the packet.
    BadOffload = "bad-offload": "the guest's virtio header contradicts its packet",
}

#[cfg(test)]
mod tests {
    use super::Reason;
    use std::fmt::Write;

    #[test]
    fn the_list_in_the_documentation_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/drop-reasons.md");
        let mut page = String::from(
            "# Drop reasons\n\nEvery packet that weft drops is counted at the port by which it came, under one of these \
             names: `weft get drops`, the\nmetric `weft_port_dropped_packets_total` and the API show them. Made from \
             `dataplane/src/drops.rs`.\n\n| reason | what to do |\n| --- | --- |\n",
        );
        for reason in Reason::ALL {
            writeln!(page, "| {} | {} |", reason.name(), reason.help()).unwrap();
        }
        if std::env::var_os("WEFT_UPDATE_DOCS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(
            written, page,
            "run this test with WEFT_UPDATE_DOCS=1 to write docs/drop-reasons.md"
        );
    }
}
