//! Next-hop groups (ECMP): which member takes a flow.
//!
//! Weighted rendezvous hashing (Thaler and Ravishankar, 1998; weights by the logarithm method of Schindelhauer and
//! Schomaker, 2005) decides each slot of a small table, so that a packet costs one load. A member that leaves gives
//! away its own slots and no others; one that comes takes its share and nothing else moves.

use crate::NextHopId;

/// A member that can be reached now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Stable identity: decides which flows are its own.
    pub id: u64,
    /// Its share, at least 1.
    pub weight: u32,
    /// Where its flows go.
    pub next_hop: NextHopId,
}

/// The members of a group and the table that spreads flows over them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    slots: Box<[NextHopId]>,
    members: Box<[NextHopId]>,
}

impl Group {
    /// Slots a member gets at least on average: shares are right to about a percent.
    const SLOTS_PER_MEMBER: usize = 64;
    /// Bounds of the table.
    const SLOTS: std::ops::RangeInclusive<usize> = 256..=16_384;

    /// Builds the table. The number of slots depends on `capacity` (members configured, reachable or not) alone, so
    /// that a member that leaves for a while does not move the others' flows.
    pub fn new(members: &[Member], capacity: usize) -> Self {
        if members.is_empty() {
            return Group::default();
        }
        let slots = (capacity.max(members.len()) * Self::SLOTS_PER_MEMBER)
            .next_power_of_two()
            .clamp(*Self::SLOTS.start(), *Self::SLOTS.end());
        let winner = |slot: usize| {
            let score = |member: &Member| score(member, slot as u64);
            let best = members
                .iter()
                .max_by(|a, b| score(a).total_cmp(&score(b)).then(a.id.cmp(&b.id)));
            best.map_or(members[0].next_hop, |member| member.next_hop)
        };
        Group {
            slots: (0..slots).map(winner).collect(),
            members: members.iter().map(|member| member.next_hop).collect(),
        }
    }

    /// The next hop for a flow; None: nobody is reachable.
    #[inline(always)]
    pub fn select(&self, hash: u32) -> Option<NextHopId> {
        // The slot comes from the hash's high bits: the low ones chose the flow table's bucket.
        let slot = (u64::from(hash) * self.slots.len() as u64) >> 32;
        self.slots.get(slot as usize).copied()
    }

    /// Whether an established flow may stay with this next hop.
    pub fn contains(&self, next_hop: NextHopId) -> bool {
        self.members.contains(&next_hop)
    }
}

/// The larger, the more the slot belongs to the member: -weight / ln(uniform in (0, 1)).
fn score(member: &Member, slot: u64) -> f64 {
    let mixed = mix(member.id ^ mix(slot.wrapping_add(0x9E37_79B9_7F4A_7C15)));
    let uniform = ((mixed >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(member.weight) / uniform.ln()
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
#[inline]
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn members(weights: &[u32]) -> Vec<Member> {
        let member = |(index, &weight): (usize, &u32)| Member {
            id: mix(index as u64 + 1),
            weight,
            next_hop: NextHopId(index as u32),
        };
        weights.iter().enumerate().map(member).collect()
    }

    fn hashes() -> impl Iterator<Item = u32> {
        (0..20_000u64).map(|n| mix(n) as u32)
    }

    proptest! {
        #[test]
        fn a_leaving_member_moves_only_its_own_flows(
            weights in proptest::collection::vec(1u32..10, 2..12), leaving in any::<proptest::sample::Index>(),
        ) {
            let all = members(&weights);
            let gone = all[leaving.index(all.len())];
            let rest: Vec<_> = all.iter().copied().filter(|member| member.id != gone.id).collect();
            let (before, after) = (Group::new(&all, all.len()), Group::new(&rest, all.len()));
            for hash in hashes() {
                let was = before.select(hash);
                if was != Some(gone.next_hop) {
                    prop_assert_eq!(was, after.select(hash));
                }
            }
        }
    }

    #[test]
    fn flows_are_spread_by_weight() {
        let group = Group::new(&members(&[1, 2, 5]), 3);
        let mut counts = [0f64; 3];
        for hash in hashes() {
            counts[group.select(hash).unwrap().index()] += 1.0 / 20_000.0;
        }
        for (count, share) in counts.iter().zip([0.125, 0.25, 0.625]) {
            assert!((count - share).abs() < 0.06, "{counts:?}");
        }
    }

    #[test]
    fn an_empty_group_selects_nobody() {
        assert_eq!(Group::new(&[], 3).select(7), None);
    }
}
