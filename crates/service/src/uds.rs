//! gRPC over Unix sockets: how the services of one node reach each other.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::{Channel, Endpoint, Uri};

/// Binds a listening socket for its owner and its group (mode 0660), in place
/// of one that a dead process left behind. Makes the folder when it is missing.
///
/// The group is the process's, or that of the folder where the folder has the
/// set-group-id bit. A service in a user namespace could not give its socket
/// away to a group of others, so that its folder does.
pub fn listen(path: &Path) -> std::io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Lets everybody connect to a socket: for a service that decides by who its
/// caller is.
pub fn open_to_all(path: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))
}

/// Connections of a listener, as `tonic`'s `serve_with_incoming` takes them.
pub fn incoming(listener: UnixListener) -> tokio_stream::wrappers::UnixListenerStream {
    tokio_stream::wrappers::UnixListenerStream::new(listener)
}

/// A channel to a socket. It connects at first use and again whenever the
/// other side was restarted, so it may be made before the server is there.
pub fn connect(path: &Path) -> Channel {
    let path: PathBuf = path.into();
    // The address is never resolved: the connector below ignores it.
    Endpoint::from_static("http://unix.invalid")
        .connect_timeout(Duration::from_secs(5))
        .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
}
