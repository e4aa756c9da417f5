//! Frames for people: a hex dump, and two of them side by side where they differ.

use std::fmt::Write;

/// Sixteen bytes a line.
pub fn dump(bytes: &[u8]) -> String {
    lines(bytes, |_| false)
}

/// Both frames; a star in front of each byte of the second that is not as it should be.
pub fn difference(expected: &[u8], received: &[u8]) -> String {
    format!(
        "expected, {} bytes:\n{}received, {} bytes:\n{}",
        expected.len(),
        dump(expected),
        received.len(),
        lines(received, |at| expected.get(at) != received.get(at)),
    )
}

fn lines(bytes: &[u8], marked: impl Fn(usize) -> bool) -> String {
    let mut text = String::new();
    for (line, chunk) in bytes.chunks(16).enumerate().take(24) {
        let _ = write!(text, "  {:04x} ", line * 16);
        for (at, byte) in chunk.iter().enumerate() {
            let _ = write!(
                text,
                "{}{byte:02x}",
                if marked(line * 16 + at) { '*' } else { ' ' }
            );
        }
        text.push('\n');
    }
    text
}
