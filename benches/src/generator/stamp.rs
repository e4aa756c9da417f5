//! The last bytes of each frame: which stream and run sent it, its number and the time.
//!
//! They stand at the end, so that they are found whatever was put in front of the frame or taken off. Times are those
//! of the time-stamp counter: sender and receiver are one process.

/// Bytes of a stamp.
pub const LEN: usize = 16;

const MAGIC: [u8; 2] = *b"Wf";

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Tells frames of the last run that come late from those of this one.
    pub run: u8,
    /// Index of the stream.
    pub stream: u8,
    /// Number in the stream, modulo 2^32.
    pub sequence: u32,
    /// Cycles.
    pub time: u64,
}

impl Stamp {
    /// Writes it to the end of a frame, which has room for it.
    #[inline(always)]
    pub fn write(&self, frame: &mut [u8]) {
        if let Some(tail) = frame.last_chunk_mut::<LEN>() {
            tail[..2].copy_from_slice(&MAGIC);
            tail[2] = self.run;
            tail[3] = self.stream;
            tail[4..8].copy_from_slice(&self.sequence.to_ne_bytes());
            tail[8..].copy_from_slice(&self.time.to_ne_bytes());
        }
    }

    /// Reads it; None: the frame is not one of ours.
    #[inline(always)]
    pub fn read(frame: &[u8]) -> Option<Stamp> {
        let tail = frame.last_chunk::<LEN>()?;
        let [m, n, run, stream, s0, s1, s2, s3, time @ ..] = *tail;
        ([m, n] == MAGIC).then(|| Stamp {
            run,
            stream,
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            time: u64::from_ne_bytes(time),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_whatever_stands_in_front() {
        let stamp = Stamp {
            run: 7,
            stream: 3,
            sequence: u32::MAX - 1,
            time: 0x0123_4567_89ab_cdef,
        };
        for length in [LEN, LEN + 1, 60] {
            let mut frame = vec![0; length];
            stamp.write(&mut frame);
            assert_eq!(Stamp::read(&frame), Some(stamp));
        }
        assert_eq!(Stamp::read(&[0; LEN]), None);
        assert_eq!(Stamp::read(b"Wf"), None, "too short");
    }
}
