//! The pages: sign-in and status.

use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use operations::PRODUCT_VERSION;
use operations::monitoring::RaisedAlarm;
use operations::ports::{Replication, Service, State as ServiceState};
use serde::Deserialize;

use crate::app::{App, NotSignedIn};
use crate::routes::{FORM_COOKIE, Peer, SESSION_COOKIE, SignedIn, cookie};
use crate::session::Use;
use crate::token::random;

/// Date and time of seconds since the Unix epoch, UTC.
fn moment(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(
        |_| "-".into(),
        |time| time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// A span of time as people say it: `3 d 4 h`.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    host: &'a str,
    message: Option<&'a str>,
    user: &'a str,
    form: &'a str,
}

struct Row {
    name: String,
    compat: String,
    group: String,
    class: &'static str,
    state: &'static str,
    reason: String,
    up: String,
    restarts: u32,
}

struct AlarmRow {
    class: &'static str,
    severity: String,
    since: String,
    service: String,
    id: String,
    text: String,
}

struct NodeLine {
    name: String,
    domain: String,
    address: String,
    role: &'static str,
}

#[derive(Template)]
#[template(path = "status.html")]
struct StatusPage {
    node: NodeLine,
    version: &'static str,
    user: String,
    form: String,
    up: usize,
    waiting: usize,
    down: usize,
    alarms: Vec<AlarmRow>,
    replication: Result<Replication, String>,
    problems: Vec<String>,
    rows: Vec<Row>,
    now: String,
}

fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "A page could not be made.");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "The page could not be made.\n",
            )
                .into_response()
        }
    }
}

fn set_cookie(response: &mut Response, name: &str, value: &str, more: &str) {
    let text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Strict{more}");
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

fn login_page(
    app: &App,
    headers: &HeaderMap,
    status: StatusCode,
    message: Option<&str>,
    user: &str,
) -> Response {
    let host = app
        .operations()
        .node()
        .map_or_else(|_| "Signalbox".into(), |node| node.name);
    // The form belongs to a cookie that exists before anybody is signed in,
    // so that nobody can sign a browser in from another site's page.
    let (cookie, fresh) = match cookie(headers, FORM_COOKIE) {
        Some(cookie) => (cookie, false),
        None => match random() {
            Ok(cookie) => (cookie, true),
            Err(error) => {
                return (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response();
            }
        },
    };
    let form = app.forms().token(&cookie);
    let mut response = page(
        status,
        &LoginPage {
            host: &host,
            message,
            user,
            form: &form,
        },
    );
    if fresh {
        set_cookie(&mut response, FORM_COOKIE, &cookie, "");
    }
    response
}

/// `GET /login`.
pub(crate) async fn login_form(State(app): State<App>, headers: HeaderMap) -> Response {
    login_page(&app, &headers, StatusCode::OK, None, "")
}

/// What the sign-in form sends.
#[derive(Deserialize)]
pub(crate) struct Login {
    form: String,
    user: String,
    password: String,
}

/// `POST /login`.
pub(crate) async fn login(
    State(app): State<App>,
    headers: HeaderMap,
    peer: Option<Extension<Peer>>,
    login: Result<Form<Login>, FormRejection>,
) -> Response {
    let bad = |message| login_page(&app, &headers, StatusCode::FORBIDDEN, Some(message), "");
    let Ok(Form(login)) = login else {
        return bad("The form was not complete. Please sign in again.");
    };
    let own = cookie(&headers, FORM_COOKIE);
    if !own.is_some_and(|cookie| app.forms().fits(&cookie, &login.form)) {
        return bad("The form was too old. Please sign in again.");
    }
    let address = peer.map_or(std::net::Ipv4Addr::LOCALHOST.into(), |Extension(peer)| {
        peer.0
    });
    let signed_in = app
        .sign_in(&login.user, &login.password, address, Use::Browser)
        .await;
    let (status, message) = match signed_in {
        Ok(token) => {
            // A session of before, if there is one, ends: every sign-in has a
            // token of its own.
            if let Some(before) = cookie(&headers, SESSION_COOKIE) {
                app.sign_out(&before);
            }
            let mut response = Redirect::to("/").into_response();
            set_cookie(&mut response, SESSION_COOKIE, &token, "");
            set_cookie(&mut response, FORM_COOKIE, "", "; Max-Age=0");
            return response;
        }
        Err(NotSignedIn::Wrong) => (
            StatusCode::UNAUTHORIZED,
            "User or password is wrong.".to_owned(),
        ),
        Err(NotSignedIn::Wait(wait)) => (
            StatusCode::TOO_MANY_REQUESTS,
            format!(
                "Too many failures from this address. Please wait {} seconds.",
                wait.as_secs() + 1
            ),
        ),
        Err(NotSignedIn::Busy) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many people sign in at once. Please try again in some seconds.".into(),
        ),
        Err(NotSignedIn::Unavailable(reason)) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("Nobody can sign in now: {reason}"),
        ),
    };
    login_page(&app, &headers, status, Some(&message), &login.user)
}

/// What the sign-out form sends.
#[derive(Deserialize)]
pub(crate) struct Logout {
    form: String,
}

/// `POST /logout`.
pub(crate) async fn logout(
    State(app): State<App>,
    Extension(signed_in): Extension<SignedIn>,
    logout: Result<Form<Logout>, FormRejection>,
) -> Response {
    let fits = logout.is_ok_and(|Form(logout)| app.forms().fits(&signed_in.token, &logout.form));
    if !fits {
        let text = "The form was too old. Go back, reload the page and sign out again.\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    app.sign_out(&signed_in.token);
    let mut response = Redirect::to("/login").into_response();
    set_cookie(&mut response, SESSION_COOKIE, "", "; Max-Age=0");
    response
}

/// `GET /`: the status page.
pub(crate) async fn status(
    State(app): State<App>,
    Extension(signed_in): Extension<SignedIn>,
    peer: Option<Extension<Peer>>,
) -> Response {
    let address = peer.map_or(std::net::Ipv4Addr::LOCALHOST.into(), |Extension(peer)| {
        peer.0
    });
    let caller = App::caller(&signed_in.user, address);
    let operations = app.operations();
    let mut problems = Vec::new();
    let node = match operations.node() {
        Ok(node) => NodeLine {
            name: node.name,
            domain: node.domain,
            address: node.address,
            role: match node.role {
                service::Role::Publisher => "publisher",
                service::Role::Subscriber => "subscriber",
            },
        },
        Err(error) => {
            problems.push(error.to_string());
            NodeLine {
                name: operations.host().name(),
                domain: String::new(),
                address: String::new(),
                role: "",
            }
        }
    };
    let services = match operations.services(&caller).await {
        Ok(list) => list.services,
        Err(error) => {
            problems.push(error.message);
            Vec::new()
        }
    };
    let alarms = operations.alarms(&caller).await.unwrap_or_else(|error| {
        problems.push(error.message);
        Vec::new()
    });
    let replication = operations
        .replication(&caller)
        .await
        .map_err(|error| error.message);
    let number = |wanted: fn(&Service) -> bool| {
        services
            .iter()
            .filter(|one| one.activated && wanted(one))
            .count()
    };
    let page_data = StatusPage {
        node,
        version: PRODUCT_VERSION,
        form: app.forms().token(&signed_in.token),
        user: signed_in.user,
        up: number(|one| one.state == ServiceState::Started),
        waiting: number(|one| !one.state.settled()),
        down: number(|one| matches!(one.state, ServiceState::Stopped | ServiceState::NotRunning)),
        alarms: alarms.into_iter().map(alarm_row).collect(),
        replication,
        problems,
        rows: services.into_iter().map(row).collect(),
        now: std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or_else(|_| "-".into(), |since| moment(since.as_secs())),
    };
    page(StatusCode::OK, &page_data)
}

fn alarm_row(alarm: RaisedAlarm) -> AlarmRow {
    AlarmRow {
        class: if alarm.severity == "warning" {
            "wait"
        } else {
            "bad"
        },
        since: moment(alarm.since),
        severity: alarm.severity,
        service: alarm.service,
        id: alarm.id,
        text: alarm.text,
    }
}

fn row(service: Service) -> Row {
    let (class, state) = match service.state {
        ServiceState::Started => ("good", "Up"),
        ServiceState::Starting => ("wait", "Starting"),
        ServiceState::Stopping => ("wait", "Stopping"),
        ServiceState::Stopped | ServiceState::NotRunning if !service.activated => {
            ("off", "Not activated")
        }
        ServiceState::Stopped => ("bad", "Stopped"),
        ServiceState::NotRunning => ("bad", "Not running"),
    };
    Row {
        name: service.name,
        compat: service.compat,
        group: service.group,
        class,
        state,
        reason: if service.activated {
            service.reason
        } else {
            String::new()
        },
        up: service.up_seconds.map(span).unwrap_or_default(),
        restarts: service.restarts,
    }
}

/// `GET /static/…`: the files in the binary.
pub(crate) async fn file(Path(name): Path<String>) -> Response {
    let (kind, content) = match name.as_str() {
        "style.css" => (
            "text/css; charset=utf-8",
            include_str!("../static/style.css"),
        ),
        "icon.svg" => ("image/svg+xml", include_str!("../static/icon.svg")),
        _ => return (StatusCode::NOT_FOUND, "There is nothing here.\n").into_response(),
    };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "public, max-age=300"),
    ];
    (headers, content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_spans() {
        assert_eq!(moment(0), "1970-01-01 00:00:00");
        assert_eq!(moment(951_827_696), "2000-02-29 12:34:56");
        assert_eq!(moment(1_767_225_599), "2025-12-31 23:59:59");
        assert_eq!(span(59), "59 s");
        assert_eq!(span(3 * 86_400 + 4 * 3600 + 5), "3 d 4 h");
    }
}
