//! Following a log: its last lines, then each line as it is written.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};

use super::journal::text;
use super::{READ_LIMIT, broken, lines, open_log};
use crate::error::{Error, Result};

/// How often a file is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// A longer line is told in pieces.
const LONGEST_LINE: usize = 64 << 10;

/// Tells the last lines of the file that the components name below `root`, and
/// what is appended to it. A file that is replaced or cut short, as logs are
/// when they are rotated, is followed from its new beginning. Ends only with
/// an error.
pub(super) async fn file(
    root: &Path,
    parts: &[&str],
    path: &str,
    last: usize,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<()> {
    let open = || open_log(root, parts, path);
    let mut file = open()?;
    let identity = |file: &File| file.metadata().map(|data| (data.ino(), data.len()));
    let (mut inode, length) = identity(&file).map_err(|error| broken(path, &error))?;
    let mut position = length.saturating_sub(READ_LIMIT);
    let mut rest = Vec::new();
    let mut first = Some(last);
    let mut clock = tokio::time::interval(LOOK);
    loop {
        clock.tick().await;
        let mut bytes = Vec::new();
        let read = file
            .seek(SeekFrom::Start(position))
            .and_then(|_| (&file).take(READ_LIMIT).read_to_end(&mut bytes));
        position += read.map_err(|error| broken(path, &error))? as u64;
        rest.extend(bytes);
        let complete = complete(&mut rest);
        let skipped = first.is_some() && length > READ_LIMIT;
        for line in lines(&complete, first.take(), skipped).lines {
            tell(&line);
        }
        // While a rotation is under way there may be no file.
        let Ok(there) = open() else { continue };
        let (now, length) = identity(&there).map_err(|error| broken(path, &error))?;
        if now != inode {
            (file, inode, position) = (there, now, 0);
        } else if length < position {
            position = 0;
        }
    }
}

/// Takes the whole lines, or a line that is too long to wait for its end.
fn complete(rest: &mut Vec<u8>) -> Vec<u8> {
    let end = rest.iter().rposition(|byte| *byte == b'\n');
    let end = end.map_or(0, |last| last + 1);
    let end = if rest.len() - end > LONGEST_LINE {
        rest.len()
    } else {
        end
    };
    rest.drain(..end).collect()
}

/// Tells what journalctl, told to follow by its arguments, writes. Ends only
/// with an error.
pub(super) async fn journal(arguments: Vec<String>, tell: &(dyn Fn(&str) + Sync)) -> Result<()> {
    let unreadable = |error| Error::failed(format!("the journal cannot be read: {error}"));
    let mut child = tokio::process::Command::new("/usr/bin/journalctl")
        .arg("--follow")
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(unreadable)?;
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = Vec::new();
    while output
        .read_until(b'\n', &mut line)
        .await
        .map_err(unreadable)?
        > 0
    {
        if let Some(text) = text(&line) {
            tell(&text);
        }
        line.clear();
    }
    let status = child.wait().await.map_err(unreadable)?;
    Err(Error::failed(format!(
        "the journal cannot be read: journalctl ended ({status})"
    )))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_appended_is_told_also_after_a_rotation() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("log");
        let folder = root.path().to_owned();
        fs::write(&path, "one\ntwo\nthree\nhal").unwrap();
        let (told, mut lines) = mpsc::unbounded_channel();
        let following = tokio::spawn(async move {
            let tell = move |line: &str| told.send(line.to_owned()).unwrap();
            file(&folder, &["log"], "log", 2, &tell).await
        });
        assert_eq!(lines.recv().await.unwrap(), "two");
        assert_eq!(lines.recv().await.unwrap(), "three");
        let mut log = fs::OpenOptions::new().append(true).open(&path).unwrap();
        log.write_all(b"f\nbell \x07\n").unwrap();
        assert_eq!(lines.recv().await.unwrap(), "half");
        assert_eq!(lines.recv().await.unwrap(), "bell \u{fffd}");
        fs::rename(&path, root.path().join("log.1")).unwrap();
        tokio::time::sleep(LOOK * 2).await;
        fs::write(&path, "anew\n").unwrap();
        assert_eq!(lines.recv().await.unwrap(), "anew");
        fs::write(&path, "x\n").unwrap();
        assert_eq!(lines.recv().await.unwrap(), "x");
        assert!(!following.is_finished());
        following.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_there_is_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let none = |_: &str| panic!("there are no lines");
        let ended = file(root.path(), &["log"], "log", 2, &none).await;
        assert_eq!(ended.unwrap_err().kind, crate::Kind::NotFound);
    }

    #[test]
    fn a_line_without_end_is_told_in_pieces() {
        let mut rest = vec![b'x'; LONGEST_LINE];
        assert!(complete(&mut rest).is_empty());
        rest.push(b'x');
        assert_eq!(complete(&mut rest).len(), LONGEST_LINE + 1);
        assert!(rest.is_empty());
    }
}
