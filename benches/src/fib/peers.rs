//! DPDK's own route tables as peers: `rte_fib` (DIR-24-8 with four bytes an entry; a trie for IPv6) and `rte_lpm`.
//!
//! They live in DPDK's memory, so EAL has to be running: who makes one shows it.
#![allow(unsafe_code)] // DPDK's C functions.

use std::{collections::HashSet, ffi::CString, ptr::NonNull};

use anyhow::{Context, Result, ensure};
use weft_dataplane::dpdk::Eal;
use weft_table::fib::{Address, Prefix};

/// Addresses that DPDK's tables are asked for at a time.
const BURST: usize = 64;

/// A table that can be filled, changed and asked.
pub trait PeerTable: Sized {
    /// weft's type of its addresses.
    type Family: Address;
    /// An address as the table takes it.
    type Address: Copy;
    /// As it is called in the report.
    const NAME: &'static str;
    /// An empty table for so many routes and so many groups of 256 entries.
    fn new(eal: &Eal, routes: usize, groups: u32) -> Result<Self>;
    /// weft's address as one of the table's.
    fn address(address: Self::Family) -> Self::Address;
    /// Adds or replaces a route.
    fn insert(&mut self, address: Self::Address, length: u8, route: u32) -> Result<()>;
    /// Removes a route.
    fn remove(&mut self, address: Self::Address, length: u8) -> Result<()>;
    /// Looks up as many addresses as there are, a burst at a time; what is found is thrown away, as nobody here needs it.
    fn look_up(&self, addresses: &[Self::Address]);
    /// What one address leads to.
    fn find(&self, address: Self::Address) -> Option<u32>;
}

/// How many groups of 256 entries hang below a table of 24 bits that goes on in steps of eight, for routes that DPDK is
/// to be given. `covering` knows the length of the route around a prefix: the newer tables set aside groups for each
/// route from there on, whether siblings share them or not.
pub fn groups<A: Address>(
    prefixes: impl Iterator<Item = Prefix<A>>,
    covering: impl Fn(Prefix<A>) -> Option<u8>,
) -> u32 {
    let steps = |length: u8| u32::from(length.max(24).div_ceil(8));
    let mut groups = HashSet::new();
    let mut set_aside = 0;
    for prefix in prefixes.filter(|prefix| prefix.length() > 24) {
        let around = covering(prefix).unwrap_or(0);
        if A::BITS == 32 {
            groups.insert(Prefix::containing(prefix.address(), 24));
        } else {
            set_aside += steps(prefix.length()) - steps(around);
        }
    }
    // A quarter more, for when a route around comes after those within.
    groups.len() as u32 + set_aside + set_aside / 4 + 256
}

fn check(code: i32, what: &str) -> Result<()> {
    ensure!(code == 0, "{what}: DPDK says {code}");
    Ok(())
}

macro_rules! table {
    ($(#[$about:meta])* $table:ident, $raw:ty, $free:ident) => {
        $(#[$about])*
        pub struct $table(NonNull<$raw>);

        impl Drop for $table {
            fn drop(&mut self) {
                // SAFETY: made by the create function, and freed once.
                unsafe { dpdk_sys::$free(self.0.as_ptr()) };
            }
        }
    };
}

table!(
    /// DIR-24-8: 2^24 entries, then groups of 256.
    Fib,
    dpdk_sys::rte_fib,
    rte_fib_free
);
table!(
    /// The older DIR-24-8, whose entries hold 24 bits.
    Lpm,
    dpdk_sys::rte_lpm,
    rte_lpm_free
);
table!(
    /// A trie of 2^24 entries and then groups of 256.
    Fib6,
    dpdk_sys::rte_fib6,
    rte_fib6_free
);
table!(
    /// The older one of the same shape.
    Lpm6,
    dpdk_sys::rte_lpm6,
    rte_lpm6_free
);

/// What the newer tables find where there is no route.
const NOTHING: u64 = (1 << 30) - 1;

impl PeerTable for Fib {
    type Family = u32;
    type Address = u32;
    const NAME: &'static str = "rte_fib";

    fn new(_eal: &Eal, routes: usize, groups: u32) -> Result<Self> {
        let mut configuration = dpdk_sys::rte_fib_conf {
            type_: dpdk_sys::RTE_FIB_DIR24_8,
            default_nh: NOTHING,
            // The RIB has nodes for branches as well.
            max_routes: 2 * routes as i32 + 1024,
            ..Default::default()
        };
        configuration.__bindgen_anon_1.dir24_8 = dpdk_sys::rte_fib_conf__bindgen_ty_1__bindgen_ty_1 {
            nh_sz: dpdk_sys::RTE_FIB_DIR24_8_4B,
            num_tbl8: groups,
        };
        let name = CString::new("bench-fib")?;
        // SAFETY: EAL runs; name and configuration live through the call.
        let table = unsafe { dpdk_sys::rte_fib_create(name.as_ptr(), 0, &raw mut configuration) };
        Ok(Fib(
            NonNull::new(table).context("rte_fib_create: too little memory")?
        ))
    }

    fn address(address: u32) -> u32 {
        address
    }

    fn insert(&mut self, address: u32, length: u8, route: u32) -> Result<()> {
        // SAFETY: the table lives; DPDK checks the numbers.
        let code = unsafe { dpdk_sys::rte_fib_add(self.0.as_ptr(), address, length, route.into()) };
        check(code, "rte_fib_add")
    }

    fn remove(&mut self, address: u32, length: u8) -> Result<()> {
        // SAFETY: as above.
        let code = unsafe { dpdk_sys::rte_fib_delete(self.0.as_ptr(), address, length) };
        check(code, "rte_fib_delete")
    }

    fn look_up(&self, addresses: &[u32]) {
        let mut found = [0_u64; BURST];
        for burst in addresses.chunks(BURST) {
            // SAFETY: reads the burst (the parameter is not const, but is not written) and writes as many results.
            unsafe {
                dpdk_sys::rte_fib_lookup_bulk(
                    self.0.as_ptr(),
                    burst.as_ptr().cast_mut(),
                    found.as_mut_ptr(),
                    burst.len() as i32,
                )
            };
            std::hint::black_box(&found);
        }
    }

    fn find(&self, address: u32) -> Option<u32> {
        let mut found = 0_u64;
        // SAFETY: one address, one result.
        unsafe { dpdk_sys::rte_fib_lookup_bulk(self.0.as_ptr(), [address].as_mut_ptr(), &raw mut found, 1) };
        (found != NOTHING).then_some(found as u32)
    }
}

impl PeerTable for Lpm {
    type Family = u32;
    type Address = u32;
    const NAME: &'static str = "rte_lpm";

    fn new(_eal: &Eal, routes: usize, groups: u32) -> Result<Self> {
        let configuration = dpdk_sys::rte_lpm_config {
            max_rules: routes as u32 + 1024,
            number_tbl8s: groups,
            flags: 0,
        };
        let name = CString::new("bench-lpm")?;
        // SAFETY: EAL runs; name and configuration live through the call.
        let table = unsafe { dpdk_sys::rte_lpm_create(name.as_ptr(), 0, &raw const configuration) };
        Ok(Lpm(
            NonNull::new(table).context("rte_lpm_create: too little memory")?
        ))
    }

    fn address(address: u32) -> u32 {
        address
    }

    fn insert(&mut self, address: u32, length: u8, route: u32) -> Result<()> {
        // SAFETY: the table lives; DPDK checks the numbers.
        let code = unsafe { dpdk_sys::rte_lpm_add(self.0.as_ptr(), address, length, route) };
        check(code, "rte_lpm_add")
    }

    fn remove(&mut self, address: u32, length: u8) -> Result<()> {
        // SAFETY: as above.
        let code = unsafe { dpdk_sys::rte_lpm_delete(self.0.as_ptr(), address, length) };
        check(code, "rte_lpm_delete")
    }

    fn look_up(&self, addresses: &[u32]) {
        let mut found = [0_u32; BURST];
        for burst in addresses.chunks(BURST) {
            // SAFETY: reads the burst and writes as many results.
            unsafe {
                dpdk_sys::rte_lpm_lookup_bulk_func(
                    self.0.as_ptr(),
                    burst.as_ptr(),
                    found.as_mut_ptr(),
                    burst.len() as u32,
                )
            };
            std::hint::black_box(&found);
        }
    }

    fn find(&self, address: u32) -> Option<u32> {
        let mut found = 0;
        // SAFETY: writes one result.
        let code = unsafe { dpdk_sys::rte_lpm_lookup(self.0.as_ptr(), address, &raw mut found) };
        (code == 0).then_some(found)
    }
}

impl PeerTable for Fib6 {
    type Family = u128;
    type Address = [u8; 16];
    const NAME: &'static str = "rte_fib6";

    fn new(_eal: &Eal, routes: usize, groups: u32) -> Result<Self> {
        let mut configuration = dpdk_sys::rte_fib6_conf {
            type_: dpdk_sys::RTE_FIB6_TRIE,
            default_nh: NOTHING,
            max_routes: 2 * routes as i32 + 1024,
            ..Default::default()
        };
        configuration.__bindgen_anon_1.trie = dpdk_sys::rte_fib6_conf__bindgen_ty_1__bindgen_ty_1 {
            nh_sz: dpdk_sys::RTE_FIB6_TRIE_4B,
            num_tbl8: groups,
        };
        let name = CString::new("bench-fib6")?;
        // SAFETY: EAL runs; name and configuration live through the call.
        let table = unsafe { dpdk_sys::rte_fib6_create(name.as_ptr(), 0, &raw mut configuration) };
        Ok(Fib6(
            NonNull::new(table).context("rte_fib6_create: too little memory")?,
        ))
    }

    fn address(address: u128) -> [u8; 16] {
        address.to_be_bytes()
    }

    fn insert(&mut self, address: [u8; 16], length: u8, route: u32) -> Result<()> {
        // SAFETY: the table lives, the address is 16 bytes; DPDK checks the numbers. DPDK 24.11 gave the bytes a type.
        let code =
            unsafe { dpdk_sys::rte_fib6_add(self.0.as_ptr(), address.as_ptr().cast(), length, route.into()) };
        check(code, "rte_fib6_add")
    }

    fn remove(&mut self, address: [u8; 16], length: u8) -> Result<()> {
        // SAFETY: as above.
        let code = unsafe { dpdk_sys::rte_fib6_delete(self.0.as_ptr(), address.as_ptr().cast(), length) };
        check(code, "rte_fib6_delete")
    }

    fn look_up(&self, addresses: &[[u8; 16]]) {
        let mut found = [0_u64; BURST];
        for burst in addresses.chunks(BURST) {
            // SAFETY: reads the burst and writes as many results.
            unsafe {
                dpdk_sys::rte_fib6_lookup_bulk(
                    self.0.as_ptr(),
                    burst.as_ptr().cast_mut().cast(),
                    found.as_mut_ptr(),
                    burst.len() as i32,
                )
            };
            std::hint::black_box(&found);
        }
    }

    fn find(&self, address: [u8; 16]) -> Option<u32> {
        let mut found = 0_u64;
        // SAFETY: one address, one result.
        unsafe {
            dpdk_sys::rte_fib6_lookup_bulk(self.0.as_ptr(), [address].as_mut_ptr().cast(), &raw mut found, 1)
        };
        (found != NOTHING).then_some(found as u32)
    }
}

impl PeerTable for Lpm6 {
    type Family = u128;
    type Address = [u8; 16];
    const NAME: &'static str = "rte_lpm6";

    fn new(_eal: &Eal, routes: usize, groups: u32) -> Result<Self> {
        let configuration = dpdk_sys::rte_lpm6_config {
            max_rules: routes as u32 + 1024,
            number_tbl8s: groups,
            flags: 0,
        };
        let name = CString::new("bench-lpm6")?;
        // SAFETY: EAL runs; name and configuration live through the call.
        let table = unsafe { dpdk_sys::rte_lpm6_create(name.as_ptr(), 0, &raw const configuration) };
        Ok(Lpm6(
            NonNull::new(table).context("rte_lpm6_create: too little memory")?,
        ))
    }

    fn address(address: u128) -> [u8; 16] {
        address.to_be_bytes()
    }

    fn insert(&mut self, address: [u8; 16], length: u8, route: u32) -> Result<()> {
        // SAFETY: the table lives, the address is 16 bytes; DPDK checks the numbers.
        let code = unsafe { dpdk_sys::rte_lpm6_add(self.0.as_ptr(), address.as_ptr().cast(), length, route) };
        check(code, "rte_lpm6_add")
    }

    fn remove(&mut self, address: [u8; 16], length: u8) -> Result<()> {
        // SAFETY: as above.
        let code = unsafe { dpdk_sys::rte_lpm6_delete(self.0.as_ptr(), address.as_ptr().cast(), length) };
        check(code, "rte_lpm6_delete")
    }

    fn look_up(&self, addresses: &[[u8; 16]]) {
        let mut found = [0_i32; BURST];
        for burst in addresses.chunks(BURST) {
            // SAFETY: reads the burst and writes as many results.
            unsafe {
                dpdk_sys::rte_lpm6_lookup_bulk_func(
                    self.0.as_ptr(),
                    burst.as_ptr().cast_mut().cast(),
                    found.as_mut_ptr(),
                    burst.len() as u32,
                )
            };
            std::hint::black_box(&found);
        }
    }

    fn find(&self, address: [u8; 16]) -> Option<u32> {
        let mut found = 0;
        // SAFETY: one address, one result.
        let code =
            unsafe { dpdk_sys::rte_lpm6_lookup(self.0.as_ptr(), address.as_ptr().cast(), &raw mut found) };
        (code == 0).then_some(found)
    }
}
