//! The whole application in process: every request goes through the router as
//! it does on a node.

use std::net::IpAddr;
use std::sync::LazyLock;

use argon2::password_hash::PasswordHasher;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use operations::fakes::{Fakes, service};
use operations::ports::{ServiceKind, State};
use service::Perf;
use tower::ServiceExt;

use crate::app::App;
use crate::routes::{Access, FORM_COOKIE, Peer, SESSION_COOKIE, router, routes};

/// Argon2id of "right horse", made once: it is costly on purpose.
static HASH: LazyLock<String> = LazyLock::new(|| {
    argon2::Argon2::default()
        .hash_password(b"right horse")
        .unwrap()
        .to_string()
});

#[tokio::test(start_paused = true)]
async fn a_body_that_never_comes_is_not_waited_for() {
    let front = front();
    let never = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let mut request = Request::post("/login")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from_stream(never))
        .unwrap();
    request
        .extensions_mut()
        .insert(Peer(IpAddr::from([192, 0, 2, 9])));
    let response = front.router.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
}

struct Front {
    router: Router,
    fakes: Fakes,
    perf: Perf,
    _folder: tempfile::TempDir,
}

fn front() -> Front {
    let folder = tempfile::tempdir().unwrap();
    let fakes = Fakes::default();
    let etc = folder.path().join("etc");
    std::fs::create_dir_all(&etc).unwrap();
    std::fs::create_dir_all(folder.path().join("run")).unwrap();
    let node = "name = \"node1\"\ndomain = \"example.org\"\naddress = \"192.0.2.1\"\n\
                role = \"publisher\"\nproduct = \"imp\"\nsize = \"5K\"\n\
                cluster = \"b1f3a9a2-0000-4000-8000-000000000000\"\n";
    std::fs::write(etc.join("node.toml"), node).unwrap();
    {
        let mut world = fakes.world();
        world.application_users.insert("ada".into(), HASH.clone());
        let mut router = service("xmpp-router", "Cisco XCP Router", ServiceKind::Network);
        router.state = State::Starting;
        router.reason = "waits for data-monitor: <replication> state 1".into();
        let mut proxy = service("sip-proxy", "Cisco SIP Proxy", ServiceKind::Feature);
        proxy.state = State::Stopped;
        proxy.activated = false;
        proxy.up_seconds = None;
        world.services = vec![
            service("database", "A Cisco DB", ServiceKind::Network),
            router,
            proxy,
        ];
    }
    let perf = Perf::default();
    let app = App::new(fakes.operations(folder.path()), &perf).unwrap();
    Front {
        router: router(app),
        fakes,
        perf,
        _folder: folder,
    }
}

impl Front {
    async fn send(&self, request: axum::http::request::Builder, body: &str) -> Response<Body> {
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        let address: IpAddr = "192.0.2.9".parse().unwrap();
        request.extensions_mut().insert(Peer(address));
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> Response<Body> {
        self.send(Request::get(path), "").await
    }

    /// Opens the sign-in page; gives its cookie and form token.
    async fn form(&self) -> (String, String) {
        let response = self.get("/login").await;
        let cookie = set_cookie(&response, FORM_COOKIE).unwrap();
        let page = text(response).await;
        (cookie, hidden(&page))
    }

    async fn sign_in(&self, user: &str, password: &str) -> Response<Body> {
        let (cookie, form) = self.form().await;
        let request = Request::post("/login")
            .header(header::COOKIE, format!("{FORM_COOKIE}={cookie}"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let body = format!("form={form}&user={user}&password={password}");
        self.send(request, &body).await
    }
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn set_cookie(response: &Response<Body>, name: &str) -> Option<String> {
    response
        .headers()
        .get_all(header::SET_COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find_map(|value| value.strip_prefix(name)?.strip_prefix('='))
        .map(|value| value.split(';').next().unwrap().to_owned())
}

fn hidden(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"form\" value=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    let pair = format!("{user}:{password}");
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(pair)
    )
}

#[tokio::test]
async fn without_a_sign_in_every_route_that_is_not_open_refuses() {
    let front = front();
    let mut closed = 0;
    for route in routes() {
        for method in route.methods {
            for token in [None, Some("Bearer nonsense"), Some("Basic nonsense")] {
                let mut request = Request::builder()
                    .method(method)
                    .uri(route.path)
                    .header(header::COOKIE, format!("{SESSION_COOKIE}=nonsense"));
                if let Some(token) = token {
                    request = request.header(header::AUTHORIZATION, token);
                }
                let response = front.send(request, "").await;
                let at = format!("{method} {}", route.path);
                match route.access {
                    Access::Open => continue,
                    Access::Page => {
                        assert_eq!(response.status(), StatusCode::SEE_OTHER, "{at}");
                        assert_eq!(response.headers()[header::LOCATION], "/login", "{at}");
                    }
                    Access::Program => {
                        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{at}");
                        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
                    }
                }
                closed += 1;
            }
        }
    }
    assert_eq!(closed, 3 * 6);
    // What is open is known by name: whoever opens another route says so here.
    let open: Vec<_> = routes()
        .into_iter()
        .filter(|route| route.access == Access::Open)
        .map(|route| route.path)
        .collect();
    assert_eq!(open, ["/login", "/static/{name}", "/api/v1/token"]);
    assert!(
        !front
            .fakes
            .world()
            .commands
            .iter()
            .any(|asked| asked == "list")
    );
}

#[tokio::test]
async fn other_methods_are_refused_too() {
    let front = front();
    for route in routes() {
        for method in [
            Method::PUT,
            Method::DELETE,
            Method::PATCH,
            Method::OPTIONS,
            Method::TRACE,
        ] {
            let request = Request::builder().method(&method).uri(route.path);
            let status = front.send(request, "").await.status();
            assert!(
                status == StatusCode::METHOD_NOT_ALLOWED
                    || status == StatusCode::UNAUTHORIZED
                    || status == StatusCode::SEE_OTHER,
                "{method} {}: {status}",
                route.path
            );
        }
    }
}

#[tokio::test]
async fn odd_spellings_of_a_path_reach_nothing() {
    let front = front();
    for path in [
        "/static/../",
        "/static/%2e%2e/api/v1/status",
        "/static/..%2fapi/v1/status",
        "/%u002e%u002e/api/v1/status",
        "/api//v1/status",
        "/api/v1/status/",
        "/%61pi/v1/status",
        "/api/v1/status;x=login",
        "/login/..;/api/v1/status",
        "/api/v1/%73tatus",
    ] {
        let response = front.get(path).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{path}");
    }
    assert_eq!(
        front.get("/API/v1/status").await.status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        front.get("/static/Cargo.toml").await.status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn every_answer_forbids_scripts_frames_and_storage() {
    let front = front();
    for path in [
        "/login",
        "/",
        "/nothing",
        "/static/..",
        "/api/v1/status",
        "/static/style.css",
    ] {
        let response = front.get(path).await;
        let headers = response.headers();
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{path}");
        assert!(
            !policy.contains("unsafe") && !policy.contains("script-src"),
            "{path}"
        );
        assert_eq!(headers[header::X_FRAME_OPTIONS], "DENY", "{path}");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        assert!(
            headers.contains_key(header::STRICT_TRANSPORT_SECURITY),
            "{path}"
        );
        let kept = headers[header::CACHE_CONTROL] != "no-store";
        assert_eq!(kept, path == "/static/style.css", "{path}");
    }
}

#[tokio::test]
async fn a_person_signs_in_sees_the_node_and_signs_out() {
    let front = front();
    let response = front.sign_in("ada", "right+horse").await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(response.headers()[header::LOCATION], "/");
    let raw: Vec<_> = response
        .headers()
        .get_all(header::SET_COOKIE)
        .iter()
        .collect();
    for value in raw {
        let value = value.to_str().unwrap();
        for word in ["Path=/", "Secure", "HttpOnly", "SameSite=Strict"] {
            assert!(value.contains(word), "{value}");
        }
        assert!(!value.contains("Domain="), "{value}");
    }
    let token = set_cookie(&response, SESSION_COOKIE).unwrap();
    let cookie = format!("{SESSION_COOKIE}={token}");
    let page = front
        .send(Request::get("/").header(header::COOKIE, &cookie), "")
        .await;
    assert_eq!(page.status(), StatusCode::OK);
    let page = text(page).await;
    for expected in [
        "node1",
        "example.org",
        "Cisco XCP Router",
        "XCP Router",
        "waits for data-monitor: &#60;replication&#62; state 1",
        "Not activated",
        "1 min",
        "replication: Good",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    for script in [
        "<script",
        "javascript:",
        " onclick",
        " style=",
        "<replication>",
    ] {
        assert!(!page.contains(script), "{script}");
    }
    let form = hidden(&page);
    let out = |form: &str| {
        let request = Request::post("/logout")
            .header(header::COOKIE, &cookie)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        (request, format!("form={form}"))
    };
    // Without the page's own form token nobody is signed out.
    let (request, body) = out("nonsense");
    assert_eq!(
        front.send(request, &body).await.status(),
        StatusCode::FORBIDDEN
    );
    let (request, body) = out(&form);
    assert_eq!(
        front.send(request, &body).await.status(),
        StatusCode::SEE_OTHER
    );
    let after = front
        .send(Request::get("/").header(header::COOKIE, &cookie), "")
        .await;
    assert_eq!(after.headers()[header::LOCATION], "/login");
}

#[tokio::test]
async fn every_sign_in_has_a_token_of_its_own() {
    let front = front();
    let first = set_cookie(&front.sign_in("ada", "right+horse").await, SESSION_COOKIE).unwrap();
    let second = set_cookie(&front.sign_in("ada", "right+horse").await, SESSION_COOKIE).unwrap();
    assert_ne!(first, second);
    // A token that somebody else chose is never taken over.
    let (cookie, form) = front.form().await;
    let request = Request::post("/login")
        .header(
            header::COOKIE,
            format!("{FORM_COOKIE}={cookie}; {SESSION_COOKIE}=chosen"),
        )
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let body = format!("form={form}&user=ada&password=right+horse");
    let response = front.send(request, &body).await;
    assert_ne!(set_cookie(&response, SESSION_COOKIE).unwrap(), "chosen");
    let chosen = Request::get("/").header(header::COOKIE, format!("{SESSION_COOKIE}=chosen"));
    assert_eq!(front.send(chosen, "").await.status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn wrong_password_and_unknown_user_get_the_same_answer() {
    let front = front();
    let wrong = front.sign_in("ada", "wrong").await;
    let unknown = front.sign_in("eve", "wrong").await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(unknown.status(), StatusCode::UNAUTHORIZED);
    let normal = |page: String| {
        let form = hidden(&page);
        page.replace(&form, "")
            .replace("value=\"eve\"", "value=\"ada\"")
    };
    assert_eq!(normal(text(wrong).await), normal(text(unknown).await));
}

#[tokio::test]
async fn an_address_that_keeps_failing_has_to_wait_even_with_the_right_password() {
    let front = front();
    for _ in 0..4 {
        front.sign_in("ada", "wrong").await;
    }
    let response = front.sign_in("ada", "right+horse").await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(set_cookie(&response, SESSION_COOKIE).is_none());
    let request =
        Request::get("/api/v1/alarms").header(header::AUTHORIZATION, basic("ada", "right horse"));
    let response = front.send(request, "").await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(response.headers().contains_key(header::RETRY_AFTER));
}

#[tokio::test]
async fn a_form_of_another_site_does_nothing() {
    let front = front();
    let (cookie, form) = front.form().await;
    let body = format!("form={form}&user=ada&password=right+horse");
    let request = || {
        Request::post("/login")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::HOST, "node1.example.org:8443")
    };
    let own = format!("{FORM_COOKIE}={cookie}");
    let with = |name: &str, value: &str| request().header(header::COOKIE, &own).header(name, value);
    for foreign in [
        with("sec-fetch-site", "cross-site"),
        with("sec-fetch-site", "same-site"),
        with("origin", "https://evil.example"),
        with("origin", "null"),
        request(),
        request().header(header::COOKIE, format!("{FORM_COOKIE}=other")),
    ] {
        let response = front.send(foreign, &body).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert!(set_cookie(&response, SESSION_COOKIE).is_none());
    }
    let ours = with("origin", "https://node1.example.org:8443");
    assert_eq!(
        front.send(ours, &body).await.status(),
        StatusCode::SEE_OTHER
    );
    // As browsers send it where a policy hides the origin.
    let (cookie, form) = front.form().await;
    let body = format!("form={form}&user=ada&password=right+horse");
    let hidden = request()
        .header(header::COOKIE, format!("{FORM_COOKIE}={cookie}"))
        .header("sec-fetch-site", "same-origin")
        .header("origin", "null");
    assert_eq!(
        front.send(hidden, &body).await.status(),
        StatusCode::SEE_OTHER
    );
}

#[tokio::test]
async fn programs_use_basic_auth_or_a_token() {
    let front = front();
    let right = basic("ada", "right horse");
    for path in [
        "/api/v1/services",
        "/api/v1/alarms",
        "/api/v1/perf",
        "/api/v1/status",
    ] {
        let request = Request::get(path).header(header::AUTHORIZATION, &right);
        let response = front.send(request, "").await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let value: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(value["ok"], true, "{path}");
    }
    let request = Request::post("/api/v1/token").header(header::AUTHORIZATION, &right);
    let answer: serde_json::Value =
        serde_json::from_str(&text(front.send(request, "").await).await).unwrap();
    let token = answer["result"]["token"].as_str().unwrap();
    let bearer = format!("Bearer {token}");
    let request = Request::get("/api/v1/services").header(header::AUTHORIZATION, &bearer);
    let value: serde_json::Value =
        serde_json::from_str(&text(front.send(request, "").await).await).unwrap();
    assert_eq!(value["result"]["services"][0]["state"], "STARTED");
    assert_eq!(value["result"]["primary"], true);
    // A program's token is no browser's cookie, and the other way round.
    let page = Request::get("/").header(header::COOKIE, format!("{SESSION_COOKIE}={token}"));
    assert_eq!(front.send(page, "").await.status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_remembered_password_ends_with_the_account() {
    let front = front();
    let ask = || {
        Request::get("/api/v1/alarms").header(header::AUTHORIZATION, basic("ada", "right horse"))
    };
    assert_eq!(front.send(ask(), "").await.status(), StatusCode::OK);
    assert_eq!(front.send(ask(), "").await.status(), StatusCode::OK);
    front.fakes.world().application_users.clear();
    assert_eq!(
        front.send(ask(), "").await.status(),
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn a_large_body_is_refused() {
    let front = front();
    let request =
        Request::post("/login").header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let response = front.send(request, &"x".repeat(20_000)).await;
    assert!(response.status().is_client_error());
}

#[tokio::test]
async fn requests_and_sessions_are_counted() {
    let front = front();
    front.sign_in("ada", "right+horse").await;
    let value = |class: &str, name: &str| {
        let samples = front.perf.samples();
        let found = samples
            .iter()
            .find(|one| one.class == class && one.name == name);
        found.map(|one| one.value)
    };
    assert_eq!(value("Cisco Tomcat Connector", "Requests"), Some(2));
    assert_eq!(value("Cisco Tomcat Connector", "Errors"), Some(0));
    assert_eq!(
        value("Cisco Tomcat Web Application", "SessionsActive"),
        Some(1)
    );
}

#[tokio::test]
async fn the_page_says_what_it_cannot_tell() {
    let front = front();
    let token = set_cookie(&front.sign_in("ada", "right+horse").await, SESSION_COOKIE).unwrap();
    front.fakes.world().fault = Some(operations::Error::unavailable(
        "<b>the database is away</b>",
    ));
    let request = Request::get("/").header(header::COOKIE, format!("{SESSION_COOKIE}={token}"));
    let response = front.send(request, "").await;
    assert_eq!(response.status(), StatusCode::OK);
    let page = text(response).await;
    assert!(page.contains("&#60;b&#62;the database is away"), "{page}");
}
