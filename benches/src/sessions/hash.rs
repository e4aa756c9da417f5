//! DPDK's `rte_hash` as a peer of the flow table: the same keys under the same hashes, found in bursts.
//!
//! It lives in DPDK's memory, so EAL has to be running: who makes one shows it.
#![allow(unsafe_code)] // DPDK's C functions.

use std::{ffi::CString, ptr::NonNull};

use anyhow::{Context, Result, ensure};
use weft_dataplane::dpdk::Eal;
use weft_table::flow::Key4;

/// As it is called in the report.
pub const NAME: &str = "rte_hash";
/// Keys that are looked up at a time, at most.
const BURST: usize = 64;

/// A key as it lies in the hash.
pub type Bytes = [u8; 16];

/// The key's bytes.
pub fn bytes(key: &Key4) -> Bytes {
    let mut bytes = [0; 16];
    bytes[0..4].copy_from_slice(&key.source.to_ne_bytes());
    bytes[4..8].copy_from_slice(&key.destination.to_ne_bytes());
    bytes[8..10].copy_from_slice(&key.source_port.to_ne_bytes());
    bytes[10..12].copy_from_slice(&key.destination_port.to_ne_bytes());
    bytes[12..14].copy_from_slice(&key.vrf.0.to_ne_bytes());
    bytes[14] = key.protocol;
    bytes
}

fn signature(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// A hash of 16-byte keys.
pub struct Hash(NonNull<dpdk_sys::rte_hash>);

impl Hash {
    /// For so many keys, with buckets to extend full ones, as weft has them.
    pub fn new(_eal: &Eal, keys: u32) -> Result<Self> {
        let name = CString::new("bench-hash")?;
        let parameters = dpdk_sys::rte_hash_parameters {
            name: name.as_ptr(),
            entries: keys,
            key_len: size_of::<Bytes>() as u32,
            extra_flag: dpdk_sys::RTE_HASH_EXTRA_FLAGS_EXT_TABLE as u8,
            ..Default::default()
        };
        // SAFETY: EAL runs; name and parameters live through the call.
        let hash = unsafe { dpdk_sys::rte_hash_create(&raw const parameters) };
        Ok(Hash(
            NonNull::new(hash).context("rte_hash_create: too little memory")?,
        ))
    }

    /// Puts a key in.
    pub fn insert(&mut self, key: &Bytes, hash: u64, value: u32) -> Result<()> {
        // SAFETY: the hash lives and copies the key; the data is a number, not an address.
        let code = unsafe {
            dpdk_sys::rte_hash_add_key_with_hash_data(
                self.0.as_ptr(),
                key.as_ptr().cast(),
                signature(hash),
                std::ptr::without_provenance_mut(value as usize + 1),
            )
        };
        ensure!(code == 0, "rte_hash_add_key_with_hash_data: DPDK says {code}");
        Ok(())
    }

    /// Takes everything out.
    pub fn reset(&mut self) {
        // SAFETY: the hash lives, and nobody else uses it.
        unsafe { dpdk_sys::rte_hash_reset(self.0.as_ptr()) };
    }

    /// Looks a burst up; how many keys were not found.
    pub fn look_up(&self, keys: &[Bytes], hashes: &[u64]) -> u32 {
        let count = keys.len().min(BURST);
        let mut addresses = [std::ptr::null(); BURST];
        let mut signatures = [0; BURST];
        for (place, (key, hash)) in keys.iter().zip(hashes).take(count).enumerate() {
            addresses[place] = key.as_ptr().cast();
            signatures[place] = signature(*hash);
        }
        let (mut found, mut values) = (0_u64, [std::ptr::null_mut(); BURST]);
        // SAFETY: `count` keys and signatures are there, and room for as many values.
        unsafe {
            dpdk_sys::rte_hash_lookup_with_hash_bulk_data(
                self.0.as_ptr(),
                addresses.as_mut_ptr(),
                signatures.as_mut_ptr(),
                count as u32,
                &raw mut found,
                values.as_mut_ptr(),
            )
        };
        std::hint::black_box(&values);
        count as u32 - found.count_ones()
    }
}

impl Drop for Hash {
    fn drop(&mut self) {
        // SAFETY: made by rte_hash_create, and freed once.
        unsafe { dpdk_sys::rte_hash_free(self.0.as_ptr()) };
    }
}
