//! Commands against a systemd that the test plays.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;

use futures::StreamExt;
use service::Alarms;
use tokio::sync::mpsc;
use zbus::connection::Builder;
use zbus::{Connection, Guid, MessageStream, ObjectPath, Variant};

use super::*;
use crate::files::Files;
use crate::systemd::Systemd;

const FEATURE: &str = "xmpp-connection-manager";

/// Two ends of a D-Bus connection: the supervisor's, and systemd's.
async fn bus() -> (Connection, Connection) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let guid = Guid::generate();
    let theirs = Builder::unix_stream(theirs).server(guid).p2p().build();
    let ours = Builder::unix_stream(ours).p2p().build();
    let (ours, theirs) = tokio::join!(ours, theirs);
    (ours.unwrap(), theirs.unwrap())
}

/// Answers like a systemd whose units all run. Reads are answered at
/// once; each other call is told to the test, and answered when it says so.
async fn play(connection: Connection, called: mpsc::Sender<(String, mpsc::Sender<()>)>) {
    let mut calls = MessageStream::from(&connection);
    while let Some(Ok(message)) = calls.next().await {
        let call = message.header();
        let name = call.member().unwrap().to_string();
        let path = ObjectPath::try_from("/one").unwrap();
        match name.as_str() {
            "LoadUnit" => {
                let unit: String = message.body().deserialize().unwrap();
                let path = format!("/{}", unit.replace(['-', '.'], "_"));
                let path = ObjectPath::try_from(path).unwrap();
                connection.reply(&call, &path).await
            }
            "ListJobs" => connection.reply(&call, &Jobs::new()).await,
            "GetAll" => {
                let unit = HashMap::from([
                    ("LoadState", Variant::from("loaded")),
                    ("ActiveState", Variant::from("active")),
                ]);
                connection.reply(&call, &unit).await
            }
            "Get" => connection.reply(&call, &Variant::from("")).await,
            _ => {
                let (answer, mut answered) = mpsc::channel(1);
                called.send((name.clone(), answer)).await.unwrap();
                answered.recv().await;
                if name == "Reload" {
                    connection.reply(&call, &()).await
                } else {
                    connection.reply(&call, &path).await
                }
            }
        }
        .unwrap();
    }
}

type Jobs<'a> = Vec<(
    u32,
    &'a str,
    &'a str,
    &'a str,
    ObjectPath<'a>,
    ObjectPath<'a>,
)>;

#[tokio::test]
async fn what_is_begun_is_finished_when_the_caller_goes_away() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = bus().await;
    let (called, mut calls) = mpsc::channel(1);
    let systemd = tokio::spawn(play(theirs, called));
    let monitor = Monitor::new(
        crate::fixture::catalogue(),
        Files::below(folder.path()),
        Systemd::played(ours),
        Alarms::default(),
    );
    let server = Server {
        monitor: Arc::new(Mutex::new(monitor.await.unwrap())),
        network: Applier::default(),
    };

    let ids = [FEATURE.to_owned()];
    let mut asked = Box::pin(server.change(
        "anna".into(),
        "activate",
        FEATURE.into(),
        move |catalogue, world| rules::activate(&ids, true, catalogue, world),
    ));
    // The links are there, systemd reads them: here the caller hangs up.
    let (call, answer) = tokio::select! {
        call = calls.recv() => call.unwrap(),
        done = &mut asked => panic!("{done:?}"),
    };
    assert_eq!(call, "Reload");
    drop(asked);
    answer.send(()).await.unwrap();

    let (call, answer) = calls.recv().await.unwrap();
    assert_eq!(call, "StartUnit");
    drop(answer);
    systemd.abort();
}
