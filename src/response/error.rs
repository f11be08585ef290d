//! The errors of response bodies.

use std::fmt;

/// Any error, as the ecosystem boxes it.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A response body ended before it was complete.
///
/// The client must see a broken transfer, never a short body that looks whole.
#[derive(Debug)]
pub struct BodyError(Option<BoxError>);

impl BodyError {
    pub(crate) fn from_handler(error: impl Into<BoxError>) -> Self {
        Self(Some(error.into()))
    }

    pub(crate) const fn incomplete() -> Self {
        Self(None)
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "the handler's response body failed",
            None => "the response body that this request shared ended early",
        })
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Some(error) => Some(&**error),
            None => None,
        }
    }
}
