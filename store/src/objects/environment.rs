//! The environment variables a storage is opened with, as a value.

use std::collections::BTreeMap;
use std::fmt;

/// Environment variables by name. Passed in, since a library never reads those of its process.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(pub BTreeMap<String, String>);

/// The prefix of the names that hold for snapshot_path only.
const SNAPSHOT_PREFIX: &str = "SNAPSHOT_";

impl Environment {
    /// A variable that is set. One that is set to nothing counts as unset, as in the clouds' own
    /// tools.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// True when the variable holds one of the words for yes that object_store knows.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| {
            matches!(
                value.to_ascii_lowercase().as_str(),
                "1" | "true" | "on" | "yes" | "y"
            )
        })
    }

    /// All variables that are set and whose names begin with `prefix`.
    pub fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .filter(move |(name, value)| name.starts_with(prefix) && !value.is_empty())
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The environment of snapshot_path: `SNAPSHOT_X` stands in place of `X`, also where it is
    /// set to nothing. `credentials` go together: where one has a `SNAPSHOT_` name, none is
    /// taken from the plain names, or the session token of one account would go with the key
    /// of another.
    pub fn for_snapshot_path(&self, credentials: &[&str]) -> Self {
        let own = |name: &str| self.0.contains_key(&format!("{SNAPSHOT_PREFIX}{name}"));
        let own_credentials = credentials.iter().any(|name| own(name));
        let mut variables = self.0.clone();
        if own_credentials {
            variables.retain(|name, _| !credentials.contains(&name.as_str()));
        }
        for (name, value) in &self.0 {
            if let Some(plain) = name.strip_prefix(SNAPSHOT_PREFIX) {
                variables.insert(plain.to_owned(), value.clone());
            }
        }
        Self(variables)
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

/// Names only: the values hold secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &[&str] = &["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"];

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_snapshot_name_wins_and_the_rest_serves_both() {
        let merged = environment(&[
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ENDPOINT_URL", "https://one"),
            ("SNAPSHOT_AWS_ENDPOINT_URL", "https://two"),
        ])
        .for_snapshot_path(CREDENTIALS);
        assert_eq!(merged.get("AWS_REGION"), Some("eu-west-1"));
        assert_eq!(merged.get("AWS_ENDPOINT_URL"), Some("https://two"));
    }

    #[test]
    fn an_empty_snapshot_name_takes_the_plain_one_away() {
        let merged = environment(&[
            ("AWS_ENDPOINT_URL", "https://one"),
            ("SNAPSHOT_AWS_ENDPOINT_URL", ""),
        ])
        .for_snapshot_path(CREDENTIALS);
        assert_eq!(merged.get("AWS_ENDPOINT_URL"), None);
    }

    #[test]
    fn credentials_are_never_mixed() {
        let merged = environment(&[
            ("AWS_ACCESS_KEY_ID", "plain"),
            ("AWS_SESSION_TOKEN", "plain"),
            ("SNAPSHOT_AWS_ACCESS_KEY_ID", "own"),
        ])
        .for_snapshot_path(CREDENTIALS);
        assert_eq!(merged.get("AWS_ACCESS_KEY_ID"), Some("own"));
        assert_eq!(merged.get("AWS_SESSION_TOKEN"), None);
    }

    #[test]
    fn debug_output_shows_no_values() {
        let text = format!("{:?}", environment(&[("AWS_SECRET_ACCESS_KEY", "hush")]));
        assert!(
            text.contains("AWS_SECRET_ACCESS_KEY") && !text.contains("hush"),
            "{text}"
        );
    }
}
