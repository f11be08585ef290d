//! A request that is made once more.

use std::any::Any;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request};
use http_body_util::{Empty, Full};
use tower::util::Oneshot;
use tower_service::Service;

use crate::semantics;

/// A request without the cache's conditions and the client's own, should those of the cache come
/// to nothing.
pub(super) struct Again<S, B> {
    service: S,
    request: Request<B>,
}

impl<S, B> Again<S, B>
where
    S: Service<Request<B>>,
{
    /// Such a request, if an empty body can be made for it: the request's own is spent by then.
    pub(super) fn of(service: &S, parts: &Parts) -> Option<Box<Self>>
    where
        S: Clone,
        B: 'static,
    {
        let body = empty()?;
        let mut parts = parts.clone();
        semantics::make_conditional(&mut parts.headers, &HeaderMap::new());
        Some(Box::new(Self {
            service: service.clone(),
            request: Request::from_parts(parts, body),
        }))
    }

    pub(super) fn call(self) -> Oneshot<S, Request<B>> {
        Oneshot::new(self.service, self.request)
    }
}

/// An empty body, if `B` is one of the types that are known here. A body need not have a default,
/// and that of hyper's server has none.
fn empty<B: 'static>() -> Option<B> {
    #[cfg(feature = "axum")]
    let axum = default::<axum::body::Body, B>;
    #[cfg(not(feature = "axum"))]
    let axum = || None;
    default::<Empty<Bytes>, B>()
        .or_else(default::<Full<Bytes>, B>)
        .or_else(axum)
}

/// The default of `T`, if `B` is that type.
fn default<T: Default + 'static, B: 'static>() -> Option<B> {
    let mut body = None;
    let same = (&mut body as &mut dyn Any).downcast_mut::<Option<T>>();
    *same? = Some(T::default());
    body
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    #[test]
    fn usual_bodies_can_be_empty() {
        assert!(empty::<Empty<Bytes>>().is_some_and(|body| body.is_end_stream()));
        assert!(empty::<Full<Bytes>>().is_some_and(|body| body.is_end_stream()));
        assert!(empty::<String>().is_none(), "nobody's request has it");
        #[cfg(feature = "axum")]
        assert!(empty::<axum::body::Body>().is_some_and(|body| body.is_end_stream()));
    }
}
