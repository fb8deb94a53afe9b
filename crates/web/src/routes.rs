//! Every route, in one table: what is not in it does not exist, and what it
//! does not mark as open needs a sign-in.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{MethodRouter, get, post};

use crate::app::{App, NotSignedIn};
use crate::path::is_canonical;
use crate::session::Use;
use crate::{api, pages};

/// How long a request may take from its head to its answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest body of a request.
const BODY_LIMIT: usize = 16 * 1024;
/// The cookie of a browser session.
pub(crate) const SESSION_COOKIE: &str = "__Host-signalbox-session";
/// The cookie that a sign-in form belongs to.
pub(crate) const FORM_COOKIE: &str = "__Host-signalbox-form";

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody.
    Open,
    /// A browser with a session; others are sent to the sign-in page.
    Page,
    /// A program with a bearer token or Basic auth; others get 401.
    Program,
}

/// A route.
pub(crate) struct Route {
    pub(crate) path: &'static str,
    /// What the test that calls every route calls it with.
    #[cfg_attr(not(test), expect(dead_code))]
    pub(crate) methods: &'static [Method],
    pub(crate) access: Access,
    handler: MethodRouter<App>,
}

/// The address that a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Who is signed in, for the handlers behind the sign-in.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn {
    pub(crate) user: String,
    /// The session's token, for browsers.
    pub(crate) token: String,
}

/// The table.
pub(crate) fn routes() -> Vec<Route> {
    const GET: &[Method] = &[Method::GET];
    const POST: &[Method] = &[Method::POST];
    const BOTH: &[Method] = &[Method::GET, Method::POST];
    let route = |path, methods, access, handler| Route {
        path,
        methods,
        access,
        handler,
    };
    vec![
        route("/", GET, Access::Page, get(pages::status)),
        route(
            "/login",
            BOTH,
            Access::Open,
            get(pages::login_form).post(pages::login),
        ),
        route("/logout", POST, Access::Page, post(pages::logout)),
        route("/static/{name}", GET, Access::Open, get(pages::file)),
        route("/api/v1/token", POST, Access::Open, post(api::token)),
        route("/api/v1/status", GET, Access::Program, get(api::status)),
        route("/api/v1/services", GET, Access::Program, get(api::services)),
        route("/api/v1/alarms", GET, Access::Program, get(api::alarms)),
        route("/api/v1/perf", GET, Access::Program, get(api::perf)),
    ]
}

/// The whole application.
pub(crate) fn router(app: App) -> Router {
    let mut router = Router::new();
    for route in routes() {
        let handler = match route.access {
            Access::Open => route.handler,
            Access::Page => route
                .handler
                .route_layer(from_fn_with_state(app.clone(), require_session)),
            Access::Program => route
                .handler
                .route_layer(from_fn_with_state(app.clone(), require_program)),
        };
        router = router.route(route.path, handler);
    }
    router
        .fallback(async || (StatusCode::NOT_FOUND, "There is nothing here.\n"))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn(patience))
        .layer(from_fn(same_origin))
        .layer(from_fn(canonical))
        .layer(from_fn_with_state(app.clone(), count))
        .layer(from_fn(headers))
        .with_state(app)
}

/// Gives a request up whose body does not come: it would hold its place for
/// ever. What is asked for takes far less.
async fn patience(request: Request, next: Next) -> Response {
    match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let text = "The request was not complete in time.\n";
            (StatusCode::REQUEST_TIMEOUT, text).into_response()
        }
    }
}

/// Counts requests and the answers that are errors of ours.
async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    app.counters().requests.increment();
    let response = next.run(request).await;
    if response.status().is_server_error() {
        app.counters().errors.increment();
    }
    response
}

/// Refuses every path that is not in its only form, before anything decides
/// by it.
async fn canonical(request: Request, next: Next) -> Response {
    if is_canonical(request.uri().path()) {
        next.run(request).await
    } else {
        (StatusCode::BAD_REQUEST, "This path is not valid.\n").into_response()
    }
}

/// Refuses what another site's page sends in a browser's name. The form token
/// is the wall; this is the fence before it.
async fn same_origin(request: Request, next: Next) -> Response {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD);
    if safe || is_same_origin(request.headers(), request.uri().host()) {
        return next.run(request).await;
    }
    let text = "This was sent by the page of another site and was not done.\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

fn is_same_origin(headers: &HeaderMap, authority: Option<&str>) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    // A page cannot set it, and where it is, it says more than an origin,
    // which some policies turn into `null`.
    match text(HeaderName::from_static("sec-fetch-site")) {
        Some("same-origin") => return true,
        Some("none") | None => {}
        Some(_) => return false,
    }
    match text(header::ORIGIN) {
        None => true,
        Some(origin) => {
            let named = |host: &str| {
                host.rsplit_once(':')
                    .map_or(host, |(host, _)| host)
                    .to_owned()
            };
            let ours = text(header::HOST)
                .map(named)
                .or_else(|| authority.map(str::to_owned));
            let theirs = origin.strip_prefix("https://").map(named);
            ours.is_some() && ours == theirs
        }
    }
}

/// What every answer carries: nothing may be framed, sniffed, scripted or
/// kept.
async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
             base-uri 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Without a referrer at all, browsers give the origin of our own forms as `null`.
        (header::REFERRER_POLICY, "same-origin"),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), geolocation=(), microphone=()",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The value of a cookie; none when it is sent twice, which no browser does.
pub(crate) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned());
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// The address of a request; requests of tests have none.
pub(crate) fn peer(request: &Request) -> IpAddr {
    request
        .extensions()
        .get::<Peer>()
        .map_or(Ipv4Addr::LOCALHOST.into(), |peer| peer.0)
}

async fn require_session(State(app): State<App>, mut request: Request, next: Next) -> Response {
    // A page that refreshes itself says so, and does not keep the session.
    let attended = request.uri().query() != Some("auto");
    if let Some(token) = cookie(request.headers(), SESSION_COOKIE)
        && let Some(session) = app.session(&token, Use::Browser, attended).await
    {
        request.extensions_mut().insert(SignedIn {
            user: session.user,
            token,
        });
        return next.run(request).await;
    }
    Redirect::to("/login").into_response()
}

async fn require_program(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let address = peer(&request);
    let user = match api::credentials(request.headers()) {
        Some(api::Credentials::Bearer(token)) => {
            let session = app.session(&token, Use::Program, true).await;
            session
                .map(|session| session.user)
                .ok_or(NotSignedIn::Wrong)
        }
        Some(api::Credentials::Basic { user, password }) => {
            let checked = app.basic(&user, &password, address).await;
            checked.map(|()| user)
        }
        None => Err(NotSignedIn::Wrong),
    };
    match user {
        Ok(user) => {
            request.extensions_mut().insert(SignedIn {
                user,
                token: String::new(),
            });
            next.run(request).await
        }
        Err(reason) => api::refusal(&reason),
    }
}
