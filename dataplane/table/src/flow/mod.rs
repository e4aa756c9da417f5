//! The flow table: every session that the vRouter knows, shared by all workers.
//!
//! One table an address family ([`FlowTable`] over [`Key4`] or [`Key6`]), flat memory in hugepages, links by index.
//! Each session has two [`Direction`]s, each found by its own key; both are put in and taken out as one step. Lookups
//! take no lock and never wait. A worker brings its own [`WorkerFlows`] to what changes the table.
//!
//! # Use
//! ```
//! use weft_table::{
//!     VrfId, WorkerId,
//!     flow::{Decision, DirectionIndex, FlowConfig, FlowTable, Inserted, Key, Key4, NewDirection, NewSession},
//!     rcu::Domain,
//! };
//!
//! let (domain, _writer) = Domain::new();
//! let config = FlowConfig { sessions: 1000, seed: 1, hugepages: false, workers: 1 };
//! let table = FlowTable::<Key4>::new(&config, &domain)?;
//! let mut reader = domain.register(0)?;
//! let mut worker = table.worker(WorkerId(0))?;
//!
//! let key = Key4 {
//!     source: 0x0a000001,
//!     destination: 0x0a000002,
//!     source_port: 1024,
//!     destination_port: 53,
//!     vrf: VrfId(1),
//!     protocol: 17,
//! };
//! let reverse = key.reversed(VrfId(1));
//! let inserted = table.insert(
//!     &mut worker,
//!     &NewSession {
//!         forward: NewDirection { key, hash: table.hash(&key), decision: Decision::new(1, 10, 7, 1) },
//!         reverse: NewDirection { key: reverse, hash: table.hash(&reverse), decision: Decision::new(2, 11, 8, 1) },
//!         now: 0,
//!     },
//! )?;
//! let Inserted::New(direction) = inserted else { panic!() };
//!
//! let mut found = [DirectionIndex::NONE];
//! table.lookup_burst(&[reverse], &[table.hash(&reverse)], &mut found);
//! assert_eq!(found, [direction.peer()]);
//! let decided = table.direction(found[0]).decided();
//! assert_eq!((decided.action, decided.ingress, decided.route(), decided.stamp()), (2, 11, 8, 1));
//! table.direction(found[0]).count(1, 64, 0);
//! reader.quiescent();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Rules
//! - A [`DirectionIndex`] is good until its worker's next [`Reader::quiescent`](crate::rcu::Reader::quiescent). Each
//!   thread that looks up is a registered reader of the table's domain.
//! - A hit counts only if its ingress is the packet's and [`FlowTable::is_fresh`]; else the packet is decided anew,
//!   and [`FlowTable::redecide`] (another result) or [`FlowTable::restamp`] (the same) publishes that.
//! - [`FlowTable::sweep`] is called by each worker now and then: it ages sessions and brings freed numbers back.

mod bucket;
mod direction;
mod index;
mod insert;
mod key;
mod listing;
mod pool;
mod remove;
mod table;
mod tags;
mod tcp;

pub use direction::{Decided, Decision, Direction, FURTHER, Redecided};
pub use index::{DirectionIndex, SessionIndex};
pub use insert::{InsertError, Inserted, NewDirection, NewSession};
pub use key::{Key, Key4, Key6};
pub use listing::{DirectionRecord, SessionRecord};
pub use remove::Removed;
pub use table::{FlowConfig, FlowTable, FlowTableError, WorkerFlows};
pub use tcp::{ACK, FIN, RST, SYN, TcpState};
