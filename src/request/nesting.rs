//! Layers of one cache around each other.
//!
//! The innermost layer that a request reaches has it: its policy decides, and what it stores stands
//! under keys of its own. The layers around it hand its response through.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Extensions, Response};

use crate::cache::Cache;
use crate::response::body::ResponseBody;
use crate::response::passed::passed;
use crate::status::Outcome;

/// The way of one request through a layer. The inner service finds it among the request's
/// extensions.
#[derive(Clone, Debug)]
pub(crate) struct Passage(Arc<Way>);

#[derive(Debug)]
struct Way {
    cache: Cache,
    /// How many layers of the same cache stand around this one.
    depth: u8,
    has_reached_another: AtomicBool,
    /// The way through the next layer outside, which may be another cache's.
    outer: Option<Passage>,
}

impl Passage {
    /// Tells the layers of `cache` around this one that the request has come further, and counts
    /// them.
    pub(crate) fn arrive(extensions: &Extensions, cache: &Cache) -> u8 {
        let outer = Self::nearest(extensions, cache);
        if let Some(outer) = outer {
            outer.0.has_reached_another.store(true, Ordering::Release);
        }
        depth_inside(outer)
    }

    /// Gives the inner service the cache, and what a layer inside has to know.
    pub(crate) fn go_on(extensions: &mut Extensions, cache: &Cache) -> Self {
        let way = Way {
            cache: cache.clone(),
            depth: depth_inside(Self::nearest(extensions, cache)),
            has_reached_another: AtomicBool::new(false),
            outer: extensions.get().cloned(),
        };
        let passage = Self(Arc::new(way));
        extensions.insert(cache.clone());
        extensions.insert(passage.clone());
        passage
    }

    /// Whether the request has reached a layer of the same cache inside this one.
    pub(crate) fn has_reached_another(&self) -> bool {
        self.0.has_reached_another.load(Ordering::Acquire)
    }

    /// The inner service's response as it is. The innermost layer counts it and adds its line to
    /// `Cache-Status`.
    pub(crate) fn passed<R>(
        &self,
        response: Response<R>,
        outcome: Outcome,
    ) -> Response<ResponseBody<R>> {
        if self.has_reached_another() {
            response.map(ResponseBody::passed)
        } else {
            passed(response, outcome, self.0.cache.status_name())
        }
    }

    /// The way through the nearest layer of `cache`.
    fn nearest<'a>(extensions: &'a Extensions, cache: &Cache) -> Option<&'a Self> {
        let outward = |passage: &&'a Self| passage.0.outer.as_ref();
        let mut passages = std::iter::successors(extensions.get::<Self>(), outward);
        passages.find(|passage| passage.0.cache.is(cache))
    }
}

fn depth_inside(outer: Option<&Passage>) -> u8 {
    outer.map_or(0, |outer| outer.0.depth.saturating_add(1))
}
