//! Tell the sender of a packet that is not let through: by a TCP reset or an ICMP error, see [`refusal`].
//!
//! The packet itself is dropped by whoever refuses it, with the reason for that; the answer is a packet of its own. How
//! many answers a port gets is bounded ([`AnswerBudget`]), as RFC 1812 (section 4.3.2.8) and RFC 4443 (section 2.4 f)
//! want it: beyond that packets are dropped without a word.

use weft_packet::{
    ip::{self, Addresses},
    refusal::{Because, Refusal},
};
use weft_table::PortId;

use crate::{
    dpdk::{Mbuf, clock},
    pipeline::{
        Context, apply,
        burst::Packet,
        family::{V4, V6},
        forward,
    },
    snapshot::Hop,
    statistics::MAX_PORTS,
};

/// Answers that the packets of one port may cause in a second, and at once; by each worker.
const A_SECOND: u64 = 1000;
const AT_ONCE: u64 = 100;

/// One worker's bound on what it says without being asked: for each port a token bucket, kept as the time at which it is
/// full again (the generic cell rate algorithm of ITU-T I.371).
pub struct AnswerBudget {
    /// By [`PortId`], in cycles.
    full: Box<[u64]>,
}

impl Default for AnswerBudget {
    fn default() -> Self {
        AnswerBudget {
            full: vec![0; MAX_PORTS].into_boxed_slice(),
        }
    }
}

impl AnswerBudget {
    /// Whether a packet of this port may be answered now. Times in cycles, of which a second has `hz`.
    pub fn allows(&mut self, port: PortId, now: u64, hz: u64) -> bool {
        let Some(full) = self.full.get_mut(port.index()) else {
            return false;
        };
        let interval = hz / A_SECOND;
        let from = (*full).max(now);
        let allowed = from - now <= interval * (AT_ONCE - 1);
        if allowed {
            *full = from + interval;
        }
        allowed
    }
}

/// Answers a packet that starts with its IP header, untranslated, as it came. The caller drops it.
#[cold]
pub fn refuse(context: &mut Context<'_>, refused: &Mbuf, packet: &Packet, because: Because) {
    let Ok(ip) = ip::parse(refused.data(), refused.len()) else {
        return;
    };
    let Some(refusal) = Refusal::of(refused.data(), &ip, because) else {
        return;
    };
    let back = match ip.addresses {
        Addresses::V4 { source, .. } => {
            forward::decide::<V4>(context, packet.vrf, source.to_bits(), packet.hash)
        }
        Addresses::V6 { source, .. } => {
            forward::decide::<V6>(context, packet.vrf, source.to_bits(), packet.hash)
        }
    };
    let Ok(back) = back else { return };
    // To itself: somebody sent in the vRouter's name.
    if matches!(context.snapshot.hop(back.hop), Some(Hop::Receive))
        || !context
            .budgets
            .answers
            .allows(packet.port, clock::now(), clock::hz())
    {
        return;
    }
    let Some(mut answer) = context.shared.pool.allocate() else {
        return;
    };
    let length = refusal.len();
    if !answer.append(length).is_some_and(|room| refusal.write(room)) {
        return;
    }
    context.counters.books.created += 1;
    let packet = Packet {
        port: packet.port,
        vrf: packet.vrf,
        ingress: packet.ingress,
        hash: packet.hash,
        length: length as u32,
        traffic_class: refusal.traffic_class(),
        v6: packet.v6,
        ..Packet::NONE
    };
    apply::originate(context, answer, packet, back.hop);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: PortId = PortId(7);
    const HZ: u64 = 1_000_000_000;

    fn answered(budget: &mut AnswerBudget, port: PortId, packets: usize, now: u64) -> usize {
        (0..packets).filter(|_| budget.allows(port, now, HZ)).count()
    }

    #[test]
    fn a_storm_is_answered_at_a_steady_rate() {
        let mut budget = AnswerBudget::default();
        let start = 5 * HZ;
        assert_eq!(answered(&mut budget, PORT, 1000, start), 100);
        assert_eq!(answered(&mut budget, PORT, 1000, start + HZ / 10_000), 0);
        let storm: usize = (1..=1000)
            .map(|millisecond| answered(&mut budget, PORT, 50, start + millisecond * HZ / 1000))
            .sum();
        assert_eq!(storm, 1000);
        // After a pause there are no more than at first.
        assert_eq!(answered(&mut budget, PORT, 1000, start + 60 * HZ), 100);
    }

    #[test]
    fn one_port_does_not_take_the_answers_of_another() {
        let mut budget = AnswerBudget::default();
        answered(&mut budget, PORT, 1000, HZ);
        assert_eq!(answered(&mut budget, PortId(8), 10, HZ), 10);
    }
}
