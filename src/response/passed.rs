//! The handler's own response, with this cache's line in `Cache-Status`.

use http::Response;

use crate::response::body::ResponseBody;
use crate::status::{Outcome, StatusName};

/// The handler's response as it is, with this cache's line in `Cache-Status`.
pub(crate) fn passed<R>(
    response: Response<R>,
    outcome: Outcome,
    status_name: &StatusName,
) -> Response<ResponseBody<R>> {
    let outcome = outcome.with_status(response.status());
    with_status_line(response.map(ResponseBody::passed), outcome, status_name)
}

/// A response to which this cache adds its line in `Cache-Status` and nothing else.
pub(crate) fn with_status_line<R>(
    mut response: Response<ResponseBody<R>>,
    outcome: Outcome,
    status_name: &StatusName,
) -> Response<ResponseBody<R>> {
    outcome.append_to(response.headers_mut(), status_name);
    response
}
