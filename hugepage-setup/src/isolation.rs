//! Advice on keeping worker CPUs for the workers. It changes nothing: the kernel reads these settings only at boot.

use crate::{
    cpu::{self, CpuSet},
    host::Host,
};

/// The CPUs to isolate if the operator names none: all but the first of each node and its siblings, which stay for
/// the host.
pub fn proposal(host: &Host) -> CpuSet {
    let online = cpu::online(host);
    let kept: CpuSet = cpu::nodes(host)
        .into_iter()
        .filter_map(|node| cpu::of_node(host, node).iter().next())
        .flat_map(|first| {
            cpu::siblings(host, first)
                .iter()
                .chain([first])
                .collect::<Vec<_>>()
        })
        .collect();
    online.without(&kept)
}

/// What `hugepage-setup isolate` prints.
pub fn advice(host: &Host, workers: &CpuSet) -> String {
    let online = cpu::online(host);
    let now = cpu::isolation(host);
    let mut text = String::new();
    if workers.is_empty() {
        return "this machine has too few CPUs to keep one for a worker alone: weft shares them, and its workers \
                sleep when idle\n"
            .to_owned();
    }
    let missing = workers.without(&online);
    if !missing.is_empty() {
        text += &format!("CPUs {missing} do not exist here; online are {online}\n");
    }
    let house = online.without(workers);
    if house.is_empty() {
        text += "no CPU would be left for the host itself: keep at least one\n";
        return text;
    }
    let lacking = workers.without(&now.isolated);
    if lacking.is_empty() && workers.without(&now.tickless).is_empty() {
        text += &format!("CPUs {workers} are isolated and without the timer tick already\n");
        return text;
    }
    let shown = |set: &CpuSet| {
        if set.is_empty() {
            "none".to_owned()
        } else {
            set.to_string()
        }
    };
    text += &format!(
        "now: isolated {}, nohz_full {}, rcu_nocbs {}\n\n\
         add to the kernel command line (GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub and reboot):\n  \
         isolcpus=managed_irq,domain,{workers} nohz_full={workers} rcu_nocbs={workers} irqaffinity={house}\n\n\
         without a reboot, cgroups keep other tasks off (the timer tick stays), if weftd has a slice of its \
         own (Slice=weft.slice in its unit):\n  \
         systemctl set-property --runtime system.slice AllowedCPUs={house}\n  \
         systemctl set-property --runtime user.slice AllowedCPUs={house}\n\n\
         then in weftd.toml: workers = [{}]\n",
        shown(&now.isolated),
        shown(&now.tickless),
        shown(&now.without_callbacks),
        workers
            .iter()
            .map(|cpu| cpu.to_string())
            .collect::<Vec<_>>()
            .join(", "),
    );
    text
}
