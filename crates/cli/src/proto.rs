//! The generated interface, and lines in its form.
#![allow(missing_docs, unreachable_pub, clippy::all)]

use crate::words;

tonic::include_proto!("signalbox.administration");

/// Largest message either way: a file to import, a log.
pub(crate) const LARGEST_MESSAGE: usize = 72 << 20;

impl Line {
    pub(crate) fn new(line: &words::Line, origin: &str) -> Self {
        let words = line.words.iter().map(|word| Word {
            text: word.text.clone(),
            quoted: word.quoted,
        });
        Self {
            words: words.collect(),
            open: line.open,
            quote: line.quote.map(String::from).unwrap_or_default(),
            origin: origin.into(),
        }
    }
}

impl From<Line> for words::Line {
    fn from(line: Line) -> Self {
        let words = line.words.into_iter().map(|word| words::Word {
            text: word.text,
            quoted: word.quoted,
        });
        Self {
            words: words.collect(),
            open: line.open,
            quote: line.quote.chars().next(),
        }
    }
}
