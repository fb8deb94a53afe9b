//! The service on its socket.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use database::tables::{EndUser, SharedSecret};
use database::{Access, Database, Transaction};
use ring::rand::{SecureRandom, SystemRandom};
use tonic::{Request, Response, Status};
use xmpp::sasl::ChannelBinding;
use xmpp_config_manager::Report;

use crate::client::{Begin, Outcome};
use crate::engine::Engine;
use crate::proto;
use crate::proto::authentication_server::{Authentication, AuthenticationServer};

struct Face(Arc<Engine>);

#[tonic::async_trait]
impl Authentication for Face {
    async fn begin(
        &self,
        request: Request<proto::BeginRequest>,
    ) -> Result<Response<proto::Step>, Status> {
        let request = request.into_inner();
        let bindings = request.bindings.into_iter();
        let begin = Begin {
            mechanism: request.mechanism,
            initial: request.initial,
            bindings: bindings
                .map(|binding| ChannelBinding {
                    kind: binding.kind,
                    data: binding.data,
                })
                .collect(),
            domain: request.domain,
            peer: request
                .peer
                .parse()
                .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        };
        Ok(Response::new(step(self.0.begin(begin).await)))
    }

    async fn r#continue(
        &self,
        request: Request<proto::ContinueRequest>,
    ) -> Result<Response<proto::Step>, Status> {
        let request = request.into_inner();
        let outcome = self.0.answer(request.exchange, &request.response).await;
        Ok(Response::new(step(outcome)))
    }

    async fn abort(
        &self,
        request: Request<proto::AbortRequest>,
    ) -> Result<Response<proto::AbortReply>, Status> {
        self.0.abort(request.into_inner().exchange);
        Ok(Response::new(proto::AbortReply {}))
    }
}

fn step(outcome: Outcome) -> proto::Step {
    let outcome = match outcome {
        Outcome::Challenge { exchange, data } => {
            proto::step::Outcome::Challenge(proto::Challenge { exchange, data })
        }
        Outcome::Success { user, data } => {
            proto::step::Outcome::Success(proto::Success { user, data })
        }
        Outcome::Failure { failure, delay } => proto::step::Outcome::Failure(proto::Failure {
            condition: failure.name().into(),
            delay_milliseconds: u32::try_from(delay.as_millis()).unwrap_or(u32::MAX),
        }),
    };
    proto::Step {
        outcome: Some(outcome),
    }
}

/// Runs the service until it is stopped.
pub async fn serve(context: service::Context) -> anyhow::Result<()> {
    let node = context.node()?;
    let database = Database::open(context.paths(), Access::Keys);
    let parameters = database.parameters(context.id());
    tokio::select! {
        () = parameters.loaded() => {}
        () = context.stopping() => return Ok(()),
    }
    let secret = tokio::select! {
        secret = patient_secret(&context, &database) => secret,
        () = context.stopping() => return Ok(()),
    };
    let mut users = database.watch::<EndUser>(&[]);
    let engine = Engine::new(database, parameters, &node.domain, &secret, context.perf());
    // What users have decides what nobody has, from the first answer on.
    tokio::select! {
        event = users.next() => engine.follow(event),
        () = context.stopping() => return Ok(()),
    }
    let engine = Arc::new(engine);
    let listener = service::uds::listen(&context.paths().authentication_socket())?;
    let server = tonic::transport::Server::builder()
        .add_service(AuthenticationServer::new(Face(engine.clone())))
        .serve_with_incoming_shutdown(
            service::uds::incoming(listener),
            context.stop_token().clone().cancelled_owned(),
        );
    let _report = Report::start(context.paths(), context.id(), &[("domain", &node.domain)]);
    context.ready(&format!("Authenticating users of {}.", node.domain));
    tokio::pin!(server);
    let heartbeat = context.heartbeat("runtime");
    let mut beat = tokio::time::interval(Duration::from_secs(2));
    loop {
        tokio::select! {
            result = &mut server => return Ok(result?),
            event = users.next() => engine.follow(event),
            _ = beat.tick() => heartbeat.tick(),
        }
    }
}

/// Length of the secret behind the keys of users who do not exist.
const LENGTH: usize = 32;
/// Name of its row.
const SECRET: &str = "decoys";
/// Pause before it is asked for again.
const SECRET_PAUSE: Duration = Duration::from_secs(5);

/// The secret, however long it takes: with another one, those who do not exist
/// would answer otherwise than before, and so be told from users.
async fn patient_secret(context: &service::Context, database: &Database) -> Vec<u8> {
    loop {
        match shared_secret(database).await {
            Ok(secret) => return secret,
            Err(error) => {
                let reason = format!("{error:#}");
                tracing::warn!(
                    reason,
                    "The cluster's secret for users who do not exist is not to be had; this is tried again."
                );
                context.status(
                    "Waits for the database to give or take the secret for users who do not exist.",
                );
                context.extend_timeout(3 * SECRET_PAUSE);
                tokio::time::sleep(SECRET_PAUSE).await;
            }
        }
    }
}

/// The secret behind the keys of users who do not exist, the same on every
/// node of the cluster. The first node that needs it makes it.
async fn shared_secret(database: &Database) -> anyhow::Result<Vec<u8>> {
    let stored = async || {
        let row = database.get::<SharedSecret>(&[SECRET]).await?;
        row.map(|row| STANDARD.decode(row.value).context("the row is no base64"))
            .transpose()
    };
    if let Some(secret) = stored().await? {
        return Ok(secret);
    }
    let row = SharedSecret {
        name: SECRET.into(),
        value: STANDARD.encode(random()?),
    };
    match database.transact(Transaction::new().insert(&row)?).await {
        // Another node was quicker.
        Ok(_) | Err(database::Error::Exists(_)) => {}
        Err(error) => return Err(error.into()),
    }
    stored().await?.context("the row is gone")
}

fn random() -> anyhow::Result<Vec<u8>> {
    let mut secret = vec![0; LENGTH];
    SystemRandom::new()
        .fill(&mut secret)
        .map_err(|_| anyhow::anyhow!("the system gave no random bytes"))?;
    Ok(secret)
}
