//! The syntax of unit files: sections, assignments, comments, continuations.

/// One assignment of a unit file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Line number, from 1.
    pub number: usize,
    /// Section, without its brackets.
    pub section: String,
    /// Key.
    pub key: String,
    /// Value, with continuation lines joined by a space.
    pub value: String,
}

/// A parsed unit file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Every assignment, in order.
    pub lines: Vec<Line>,
    /// Line and name of each section, in order.
    pub sections: Vec<(usize, String)>,
}

impl Unit {
    /// Parses the text of a unit file. An error is a line number with the
    /// reason.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut unit = Self::default();
        let mut section = String::new();
        let mut lines = text.lines().enumerate();
        while let Some((index, first)) = lines.next() {
            let number = index + 1;
            let line = first.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(rest) = line.strip_prefix('[') {
                let Some(name) = rest.strip_suffix(']') else {
                    return Err((number, "a section header ends with \"]\"".into()));
                };
                name.clone_into(&mut section);
                unit.sections.push((number, section.clone()));
                continue;
            }
            if section.is_empty() {
                return Err((
                    number,
                    "an assignment stands before the first section".into(),
                ));
            }
            let mut whole = line.to_owned();
            while whole.ends_with('\\') {
                whole.truncate(whole.trim_end_matches('\\').trim_end().len());
                // Comments inside a continued line are skipped, as systemd does.
                let next = lines.find(|(_, next)| !next.trim_start().starts_with(['#', ';']));
                let Some((_, next)) = next else { break };
                whole.push(' ');
                whole.push_str(next.trim());
            }
            let Some((key, value)) = whole.split_once('=') else {
                return Err((number, format!("\"{whole}\" is not of the form Key=value")));
            };
            unit.lines.push(Line {
                number,
                section: section.clone(),
                key: key.trim().into(),
                value: value.trim().into(),
            });
        }
        Ok(unit)
    }

    /// Line of a section's header, when the unit has that section.
    pub fn section(&self, name: &str) -> Option<usize> {
        self.sections
            .iter()
            .find(|(_, found)| found == name)
            .map(|(number, _)| *number)
    }

    /// The assignments of one section.
    pub fn of<'a>(&'a self, section: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines
            .iter()
            .filter(move |line| line.section == section)
    }

    /// The last value of a key.
    pub fn value(&self, section: &str, key: &str) -> Option<&str> {
        self.lines
            .iter()
            .rfind(|line| line.section == section && line.key == key)
            .map(|line| line.value.as_str())
    }

    /// All words of a key that adds up over its lines; an empty assignment
    /// begins anew.
    pub fn words(&self, section: &str, key: &str) -> Vec<&str> {
        let mut words = Vec::new();
        let assigned = |line: &&Line| line.section == section && line.key == key;
        for line in self.lines.iter().filter(assigned) {
            if line.value.is_empty() {
                words.clear();
            }
            words.extend(line.value.split_whitespace());
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_continuations_and_resets_are_read_as_systemd_does() {
        let unit = Unit::parse(
            "# c\n[Unit]\nAfter=a.service \\\n# inside\n  b.service\n; c\nAfter=c.service\n\
             [Service]\nX=1\nX=\nX=2 3\n",
        )
        .unwrap();
        assert_eq!(
            unit.words("Unit", "After"),
            ["a.service", "b.service", "c.service"]
        );
        assert_eq!(unit.words("Service", "X"), ["2", "3"]);
        assert_eq!(unit.value("Service", "X"), Some("2 3"));
        assert_eq!(unit.section("Service"), Some(8));
    }

    #[test]
    fn a_wrong_line_is_named() {
        assert_eq!(Unit::parse("[Unit]\n\nnonsense\n").unwrap_err().0, 3);
        assert_eq!(Unit::parse("A=b\n").unwrap_err().0, 1);
        assert_eq!(Unit::parse("[Unit\n").unwrap_err().0, 1);
    }
}
