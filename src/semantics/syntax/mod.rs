//! The grammar of fields: lists of tokens, directives, dates, structured fields.

pub(crate) mod dates;
pub(crate) mod directives;
pub(crate) mod targeted;
pub(crate) mod tokens;
