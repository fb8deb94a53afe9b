//! The publisher's side: who is let in, and what a node gets.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use certificates::{Authority, Component, Identity, Names, Subject};
use database::tables::{EnterpriseParameter, ProcessNode};
use database::{Database, Transaction};
use time::OffsetDateTime;
use tonic::{Request, Response, Status};

use crate::attempts::Attempts;
use crate::check::{Own, check};
use crate::rpc::{HelloReply, HelloRequest, JoinReply, JoinRequest, cluster_server::Cluster};
use crate::secret::{Secret, Side};
use crate::tls::Visitor;

/// The highest number that a node ever had: none is given twice.
const LAST: &str = "LastReplica";

/// What the publisher lets nodes in by.
pub struct Materials {
    /// The publisher as it was set up.
    pub node: service::Node,
    /// The cluster's secret.
    pub secret: Secret,
    /// The cluster's authority.
    pub authority: Authority,
    /// What certificates say of the organisation.
    pub subject: Subject,
    /// Largest packet of the publisher's interface; none when it is not known.
    pub mtu: Option<u32>,
}

/// Lets nodes in.
#[derive(Clone)]
pub struct Manager(Arc<Inner>);

struct Inner {
    materials: Materials,
    database: Database,
    attempts: Mutex<Attempts>,
    origin: Instant,
    /// One node joins at a time.
    turn: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Manager")
    }
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

impl Manager {
    /// Lets nodes in by these, with their rows in that database.
    pub fn new(materials: Materials, database: Database) -> Self {
        Self(Arc::new(Inner {
            materials,
            database,
            attempts: Mutex::default(),
            origin: Instant::now(),
            turn: tokio::sync::Mutex::default(),
        }))
    }

    /// The proof of the node that joins, slowed down where it was wrong often.
    fn admit(&self, visitor: Visitor, proof: &[u8]) -> Result<(), Status> {
        let attempts = self.0.attempts.lock();
        let mut attempts = attempts.unwrap_or_else(PoisonError::into_inner);
        let now = self.0.origin.elapsed();
        if let Some(wait) = attempts.wait(visitor.from, now) {
            return Err(Status::resource_exhausted(format!(
                "too many wrong security passwords came from there; try again in {} s",
                wait.as_secs() + 1
            )));
        }
        let secret = &self.0.materials.secret;
        if secret.accepts(Side::Candidate, &visitor.connection, proof) {
            return Ok(());
        }
        attempts.failed(visitor.from, now);
        Err(Status::unauthenticated("the security password is wrong"))
    }

    /// Gives a node a number, in the same transaction that notes that it is
    /// given.
    async fn number(&self, row: &ProcessNode) -> Result<u64, Status> {
        let database = &self.0.database;
        let name = row.name.as_str();
        let read = "the node was changed or removed meanwhile; let it join again";
        let known = database.get_versioned::<ProcessNode>(&[name]).await?;
        let known = known.filter(|known| known.row == *row);
        let known = known.ok_or_else(|| Status::failed_precondition(read))?;
        let last = database
            .get_versioned::<EnterpriseParameter>(&[LAST])
            .await?;
        let (value, revision) = match &last {
            Some(last) => (last.row.value.parse().map_err(internal)?, last.revision),
            None => (1, 0),
        };
        // The table may know higher numbers than the note.
        let rows = database.list::<ProcessNode>(&[]).await?;
        let highest = rows.iter().map(|row| row.replica.unsigned_abs()).max();
        let number = value.max(highest.unwrap_or(1)) + 1;
        let change = Transaction::new()
            .require_revision::<ProcessNode>(&[name], known.revision)
            .require_revision::<EnterpriseParameter>(&[LAST], revision)
            .put(&ProcessNode {
                replica: i64::try_from(number).map_err(internal)?,
                ..row.clone()
            })?
            .put(&EnterpriseParameter {
                name: LAST.into(),
                value: number.to_string(),
            })?;
        database.transact(change).await?;
        Ok(number)
    }

    fn certify(
        &self,
        row: &ProcessNode,
        identity: &Identity,
        keys: &HashMap<String, String>,
    ) -> Result<BTreeMap<String, String>, Status> {
        let materials = &self.0.materials;
        let now = OffsetDateTime::now_utc();
        let mut issued = BTreeMap::new();
        for component in Component::ALL {
            let Some(key) = keys.get(component.name()) else {
                return Err(Status::invalid_argument(format!(
                    "the node sent no key for {}",
                    component.name()
                )));
            };
            let names = match component {
                Component::Cluster => Names {
                    dns: vec![identity.host_name()],
                    addresses: Vec::new(),
                },
                Component::Tomcat | Component::Xmpp => names(row, &materials.node.domain)?,
            };
            let certificate = materials
                .authority
                .certify(&materials.subject, &names, key, now)
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
            issued.insert(component.name().to_owned(), certificate);
        }
        Ok(issued)
    }
}

/// The names that a node's certificates are for.
fn names(row: &ProcessNode, domain: &str) -> Result<Names, Status> {
    let mut dns = vec![format!("{}.{}", row.name, row.domain)];
    for name in [row.name.as_str(), domain] {
        if !dns.iter().any(|one| one == name) {
            dns.push(name.into());
        }
    }
    let address = row.address.parse().map_err(internal)?;
    Ok(Names {
        dns,
        addresses: vec![address],
    })
}

#[tonic::async_trait]
impl Cluster for Manager {
    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let secret = &self.0.materials.secret;
        Ok(Response::new(HelloReply {
            function: secret.function.clone(),
            memory: secret.memory,
            passes: secret.passes,
            lanes: secret.lanes,
            salt: secret.salt_bytes(),
        }))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let visitor = request.extensions().get::<Visitor>().copied();
        let visitor = visitor.ok_or_else(|| Status::internal("the connection has no name"))?;
        let asked = request.into_inner();
        self.admit(visitor, &asked.proof).inspect_err(|status| {
            tracing::warn!(
                from = %visitor.from,
                name = asked.name,
                "A node that wants to join was refused: {}.",
                status.message()
            );
        })?;
        let _turn = self.0.turn.lock().await;
        let materials = &self.0.materials;
        let own = Own {
            version: env!("CARGO_PKG_VERSION"),
            product: &materials.node.product,
            domain: &materials.node.domain,
            mtu: materials.mtu,
            time: OffsetDateTime::now_utc().unix_timestamp(),
        };
        let rows = self.0.database.list::<ProcessNode>(&[]).await?;
        let row = check(&asked, &own, &rows).map_err(|reason| {
            tracing::warn!(name = asked.name, "A node may not join: {reason}.");
            Status::failed_precondition(reason)
        })?;
        let proof = materials.secret.prove(Side::Publisher, &visitor.connection);
        if asked.trial {
            return Ok(Response::new(JoinReply {
                proof,
                ..JoinReply::default()
            }));
        }
        let replica = self.number(&row).await?;
        let identity = Identity {
            replica,
            cluster: materials.node.cluster.clone(),
        };
        let certificates = self.certify(&row, &identity, &asked.keys)?;
        tracing::info!(name = row.name, replica, "A node has joined the cluster.");
        Ok(Response::new(JoinReply {
            proof,
            cluster: identity.cluster,
            replica,
            authority: materials.authority.certificate_pem().into(),
            certificates: certificates.into_iter().collect(),
        }))
    }
}
