//! Policies and the address groups that they name: which there are, which port has which, and whose sessions are judged
//! again.
//!
//! A set arrives compiled. It replaces another by one pointer, whatever number of ports have it; what is done for each of
//! them is to note that its sessions must be looked at.

use std::sync::Arc;

use hashbrown::HashSet;

use weft_table::{
    AddressGroupId, PolicyId, PortId,
    policy::{AddressGroup, RuleSet},
};

use super::{ChangeError, state::State};
use crate::{change::PortPolicy, snapshot::Policy};

/// Policies are numbered below this.
const POLICIES: u32 = 1 << 16;
/// Address groups are numbered below this.
const ADDRESS_GROUPS: u32 = 1 << 20;

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
        if let Some(unknown) = rules
            .groups()
            .iter()
            .find(|group| !self.address_groups.contains_key(*group))
        {
            return Err(ChangeError::UnknownAddressGroup(*unknown));
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
        for (policy, step) in [(&policy, 1), (&previous, -1)] {
            let groups = policy.iter().flat_map(|policy| policy.rules.groups());
            for group in groups {
                if let Some(users) = self.address_groups.get_mut(group) {
                    *users = users.saturating_add_signed(step);
                }
            }
        }
        if policy.is_some() {
            self.policies.entry(id).or_default();
        } else {
            self.policies.remove(&id);
        }
        self.draft.policies.set(id.index(), policy);
        self.judge_ports_again(|policy| policy == id);
        previous
    }

    /// Adds or replaces an address group; the previous one.
    pub fn set_address_group(
        &mut self,
        id: AddressGroupId,
        group: Arc<AddressGroup>,
    ) -> Result<Option<Arc<AddressGroup>>, ChangeError> {
        if id.0 >= ADDRESS_GROUPS {
            return Err(ChangeError::AddressGroupRange(id));
        }
        Ok(self.put_address_group(id, Some(group)))
    }

    /// Removes an address group that no policy names.
    pub fn remove_address_group(
        &mut self,
        id: AddressGroupId,
    ) -> Result<Option<Arc<AddressGroup>>, ChangeError> {
        match self.address_groups.get(&id) {
            None => Err(ChangeError::UnknownAddressGroup(id)),
            Some(0) => Ok(self.put_address_group(id, None)),
            Some(users) => Err(ChangeError::AddressGroupInUse(id, *users)),
        }
    }

    /// Sets or removes an address group; the previous one.
    pub fn put_address_group(
        &mut self,
        id: AddressGroupId,
        group: Option<Arc<AddressGroup>>,
    ) -> Option<Arc<AddressGroup>> {
        let previous = self.draft.address_groups.get(id.index()).cloned().flatten();
        let users = if group.is_some() {
            *self.address_groups.entry(id).or_default()
        } else {
            self.address_groups.remove(&id).unwrap_or_default()
        };
        self.draft.address_groups.set(id.index(), group);
        if users > 0 {
            let policies = self.policies.keys().copied().filter(|policy| {
                let policy = self.draft.policy(*policy);
                policy.is_some_and(|policy| policy.rules.groups().binary_search(&id).is_ok())
            });
            let naming: HashSet<PolicyId> = policies.collect();
            self.judge_ports_again(|policy| naming.contains(&policy));
        }
        previous
    }

    /// The sessions of all ports with such a policy are judged again.
    fn judge_ports_again(&mut self, such: impl Fn(PolicyId) -> bool) {
        let having = self.ports.iter().filter(|(_, entry)| match entry.spec.policy {
            PortPolicy::Judged(policy) => such(policy),
            PortPolicy::Open | PortPolicy::Closed => false,
        });
        let having: Vec<PortId> = having.map(|(port, _)| *port).collect();
        for port in having {
            self.judge_again(port);
        }
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
        if let Err(error) = self.changed.policies.set(u32::from(port.0), self.number()) {
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
