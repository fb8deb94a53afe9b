//! Both sides over a real socket.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use xcp::{Event, Frame, Link, LinkDown, Listener, Outbox, RouterEvent, ToComponent, ToRouter};

fn socket(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("router.sock")
}

async fn up(link: &mut Link) -> (Outbox, u64) {
    match link.next().await {
        Event::Up { out, instance, .. } => (out, instance),
        other => panic!("expected Up, got {other:?}"),
    }
}

fn element(number: u64) -> ToRouter {
    ToRouter::Element {
        connection: 1,
        element: Bytes::from(format!("<message id='{number}'/>")),
    }
}

#[tokio::test]
async fn a_link_outlives_its_router_and_frames_keep_their_order() {
    let folder = tempfile::tempdir().unwrap();
    // The component may be there first.
    let mut link = Link::open(&socket(&folder), "test", 5);
    let mut listener = Listener::bind(&socket(&folder), 1, "example.com").unwrap();
    let (out, instance) = up(&mut link).await;
    assert_eq!(instance, 1);
    let RouterEvent::Up {
        component,
        instance,
        out: to_component,
        ..
    } = listener.next().await
    else {
        panic!("expected Up");
    };
    assert_eq!((component.as_str(), instance), ("test", 5));
    for number in 0..1000 {
        out.send(&element(number)).await.unwrap();
    }
    let mut got = Vec::new();
    while got.len() < 1000 {
        match listener.next().await {
            RouterEvent::Frames { frames, .. } => got.extend(frames),
            other => panic!("{other:?}"),
        }
    }
    assert!(got.iter().cloned().eq((0..1000).map(element)));
    to_component
        .push(&ToComponent::Mark {
            connection: 1,
            token: 9,
        })
        .unwrap();
    let Event::Frames(frames) = link.next().await else {
        panic!("expected frames");
    };
    assert_eq!(frames.len(), 1);

    // The router dies and comes back: the old outbox stays dead.
    drop(listener);
    assert!(matches!(link.next().await, Event::Down));
    assert_eq!(out.send(&element(0)).await, Err(LinkDown));
    let mut listener = Listener::bind(&socket(&folder), 2, "example.com").unwrap();
    let (_, instance) = up(&mut link).await;
    assert_eq!(instance, 2);

    // The component dies: its link goes down.
    drop(link);
    loop {
        match listener.next().await {
            RouterEvent::Up { .. } => {}
            RouterEvent::Down { .. } => break,
            other => panic!("{other:?}"),
        }
    }
}

/// Sends frames as a faulty component would; the router closes the link.
async fn refused(frames: &[ToRouter]) {
    let folder = tempfile::tempdir().unwrap();
    let _listener = Listener::bind(&socket(&folder), 1, "example.com").unwrap();
    let mut stream = UnixStream::connect(socket(&folder)).await.unwrap();
    let mut wire = BytesMut::new();
    for frame in frames {
        frame.encode(&mut wire);
    }
    stream.write_all(&wire).await.unwrap();
    // Reading to the end ends only because the other side closes.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn frames_out_of_turn_close_the_link() {
    let hello = |version| ToRouter::Hello {
        version,
        component: "test".into(),
        instance: 1,
    };
    refused(&[element(1)]).await;
    refused(&[hello(xcp::VERSION + 1)]).await;
    refused(&[hello(xcp::VERSION), hello(xcp::VERSION)]).await;
}

#[tokio::test]
async fn a_sender_waits_while_the_other_side_does_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut link = Link::open(&socket(&folder), "test", 5);
    let mut listener = Listener::bind(&socket(&folder), 1, "example.com").unwrap();
    let (out, _) = up(&mut link).await;
    let big = ToRouter::Element {
        connection: 1,
        element: Bytes::from(vec![b'x'; 512 << 10]),
    };
    // Nobody takes events from the listener, so the queues fill up and a send
    // has to wait: polling it once more does not end it.
    let mut sent = 0;
    loop {
        let send = out.send(&big);
        tokio::pin!(send);
        let mut settled = false;
        for _ in 0..2000 {
            let once = std::future::poll_fn(|cx| std::task::Poll::Ready(send.as_mut().poll(cx)));
            if once.await.is_ready() {
                settled = true;
                break;
            }
            tokio::task::yield_now().await;
        }
        if !settled {
            break;
        }
        sent += 1;
        assert!(sent < 1000, "nothing ever held the sender back");
    }
    // Reading lets it go on.
    let reader = tokio::spawn(async move {
        let mut seen = 0;
        while seen < sent {
            if let RouterEvent::Frames { frames, .. } = listener.next().await {
                seen += frames.len();
            }
        }
    });
    out.has_room().await.unwrap();
    reader.await.unwrap();
}
