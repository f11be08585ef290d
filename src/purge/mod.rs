//! Purges: an ordered log instead of an index.
//!
//! A purge is one record in a log, whatever it matches. Every entry carries the position up to
//! which its instance had read the log before the handler was called. The entry is valid if no
//! purge that matches it has a later position. So a purge that lands during a fill wins without
//! locks, and tags need no index.

mod index;
mod log;
mod record;
mod selector;

use std::fmt;

use http::Uri;

pub(crate) use index::{PurgeCheck, PurgeIndex, Validity};
pub(crate) use log::{Owner, PurgeLog};
use record::Mark;
pub(crate) use selector::Selector;
use selector::{Kind, Subject};

use crate::error::PurgeError;
use crate::key::{Scheme, Target};

/// What to purge, and how.
///
/// ```
/// use tower_response_cache::Purge;
///
/// let by_tag = Purge::tag("product:7");
/// let several = Purge::tag("product:7").and_tag("catalogue");
/// let page = Purge::uri(&"/products/7?lang=en".parse()?)?;
/// let subtree = Purge::path("/products").soft();
/// let all = Purge::everything();
/// let beyond_a_failover = Purge::tag("product:7").replicas(1);
/// # for purge in [by_tag, several, page, subtree, all, beyond_a_failover] { assert!(!format!("{purge:?}").is_empty()); }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use = "a purge does nothing until it is given to `Cache::purge`"]
pub struct Purge {
    pub(crate) selectors: Vec<Selector>,
    pub(crate) soft: bool,
    /// The number of replicas to wait for. It is not part of the record.
    pub(crate) replicas: u32,
}

impl Purge {
    /// All responses and values that carry this tag.
    pub fn tag(tag: impl AsRef<str>) -> Self {
        Self::of(Selector::tag(tag.as_ref()))
    }

    /// All responses and values that carry any of these tags.
    pub fn tags<T: AsRef<str>>(tags: impl IntoIterator<Item = T>) -> Self {
        let tags = tags.into_iter();
        Self::all(tags.map(|tag| Selector::tag(tag.as_ref())).collect())
    }

    /// Adds all responses and values that carry this tag.
    pub fn and_tag(mut self, tag: impl AsRef<str>) -> Self {
        self.selectors.push(Selector::tag(tag.as_ref()));
        self
    }

    /// Every variant of one resource, on either scheme. A URI without an authority (`/products/7`)
    /// means that path and query on any host.
    ///
    /// # Errors
    ///
    /// [`PurgeError`] if the URI's authority is not a host and an optional port.
    pub fn uri(uri: &Uri) -> Result<Self, PurgeError> {
        let target = Target::of_uri(uri, Scheme::Http).map_err(|_why| PurgeError::invalid_uri())?;
        Ok(Self::all(Selector::uri(&target)))
    }

    /// The path and all paths below it, on any host and with any query. `/products` means
    /// `/products`, `/products/7` and `/products/7/reviews`, and not `/products-old`.
    pub fn path(path: impl AsRef<str>) -> Self {
        Self::of(Selector::subtree(path.as_ref().as_bytes()))
    }

    /// Everything under the configured prefix, in every instance.
    pub fn everything() -> Self {
        Self::of(Selector::EVERYTHING)
    }

    /// Makes the matches stale instead of removing them. The next request for one gets the stale
    /// response, within its original lifetime, and refreshes it in the background.
    pub fn soft(mut self) -> Self {
        self.soft = true;
        self
    }

    /// Every variant of one resource of one origin. RFC 9111 4.4 forbids that a change concerns
    /// another origin.
    pub(crate) fn target(target: &Target<'_>) -> Self {
        Self::all(Selector::target(target))
    }

    /// Waits until at least `count` replicas of the Valkey server have the purge too, so that a
    /// failover to one of them cannot lose it. Default: 0. Then the purge returns once the server
    /// itself has it.
    ///
    /// Without this, a server may take a purge and fail before its successor gets it. Instances
    /// that had read the purge notice that and purge everything. The purge is lost only if no such
    /// instance lives on. Ask for replicas if even that is too much of a risk, and if there are
    /// replicas to answer. With fewer replicas than asked for, every such purge waits for the whole
    /// operation timeout and returns an error with their number ([`PurgeError::acknowledged`]). In
    /// memory, and on stores of your own without replicas, that is always so.
    ///
    /// The purge uses a connection of its own, which is made when it is first needed and then kept,
    /// so that other operations do not wait. It may take as long as making a connection, and then
    /// one operation each for the server and the replicas.
    pub fn replicas(mut self, count: u32) -> Self {
        self.replicas = count;
        self
    }

    /// A purge of all that either purges.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.selectors.extend(other.selectors);
        self.replicas = self.replicas.max(other.replicas);
        self
    }

    pub(crate) fn of(selector: Selector) -> Self {
        Self::all(vec![selector])
    }

    const fn all(selectors: Vec<Selector>) -> Self {
        Self {
            selectors,
            soft: false,
            replicas: 0,
        }
    }

    /// The selectors as a record has them.
    pub(crate) fn marks(&self) -> impl Iterator<Item = Mark> {
        let soft = self.soft;
        let selectors = self.selectors.iter().copied();
        selectors.map(move |selector| Mark { selector, soft })
    }
}

/// Shows the number of selectors only, since tags and URLs may be personal.
impl fmt::Debug for Purge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            selectors,
            soft,
            replicas,
        } = self;
        f.debug_struct("Purge")
            .field("selectors", &selectors.len())
            .field("soft", soft)
            .field("replicas", replicas)
            .finish()
    }
}
