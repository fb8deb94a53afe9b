//! Several shards, each on a thread of its own, and the real router.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use database::tables::ServiceParameter;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use xmpp::sasl::Hash;

use super::client::{Client, OPEN, Place, tls};
use super::{Surroundings, within};
use crate::admission::Admission;
use crate::settings::Settings;
use crate::shard::Counters;
use crate::tls::Tls;
use crate::{Listeners, Manager};

const SHARDS: usize = 3;
const CLIENTS: usize = 24;

/// One more socket that listens at an address; port 0 stands for any.
fn listen(at: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(at)?;
    Ok(socket.listen(128)?)
}

/// Two addresses that nobody else listens at, and the sockets that keep them.
fn reserve() -> ([SocketAddr; 2], [TcpSocket; 2]) {
    let sockets = [(); 2].map(|()| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseport(true).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        socket
    });
    let addresses = sockets
        .each_ref()
        .map(|socket| socket.local_addr().unwrap());
    (addresses, sockets)
}

#[tokio::test]
async fn clients_of_all_shards_reach_each_other_through_one_router() {
    let around = Surroundings::start().await;
    around
        .put(&ServiceParameter {
            service: "xmpp-router".into(),
            name: "SessionsPerUser".into(),
            value: CLIENTS.to_string(),
        })
        .await;
    let context = service::Context::new("xmpp-router", around.paths().clone());
    let router = (
        context.clone(),
        tokio::spawn(router::serve(context.clone())),
    );
    let context = service::Context::new("xmpp-connection-manager", around.paths().clone());
    let manager = Manager {
        context: context.clone(),
        domain: super::DOMAIN.into(),
        tls: Tls::load(context.paths().etc()).unwrap(),
        settings: Settings::default(),
        counters: Counters::new(context.perf()),
        admission: Admission::default(),
    };
    let ([starttls, direct], reserved) = reserve();
    let started = Arc::new(AtomicUsize::new(0));
    let count = started.clone();
    let listeners = move || -> anyhow::Result<Listeners> {
        let listeners = [(listen(starttls)?, false), (listen(direct)?, true)];
        count.fetch_add(1, Ordering::SeqCst);
        Ok(listeners)
    };
    let task = tokio::spawn(manager.run(SHARDS, listeners));
    let ready = async {
        while started.load(Ordering::SeqCst) < SHARDS || !context.is_ready() {
            tokio::task::yield_now().await;
        }
    };
    within(ready).await;

    let place = Place {
        direct,
        certificate: around.certificate.clone(),
    };
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        // A shard's link may come up a moment after the first one's; its
        // clients are then asked to come again.
        let mut client = within(async {
            loop {
                let socket = TcpStream::connect(direct).await.unwrap();
                let mut client = Client::over(tls(&place, socket, rustls::DEFAULT_VERSIONS).await);
                client.send(OPEN).await;
                client.open().await;
                if !client.element().await.contains("mechanism") {
                    continue;
                }
                if client.scram(Hash::Sha256, "pencil", None).await.is_ok() {
                    break client;
                }
            }
        })
        .await;
        client.restart().await;
        client
            .send(&format!(
                "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
                 <resource>r{number}</resource></bind></iq>"
            ))
            .await;
        let bound = client.element().await;
        assert!(bound.contains("<jid>"), "{bound}");
        clients.push(client);
    }
    // Everybody writes to everybody: whichever shards they are on.
    for (from, client) in clients.iter_mut().enumerate() {
        for to in 0..CLIENTS {
            let message = format!(
                "<message to='alice@example.com/r{to}' id='{from}'><body>hi</body></message>"
            );
            client.send(&message).await;
        }
    }
    for client in &mut clients {
        let mut from = Vec::new();
        for _ in 0..CLIENTS {
            let message = client.element().await;
            let message = xmpp::Element::parse(message.as_bytes()).unwrap();
            let id = message.attribute("id").unwrap();
            assert_eq!(
                message.attribute("from").unwrap(),
                format!("alice@example.com/r{id}")
            );
            from.push(id.parse::<usize>().unwrap());
        }
        from.sort_unstable();
        assert_eq!(from, (0..CLIENTS).collect::<Vec<_>>());
    }

    context.stop();
    within(task).await.unwrap().unwrap();
    drop(reserved);
    router.0.stop();
    within(router.1).await.unwrap().unwrap();
    around.stop().await;
}
