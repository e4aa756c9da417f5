//! Policies: which rule sets there are, which port has which, and whose sessions are judged again.
//!
//! A set arrives compiled. It replaces another by one pointer, whatever number of ports have it; what is done for each of
//! them is to note that its sessions must be looked at.

use std::sync::Arc;

use weft_table::{PolicyId, PortId, policy::RuleSet};

use super::{ChangeError, state::State};
use crate::{change::PortPolicy, snapshot::Policy};

/// Policies are numbered below this.
const POLICIES: u32 = 1 << 16;

impl State {
    /// Adds or replaces a policy; the previous one.
    pub fn set_policy(
        &mut self,
        id: PolicyId,
        rules: Arc<RuleSet>,
    ) -> Result<Option<Arc<Policy>>, ChangeError> {
        if id.0 >= POLICIES {
            return Err(ChangeError::PolicyRange(id));
        }
        let workers = usize::from(self.workers);
        let policy = match self.draft.policy(id) {
            Some(known) => known.replaced(rules, workers),
            None => Policy::new(rules, workers),
        };
        Ok(self.put_policy(id, Some(Arc::new(policy))))
    }

    /// Removes a policy that no port has.
    pub fn remove_policy(&mut self, id: PolicyId) -> Result<Option<Arc<Policy>>, ChangeError> {
        match self.policies.get(&id) {
            None => Err(ChangeError::UnknownPolicy(id)),
            Some(0) => Ok(self.put_policy(id, None)),
            Some(users) => Err(ChangeError::PolicyInUse(id, *users)),
        }
    }

    /// Sets or removes a policy; the previous one.
    pub fn put_policy(&mut self, id: PolicyId, policy: Option<Arc<Policy>>) -> Option<Arc<Policy>> {
        let previous = self.draft.policies.get(id.index()).cloned().flatten();
        if policy.is_some() {
            self.policies.entry(id).or_default();
        } else {
            self.policies.remove(&id);
        }
        self.draft.policies.set(id.index(), policy);
        let having = self
            .ports
            .iter()
            .filter(|(_, entry)| entry.spec.policy == PortPolicy::Judged(id));
        let having: Vec<PortId> = having.map(|(port, _)| *port).collect();
        for port in having {
            self.judge_again(port);
        }
        previous
    }

    /// A port has this policy, or no longer.
    pub fn count_policy(&mut self, policy: PortPolicy, step: i32) {
        if let PortPolicy::Judged(id) = policy
            && let Some(users) = self.policies.get_mut(&id)
        {
            *users = users.saturating_add_signed(step);
        }
    }

    /// The sessions of a port are judged again with their next packets.
    pub fn judge_again(&mut self, port: PortId) {
        if let Err(error) = self.port_stamps.set(u32::from(port.0), self.number()) {
            tracing::error!(%error, "sessions of port {port} keep a verdict that has changed");
        }
        self.touched.decisions = true;
    }

    /// Whether a port may be given this policy.
    pub fn check_policy(&self, policy: PortPolicy) -> Result<(), ChangeError> {
        match policy {
            PortPolicy::Judged(id) if !self.policies.contains_key(&id) => Err(ChangeError::UnknownPolicy(id)),
            _ => Ok(()),
        }
    }
}
