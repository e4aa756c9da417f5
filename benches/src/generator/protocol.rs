//! How a run speaks with its generator: one JSON object a line, each request answered by one reply.

use serde::{Deserialize, Serialize};

use super::{pace::Rate, report::Report, stream::Stream};

/// What a run asks for, on the generator's standard input. At its end the generator ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Send these streams from now on, instead of any before; counts begin anew.
    Start(Vec<Stream>),
    /// Send one stream at another rate.
    Rate {
        /// Its index.
        stream: usize,
        /// How fast.
        rate: Rate,
    },
    /// Send nothing any more; what is on its way is still counted.
    Pause,
    /// Count from zero, without disturbing the streams.
    Clear,
    /// Tell the counts.
    Read,
}

/// What the generator says, on its standard output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Said once, when the devices are open.
    Ready,
    /// Done.
    Done,
    /// The counts.
    Report(Report),
    /// Not done, and why.
    Refused(String),
}
