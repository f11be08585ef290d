//! Bodies that identify themselves.
//!
//! A body is lines of thirty-two bytes. Each line has the number of the handler's call that made
//! it, its own position, and the fact about the requester that the content depends on. So any part
//! of more than two lines differs from any other.

/// The body that a call made, `size` bytes long.
pub fn content(call: usize, fact: &str, size: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(size + LINE);
    while body.len() < size {
        let line = format!("{call:08}|{:08}|{fact:<13}\n", body.len());
        body.extend_from_slice(line.as_bytes());
    }
    body.truncate(size);
    body
}

/// The call that made a part of a body which begins at `start`.
pub fn call_of(part: &[u8], start: usize) -> Option<usize> {
    let skipped = (LINE - start % LINE) % LINE;
    let number = part.get(skipped..skipped + 8)?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

const LINE: usize = 32;
