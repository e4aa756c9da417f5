//! `weft-bench generate`: opens the devices, runs the engine on its core and passes requests on.

use std::{
    io::{self, BufRead, Write},
    sync::mpsc,
};

use anyhow::Context;
use clap::Args;
use weft_dataplane::{
    change::DeviceSpec,
    dpdk::{Eal, EalConfig, Mempool},
    port::{self, OpenContext},
};

use super::{
    engine::Engine,
    protocol::{Reply, Request},
};

/// Send and count traffic as told on standard input (one JSON object a line); other benchmarks start it
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// The core that sends and receives
    #[arg(long)]
    pub cpu: u16,
    /// Tells the DPDK files of several processes apart
    #[arg(long)]
    pub file_prefix: String,
    /// Hugepages, MiB
    #[arg(long)]
    pub memory_mib: u32,
    /// Packet buffers
    #[arg(long)]
    pub mbufs: u32,
    /// A DPDK device with its arguments; give one for each end, in order
    #[arg(long = "device", required = true)]
    pub devices: Vec<String>,
}

/// Runs until standard input ends.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let eal = Eal::start(&EalConfig {
        worker_cpus: vec![arguments.cpu],
        memory_mib: arguments.memory_mib,
        file_prefix: arguments.file_prefix.clone(),
        // vhost-user hands over a descriptor for each file of memory, and takes eight.
        single_file_segments: true,
        ..EalConfig::default()
    })?;
    let pool = Mempool::new("generator", arguments.mbufs, 512)?;
    let mut drivers = Vec::new();
    for (index, device) in arguments.devices.iter().enumerate() {
        let spec = DeviceSpec::Ethdev {
            device: device.clone(),
            queues: 1,
        };
        let context = OpenContext {
            pool: &pool,
            workers: 1,
            mac: None,
            mtu: 1500,
            name: &format!("device {index}"),
            uplink: true,
            instance: &arguments.file_prefix,
        };
        drivers.push(port::open(&spec, &context)?);
    }
    let (to_engine, requests) = mpsc::sync_channel(1);
    let (replies, from_engine) = mpsc::sync_channel(1);
    let engine = Engine::new(drivers, pool);
    let running = eal.launch(0, move || engine.run(&requests, &replies))?;
    say(&Reply::Ready)?;
    for line in io::stdin().lock().lines() {
        let line = line.context("reading standard input")?;
        let reply = match serde_json::from_str::<Request>(&line) {
            Ok(request) => {
                to_engine.send(request).context("the engine has ended")?;
                from_engine.recv().context("the engine has ended")?
            }
            Err(error) => Reply::Refused(error.to_string()),
        };
        say(&reply)?;
    }
    drop(to_engine);
    running.wait().map_err(anyhow::Error::msg)?;
    drop(eal);
    Ok(())
}

fn say(reply: &Reply) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    serde_json::to_writer(&mut output, reply)?;
    output.write_all(b"\n")?;
    output.flush().context("writing standard output")
}
