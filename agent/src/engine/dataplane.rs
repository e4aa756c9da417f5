//! The real data plane as an [`Engine`].

use weft_dataplane::{
    Dataplane, StartError,
    change::Change,
    control::ChangeError,
    dpdk::eal::EalError,
    view::{
        FloatingIpStatistics, FlowFilter, FlowRecord, PolicyLog, PoolStatistics, PortState,
        ServiceStatistics, Statistics, SupposedPacket, WhatIf,
    },
};
use weft_table::{PolicyId, PortId};

use super::{Applied, Engine, Refused};

impl Engine for Dataplane {
    fn apply(&self, batch: Vec<Change>) -> Result<Applied, Refused> {
        match Dataplane::apply(self, batch) {
            Ok(applied) => Ok(Applied {
                snapshot: applied.snapshot,
                effective: applied.effective,
            }),
            Err(refused) => {
                // That the data plane stops is nobody's fault.
                let blamed = !matches!(refused.reason, ChangeError::Stopping);
                let message = refused.reason.to_string();
                Err(Refused {
                    change: blamed.then_some(refused.index),
                    message,
                })
            }
        }
    }

    fn statistics(&self) -> Statistics {
        Dataplane::statistics(self)
    }

    fn flows(&self, filter: FlowFilter, limit: usize) -> Vec<FlowRecord> {
        Dataplane::flows(self, filter, limit)
    }

    fn policy_hits(&self) -> Vec<(PolicyId, Vec<u64>)> {
        Dataplane::policy_hits(self)
    }

    fn floating_ips(&self) -> Vec<FloatingIpStatistics> {
        Dataplane::floating_ips(self)
    }

    fn pools(&self) -> Vec<PoolStatistics> {
        Dataplane::pools(self)
    }

    fn services(&self) -> Vec<ServiceStatistics> {
        Dataplane::services(self)
    }

    fn policy_log(&self, limit: usize) -> PolicyLog {
        Dataplane::policy_log(self, limit)
    }

    fn what_if(&self, from: PortId, packet: SupposedPacket) -> Option<WhatIf> {
        Dataplane::what_if(self, from, packet)
    }

    fn port_state(&self, port: PortId) -> Option<PortState> {
        Dataplane::port_state(self, port)
    }
}

/// Whether the data plane did not start for want of permission.
pub fn is_permission(error: &StartError) -> bool {
    matches!(error, StartError::Eal(EalError::Permission { .. }))
}
