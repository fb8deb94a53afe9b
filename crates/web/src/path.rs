//! Paths: there is one way to write each, and every other way is refused
//! before anything decides by the path.

/// Whether a path of a request is in its only form: no empty or dot segments,
/// nothing encoded that need not be, nothing encoded that separates or ends
/// (`/`, `\`, `%`, NUL), no path parameters.
pub(crate) fn is_canonical(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    if rest.is_empty() {
        return true;
    }
    rest.split('/').all(is_segment)
}

fn is_segment(segment: &str) -> bool {
    if matches!(segment, "" | "." | "..") {
        return false;
    }
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(hex);
                let (Some(high), Some(low)) = (digit(), digit()) else {
                    return false;
                };
                let byte = high << 4 | low;
                let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
                if plain || byte < 0x20 || byte == 0x7f || b"/\\%;".contains(&byte) {
                    return false;
                }
            }
            b'\\' | b';' => return false,
            byte if byte <= b' ' || byte >= 0x7f => return false,
            _ => {}
        }
    }
    true
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_plain_form_of_a_path_is_taken() {
        for path in [
            "/",
            "/login",
            "/api/v1/status",
            "/static/style.css",
            "/a%20b",
            "/%C3%BC",
        ] {
            assert!(is_canonical(path), "{path}");
        }
        for path in [
            "",
            "login",
            "//login",
            "/login/",
            "/static/../login",
            "/./login",
            "/static/%2e%2e/login",
            "/static/%2E./login",
            "/%u002e%u002e/login",
            "/static/..%2flogin",
            "/static%2f..",
            "/..%5c",
            "/a\\b",
            "/%61pi/v1/status",
            "/api;x=1/v1/status",
            "/login%00",
            "/login%0a",
            "/%252e%252e/",
            "/%",
            "/%4",
            "/setup/setup-s/%u002e%u002e/%u002e%u002e/log.jsp",
        ] {
            assert!(!is_canonical(path), "{path}");
        }
    }
}
