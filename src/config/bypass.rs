//! [`CacheBypass`]: a request that is none of the cache's.

/// A request extension by which outer middleware has a GET or HEAD pass by: nothing is looked up or
/// stored for it. `detail=cache-bypass` says so.
///
/// A change is announced all the same: with this extension, a `PUT` does not leave the old page
/// stored.
///
/// ```
/// use http::Request;
/// use tower_response_cache::CacheBypass;
///
/// let mut request = Request::get("/preview").body(())?;
/// request.extensions_mut().insert(CacheBypass);
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "it says all that it ever will by being there"
)]
pub struct CacheBypass;
