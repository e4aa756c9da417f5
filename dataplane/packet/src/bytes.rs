//! Reads and writes of fixed width at an offset, checked once.

/// The `N` bytes at `offset`.
#[inline(always)]
pub(crate) fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<&[u8; N]> {
    bytes.get(offset..)?.first_chunk::<N>()
}

/// The `N` bytes at `offset`, to be changed.
#[inline(always)]
pub(crate) fn array_mut<const N: usize>(bytes: &mut [u8], offset: usize) -> Option<&mut [u8; N]> {
    bytes.get_mut(offset..)?.first_chunk_mut::<N>()
}

/// A number in network order inside a header of fixed size; the offset is a constant, so the check is the compiler's.
#[inline(always)]
pub(crate) fn get_u16<const N: usize>(header: &[u8; N], offset: usize) -> u16 {
    u16::from_be_bytes([header[offset], header[offset + 1]])
}

/// As [`get_u16`], 32 bits.
#[inline(always)]
pub(crate) fn get_u32<const N: usize>(header: &[u8; N], offset: usize) -> u32 {
    u32::from_be_bytes([
        header[offset],
        header[offset + 1],
        header[offset + 2],
        header[offset + 3],
    ])
}

/// Four or six or sixteen bytes of a header of fixed size.
#[inline(always)]
pub(crate) fn get_array<const N: usize, const M: usize>(header: &[u8; N], offset: usize) -> [u8; M] {
    std::array::from_fn(|index| header[offset + index])
}

/// Writes bytes into a header of fixed size.
#[inline(always)]
pub(crate) fn put<const N: usize, const M: usize>(header: &mut [u8; N], offset: usize, value: [u8; M]) {
    header[offset..offset + M].copy_from_slice(&value);
}

/// Eight bytes of a header of fixed size, the first one lowest: as they are loaded, in whatever order they mean.
#[inline(always)]
pub(crate) fn get_word<const N: usize>(header: &[u8; N], offset: usize) -> u64 {
    header[offset..]
        .first_chunk()
        .map_or(0, |word| u64::from_le_bytes(*word))
}
