//! What a service says when it refuses.

use std::error::Error as StdError;

/// A refusal of an HTTP service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The service's own word for it; empty where it gave none, as to HEAD.
    pub(super) code: String,
    pub(super) message: String,
}

impl Answer {
    /// Finds the refusal behind an error. object_store keeps its `RequestError` to itself, so
    /// its text is read; the tests against a real server notice when that changes.
    pub(super) fn find(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            if let Some(rest) = text.strip_prefix("Server returned non-2xx status code: ") {
                return Self::parse(rest);
            }
            if let Some(body) = text.strip_prefix("Server returned error response: ") {
                // An error inside an answer that began with 200; object_store tried again.
                return Self::parse(&format!("500 Internal Server Error: {body}"));
            }
            if text.starts_with("Received redirect without LOCATION") {
                return Some(Self {
                    status: 301,
                    code: String::new(),
                    message: String::new(),
                });
            }
            next = error.source();
        }
        None
    }

    /// Reads `403 Forbidden: <body>`, where the body is XML of S3 or Azure or JSON of Google.
    fn parse(text: &str) -> Option<Self> {
        let status: u16 = text.get(..3)?.parse().ok()?;
        let body = text.split_once(": ").map_or("", |(_, body)| body);
        let mut code = between(body, "<Code>", "</Code>").unwrap_or_default();
        let message = between(body, "<Message>", "</Message>")
            .or_else(|| between(body, "\"message\": \"", "\""))
            .unwrap_or_default();
        if code.is_empty() && body.contains("The specified bucket does not exist") {
            code = "NoSuchBucket".to_owned();
        }
        if code.is_empty() && !message.is_empty() {
            code = status.to_string();
        }
        Some(Self {
            status,
            code,
            message,
        })
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let own_code = !self.code.is_empty() && self.code != self.status.to_string();
        match (own_code, self.message.is_empty()) {
            (true, false) => write!(formatter, "{} ({})", self.message, self.code),
            (false, false) => formatter.write_str(&self.message),
            (true, true) => formatter.write_str(&self.code),
            (false, true) => write!(formatter, "HTTP status {}", self.status),
        }
    }
}

fn between(text: &str, begin: &str, end: &str) -> Option<String> {
    let start = text.find(begin)? + begin.len();
    let len = text[start..].find(end)?;
    Some(text[start..start + len].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let check = |text: &str, status: u16, code: &str, shown: &str| {
            let answer = Answer::parse(text).unwrap();
            assert_eq!(
                (answer.status, answer.code.as_str()),
                (status, code),
                "{text}"
            );
            assert_eq!(answer.to_string(), shown, "{text}");
        };
        check("404 Not Found: ", 404, "", "HTTP status 404");
        check(
            "403 Forbidden: <?xml version=\"1.0\"?><Error><Code>InvalidAccessKeyId</Code>\
             <Message>The key does not exist.</Message></Error>",
            403,
            "InvalidAccessKeyId",
            "The key does not exist. (InvalidAccessKeyId)",
        );
        check(
            "404 Not Found: {\"error\": {\"code\": 404, \"message\": \
             \"The specified bucket does not exist.\"}}",
            404,
            "NoSuchBucket",
            "The specified bucket does not exist. (NoSuchBucket)",
        );
        assert_eq!(Answer::parse("no status"), None);
    }
}
