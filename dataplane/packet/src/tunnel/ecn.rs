//! Explicit congestion notification across a tunnel (RFC 6040).
//!
//! At the entrance the outer header takes the inner one's ECN (normal mode, section 4.1): a template's traffic class
//! is simply that of the inner packet. This file has the exit.

use thiserror::Error;

/// The packet does not take part in ECN.
pub const NOT_ECT: u8 = 0b00;
/// ECN-capable, codepoint 1.
pub const ECT_1: u8 = 0b01;
/// ECN-capable, codepoint 0.
pub const ECT_0: u8 = 0b10;
/// Congestion was experienced.
pub const CE: u8 = 0b11;

/// Congestion was marked on the outer header of a packet that cannot carry the mark: it must be dropped, which its
/// sender understands too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the underlay marked congestion, but the inner packet does not take part in ECN: RFC 6040 tells to drop it"
)]
pub struct CongestionMarked;

/// The inner packet's ECN as it leaves the tunnel (RFC 6040, figure 4). Only the two low bits of each count.
#[inline]
pub const fn ecn_decapsulate(outer: u8, inner: u8) -> Result<u8, CongestionMarked> {
    Ok(match (inner & 3, outer & 3) {
        (NOT_ECT, CE) => return Err(CongestionMarked),
        (NOT_ECT, _) => NOT_ECT,
        (CE, _) | (_, CE) => CE,
        (_, ECT_1) => ECT_1,
        (inner, _) => inner,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_follows_figure_4_of_rfc_6040() {
        let outer = [NOT_ECT, ECT_0, ECT_1, CE];
        let rows = [
            (
                NOT_ECT,
                [Ok(NOT_ECT), Ok(NOT_ECT), Ok(NOT_ECT), Err(CongestionMarked)],
            ),
            (ECT_0, [Ok(ECT_0), Ok(ECT_0), Ok(ECT_1), Ok(CE)]),
            (ECT_1, [Ok(ECT_1), Ok(ECT_1), Ok(ECT_1), Ok(CE)]),
            (CE, [Ok(CE), Ok(CE), Ok(CE), Ok(CE)]),
        ];
        for (inner, row) in rows {
            for (outer, expected) in outer.into_iter().zip(row) {
                assert_eq!(
                    ecn_decapsulate(outer, inner),
                    expected,
                    "outer {outer:02b}, inner {inner:02b}"
                );
                assert_eq!(ecn_decapsulate(outer | 0xfc, inner | 0xfc), expected);
            }
        }
    }
}
