//! Ten 16-bit tags compared at once: SSE2, which every x86-64 has, and a plain twin for other machines that is also
//! its oracle.
#![allow(unsafe_code)]

use super::bucket::SLOTS;

const ALL: u32 = (1 << SLOTS) - 1;

/// One bit for each of the words' first ten 16-bit lanes that equals `tag`.
#[inline(always)]
pub(super) fn matches(words: [u64; 3], tag: u16) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        sse2(words, tag)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        plain(words, tag)
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn sse2(words: [u64; 3], tag: u16) -> u32 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi16, _mm_cvtsi64_si128, _mm_movemask_epi8, _mm_packs_epi16, _mm_set_epi64x,
        _mm_set1_epi16,
    };
    // SAFETY: SSE2 is part of x86-64.
    unsafe {
        let wanted = _mm_set1_epi16(tag as i16);
        let first = _mm_cmpeq_epi16(_mm_set_epi64x(words[1] as i64, words[0] as i64), wanted);
        let rest = _mm_cmpeq_epi16(_mm_cvtsi64_si128(words[2] as i64), wanted);
        _mm_movemask_epi8(_mm_packs_epi16(first, rest)) as u32 & ALL
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn plain(words: [u64; 3], tag: u16) -> u32 {
    (0..SLOTS)
        .filter(|lane| (words[lane / 4] >> (lane % 4 * 16)) as u16 == tag)
        .fold(0, |mask, lane| mask | 1 << lane)
        & ALL
}

/// Asks for a cache line ahead of its use.
#[inline(always)]
pub(super) fn prefetch<T>(value: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch of a valid reference reads nothing and cannot fault.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch(std::ptr::from_ref(value).cast(), _MM_HINT_T0);
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = value;
}

/// Asks for a cache line that will be written: other cores give it up, so that the store need not ask again.
#[inline(always)]
pub(super) fn prefetch_to_write<T>(value: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: PREFETCHW reads nothing and cannot fault; a processor that lacks it takes it for a no-op.
    unsafe {
        std::arch::asm!(
            "prefetchw [{line}]",
            line = in(reg) std::ptr::from_ref(value),
            options(nostack, preserves_flags),
        );
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = value;
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sse2_and_plain_agree_on_any_words(words: [u64; 3], tag: u16) {
            prop_assert_eq!(matches(words, tag), plain(words, tag));
        }

        #[test]
        fn sse2_and_plain_agree_where_tags_repeat(lanes in prop::array::uniform12(0u16..3), tag in 0u16..3) {
            let mut words = [0u64; 3];
            for (lane, value) in lanes.iter().enumerate() {
                words[lane / 4] |= u64::from(*value) << (lane % 4 * 16);
            }
            let expected = (0..SLOTS).filter(|lane| lanes[*lane] == tag).fold(0, |mask, lane| mask | 1 << lane);
            prop_assert_eq!(plain(words, tag), expected);
            prop_assert_eq!(matches(words, tag), expected);
        }
    }
}
