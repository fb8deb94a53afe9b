//! Talking to the service: components report, administrators ask.

use std::collections::HashMap;
use std::time::Duration;

use service::{Paths, uds};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use crate::proto;
use crate::proto::configuration_client::ConfigurationClient;

/// A parameter as administrators see it.
pub type Parameter = proto::Parameter;

/// Something that must be restarted.
pub type NoticeReply = proto::Notice;

/// Pause between two tries to report.
const PAUSE: Duration = Duration::from_secs(1);

fn client(paths: &Paths) -> ConfigurationClient<Channel> {
    ConfigurationClient::new(uds::connect(&paths.configuration_socket()))
}

/// Keeps the service told what a component runs with, until dropped.
#[derive(Debug)]
pub struct Report(JoinHandle<()>);

impl Report {
    /// Begins to tell. `values` are those that the component has read at its
    /// start and that need a restart to change. Needs a tokio runtime.
    pub fn start(paths: &Paths, component: &str, values: &[(&str, &str)]) -> Self {
        let running = proto::Running {
            component: component.into(),
            values: values
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect::<HashMap<String, String>>(),
        };
        let mut client = client(paths);
        Self(tokio::spawn(async move {
            loop {
                let (sender, stream) = mpsc::channel(1);
                // The receiver is just below, so there is room.
                let _ = sender.send(running.clone()).await;
                // The call ends only when the service does: the stream stays
                // open, and with it the knowledge that the component lives.
                let _ = client.report(ReceiverStream::new(stream)).await;
                drop(sender);
                tokio::time::sleep(PAUSE).await;
            }
        }))
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Every parameter of the XMPP components.
pub async fn parameters(paths: &Paths) -> Result<Vec<Parameter>, Status> {
    let reply = client(paths)
        .parameters(proto::ParametersRequest {})
        .await?;
    Ok(reply.into_inner().parameters)
}

/// What must be restarted, and why.
pub async fn notices(paths: &Paths) -> Result<Vec<NoticeReply>, Status> {
    let reply = client(paths).notices(proto::NoticesRequest {}).await?;
    Ok(reply.into_inner().notices)
}
