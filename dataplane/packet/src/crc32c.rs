//! SCTP's checksum, a CRC32c of the whole packet (RFC 9260, appendix A), changed by what a translation changes.
//!
//! A CRC is linear: that of a changed packet differs by the CRC of the difference, which is the ports' alone, with zeros
//! behind it. Zeros multiply by a power of x, so that none of the packet's other bytes are read.

/// The polynomial, its highest power in the lowest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The product of two polynomials of that form; the highest bit is the number 1.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let (mut product, mut bit) = (0, 1 << 31);
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = b >> 1 ^ if b & 1 != 0 { POLYNOMIAL } else { 0 };
        bit >>= 1;
    }
    product
}

/// x to the powers 8, 16, 32, … : what 1, 2, 4, … zero bytes multiply by.
const ZEROS: [u32; 16] = {
    let mut powers = [1 << 23; 16];
    let mut index = 1;
    while index < 16 {
        powers[index] = multiply(powers[index - 1], powers[index - 1]);
        index += 1;
    }
    powers
};

/// How the CRC of `length` bytes changes if this is what is different of the first four. XOR it to the old one.
pub(crate) fn change(different: [u8; 4], length: u16) -> u32 {
    let shift = |crc, (index, zeros): (usize, &u32)| match length >> index & 1 {
        0 => crc,
        _ => multiply(crc, *zeros),
    };
    // As they go through the register, the first bytes are followed by all of the length.
    let different = u32::from_le_bytes(different);
    ZEROS.iter().enumerate().fold(different, shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bit by bit.
    fn crc32c(bytes: &[u8]) -> u32 {
        let step = |crc: u32, _: u32| crc >> 1 ^ if crc & 1 != 0 { POLYNOMIAL } else { 0 };
        let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), step);
        !bytes.iter().fold(!0, byte)
    }

    #[test]
    fn the_oracle_knows_the_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn a_change_of_the_ports_changes_the_crc_as_if_it_were_made_anew(
            mut packet in proptest::collection::vec(any::<u8>(), 4..300), new: [u8; 4],
        ) {
            let before = crc32c(&packet);
            let different = std::array::from_fn(|index| packet[index] ^ new[index]);
            packet[..4].copy_from_slice(&new);
            prop_assert_eq!(before ^ change(different, packet.len() as u16), crc32c(&packet));
        }
    }
}
