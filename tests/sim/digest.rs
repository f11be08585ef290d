//! The digest of a run, to compare two runs.

use std::fmt::{self, Write};

use crate::trace::Trace;

/// Equal for equal traces, in any process.
pub fn of_trace(trace: &Trace) -> u64 {
    let mut digest = Fnv(OFFSET);
    // Headers are maps, but print their lines in the order they came in.
    let _ = write!(digest, "{trace:?}");
    digest.0
}

/// Digests as one, in their order.
pub fn of_all(digests: impl IntoIterator<Item = u64>) -> u64 {
    let mut all = Fnv(OFFSET);
    for digest in digests {
        let _ = write!(all, "{digest:016x}");
    }
    all.0
}

/// FNV-1a: no seed, no surprises.
struct Fnv(u64);

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
