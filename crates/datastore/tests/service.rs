//! The service, its owners and its readers over a real socket.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use bytes::Bytes;
use datastore::{Owner, Reader, Watch, WatchEvent};
use service::{Context, Paths};

const ID: &str = "presence-datastore";

/// A store on a runtime of its own, whose end takes the connections along as
/// the death of a process does.
struct Running(Option<tokio::runtime::Runtime>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn start(paths: &Paths) -> Running {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let context = Context::new(ID, paths.clone());
    runtime.spawn(datastore::serve(context));
    Running(Some(runtime))
}

/// Sends everything an owner has, when the store wants it.
async fn fill(owner: &Owner, rows: &[(&str, &'static str)]) {
    owner.wanted().await;
    for (key, value) in rows {
        owner.put(key, Bytes::from_static(value.as_bytes()), None);
    }
    owner.synced();
}

/// Follows a watch until the picture is the wanted one.
async fn until(watch: &mut Watch, wanted: &[(&str, &str)]) {
    let mut seen = std::collections::BTreeMap::new();
    loop {
        match watch.next().await {
            WatchEvent::Reset => seen.clear(),
            WatchEvent::Put(row) => {
                seen.insert(row.key, row.value);
            }
            WatchEvent::Gone(row) => {
                seen.remove(&row.key);
            }
            WatchEvent::Complete => {
                // The row of a self-test may be among them for a moment; its value is no text.
                let text = |value| String::from_utf8_lossy(value).into_owned();
                let now: Vec<_> = seen
                    .iter()
                    .map(|(key, value)| (key.as_str(), text(value)))
                    .collect();
                let now: Vec<_> = now
                    .iter()
                    .map(|(key, value)| (*key, value.as_str()))
                    .collect();
                if now == wanted {
                    return;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_store_that_was_restarted_is_filled_again() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::below(folder.path());
    let socket = paths.datastore_socket(ID);
    let running = start(&paths);
    let owner = Owner::start(&socket, "node1/router", 1);
    let reader = Reader::connect(&socket);
    let mut watch = reader.watch("");
    fill(&owner, &[("a", "1"), ("b", "2")]).await;
    until(&mut watch, &[("a", "1"), ("b", "2")]).await;
    owner.put("c", Bytes::from_static(b"3"), None);
    owner.delete("a");
    let mut again = reader.watch("");
    until(&mut again, &[("b", "2"), ("c", "3")]).await;
    assert!(reader.self_test().await.unwrap().passed);
    assert_eq!(reader.get("c").await.unwrap()[0].value, "3");
    assert_eq!(reader.list("").await.unwrap().len(), 2);
    let stats = reader.stats().await.unwrap();
    assert_eq!(stats.rows, 2);

    drop(running);
    let _running = start(&paths);
    fill(&owner, &[("b", "2"), ("c", "3")]).await;
    until(&mut watch, &[("b", "2"), ("c", "3")]).await;
}

#[tokio::test]
async fn an_owners_older_incarnation_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::below(folder.path());
    let socket = paths.datastore_socket(ID);
    let _running = start(&paths);
    let new = Owner::start(&socket, "node1/router", 2);
    fill(&new, &[("a", "new")]).await;
    let mut watch = Reader::connect(&socket).watch("");
    until(&mut watch, &[("a", "new")]).await;
    let old = Owner::start(&socket, "node1/router", 1);
    tokio::select! {
        () = old.wanted() => panic!("an older incarnation was let in"),
        () = async { while !old.is_over() { tokio::task::yield_now().await; } } => {}
    }
    // A new epoch replaces what the old one left, once it has sent everything.
    let newer = Owner::start(&socket, "node1/router", 3);
    fill(&newer, &[("b", "newer")]).await;
    until(&mut watch, &[("b", "newer")]).await;
}
