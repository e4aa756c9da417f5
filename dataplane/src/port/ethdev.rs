//! Ports on DPDK's own drivers: NICs and their virtual functions by PCI address; `net_af_packet`, `net_af_xdp`,
//! `net_memif`, `net_pcap`, `net_null` and `net_bonding` as virtual devices.
//!
//! Debian's DPDK has 32 of them a process ([`RTE_MAX_ETHPORTS`](dpdk_sys::RTE_MAX_ETHPORTS)); a port id is used again,
//! lowest first, as soon as its device is closed, so an id means nothing beyond the life of its [`Ethdev`].
//!
//! System calls of the drivers on a worker's path: af_packet sends each burst with `sendto` and may wait in `poll` for
//! room in its ring; af_xdp wakes the kernel when it must; pcap reads and writes its files. Where the device has fewer
//! transmit queues than there are workers, those that share one wait for each other's burst.
//!
//! Offloads are left to a device only on tenant ports: on an uplink packets are tunnelled, and a NIC that knows the
//! inner checksum of one encapsulation rarely knows the others'.
#![allow(unsafe_code)]

use std::{
    collections::HashSet,
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use dpdk_sys as ffi;
use weft_packet::Mac;

use super::{
    Capabilities, OpenContext,
    attach::{self, Attached},
    claim::Claim,
    device::Device,
    error::OpenError,
    kernel_quiet::KernelQuiet,
    netlink,
    packet_sockets::PacketSockets,
};
use crate::{
    dpdk::{Batch, Mempool, errno_text, log},
    view::DeviceStatistics,
};

/// Descriptors asked of each queue; the device has the last word.
const DESCRIPTORS: u16 = 1024;
/// Ethernet header and two VLAN tags: what stands before the L3 packet in a frame.
const FRAME_HEADER: u32 = 14 + 8;
/// Buffers of a port with jumbo frames that needs its own.
const JUMBO_BUFFERS: u32 = 2048;
const HELP_WORDS: &str =
    "write a PCI address such as 0000:03:00.0, or a virtual device such as net_af_packet0,iface=eth1";

/// What this process has open. DPDK's device calls are made by one thread at a time: the one that holds this.
#[derive(Default)]
struct Control {
    ports: HashSet<u16>,
    interfaces: HashSet<String>,
    /// Pools of closed ports some of whose buffers were still on their way.
    retired: Vec<Mempool>,
}

static CONTROL: Mutex<Option<Control>> = Mutex::new(None);

fn control() -> MutexGuard<'static, Option<Control>> {
    CONTROL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An open ethdev. See the module.
pub struct Ethdev {
    port: u16,
    words: String,
    name: String,
    /// None only while it is dropped.
    attached: Option<Attached>,
    receive: Box<[Claim]>,
    transmit: Box<[Claim]>,
    capabilities: Capabilities,
    /// The device can say how full a receive queue is.
    counts_receive: bool,
    mac: Mutex<Mac>,
    /// Largest L3 packet that its receive buffers take.
    most: u16,
    interfaces: Vec<String>,
    quiet: Vec<KernelQuiet>,
    /// The one that it receives into.
    pool: Mempool,
    own_pool: bool,
    refused: AtomicU64,
}

impl Ethdev {
    /// Probes, configures and starts a device.
    pub(super) fn open(words: &str, queues: u16, context: &OpenContext<'_>) -> Result<Ethdev, OpenError> {
        let mut control = control();
        let control = control.get_or_insert_default();
        control.retired.retain(|pool| pool.in_use() > 0);

        let queues = queues.max(1);
        let mut device =
            Device::parse(words).map_err(|reason| unknown(context, words, reason, HELP_WORDS))?;
        let frame = u32::from(context.mtu) + FRAME_HEADER;
        attach::prepare(&mut device, queues, frame);
        let interfaces = attach::kernel_interfaces(&device, context)?;
        for interface in &interfaces {
            if control.interfaces.contains(&interface.name) {
                return Err(OpenError::DeviceBusy {
                    port: context.name.to_owned(),
                    device: interface.name.clone(),
                });
            }
            attach::prepare_interface(interface, words, context)?;
        }
        // af_packet writes a frame into one buffer: jumbo frames need larger ones than the common pool's.
        let copied = interfaces.iter().any(|interface| interface.copied);
        let own_pool = copied && frame + attach::AF_PACKET_OVERHEAD > u32::from(context.pool.room());
        let pool = if own_pool {
            jumbo_pool(&device, frame, context)?
        } else {
            context.pool.clone()
        };

        let sockets = copied.then(PacketSockets::now);
        let attached = attach::attach(&device, &control.ports, context)?;
        if let Some(sockets) = sockets {
            sockets.ignore_outgoing_on_newer();
        }
        let port = attached.port();
        let setup = configure(port, &device, queues, &pool, context)?;
        let quiet = interfaces
            .iter()
            .filter(|interface| interface.copied)
            .map(|interface| KernelQuiet::new(context.name, context.instance, &interface.name))
            .collect::<Result<Vec<_>, _>>()?;

        let interfaces: Vec<String> = interfaces.into_iter().map(|interface| interface.name).collect();
        control.ports.extend(attached.all());
        control.interfaces.extend(interfaces.iter().cloned());
        Ok(Ethdev {
            port,
            words: device.words(),
            name: context.name.to_owned(),
            attached: Some(attached),
            receive: (0..setup.receive_queues).map(|_| Claim::default()).collect(),
            transmit: (0..setup.transmit_queues).map(|_| Claim::default()).collect(),
            capabilities: setup.capabilities,
            counts_receive: setup.counts_receive,
            mac: Mutex::new(setup.mac),
            most: if copied { context.mtu.max(1500) } else { setup.most },
            interfaces,
            quiet,
            pool,
            own_pool,
            refused: AtomicU64::new(0),
        })
    }

    /// See [`super::Driver::receive`].
    #[inline]
    pub fn receive(&self, queue: u16, batch: &mut Batch) -> usize {
        let Some(_claimed) = self.receive.get(usize::from(queue)).and_then(Claim::try_take) else {
            return 0;
        };
        let (room, free) = batch.room();
        if free == 0 {
            return 0;
        }
        // SAFETY: the port is started, the queue exists and is ours while claimed; `room` has place for `free`
        // pointers, and the packets received are owned by nobody else.
        unsafe {
            let count = ffi::rte_eth_rx_burst(self.port, queue, room, free);
            batch.grow(usize::from(count));
            usize::from(count)
        }
    }

    /// See [`super::Driver::transmit`]. A packet whose pending offloads the device refuses is freed and counted as
    /// an error of the device.
    #[inline]
    pub fn transmit(&self, queue: u16, batch: &mut Batch) -> usize {
        let Some(claim) = self.transmit.get(usize::from(queue)) else {
            return 0;
        };
        let _claimed = claim.take();
        if self.capabilities == Capabilities::default() {
            return self.transmit_prepared(queue, batch, batch.len());
        }
        let mut taken = 0;
        while !batch.is_empty() {
            let length = batch.len();
            // SAFETY: as in `transmit_prepared`; this only rewrites checksum fields of owned packets.
            let ready = unsafe { ffi::rte_eth_tx_prepare(self.port, queue, batch.raw_mut(), length as u16) };
            let ready = usize::from(ready).min(length);
            let sent = self.transmit_prepared(queue, batch, ready);
            taken += sent;
            if sent < ready {
                break;
            }
            if ready < length {
                self.refused.fetch_add(1, Ordering::Relaxed);
                taken += batch.drain_front(1).count();
            }
        }
        taken
    }

    #[inline]
    fn transmit_prepared(&self, queue: u16, batch: &mut Batch, count: usize) -> usize {
        // SAFETY: the port is started, the queue exists and is ours while claimed; the first `count` pointers are
        // owned packets, of which the driver takes over the first ones, as many as it says.
        unsafe {
            let sent = usize::from(ffi::rte_eth_tx_burst(
                self.port,
                queue,
                batch.raw_mut(),
                count as u16,
            ));
            batch.forget_front(sent);
            sent
        }
    }

    /// See [`super::Driver::pending_receive`].
    #[inline]
    pub fn pending_receive(&self, queue: u16) -> bool {
        // SAFETY: the port is started; DPDK checks the queue's number.
        !self.counts_receive || unsafe { ffi::rte_eth_rx_queue_count(self.port, queue) } != 0
    }

    /// See [`super::Driver::receive_queues`].
    #[inline]
    pub fn receive_queues(&self) -> u16 {
        self.receive.len() as u16
    }

    /// See [`super::Driver::transmit_queues`].
    #[inline]
    pub fn transmit_queues(&self) -> u16 {
        self.transmit.len() as u16
    }

    /// See [`super::Driver::capabilities`].
    #[inline]
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// DPDK's id of the device, until it is closed.
    pub fn port_id(&self) -> u16 {
        self.port
    }

    /// See [`super::Driver::link_up`]. af_packet and af_xdp always say up: the kernel's interface is asked instead.
    pub fn link_up(&self) -> bool {
        if self.interfaces.is_empty() {
            // SAFETY: the port exists.
            return unsafe { ffi::rte_eth_link_is_up_(self.port) } != 0;
        }
        let running = (libc::IFF_UP | libc::IFF_RUNNING) as u32;
        self.interfaces
            .iter()
            .any(|name| netlink::interface_flags(name).is_ok_and(|flags| flags & running == running))
    }

    /// See [`super::Driver::mac`].
    pub fn mac(&self) -> Mac {
        *self.mac.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`super::Driver::set_mac`]. A device without an address of its own (pcap, null) just keeps it in mind.
    pub fn set_mac(&self, mac: Mac) -> Result<(), OpenError> {
        let _control = control();
        let mut current = self.mac.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != mac {
            set_device_mac(self.port, mac)
                .map_err(|reason| start_failed(&self.name, &self.words, "setting the MAC address", reason))?;
            *current = mac;
        }
        Ok(())
    }

    /// See [`super::Driver::set_mtu`].
    pub fn set_mtu(&self, mtu: u16) -> Result<(), OpenError> {
        let _control = control();
        let refused = || OpenError::Mtu {
            port: self.name.clone(),
            device: self.words.clone(),
            mtu,
            least: 68,
            most: self.most,
        };
        if mtu > self.most {
            return Err(refused());
        }
        for interface in &self.interfaces {
            attach::raise_mtu(interface, mtu).map_err(|_| refused())?;
        }
        if self.interfaces.is_empty() {
            // SAFETY: the port exists.
            let result = unsafe { ffi::rte_eth_dev_set_mtu(self.port, mtu) };
            // A device that does not know MTUs (memif, pcap, null) takes what it gets.
            if result != 0 && result != -libc::ENOTSUP {
                return Err(refused());
            }
        }
        Ok(())
    }

    /// See [`super::Driver::statistics`].
    pub fn statistics(&self) -> DeviceStatistics {
        let mut stats = ffi::rte_eth_stats::default();
        // SAFETY: the port exists; the call fills the struct, or leaves it zero.
        unsafe { ffi::rte_eth_stats_get(self.port, &mut stats) };
        DeviceStatistics {
            rx_missed: stats.imissed,
            rx_no_buffer: stats.rx_nombuf,
            rx_errors: stats.ierrors,
            tx_errors: stats.oerrors + self.refused.load(Ordering::Relaxed),
        }
    }

    /// See [`super::Driver::describe`].
    pub fn describe(&self) -> String {
        format!("ethdev {} ({})", self.port, self.words)
    }
}

impl Drop for Ethdev {
    fn drop(&mut self) {
        let mut control = control();
        let control = control.get_or_insert_default();
        if let Some(attached) = self.attached.take() {
            for port in attached.all() {
                control.ports.remove(&port);
            }
            drop(attached);
        }
        self.quiet.clear();
        for interface in &self.interfaces {
            control.interfaces.remove(interface);
        }
        if self.own_pool && self.pool.in_use() > 0 {
            // Packets that it received are still on their way through other ports.
            control.retired.push(self.pool.clone());
        }
    }
}

struct Setup {
    receive_queues: u16,
    transmit_queues: u16,
    capabilities: Capabilities,
    counts_receive: bool,
    mac: Mac,
    most: u16,
}

fn configure(
    port: u16,
    device: &Device,
    queues: u16,
    pool: &Mempool,
    context: &OpenContext<'_>,
) -> Result<Setup, OpenError> {
    let words = device.words();
    let mark = log::mark();
    let failed = |step, number: i32| {
        let said = log::since(mark).map_or_else(String::new, |said| format!(" ({said})"));
        start_failed(
            context.name,
            &words,
            step,
            format!("{}{said}", errno_text(number)),
        )
    };
    let info = device_info(port).map_err(|number| failed("asking what it can do", number))?;
    if queues > info.max_rx_queues {
        return Err(OpenError::Queues {
            port: context.name.to_owned(),
            device: words,
            queues,
            available: info.max_rx_queues,
        });
    }
    // Both ends of a memif must have as many rings, so it gets as many queues as were asked for, both ways.
    let wanted = if device.is_driver("net_memif") {
        queues
    } else {
        context.workers
    };
    let transmit_queues = wanted.clamp(1, info.max_tx_queues.max(1));
    let own_mtu = device.is_pci();
    if own_mtu && !(info.min_mtu..=info.max_mtu).contains(&context.mtu) {
        let (least, most) = (info.min_mtu, info.max_mtu);
        return Err(OpenError::Mtu {
            port: context.name.to_owned(),
            device: words,
            mtu: context.mtu,
            least,
            most,
        });
    }

    let offloads = Offloads::of(&info, context);
    let mut conf = ffi::rte_eth_conf::default();
    conf.txmode.offloads = offloads.transmit;
    conf.rxmode.offloads = offloads.receive;
    conf.rxmode.mtu = if own_mtu { u32::from(context.mtu) } else { 0 };
    if queues > 1 {
        let wanted = ffi::RTE_ETH_RSS_IPV4_
            | ffi::RTE_ETH_RSS_IPV6_
            | ffi::RTE_ETH_RSS_NONFRAG_IPV4_TCP_
            | ffi::RTE_ETH_RSS_NONFRAG_IPV4_UDP_
            | ffi::RTE_ETH_RSS_NONFRAG_IPV6_TCP_
            | ffi::RTE_ETH_RSS_NONFRAG_IPV6_UDP_;
        let hash = wanted & info.flow_type_rss_offloads;
        if hash != 0 {
            conf.rxmode.mq_mode = ffi::RTE_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf = hash;
        }
    }
    let step = |step, result: i32| {
        if result < 0 {
            Err(failed(step, result))
        } else {
            Ok(())
        }
    };
    let (mut receive_slots, mut transmit_slots) = (DESCRIPTORS, DESCRIPTORS);
    let mut receive_conf = info.default_rxconf;
    receive_conf.offloads = offloads.receive & info.rx_queue_offload_capa;
    let mut transmit_conf = info.default_txconf;
    transmit_conf.offloads = offloads.transmit & info.tx_queue_offload_capa;
    // SAFETY: the port exists and is not started, and this thread alone configures devices (`CONTROL`); the structs
    // and the pool are valid, and the pool outlives the port.
    unsafe {
        step(
            "configuring",
            ffi::rte_eth_dev_configure(port, queues, transmit_queues, &conf),
        )?;
        let adjusted = ffi::rte_eth_dev_adjust_nb_rx_tx_desc(port, &mut receive_slots, &mut transmit_slots);
        step("choosing descriptors", adjusted)?;
        let node = ffi::rte_eth_dev_socket_id(port) as u32;
        for queue in 0..queues {
            let made =
                ffi::rte_eth_rx_queue_setup(port, queue, receive_slots, node, &receive_conf, pool.as_raw());
            step("making a receive queue", made)?;
        }
        for queue in 0..transmit_queues {
            let made = ffi::rte_eth_tx_queue_setup(port, queue, transmit_slots, node, &transmit_conf);
            step("making a transmit queue", made)?;
        }
        if device.is_driver("net_bonding") {
            let result = ffi::rte_eth_dev_set_mtu(port, context.mtu);
            step(
                "setting the MTU",
                if result == -libc::ENOTSUP { 0 } else { result },
            )?;
        }
        step("starting", ffi::rte_eth_dev_start(port))?;
        // All that comes is looked at: the router's own address towards tenants is not the device's. A device that
        // cannot filter refuses, and then hands over everything anyway.
        ffi::rte_eth_promiscuous_enable(port);
    }
    let mac = match context.mac {
        Some(mac) if mac != device_mac(port) => {
            set_device_mac(port, mac)
                .map_err(|reason| start_failed(context.name, &words, "setting the MAC address", reason))?;
            mac
        }
        _ => device_mac(port),
    };
    // SAFETY: the port is started and queue 0 exists.
    let counts_receive = unsafe { ffi::rte_eth_rx_queue_count(port, 0) } >= 0;
    Ok(Setup {
        receive_queues: queues,
        transmit_queues,
        capabilities: offloads.capabilities,
        counts_receive,
        mac,
        most: if info.max_mtu == 0 { u16::MAX } else { info.max_mtu },
    })
}

struct Offloads {
    receive: u64,
    transmit: u64,
    capabilities: Capabilities,
}

impl Offloads {
    fn of(info: &ffi::rte_eth_dev_info, context: &OpenContext<'_>) -> Offloads {
        let transmit_has = |wanted: u64| info.tx_offload_capa & wanted == wanted;
        let checksums = ffi::RTE_ETH_TX_OFFLOAD_TCP_CKSUM_ | ffi::RTE_ETH_TX_OFFLOAD_UDP_CKSUM_;
        // TCP segmentation rewrites the IPv4 header too.
        let segmentation = checksums
            | ffi::RTE_ETH_TX_OFFLOAD_TCP_TSO_
            | ffi::RTE_ETH_TX_OFFLOAD_IPV4_CKSUM_
            | ffi::RTE_ETH_TX_OFFLOAD_MULTI_SEGS_;
        let capabilities = Capabilities {
            checksum: !context.uplink && transmit_has(checksums),
            segmentation: !context.uplink && transmit_has(segmentation),
        };
        let mut transmit = info.tx_offload_capa & ffi::RTE_ETH_TX_OFFLOAD_MULTI_SEGS_;
        if capabilities.checksum {
            transmit |= checksums;
        }
        if capabilities.segmentation {
            transmit |= segmentation;
        }
        let mut receive = 0;
        if u32::from(context.mtu) + FRAME_HEADER > u32::from(context.pool.room()) {
            receive = info.rx_offload_capa & ffi::RTE_ETH_RX_OFFLOAD_SCATTER_;
        }
        Offloads {
            receive,
            transmit,
            capabilities,
        }
    }
}

fn device_info(port: u16) -> Result<ffi::rte_eth_dev_info, i32> {
    let mut info = ffi::rte_eth_dev_info::default();
    // SAFETY: the call checks the port and fills the struct.
    match unsafe { ffi::rte_eth_dev_info_get(port, &mut info) } {
        0 => Ok(info),
        error => Err(error),
    }
}

fn device_mac(port: u16) -> Mac {
    // SAFETY: an all-zero address is valid; the call checks the port and fills it.
    unsafe {
        let mut address: ffi::rte_ether_addr = mem::zeroed();
        ffi::rte_eth_macaddr_get(port, &mut address);
        Mac(address.addr_bytes)
    }
}

/// Ok also where the device has no address to set.
fn set_device_mac(port: u16, mac: Mac) -> Result<(), String> {
    // SAFETY: an all-zero address is valid, and gets all its bytes; the call checks the port.
    let result = unsafe {
        let mut address: ffi::rte_ether_addr = mem::zeroed();
        address.addr_bytes = mac.0;
        ffi::rte_eth_dev_default_mac_addr_set(port, &mut address)
    };
    if result == 0 || result == -libc::ENOTSUP {
        Ok(())
    } else {
        Err(errno_text(result))
    }
}

fn jumbo_pool(device: &Device, frame: u32, context: &OpenContext<'_>) -> Result<Mempool, OpenError> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let refused = |reason: String| {
        start_failed(
            context.name,
            &device.words(),
            "making buffers for jumbo frames",
            reason,
        )
    };
    let room = u16::try_from(attach::frame_size(frame)).map_err(|_| OpenError::Mtu {
        port: context.name.to_owned(),
        device: device.words(),
        mtu: context.mtu,
        least: 68,
        most: attach::AF_PACKET_LARGEST_MTU,
    })?;
    let name = format!("weft-jumbo-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    Mempool::with_room(&name, JUMBO_BUFFERS, 32, room).map_err(|reason| refused(reason.to_string()))
}

fn unknown(context: &OpenContext<'_>, device: &str, reason: String, help: &'static str) -> OpenError {
    OpenError::UnknownDevice {
        port: context.name.to_owned(),
        device: device.to_owned(),
        reason,
        help,
    }
}

fn start_failed(port: &str, device: &str, step: &'static str, reason: String) -> OpenError {
    OpenError::Start {
        port: port.to_owned(),
        device: device.to_owned(),
        step,
        reason,
    }
}
