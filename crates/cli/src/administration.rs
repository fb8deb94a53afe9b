//! The service that carries out administrators' commands.
//!
//! An administrator's own process is no more than a terminal. The line is
//! parsed, its level checked and its work done and audited here, by a user of
//! its own: no process of an administrator opens the database's socket or the
//! supervisor's.

use operations::{Access, Caller, Operations};
use service::{Context, uds};
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status, Streaming};

use crate::caller::caller;
use crate::proto::administration_server::{Administration, AdministrationServer};
use crate::proto::from_terminal::Message as From;
use crate::proto::to_terminal::Message as To;
use crate::proto::{Ask, FromTerminal, LARGEST_MESSAGE, Read, ToTerminal};
use crate::run::{Surroundings, run};
use crate::session::Terminal;

/// Runs the service until it is told to stop.
pub async fn serve(context: Context) -> anyhow::Result<()> {
    let operations = Operations::live(context.paths().clone(), Access::Administration);
    let socket = context.paths().administration_socket();
    let listener = uds::listen(&socket)?;
    // Open to everybody: the level of who connects decides, and who has none
    // is told so.
    uds::open_to_all(&socket)?;
    let heartbeat = context.heartbeat("administration");
    let stop = context.stop_token().clone();
    let server = AdministrationServer::new(Server {
        operations,
        identify: caller,
    })
    .max_decoding_message_size(LARGEST_MESSAGE)
    .max_encoding_message_size(LARGEST_MESSAGE);
    let serving = tonic::transport::Server::builder()
        .add_service(server)
        .serve_with_incoming(uds::incoming(listener));
    tokio::pin!(serving);
    context.ready("Serves administrators.");
    let mut clock = tokio::time::interval(std::time::Duration::from_secs(2));
    loop {
        tokio::select! {
            // Commands that run are not waited for: what they began goes on in
            // the services, and some of them wait for this stop.
            () = stop.cancelled() => return Ok(()),
            ended = &mut serving => return Ok(ended?),
            _ = clock.tick() => heartbeat.tick(),
        }
    }
}

/// Who has that user id, given where they say that they signed in from.
type Identify = fn(u32, &str) -> Result<Caller, String>;

struct Server {
    operations: Operations,
    identify: Identify,
}

#[tonic::async_trait]
impl Administration for Server {
    type RunStream = UnboundedReceiverStream<Result<ToTerminal, Status>>;

    async fn run(
        &self,
        request: Request<Streaming<FromTerminal>>,
    ) -> Result<Response<Self::RunStream>, Status> {
        let peer = request
            .extensions()
            .get::<UdsConnectInfo>()
            .and_then(|info| info.peer_cred)
            .ok_or_else(|| Status::permission_denied("the caller is unknown"))?;
        // Before anything of theirs is read.
        (self.identify)(peer.uid(), "").map_err(Status::permission_denied)?;
        let mut input = request.into_inner();
        let first = input.message().await?.and_then(|first| first.message);
        let Some(From::Line(line)) = first else {
            return Err(Status::invalid_argument("a line must come first"));
        };
        let caller = (self.identify)(peer.uid(), &line.origin);
        let caller = caller.map_err(Status::permission_denied)?;
        let line = line.into();
        let (out, replies) = mpsc::unbounded_channel();
        let (answers, answered) = mpsc::channel(1);
        let operations = self.operations.clone();
        let interrupted = CancellationToken::new();
        tokio::spawn(listen(input, answers, interrupted.clone()));
        tokio::spawn(async move {
            let terminal = Remote {
                out,
                answered: Mutex::new(answered),
            };
            let surroundings = Surroundings {
                operations: &operations,
                caller: &caller,
                terminal: &terminal,
            };
            let status = run(surroundings, &line, interrupted.cancelled()).await;
            terminal.tell(To::Done(status.into()));
        });
        Ok(Response::new(UnboundedReceiverStream::new(replies)))
    }
}

/// Takes what the terminal sends until it hangs up, which interrupts what
/// still runs.
async fn listen(
    mut input: Streaming<FromTerminal>,
    answers: mpsc::Sender<From>,
    interrupted: CancellationToken,
) {
    while let Ok(Some(message)) = input.message().await {
        let Some(answer @ (From::Answer(_) | From::Content(_))) = message.message else {
            break;
        };
        if answers.send(answer).await.is_err() {
            break;
        }
    }
    interrupted.cancel();
}

/// The administrator's terminal, at the other end of the socket.
struct Remote {
    out: mpsc::UnboundedSender<Result<ToTerminal, Status>>,
    answered: Mutex<mpsc::Receiver<From>>,
}

impl Remote {
    /// A terminal that is gone interrupts the command by itself.
    fn tell(&self, message: To) {
        let message = Some(message);
        let _ = self.out.send(Ok(ToTerminal { message }));
    }

    async fn question(&self, message: To) -> Option<From> {
        let mut answered = self.answered.lock().await;
        self.tell(message);
        answered.recv().await
    }

    async fn text(&self, prompt: &str, hidden: bool) -> Option<String> {
        let prompt = prompt.into();
        match self.question(To::Ask(Ask { prompt, hidden })).await {
            Some(From::Answer(answer)) => answer.text,
            _ => None,
        }
    }
}

#[tonic::async_trait]
impl Terminal for Remote {
    fn show(&self, text: &str) {
        self.tell(To::Show(text.into()));
    }

    fn page(&self, text: &str) {
        self.tell(To::Page(text.into()));
    }

    fn set_pagination(&self, on: bool) {
        self.tell(To::Pagination(on));
    }

    async fn ask(&self, prompt: &str) -> Option<String> {
        self.text(prompt, false).await
    }

    async fn ask_secret(&self, prompt: &str) -> Option<String> {
        self.text(prompt, true).await
    }

    async fn read(&self, path: &str, limit: u64) -> std::io::Result<Vec<u8>> {
        let path = path.into();
        match self.question(To::Read(Read { path, limit })).await {
            Some(From::Content(content)) if content.error.is_empty() => Ok(content.data),
            Some(From::Content(content)) => Err(std::io::Error::other(content.error)),
            _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests;
