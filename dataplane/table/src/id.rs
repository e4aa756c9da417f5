//! Numbers by which the tables refer to each other. The control half hands them out; a raw integer never crosses a
//! module boundary as an identifier.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// As an index into a table.
            #[inline(always)]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id! {
    /// A routing table: 0 is the underlay, the others are tenants'.
    VrfId(u16)
}
id! {
    /// An interface of the vRouter.
    PortId(u16)
}
id! {
    /// A worker, counted from 0 (not its lcore).
    WorkerId(u16)
}
id! {
    /// An entry of the next-hop table.
    NextHopId(u32)
}
id! {
    /// A policy's rule set.
    PolicyId(u32)
}
id! {
    /// What translates addresses: a floating IP, a pool or a service.
    NatId(u32)
}
id! {
    /// A group of addresses that rules name.
    AddressGroupId(u32)
}
id! {
    /// A route: one (VRF, prefix) for as long as it exists. What a session's direction was decided from.
    RouteId(u32)
}

impl VrfId {
    /// The underlay's table.
    pub const UNDERLAY: VrfId = VrfId(0);
    /// How many VRFs a vRouter holds, the underlay among them.
    pub const MAX: usize = 4096;
}
