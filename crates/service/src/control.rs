//! The control socket: health, counters and alarms of a running service.

use std::time::{Duration, UNIX_EPOCH};

use tonic::{Request, Response, Status};

use crate::{Alarm, Context, Paths, Sample, Severity, uds};

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod proto {
    tonic::include_proto!("signalbox.control");
}

use proto::control_server::{Control, ControlServer};

struct Server(Context);

#[tonic::async_trait]
impl Control for Server {
    async fn health(
        &self,
        _: Request<proto::HealthRequest>,
    ) -> Result<Response<proto::HealthReply>, Status> {
        Ok(Response::new(proto::HealthReply {
            id: self.0.id().into(),
            ready: self.0.is_ready(),
            status: self.0.current_status(),
            up_seconds: self.0.up().as_secs(),
        }))
    }

    async fn perf(
        &self,
        _: Request<proto::PerfRequest>,
    ) -> Result<Response<proto::PerfReply>, Status> {
        let counters = self
            .0
            .perf()
            .samples()
            .into_iter()
            .map(|sample| proto::PerfCounter {
                class: sample.class,
                instance: sample.instance,
                name: sample.name,
                value: sample.value,
            });
        Ok(Response::new(proto::PerfReply {
            counters: counters.collect(),
        }))
    }

    async fn alarms(
        &self,
        _: Request<proto::AlarmsRequest>,
    ) -> Result<Response<proto::AlarmsReply>, Status> {
        let alarms = self
            .0
            .alarms()
            .raised()
            .into_iter()
            .map(|alarm| proto::RaisedAlarm {
                id: alarm.id,
                severity: alarm.severity.to_string(),
                text: alarm.text,
                since: alarm
                    .since
                    .duration_since(UNIX_EPOCH)
                    .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX)),
            });
        Ok(Response::new(proto::AlarmsReply {
            alarms: alarms.collect(),
        }))
    }
}

/// Serves the control socket until the service stops.
pub(crate) async fn serve(context: Context) -> anyhow::Result<()> {
    let path = context.paths().control_socket(context.id());
    let incoming = uds::incoming(uds::listen(&path)?);
    let stop = context.stop_token().clone();
    tonic::transport::Server::builder()
        .add_service(ControlServer::new(Server(context)))
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await?;
    Ok(())
}

/// What a service says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether it serves.
    pub ready: bool,
    /// Its status sentence.
    pub status: String,
    /// Time since it was started.
    pub up: Duration,
}

/// Asking a running service about itself.
pub mod introspect {
    use super::{Alarm, Duration, Health, Paths, Sample, Severity, UNIX_EPOCH, proto, uds};
    use proto::control_client::ControlClient;

    /// Longest wait for an answer; a hung service must not hang its asker.
    const LIMIT: Duration = Duration::from_secs(2);

    type Client = ControlClient<tonic::transport::Channel>;

    fn client(paths: &Paths, id: &str) -> Client {
        ControlClient::new(uds::connect(&paths.control_socket(id)))
    }

    async fn within<T>(
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, tonic::Status> {
        match tokio::time::timeout(LIMIT, call).await {
            Ok(reply) => reply.map(tonic::Response::into_inner),
            Err(_) => Err(tonic::Status::deadline_exceeded(
                "the service did not answer in 2 s",
            )),
        }
    }

    /// Whether a service serves, and its status sentence.
    pub async fn health(paths: &Paths, id: &str) -> Result<Health, tonic::Status> {
        let reply = within(client(paths, id).health(proto::HealthRequest {})).await?;
        Ok(Health {
            ready: reply.ready,
            status: reply.status,
            up: Duration::from_secs(reply.up_seconds),
        })
    }

    /// Every counter of a service.
    pub async fn perf(paths: &Paths, id: &str) -> Result<Vec<Sample>, tonic::Status> {
        let reply = within(client(paths, id).perf(proto::PerfRequest {})).await?;
        let sample = |counter: proto::PerfCounter| Sample {
            class: counter.class,
            instance: counter.instance,
            name: counter.name,
            value: counter.value,
        };
        Ok(reply.counters.into_iter().map(sample).collect())
    }

    /// The alarms that a service has raised.
    pub async fn alarms(paths: &Paths, id: &str) -> Result<Vec<Alarm>, tonic::Status> {
        let reply = within(client(paths, id).alarms(proto::AlarmsRequest {})).await?;
        let alarm = |raised: proto::RaisedAlarm| Alarm {
            id: raised.id,
            severity: match raised.severity.as_str() {
                "critical" => Severity::Critical,
                "error" => Severity::Error,
                _ => Severity::Warning,
            },
            text: raised.text,
            since: UNIX_EPOCH + Duration::from_secs(u64::try_from(raised.since).unwrap_or(0)),
        };
        Ok(reply.alarms.into_iter().map(alarm).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_tells_its_health_counters_and_alarms() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::below(folder.path());
        let context = Context::new("example", paths.clone());
        context.perf().counter("Example", "a", "Things").add(7);
        context
            .alarms()
            .raise("ExampleDown", Severity::Critical, "It is down.");
        context.ready("Serving.");
        // Listening is done before the task is polled, so no wait is needed.
        let listener = uds::listen(&paths.control_socket("example")).unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(ControlServer::new(Server(context)))
            .serve_with_incoming(uds::incoming(listener));
        let server = tokio::spawn(server);
        let health = introspect::health(&paths, "example").await.unwrap();
        assert_eq!((health.ready, health.status.as_str()), (true, "Serving."));
        let perf = introspect::perf(&paths, "example").await.unwrap();
        assert_eq!((perf[0].name.as_str(), perf[0].value), ("Things", 7));
        let alarms = introspect::alarms(&paths, "example").await.unwrap();
        assert_eq!(alarms[0].severity, Severity::Critical);
        assert_eq!(paths.running().unwrap(), ["example"]);
        server.abort();
    }
}
