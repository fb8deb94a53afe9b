//! A load generator for XMPP servers: idle sessions, logins, messages.
//!
//! It prints one JSON object a line. Lines with `"event"` mark the moments at
//! which whoever watches the server takes its readings.

mod connection;
mod failover;
mod messages;
mod scram;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use connection::Connection;

/// How to sign in.
#[derive(Clone, Copy, ValueEnum)]
enum Mechanism {
    /// PLAIN under TLS.
    Plain,
    /// SCRAM-SHA-1.
    ScramSha1,
    /// SCRAM-SHA-256.
    ScramSha256,
}

/// The server, and the accounts to use: PREFIX0, PREFIX1 and so on.
#[derive(Clone, Parser)]
struct Target {
    /// Address of the server; only loopback and private test networks are meant.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port with STARTTLS.
    #[arg(long, default_value_t = 5222)]
    port: u16,
    /// XMPP domain.
    #[arg(long)]
    domain: String,
    /// Certificate of the authority that the server's is checked against.
    #[arg(long)]
    ca: std::path::PathBuf,
    /// Beginning of the user names.
    #[arg(long, default_value = "load")]
    prefix: String,
    /// Password of every user.
    #[arg(long)]
    password: String,
    /// SASL mechanism.
    #[arg(long, value_enum, default_value = "plain")]
    mechanism: Mechanism,
    /// How many users.
    #[arg(long)]
    users: usize,
    /// How many sign in at the same time.
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
}

#[derive(Parser)]
#[command(about, version)]
struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// Signs everybody in, sends presence, and holds until standard input ends.
    Idle,
    /// Signs everybody in and out again, and tells how many a second.
    Login,
    /// Sends messages in pairs at an even rate and measures their way.
    Messages {
        /// Messages a second, all pairs together.
        #[arg(long)]
        rate: u32,
        /// Seconds before measuring.
        #[arg(long, default_value_t = 3)]
        warmup: u64,
        /// Seconds of measuring.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// Length of a body in bytes.
        #[arg(long, default_value_t = 100)]
        body: usize,
    },
    /// Keeps everybody signed in through the loss of a node, which a line on
    /// standard input announces, and tells how long each was away.
    Failover {
        /// The address to try when the first does not answer.
        #[arg(long)]
        other: String,
        /// Messages a second, all users together.
        #[arg(long, default_value_t = 100)]
        rate: u32,
        /// Seconds without an answer after which a client connects anew.
        #[arg(long, default_value_t = 3)]
        patience: u64,
        /// Everybody has an inactive connection to the other address, too.
        #[arg(long)]
        dual: bool,
        /// Longest time in seconds to wait until everybody is back.
        #[arg(long, default_value_t = 180)]
        limit: u64,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // One thread: the generator must not take more of the machine than it needs.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(load(arguments))
}

async fn load(arguments: Arguments) -> Result<()> {
    let target = Arc::new(arguments.target);
    let tls = Arc::new(tls(&target)?);
    let begun = Instant::now();
    println!("{}", json!({"event": "login"}));
    match arguments.load {
        Load::Login => {
            let logins: usize = sign_in(&target, &tls, false).await?;
            report_logins(logins, begun.elapsed());
        }
        Load::Idle => {
            let sessions: Vec<_> = sign_in(&target, &tls, true).await?;
            report_logins(sessions.len(), begun.elapsed());
            println!("{}", json!({"event": "idle", "sessions": sessions.len()}));
            let mut rest = Vec::new();
            tokio::io::stdin().read_to_end(&mut rest).await?;
        }
        Load::Failover {
            other,
            rate,
            patience,
            dual,
            limit,
        } => {
            let plan = failover::Plan {
                other,
                rate,
                dual,
                patience: Duration::from_secs(patience),
                limit: Duration::from_secs(limit),
            };
            failover::run(&target, &tls, plan).await?;
        }
        Load::Messages {
            rate,
            warmup,
            seconds,
            body,
        } => {
            let sessions: Vec<_> = sign_in(&target, &tls, true).await?;
            report_logins(sessions.len(), begun.elapsed());
            let plan = messages::Plan {
                rate,
                warmup: Duration::from_secs(warmup),
                measured: Duration::from_secs(seconds),
                body,
            };
            messages::run(&target, sessions, &plan).await?;
        }
    }
    Ok(())
}

fn tls(target: &Target) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&target.ca)
        .with_context(|| format!("cannot read {}", target.ca.display()))?
    {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Each login pays for its whole handshake.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// What signing in leaves behind: sessions that are kept, or only their number.
trait Outcome: Default {
    fn take(&mut self, index: usize, connection: Connection);
}

impl Outcome for usize {
    fn take(&mut self, _: usize, _: Connection) {
        *self += 1;
    }
}

impl Outcome for Vec<(usize, Connection)> {
    fn take(&mut self, index: usize, connection: Connection) {
        self.push((index, connection));
    }
}

/// Signs every user in, `concurrency` at a time.
async fn sign_in<O: Outcome>(
    target: &Arc<Target>,
    tls: &Arc<rustls::ClientConfig>,
    present: bool,
) -> Result<O> {
    let mut outcome = O::default();
    let mut pending = JoinSet::new();
    let mut next = 0;
    loop {
        while next < target.users && pending.len() < target.concurrency {
            let (target, tls, index) = (target.clone(), tls.clone(), next);
            next += 1;
            pending.spawn(async move {
                let user = format!("{}{index}", target.prefix);
                let mut connection = Connection::open(&target, &tls, &user)
                    .await
                    .with_context(|| user.clone())?;
                if present {
                    connection.send("<presence/>").await?;
                }
                anyhow::Ok((index, connection))
            });
        }
        match pending.join_next().await {
            Some(done) => {
                let (index, connection) = done??;
                outcome.take(index, connection);
            }
            None => return Ok(outcome),
        }
    }
}

fn report_logins(logins: usize, took: Duration) {
    let seconds = took.as_secs_f64();
    #[allow(clippy::cast_precision_loss)] // a figure to read
    let rate = logins as f64 / seconds;
    println!(
        "{}",
        json!({"event": "logged-in", "logins": logins, "seconds": seconds, "per_second": rate})
    );
}
