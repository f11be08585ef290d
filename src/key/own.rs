//! What the application adds to the key itself.

use std::fmt;
use std::sync::Arc;

use http::Extensions;
use http::request::Parts;
use sha2::{Digest, Sha256};

use super::frame::frame;

/// What the application itself adds to the key of a request: who asks, or what else its answer
/// depends on that no header or cookie says.
///
/// A middleware outside the layer sets it as a request extension, or
/// [`PolicyBuilder::key_with`](crate::PolicyBuilder::key_with) makes it. The response is then
/// stored for the requests that have the same; purges by tag, URL and path reach all of them.
///
/// # For each user or tenant
///
/// [`CacheKey::of_requester`] says who asks. Such a request has no credentials any more for this
/// cache, since whatever they stand for is in the key: its response is stored without `public`.
/// `private` is obeyed all the same, unless a targeted field (`CDN-Cache-Control`) permits to store
/// it. The middleware that knows the user goes *outside* the layer:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum::{Extension, Router, body::{Body, to_bytes}, extract::Request, middleware, routing::get};
/// use http::{StatusCode, header::{AUTHORIZATION, CACHE_CONTROL}};
/// use tower::ServiceExt;
/// use tower_response_cache::{CacheConfig, CacheKey, CacheLayer};
///
/// #[derive(Clone)]
/// struct User(String);
///
/// async fn authenticate(mut request: Request, next: middleware::Next) -> axum::response::Response {
///     let token = request.headers().get(AUTHORIZATION);
///     // Here the token would be checked.
///     let Some(user) = token.and_then(|token| token.to_str().ok()?.strip_prefix("Bearer ")) else {
///         return axum::response::IntoResponse::into_response(StatusCode::UNAUTHORIZED);
///     };
///     let user = User(user.to_owned());
///     CacheKey::of_requester(&user.0).add_to(request.extensions_mut());
///     request.extensions_mut().insert(user);
///     next.run(request).await
/// }
///
/// async fn orders(Extension(User(name)): Extension<User>) -> impl axum::response::IntoResponse {
///     ([(CACHE_CONTROL, "max-age=60")], format!("orders of {name}"))
/// }
///
/// let app = Router::new()
///     .route("/orders", get(orders))
///     .layer(CacheLayer::new(CacheConfig::default()))
///     .layer(middleware::from_fn(authenticate));
///
/// let ask = async |user: &str| {
///     let request = Request::get("/orders").header(AUTHORIZATION, format!("Bearer {user}"));
///     let response = app.clone().oneshot(request.body(Body::empty())?).await?;
///     let is_hit = response.headers()["cache-status"].to_str()?.contains("; hit");
///     let body = to_bytes(response.into_body(), usize::MAX).await?;
///     Ok::<_, Box<dyn std::error::Error>>((String::from_utf8(body.into())?, is_hit))
/// };
/// assert_eq!(ask("alice").await?, ("orders of alice".to_owned(), false));
/// assert_eq!(ask("bob").await?, ("orders of bob".to_owned(), false));
/// assert_eq!(ask("alice").await?, ("orders of alice".to_owned(), true));
/// # Ok(())
/// # }
/// ```
///
/// For pages that all users of a tenant share, the tenant is the requester:
/// `CacheKey::of_requester(format!("tenant:{tenant}"))`. Such pages must not depend on who of the
/// tenant asks.
///
/// # For anything else
///
/// [`CacheKey::new`] is for what is no identity, such as the arm of an experiment. Say what it is as
/// well: `CacheKey::new("checkout:b")` and not `CacheKey::new("b")`, so that two experiments never
/// mean the same key. It lifts nothing: requests with credentials stay as they are.
///
/// Danger: an identity that leaves something out (a user without the tenant, one language of two)
/// shows one requester's page to another.
#[derive(Clone, PartialEq, Eq)]
pub struct CacheKey(Vec<Part>);

#[derive(Clone, PartialEq, Eq)]
struct Part {
    names: Names,
    digest: [u8; 32],
}

/// What a part stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Names {
    Requester = b'r',
    Other = b'o',
}

impl CacheKey {
    /// A key that is no identity. Requests with credentials are treated as without it.
    #[must_use]
    pub fn new(value: impl AsRef<[u8]>) -> Self {
        Self::part(Names::Other, value.as_ref())
    }

    /// Who asks: a user, or the tenant if its users share what is stored. It is kept as a digest.
    ///
    /// An empty id says nothing of who asks, so it is as good as [`CacheKey::new`].
    #[must_use]
    pub fn of_requester(id: impl AsRef<[u8]>) -> Self {
        let id = id.as_ref();
        let names = if id.is_empty() {
            Names::Other
        } else {
            Names::Requester
        };
        Self::part(names, id)
    }

    /// This key and another one.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Adds this key to those of the request that have these extensions. `Extensions::insert` would
    /// replace what another middleware has set.
    pub fn add_to(self, extensions: &mut Extensions) {
        let key = match extensions.remove::<Self>() {
            Some(before) => before.and(self),
            None => self,
        };
        extensions.insert(key);
    }

    fn part(names: Names, value: &[u8]) -> Self {
        let digest = Sha256::digest(value).into();
        Self(vec![Part { names, digest }])
    }

    pub(super) fn names_requester(&self) -> bool {
        self.0.iter().any(|part| part.names == Names::Requester)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for Part { names, digest } in &self.0 {
            frame(out, &[*names as u8]);
            frame(out, digest);
        }
        frame(out, b"");
    }
}

/// Shows nothing of the values, since they may be personal.
impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(parts) = self;
        f.debug_struct("CacheKey")
            .field("parts", &parts.len())
            .field("names_requester", &self.names_requester())
            .finish()
    }
}

/// The function of [`PolicyBuilder::key_with`](crate::PolicyBuilder::key_with).
#[derive(Clone)]
pub(crate) struct KeyWith(Arc<Function>);

type Function = dyn Fn(&Parts) -> Option<CacheKey> + Send + Sync;

impl KeyWith {
    pub(crate) fn new(of: impl Fn(&Parts) -> Option<CacheKey> + Send + Sync + 'static) -> Self {
        Self(Arc::new(of))
    }

    pub(super) fn of(&self, request: &Parts) -> Option<CacheKey> {
        (self.0)(request)
    }
}

impl fmt::Debug for KeyWith {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyWith")
    }
}
