//! New sessions that one tenant may open while others of the same queue wait.
//!
//! A tenant's own queue has its share of the worker (see [`polling`](crate::polling)). But an uplink or a trunk carries
//! many tenants' packets in one queue, and there the first packets of one must not take the time of the others'
//! sessions. So first packets are charged to a port: the sub-interface by which they came, or the port to which the
//! route leads; what leads into another tunnel, to the uplink itself.
//!
//! How much a port may have follows from how the queue fares: while its bursts come full and hold others' packets too,
//! the port's first packets are halved burst by burst, down to [`LEAST`]; when a burst is not full, the queue is drained,
//! and the port may have twice as many again. So whoever attacks gets what is left over, and with nobody else in the
//! queue all of it.
//!
//! Drops: new-flow-budget.

use weft_table::PortId;

use super::{Context, burst::Burst, rate::PortRates};
use crate::{dpdk::BURST, drops::Reason, snapshot::Role, statistics::MAX_PORTS};

/// First packets that a port may have in any burst.
const LEAST: u8 = 2;
/// Packets of others in a burst that make it worth while to hold one port back.
const OTHERS: u8 = 8;
const HALVINGS: u8 = (BURST as u8 / LEAST).ilog2() as u8;

/// One port's.
#[derive(Clone, Copy)]
struct Account {
    /// The burst in which it was charged last.
    burst: u32,
    /// First packets in that burst, those that were dropped too.
    seen: u8,
    /// How often its part was halved.
    halved: u8,
}

/// Nothing is known of a port at first: it is not held back.
const NEW: Account = Account {
    burst: 0,
    seen: BURST as u8,
    halved: 0,
};

/// One worker's budgets.
pub struct Budgets {
    accounts: Box<[Account]>,
    burst: u32,
    /// What is said to senders of packets that are not let through.
    pub answers: PortRates,
    /// What is written down of policies' decisions.
    pub logged: PortRates,
}

impl Default for Budgets {
    fn default() -> Self {
        Budgets {
            accounts: vec![NEW; MAX_PORTS].into_boxed_slice(),
            burst: 0,
            answers: PortRates::default(),
            logged: PortRates::default(),
        }
    }
}

impl Budgets {
    /// A burst begins.
    #[inline(always)]
    pub fn begin(&mut self) {
        self.burst = self.burst.wrapping_add(1);
    }

    /// Charges a first packet to `port`; false: it has had its part of this burst. `full`: the burst is.
    #[inline]
    pub fn allows(&mut self, port: PortId, full: bool) -> bool {
        let Some(account) = self.accounts.get_mut(port.index()) else {
            return true;
        };
        if account.burst != self.burst {
            let contended = full && BURST as u8 - account.seen >= OTHERS;
            account.halved = match contended {
                true => (account.halved + 1).min(HALVINGS),
                false => account.halved.saturating_sub(1),
            };
            account.burst = self.burst;
            account.seen = 0;
        }
        account.seen += 1;
        account.seen <= BURST as u8 >> account.halved
    }
}

/// Charges a packet that would open a session, to `egress` if it ends at a port of this host.
#[inline]
pub fn charge(
    burst: &Burst,
    context: &mut Context<'_>,
    index: usize,
    egress: Option<PortId>,
) -> Result<(), Reason> {
    match account(burst, context, index, egress) {
        Some(port) if !context.budgets.allows(port, burst.len() == BURST) => Err(Reason::NewFlowBudget),
        _ => Ok(()),
    }
}

/// Whom it is charged to; None: its queue, which is one tenant's.
#[inline]
fn account(burst: &Burst, context: &Context<'_>, index: usize, egress: Option<PortId>) -> Option<PortId> {
    let came_by = burst.packets[index].port;
    if came_by != burst.device {
        return Some(came_by);
    }
    match context.snapshot.port(came_by)?.role {
        Role::Tenant => None,
        Role::Uplink { .. } | Role::Host { .. } => Some(egress.unwrap_or(came_by)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: PortId = PortId(7);
    const OTHER: PortId = PortId(8);

    /// First packets that a port gets through of those it has in a burst.
    fn burst(budgets: &mut Budgets, port: PortId, first_packets: usize, full: bool) -> usize {
        (0..first_packets).filter(|_| budgets.allows(port, full)).count()
    }

    #[test]
    fn an_attack_is_cut_down_while_others_wait_and_gets_all_again_when_they_do_not() {
        let mut budgets = Budgets::default();
        let mut next = |first_packets, full| {
            budgets.begin();
            burst(&mut budgets, PORT, first_packets, full)
        };
        let cut: Vec<usize> = (0..7).map(|_| next(40, true)).collect();
        assert_eq!(cut, [40, 32, 16, 8, 4, 2, 2]);
        let back: Vec<usize> = (0..6).map(|_| next(40, false)).collect();
        assert_eq!(back, [4, 8, 16, 32, 40, 40]);
    }

    #[test]
    fn whoever_is_alone_in_the_queue_is_not_held_back() {
        let mut budgets = Budgets::default();
        for _ in 0..100 {
            budgets.begin();
            assert_eq!(burst(&mut budgets, PORT, 64, true), 64);
        }
    }

    #[test]
    fn one_port_does_not_pay_for_another() {
        let mut budgets = Budgets::default();
        for round in 0..20 {
            budgets.begin();
            assert!(burst(&mut budgets, PORT, 50, true) <= 32 || round == 0);
            assert_eq!(burst(&mut budgets, OTHER, 2, true), 2, "a few are always allowed");
        }
    }
}
