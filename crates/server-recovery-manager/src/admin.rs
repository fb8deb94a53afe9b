//! Administrators' requests, answered by the node that they are about.

use std::sync::{Arc, Mutex, PoisonError};

use recovery::Request as Wanted;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status as Refused};

use crate::door::Members;
use crate::driver::Input;
use crate::history::{Entry, History};
use crate::proto;
use crate::proto::administration_server::Administration;
use crate::status::Status;

/// This node's own machine and history.
#[derive(Clone)]
pub(crate) struct Own {
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) history: Arc<Mutex<History>>,
}

impl Own {
    /// Asks the driver and waits for its answer.
    pub(crate) async fn ask<T>(
        &self,
        input: impl FnOnce(oneshot::Sender<T>) -> Input,
    ) -> Result<T, Refused> {
        let gone = || Refused::unavailable("the recovery manager stops; try again in some seconds");
        let (sender, answer) = oneshot::channel();
        let sent = self.inputs.send(input(sender)).await;
        sent.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// The group's state.
    pub(crate) async fn status(&self) -> Result<Status, Refused> {
        self.ask(Input::Status).await
    }

    /// Has the machine do it; the error is its refusal.
    pub(crate) async fn act(
        &self,
        verb: proto::Verb,
        caller: String,
    ) -> Result<proto::ActReply, Refused> {
        let request = match verb {
            proto::Verb::Failover => Wanted::Failover,
            proto::Verb::Fallback => Wanted::Fallback,
            proto::Verb::Recover => Wanted::Recover,
            proto::Verb::Unspecified => {
                return Err(Refused::invalid_argument("nothing is asked for"));
            }
        };
        let outcome = self.ask(|answer| Input::Request {
            request,
            caller,
            answer,
        });
        let refusal = match outcome.await? {
            Ok(()) => String::new(),
            Err(refusal) => refusal.to_string(),
        };
        Ok(proto::ActReply { refusal })
    }

    /// The node's event history, the oldest entry first.
    pub(crate) fn history(&self) -> Vec<Entry> {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.entries().cloned().collect()
    }
}

/// A value as the answer to a call.
pub(crate) fn document(value: &impl Serialize) -> Result<Response<proto::Document>, Refused> {
    let json = serde_json::to_vec(value).map_err(|error| Refused::internal(error.to_string()))?;
    Ok(Response::new(proto::Document { json }))
}

/// What other nodes ask for their administrators.
pub(crate) struct ForOthers {
    pub(crate) own: Own,
    pub(crate) members: Members,
}

#[tonic::async_trait]
impl Administration for ForOthers {
    async fn status(
        &self,
        request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::Document>, Refused> {
        self.members.sender(&request)?;
        document(&self.own.status().await?)
    }

    async fn act(
        &self,
        request: Request<proto::ActRequest>,
    ) -> Result<Response<proto::ActReply>, Refused> {
        let from = self.members.sender(&request)?;
        let request = request.into_inner();
        let verb = request.verb();
        let caller = format!("{} on {from}", request.caller);
        Ok(Response::new(self.own.act(verb, caller).await?))
    }

    async fn history(
        &self,
        request: Request<proto::HistoryRequest>,
    ) -> Result<Response<proto::Document>, Refused> {
        self.members.sender(&request)?;
        document(&self.own.history())
    }
}
