//! What a network card would do, in software: finish checksums, cut large TCP packets into segments, and fragment.
//!
//! Guests and containers leave this to whoever sends the packet on (virtio 1.2, section 5.1.6.2). Each piece is a
//! packet of its own afterwards and takes the same way as any other.
//!
//! Drops: bad-offload, too-big, no-buffer.

use weft_packet::{
    fragment::{Fragmenter, NotFragmentable},
    ip, ipv4,
    segment::{MAX_HEADER_LEN, Segmenter},
    transport,
};

use super::{
    Context,
    burst::Packet,
    encap::{self, Egress},
};
use crate::{
    dpdk::{
        Mbuf, Pending,
        mempool::{DATA_ROOM, HEADROOM},
    },
    drops::Reason,
};

/// Completes the transport checksum of a packet that starts with its IP header. False: it has none to complete.
pub fn complete_checksum(mbuf: &mut Mbuf) -> bool {
    // A copy of the first buffer, since the others are read while the field in it is written.
    let mut first = [0; (DATA_ROOM + HEADROOM) as usize];
    let length = mbuf.data().len();
    let Some(first) = first.get_mut(..length) else {
        return false;
    };
    first.copy_from_slice(mbuf.data());
    let filled = match ip::parse(first, mbuf.len()) {
        Ok(ip) => transport::fill_checksum(first, &ip, mbuf.segment_slices().skip(1)).is_ok(),
        Err(_) => false,
    };
    mbuf.data_mut().copy_from_slice(first);
    mbuf.clear_pending();
    filled
}

/// Cuts a TCP packet into segments with up to `size` bytes of payload, and sends each.
pub fn segment(context: &mut Context<'_>, mbuf: Mbuf, packet: &Packet, size: u16, egress: &Egress<'_>) {
    let parsed = ip::parse(mbuf.data(), mbuf.len());
    let segmenter = parsed
        .ok()
        .and_then(|ip| Segmenter::new(mbuf.data(), 0, &ip, size).ok());
    let Some(segmenter) = segmenter else {
        return context.drop(mbuf, packet.port, Reason::BadOffload);
    };
    let (header_len, count) = (segmenter.header_len(), segmenter.count());
    let mut sent = 0;
    for index in 0..count {
        let mut header = [0; MAX_HEADER_LEN];
        let Some(payload) = segmenter.write(index, &mut header[..header_len]) else {
            break;
        };
        let length = header_len + payload.len();
        let piece = copy_piece(
            context,
            &mbuf,
            header_len + payload.start,
            &header[..header_len],
            length,
        );
        let Some(mut piece) = piece else { break };
        let (head, body) = piece.data_mut().split_at_mut(header_len);
        if segmenter.finish(head, [&*body]).is_none() {
            break;
        }
        sent += 1;
        encap::frame(context, piece, &pieces(packet, length), egress);
    }
    conclude(context, packet, sent, count);
}

/// Cuts an IPv4 packet that may be fragmented to the egress's MTU, and sends each piece; others are too big.
pub fn fragment(context: &mut Context<'_>, mut mbuf: Mbuf, packet: &Packet, egress: &Egress<'_>) {
    // The checksum covers the whole packet: it must be right before that is cut.
    if packet.pending.checksum && !complete_checksum(&mut mbuf) {
        return context.drop(mbuf, packet.port, Reason::BadOffload);
    }
    let mtu = egress.mtu().min(u32::from(u16::MAX)) as u16;
    let fragmenter = match ip::parse(mbuf.data(), mbuf.len()) {
        Ok(ip) => Fragmenter::new(mbuf.data(), &ip, mtu),
        Err(_) => Err(NotFragmentable::DontFragment),
    };
    let Ok(fragmenter) = fragmenter else {
        return context.drop(mbuf, packet.port, Reason::TooBig);
    };
    let original = usize::from(mbuf.data().first().map_or(0, |first| first & 0xf)) * 4;
    let count = fragmenter.count();
    let mut sent = 0;
    for index in 0..count {
        let mut header = [0; ipv4::MAX_HEADER_LEN];
        let Some((header_len, payload)) = fragmenter.write(index, &mut header) else {
            break;
        };
        let length = header_len + payload.len();
        let piece = copy_piece(
            context,
            &mbuf,
            original + payload.start,
            &header[..header_len],
            length,
        );
        let Some(piece) = piece else { break };
        sent += 1;
        encap::frame(context, piece, &pieces(packet, length), egress);
    }
    conclude(context, packet, sent, count);
}

/// A new packet: `header`, then the bytes of `mbuf` from `from` on. Room for it is one buffer, since it fits the MTU of
/// its way out, or the chain of buffers that a jumbo frame takes.
fn copy_piece(context: &Context<'_>, mbuf: &Mbuf, from: usize, header: &[u8], length: usize) -> Option<Mbuf> {
    let most = usize::from(context.shared.pool.room());
    let mut piece = context.shared.pool.allocate()?;
    let first = length.min(most);
    let room = piece.append(first)?;
    let (head, body) = room.split_at_mut_checked(header.len())?;
    head.copy_from_slice(header);
    let mut copied = mbuf.copy_to(from, body);
    let wanted = length - header.len();
    while copied < wanted {
        let mut tail = context.shared.pool.allocate()?;
        let room = tail.append((wanted - copied).min(most))?;
        let more = mbuf.copy_to(from + copied, room);
        if more == 0 {
            return None;
        }
        copied += more;
        piece.chain(tail).ok()?;
    }
    Some(piece)
}

/// What is known of a piece.
fn pieces(packet: &Packet, length: usize) -> Packet {
    Packet {
        length: length as u32,
        pending: Pending::default(),
        ..*packet
    }
}

/// The books: one packet became `count`, of which `sent` left; there was no buffer for the others.
fn conclude(context: &mut Context<'_>, packet: &Packet, sent: usize, count: usize) {
    context.counters.books.created += count as u64 - 1;
    if sent < count {
        context
            .counters
            .drops(packet.port, Reason::NoBuffer, (count - sent) as u64);
    }
}
