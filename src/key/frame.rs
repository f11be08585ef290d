//! The components of a canonical form: each after its length, so that no byte can move from one to
//! the next.

/// Appends one component: its length, then its bytes.
pub(super) fn frame(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(ABSENT - 1);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a component that may be missing. A missing component differs from an empty one.
pub(super) fn frame_option(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => frame(out, bytes),
        None => out.extend_from_slice(&ABSENT.to_le_bytes()),
    }
}

/// The components of a canonical form, in order; `Some(None)` is a missing one.
pub(super) struct Frames<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Frames<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length);
        if length == ABSENT {
            self.0 = rest;
            return Some(None);
        }
        let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(Some(bytes))
    }
}

/// The length of a missing component.
const ABSENT: u32 = u32::MAX;
