//! The JSON interface: `/api/v1/…`.

use axum::Extension;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use operations::{Caller, Error, Kind};
use serde::Serialize;
use serde_json::json;

use crate::app::{App, NotSignedIn};
use crate::routes::{Peer, SignedIn, peer};
use crate::session::Use;

/// What a program signs in with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// A token of `/api/v1/token`.
    Bearer(String),
    /// Name and password.
    Basic { user: String, password: String },
}

/// Reads the `Authorization` header.
pub(crate) fn credentials(headers: &HeaderMap) -> Option<Credentials> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Credentials::Bearer(rest.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Credentials::Basic {
        user: user.to_owned(),
        password: password.to_owned(),
    })
}

fn failure(status: StatusCode, kind: &str, message: &str) -> Response {
    let body = json!({ "ok": false, "error": { "kind": kind, "message": message } });
    (status, Json(body)).into_response()
}

/// The answer to a program that is not signed in.
pub(crate) fn refusal(reason: &NotSignedIn) -> Response {
    match reason {
        NotSignedIn::Wrong => {
            let text = "sign in with Basic auth, or with a bearer token of POST /api/v1/token";
            let mut response = failure(StatusCode::UNAUTHORIZED, "unauthorized", text);
            let challenge =
                HeaderValue::from_static("Basic realm=\"signalbox\", charset=\"UTF-8\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
            response
        }
        NotSignedIn::Wait(wait) => {
            let seconds = wait.as_secs() + 1;
            let text = format!("too many failures from this address; wait {seconds} s");
            let mut response = failure(StatusCode::TOO_MANY_REQUESTS, "throttled", &text);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            response
        }
        NotSignedIn::Busy => failure(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "too many sign-ins at once; try again in some seconds",
        ),
        NotSignedIn::Unavailable(reason) => {
            failure(StatusCode::SERVICE_UNAVAILABLE, "unavailable", reason)
        }
    }
}

fn answer<T: Serialize>(result: Result<T, Error>) -> Response {
    match result {
        Ok(value) => Json(json!({ "ok": true, "result": value })).into_response(),
        Err(error) => {
            let (status, kind) = match error.kind {
                Kind::Invalid => (StatusCode::BAD_REQUEST, "invalid"),
                Kind::NotFound => (StatusCode::NOT_FOUND, "notfound"),
                Kind::Refused => (StatusCode::CONFLICT, "refused"),
                Kind::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
                Kind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
                Kind::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
            };
            failure(status, kind, &error.message)
        }
    }
}

fn caller(signed_in: &SignedIn, peer: Option<Extension<Peer>>) -> Caller {
    let address = peer.map_or(std::net::Ipv4Addr::LOCALHOST.into(), |Extension(peer)| {
        peer.0
    });
    App::caller(&signed_in.user, address)
}

/// `POST /api/v1/token`: a bearer token for name and password.
pub(crate) async fn token(State(app): State<App>, request: Request) -> Response {
    let Some(Credentials::Basic { user, password }) = credentials(request.headers()) else {
        return refusal(&NotSignedIn::Wrong);
    };
    match app
        .sign_in(&user, &password, peer(&request), Use::Program)
        .await
    {
        Ok(token) => answer(Ok(json!({ "token": token, "idle_seconds": 1800 }))),
        Err(reason) => refusal(&reason),
    }
}

/// `GET /api/v1/status`.
pub(crate) async fn status(
    State(app): State<App>,
    Extension(signed_in): Extension<SignedIn>,
    peer: Option<Extension<Peer>>,
) -> Response {
    let caller = caller(&signed_in, peer);
    let operations = app.operations();
    let node = match operations.node() {
        Ok(node) => node,
        Err(error) => return answer::<()>(Err(Error::unavailable(error.to_string()))),
    };
    let status = match operations.status(&caller).await {
        Ok(status) => status,
        Err(error) => return answer::<()>(Err(error)),
    };
    let replication = match operations.replication(&caller).await {
        Ok(replication) => json!(replication),
        Err(error) => json!({ "error": error.message }),
    };
    answer(Ok(
        json!({ "node": node, "status": status, "replication": replication }),
    ))
}

/// `GET /api/v1/services`.
pub(crate) async fn services(
    State(app): State<App>,
    Extension(signed_in): Extension<SignedIn>,
    peer: Option<Extension<Peer>>,
) -> Response {
    answer(app.operations().services(&caller(&signed_in, peer)).await)
}

/// `GET /api/v1/alarms`.
pub(crate) async fn alarms(
    State(app): State<App>,
    Extension(signed_in): Extension<SignedIn>,
    peer: Option<Extension<Peer>>,
) -> Response {
    let alarms = app.operations().alarms(&caller(&signed_in, peer)).await;
    answer(alarms.map(|alarms| json!({ "alarms": alarms })))
}

/// `GET /api/v1/perf`.
pub(crate) async fn perf(
    State(app): State<App>,
    Extension(signed_in): Extension<SignedIn>,
    peer: Option<Extension<Peer>>,
) -> Response {
    answer(app.operations().counters(&caller(&signed_in, peer)).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<Credentials> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        credentials(&headers)
    }

    #[test]
    fn both_schemes_are_read_and_nonsense_is_nobody() {
        assert_eq!(read("Bearer abc"), Some(Credentials::Bearer("abc".into())));
        assert_eq!(
            read("basic YWRhOmE6Yg=="),
            Some(Credentials::Basic {
                user: "ada".into(),
                password: "a:b".into()
            })
        );
        for value in [
            "",
            "Basic",
            "Basic !",
            "Basic YWRh",
            "Basic /w==",
            "Digest x",
        ] {
            assert_eq!(read(value), None, "{value}");
        }
    }
}
