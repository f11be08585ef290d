//! The grammar of fields: lists of tokens, numbers of seconds, directives, dates, structured fields.

pub(crate) mod dates;
pub(crate) mod directives;
pub(crate) mod seconds;
pub(crate) mod targeted;
pub(crate) mod tokens;
