//! The administrator's end: a terminal for the service that does the work.

use std::sync::{Mutex, PoisonError};

use operations::{Error, Kind};
use service::{Paths, uds};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::commands::TREE;
use crate::proto::administration_client::AdministrationClient;
use crate::proto::from_terminal::Message as To;
use crate::proto::to_terminal::Message as From;
use crate::proto::{self, Answer, Content, FromTerminal, LARGEST_MESSAGE};
use crate::reply::Failure;
use crate::session::Terminal;
use crate::words::{Line, split};

/// The way to the service that carries out commands.
pub(crate) struct Client {
    client: AdministrationClient<Channel>,
    origin: String,
}

impl Client {
    /// Does not wait for the service. `origin` is the address that the
    /// administrator signed in from; empty at the console.
    pub(crate) fn connect(paths: &Paths, origin: String) -> Self {
        let channel = uds::connect(&paths.administration_socket());
        let client = AdministrationClient::new(channel)
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE);
        Self { client, origin }
    }

    /// Has a line carried out at this terminal, and gives the exit status.
    pub(crate) async fn run(
        &self,
        line: &Line,
        terminal: &dyn Terminal,
        interrupted: impl Future<Output = ()>,
    ) -> u8 {
        match self.converse(line, terminal, interrupted).await {
            Ok(status) => status,
            Err(status) => {
                let failure = failure(&status);
                let json = TREE
                    .parse(line)
                    .map_or_else(|usage| usage.json, |parsed| parsed.json);
                let text = if json {
                    failure.json() + "\n"
                } else {
                    failure.text()
                };
                terminal.show(&text);
                failure.status()
            }
        }
    }

    async fn converse(
        &self,
        line: &Line,
        terminal: &dyn Terminal,
        interrupted: impl Future<Output = ()>,
    ) -> Result<u8, Status> {
        let (out, messages) = mpsc::channel(4);
        let send = async |message| {
            let message = Some(message);
            // The service's own end is told by its replies.
            let _ = out.send(FromTerminal { message }).await;
        };
        send(To::Line(proto::Line::new(line, &self.origin))).await;
        let mut client = self.client.clone();
        let mut replies = client
            .run(ReceiverStream::new(messages))
            .await?
            .into_inner();
        tokio::pin!(interrupted);
        let mut stopped = false;
        loop {
            let reply = tokio::select! {
                reply = replies.message() => reply?,
                () = &mut interrupted, if !stopped => {
                    stopped = true;
                    send(To::Interrupt(proto::Interrupt {})).await;
                    continue;
                }
            };
            let Some(reply) = reply else {
                return Err(Status::unavailable("it ended in the middle of the command"));
            };
            match reply.message {
                Some(From::Show(text)) => terminal.show(&text),
                Some(From::Page(text)) => terminal.page(&text),
                Some(From::Pagination(on)) => terminal.set_pagination(on),
                Some(From::Ask(ask)) => {
                    let text = if ask.hidden {
                        terminal.ask_secret(&ask.prompt).await
                    } else {
                        terminal.ask(&ask.prompt).await
                    };
                    send(To::Answer(Answer { text })).await;
                }
                Some(From::Read(read)) => {
                    let content = match terminal.read(&read.path, read.limit).await {
                        Ok(data) => Content {
                            data,
                            error: String::new(),
                        },
                        Err(error) => Content {
                            data: Vec::new(),
                            error: error.to_string(),
                        },
                    };
                    send(To::Content(content)).await;
                }
                Some(From::Done(status)) => return Ok(u8::try_from(status).unwrap_or(1)),
                None => {}
            }
        }
    }

    /// The services' names, for completion; none when they cannot be told.
    pub(crate) async fn services(&self) -> Vec<String> {
        let screen = Screen::default();
        let line = split("utils service list --json");
        self.run(&line, &screen, std::future::pending()).await;
        let text = screen
            .0
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let services = answer["result"]["services"].as_array();
        let names = services.into_iter().flatten();
        names
            .filter_map(|service| service["compat"].as_str().map(str::to_owned))
            .collect()
    }
}

fn failure(status: &Status) -> Failure {
    let error = match status.code() {
        Code::PermissionDenied => Error::new(Kind::Forbidden, status.message()),
        _ => Error::unavailable(format!(
            "the administration service does not answer ({}). It restarts by itself; try again \
             in some seconds",
            status.message()
        )),
    };
    error.into()
}

/// A terminal that nobody sees.
#[derive(Default)]
struct Screen(Mutex<String>);

#[tonic::async_trait]
impl Terminal for Screen {
    fn show(&self, text: &str) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.push_str(text);
    }

    fn page(&self, text: &str) {
        self.show(text);
    }

    fn set_pagination(&self, _: bool) {}

    async fn ask(&self, _: &str) -> Option<String> {
        None
    }

    async fn ask_secret(&self, _: &str) -> Option<String> {
        None
    }

    async fn read(&self, _: &str, _: u64) -> std::io::Result<Vec<u8>> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}
