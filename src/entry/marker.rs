//! How a resource varies: the names that count for it, and its variants (RFC 9111 4.1).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderName;

use crate::base::clock::Timestamp;
use crate::entry::Entry;
use crate::key::Key;
use crate::semantics::MAX_NAMES;

/// The record under the base key of a resource whose responses vary.
#[derive(Debug)]
pub(crate) struct Marker {
    pub(crate) key: Key,
    pub(crate) names: Names,
    /// The end of its last name.
    pub(crate) kept_until: Timestamp,
    /// The variants that this instance knows. They are not part of the stored form.
    pub(crate) variants: Variants,
}

impl Marker {
    pub(crate) fn new(key: Key, names: Names, variants: Variants) -> Self {
        Self {
            key,
            kept_until: names.last_end(),
            names,
            variants,
        }
    }

    /// The fields that the responses vary on, sorted. The base key and the request's values of
    /// these fields make the key of the variant.
    pub(crate) fn fields(&self) -> &Arc<[HeaderName]> {
        &self.names.fields
    }

    /// The only variant, as long as there is no other.
    pub(crate) const fn only(&self) -> Option<&Arc<Entry>> {
        match &self.variants {
            Variants::Only(entry) => Some(entry),
            Variants::Several(_) => None,
        }
    }
}

/// The union of the names in `Vary` of a resource's responses. Each name has an end: no response
/// that named it is kept for longer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// Sorted, without duplicates.
    fields: Arc<[HeaderName]>,
    /// As many as there are fields.
    ends: Arc<[Timestamp]>,
}

impl Names {
    /// Names in their order, each with its end. `None` if they are out of order, or too many.
    pub(crate) fn read(names: Vec<(HeaderName, Timestamp)>) -> Option<Self> {
        let in_order = names.is_sorted_by(|(one, _), (next, _)| one.as_str() < next.as_str());
        (in_order && names.len() <= MAX_NAMES).then(|| names.into_iter().collect())
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&HeaderName, Timestamp)> {
        self.fields.iter().zip(self.ends.iter().copied())
    }

    pub(crate) const fn fields(&self) -> &Arc<[HeaderName]> {
        &self.fields
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// These names and a response's own, which is kept until a moment. What has ended is left out.
    ///
    /// An end is later than need be, so that markers need not be written with each response.
    #[must_use]
    pub(crate) fn with_response(
        &self,
        own: &[HeaderName],
        kept_until: Timestamp,
        now: Timestamp,
    ) -> Self {
        // Most resources do not vary.
        if self.is_empty() && own.is_empty() {
            return self.clone();
        }
        let mut names: Vec<_> = self.in_time(now).collect();
        for name in own {
            let end = |ends: Option<Timestamp>| match ends {
                Some(end) if end >= kept_until => end,
                _ => kept_until.saturating_add(SLACK),
            };
            unite(&mut names, name, end);
        }
        self.followed_by(names, own)
    }

    /// These names and those that another instance knows of.
    #[must_use]
    pub(crate) fn united(&self, others: &Self, now: Timestamp) -> Self {
        let own = self.iter().map(|(name, end)| (name.clone(), end));
        let mut names: Vec<_> = own.collect();
        for (name, end) in others.in_time(now) {
            unite(&mut names, &name, |own| own.map_or(end, |own| own.max(end)));
        }
        self.followed_by(names, &[])
    }

    fn in_time(&self, now: Timestamp) -> impl Iterator<Item = (HeaderName, Timestamp)> {
        let in_time = self.iter().filter(move |(_, end)| now < *end);
        in_time.map(|(name, end)| (name.clone(), end))
    }

    /// The names that follow these, which share their memory with those if they are the same. Of
    /// too many, those that end first give way, but those that are needed.
    fn followed_by(&self, mut names: Vec<(HeaderName, Timestamp)>, needed: &[HeaderName]) -> Self {
        while names.len() > MAX_NAMES {
            let others = names.iter().enumerate();
            let others = others.filter(|(_, (name, _))| !needed.contains(name));
            let Some((first, _)) = others.min_by_key(|(_, (_, end))| *end) else {
                break;
            };
            names.remove(first);
        }
        let mut next: Self = names.into_iter().collect();
        if next.fields == self.fields {
            next.fields = Arc::clone(&self.fields);
        }
        next
    }

    fn last_end(&self) -> Timestamp {
        self.ends.iter().max().copied().unwrap_or_default()
    }
}

impl FromIterator<(HeaderName, Timestamp)> for Names {
    fn from_iter<I: IntoIterator<Item = (HeaderName, Timestamp)>>(names: I) -> Self {
        let (fields, ends): (Vec<_>, Vec<_>) = names.into_iter().unzip();
        Self {
            fields: fields.into(),
            ends: ends.into(),
        }
    }
}

/// Adds a name to a sorted list, or changes its end.
fn unite(
    names: &mut Vec<(HeaderName, Timestamp)>,
    name: &HeaderName,
    end: impl FnOnce(Option<Timestamp>) -> Timestamp,
) {
    let place = names.binary_search_by(|(other, _)| other.as_str().cmp(name.as_str()));
    match place {
        Ok(at) => {
            if let Some((_, own)) = names.get_mut(at) {
                *own = end(Some(*own));
            }
        }
        Err(at) => names.insert(at, (name.clone(), end(None))),
    }
}

/// The variants of a resource, as one instance knows them.
#[derive(Clone, Debug)]
pub(crate) enum Variants {
    /// Kept with the marker, so that one look-up finds it. Most resources have one variant.
    Only(Arc<Entry>),
    /// Each variant has a key of its own. This instance may know of none.
    Several(Known),
}

impl Variants {
    /// Whether these are the same variants as others, and go on being so.
    pub(crate) fn are(&self, others: &Self) -> bool {
        match (self, others) {
            (Self::Several(Known(own)), Self::Several(Known(others))) => Arc::ptr_eq(own, others),
            (Self::Only(own), Self::Only(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }
}

impl Default for Variants {
    fn default() -> Self {
        Self::Several(Known::default())
    }
}

/// The hashes of a resource's variants, which bound their number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known(Arc<Mutex<Vec<u128>>>);

impl Known {
    /// Adds a variant. Where there are `most` already, the one of the lowest rank gives way.
    pub(crate) fn add<R: Ord>(
        &self,
        hash: u128,
        most: usize,
        rank: impl Fn(u128) -> R,
    ) -> Option<u128> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&hash) {
            return None;
        }
        let ranked = known.iter().copied().filter(|_| known.len() >= most);
        let lowest = ranked.min_by_key(|hash| rank(*hash));
        known.retain(|hash| Some(*hash) != lowest);
        known.push(hash);
        lowest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.hashes().is_empty()
    }

    pub(crate) fn hashes(&self) -> Vec<u128> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }
}

/// By how much the end of a name is later than need be.
const SLACK: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_until_no_response_that_named_it_is_kept() {
        let names = Names::default().with_response(&names(&["a", "b"]), at(60), at(0));
        assert_eq!(shown(&names), "a 360 b 360");
        let later = names.with_response(&self::names(&["a"]), at(360), at(300));
        assert_eq!(shown(&later), "a 360 b 360", "no need to write it");
        assert!(Arc::ptr_eq(&later.fields, &names.fields));
        let later = names.with_response(&self::names(&["a"]), at(361), at(301));
        assert_eq!(shown(&later), "a 661 b 360");
        let later = later.with_response(&[], at(1000), at(360));
        assert_eq!(shown(&later), "a 661");
        assert!(later.with_response(&[], at(1000), at(661)).is_empty());
    }

    #[test]
    fn names_of_two_instances_are_united() {
        let names = |names: &[(&'static str, u64)]| -> Names {
            let names = names.iter();
            names
                .map(|(name, end)| (HeaderName::from_static(name), at(*end)))
                .collect()
        };
        let (one, two) = (
            names(&[("a", 10), ("c", 90)]),
            names(&[("a", 80), ("b", 20), ("d", 30)]),
        );
        assert_eq!(shown(&one.united(&two, at(20))), "a 80 c 90 d 30");
        assert_eq!(shown(&two.united(&one, at(20))), "a 80 b 20 c 90 d 30");
        assert_eq!(one.united(&one, at(20)), one);
    }

    #[test]
    fn of_too_many_names_those_that_end_first_give_way() {
        let many = |prefix: &str| {
            let numbers = (0..MAX_NAMES).map(|n| format!("{prefix}{n:02}"));
            let names: Vec<HeaderName> = numbers.map(|name| name.parse().unwrap()).collect();
            names
        };
        let (old, new) = (many("a"), many("b"));
        let first = Names::default().with_response(&old, at(60), at(0));
        let both = first.with_response(&new[1..], at(1), at(0));
        assert_eq!(both.fields[0], "a63");
        assert_eq!(both.fields[1..], new[1..], "though they end first");
        assert_eq!(first.with_response(&new, at(61), at(0)).fields[..], new);
    }

    #[test]
    fn names_that_are_out_of_order_or_too_many_are_not_read() {
        let read = |names: &[&'static str]| {
            let names = names.iter();
            Names::read(
                names
                    .map(|name| (HeaderName::from_static(name), at(1)))
                    .collect(),
            )
        };
        assert!(read(&[]).is_some() && read(&["a", "b"]).is_some());
        assert!(read(&["b", "a"]).is_none() && read(&["a", "a"]).is_none());
        let many = (0..=MAX_NAMES).map(|n| (format!("a{n:02}").parse().unwrap(), at(1)));
        assert!(Names::read(many.collect()).is_none());
    }

    #[test]
    fn the_variant_of_the_lowest_rank_gives_way() {
        let known = Known::default();
        let rank = |hash: u128| [7, 1, 5].get(hash as usize).copied();
        let gone: Vec<_> = (0..5).map(|hash| known.add(hash, 3, rank)).collect();
        assert_eq!(gone, [None, None, None, Some(1), Some(3)]);
        assert_eq!(known.add(4, 3, rank), None, "it is there");
        assert_eq!(known.hashes(), [0, 2, 4]);
    }

    fn names(names: &[&'static str]) -> Vec<HeaderName> {
        names
            .iter()
            .map(|name| HeaderName::from_static(name))
            .collect()
    }

    fn shown(names: &Names) -> String {
        let names = names.iter();
        let shown: Vec<_> = names
            .map(|(name, end)| format!("{name} {}", end.as_millis() / 1000))
            .collect();
        shown.join(" ")
    }

    const fn at(second: u64) -> Timestamp {
        Timestamp::from_secs(second)
    }
}
