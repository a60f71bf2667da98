//! What a page shows and what a run says: the same but for what differs from run to run.
//!
//! A page has paths, ports and ids of its own. They are replaced by those of the run in what is
//! typed, and back in what was answered; an id that a page shows stands for the same id all along
//! the page.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// A line of a page that stands for any number of lines.
const ANY: &str = "...";

/// Paths of a page that lie in the place. What stands before them tells them from the middle of
/// a longer path.
static MOVED: LazyLock<Regex> = LazyLock::new(|| {
    let dirs =
        "srv|mnt|root|etc|usr/local/share|home/ann|var/lib/postgresql|(?:var/)?run/postgresql";
    Regex::new(&format!(r#"(^|[\s'"=(:]|file://)(/(?:{dirs})\b)"#)).unwrap()
});

static PORT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b543[2-9]\b").unwrap());
static NEW_HOME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\bzenith( -D \S+)? (init|clone)\b").unwrap());
static ID: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b([0-9a-f]{8})([0-9a-f]{24}|[0-9a-f]{56})?\b").unwrap());
static BUCKET: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"s3://([a-z0-9-]+)").unwrap());

/// What differs from run to run, and what stands for it; the order counts.
static VARIES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r"^\d+ pushed.*", "PUSHED"),
        (
            r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?( [+-]\d\d:\d\d)?",
            "WHEN",
        ),
        (r"\b[0-9A-F]+/[0-9A-F]{5,8}\b", "LSN"),
        (r"PostgreSQL 1\d\.\d+( \([^)]*\))?", "POSTGRESQL"),
        (r"\d[\d.]* (B|KB|MB|GB|TB|MiB|GiB)\b", "SIZE"),
        (r"\d[\d.]* %", "PERCENT"),
        (
            r"\d[\d.]* (µs|ms|s|min|h|days?|weeks?|months?|years?)\b",
            "TIME",
        ),
        (r"\bpid \d+", "pid N"),
        (r"\b[\d,]+ (files|packs?|pages|requests|blobs)\b", "N $1"),
        (r"[\d,]+ / +[\d,]+", "N / N"),
        (r"\+[\d,]+\b", "+N"),
        (r"\d\d:\d\d:\d\d(\.\d+)?( UTC|[+-]\d\d)?", "CLOCK"),
        (r"[█▉▊▋▌▍▎▏]+", "BAR"),
        (r"[-─+]{4,}", "RULE"),
        (r"\s+", " "),
    ]
    .map(|(pattern, stands)| (Regex::new(pattern).unwrap(), stands))
    .into()
});

/// Buckets that a page speaks of.
pub(crate) fn buckets(page: &str) -> Vec<String> {
    BUCKET
        .captures_iter(page)
        .map(|found| found[1].to_owned())
        .collect()
}

/// The names of a page, and what they are in this run.
pub(crate) struct Names {
    /// The directory that stands for `/`.
    pub(crate) root: String,
    host: String,
    user: String,
    ports: BTreeMap<String, String>,
    /// The first eight digits of an id: page and run.
    ids: BTreeMap<String, String>,
}

impl Names {
    /// `port` gives free ports.
    pub(crate) fn new(port: impl Fn() -> u16) -> Names {
        let host = nix::unistd::gethostname().expect("every machine has a name");
        let (uid, _) = zenith_testkit::user::server_user();
        let user = nix::unistd::User::from_uid(uid).expect("the user database can be read");
        Names {
            root: String::new(),
            host: host.to_string_lossy().into_owned(),
            user: user.expect("the server user exists").name,
            ports: (5432..=5439)
                .map(|page: u16| (page.to_string(), port().to_string()))
                .collect(),
            ids: BTreeMap::new(),
        }
    }

    pub(crate) fn port(&self, page: &str) -> u16 {
        self.ports[page].parse().expect("a port")
    }

    /// What to type for a command line of the page.
    pub(crate) fn typed(&self, command: &str) -> String {
        let mut typed = command.to_owned();
        // A home remembers its port, and 5432 is taken where these tests run.
        if !typed.contains("--port") {
            typed = NEW_HOME.replace(&typed, "$0 --port 5432").into_owned();
        }
        typed = PORT
            .replace_all(&typed, |found: &Captures<'_>| &self.ports[&found[0]])
            .into_owned();
        typed = MOVED
            .replace_all(&typed, format!("${{1}}{}$2", self.root))
            .into_owned();
        for (page, run) in &self.ids {
            typed = typed.replace(page, run);
        }
        typed
    }

    /// What the page would show for what was said.
    pub(crate) fn shown(&self, said: &str) -> Vec<String> {
        let mut shown = said.replace(&self.root, "");
        for (page, run) in &self.ports {
            shown = shown.replace(run, page);
        }
        for (page, run) in &self.ids {
            shown = shown.replace(run, page);
        }
        shown = shown
            .replace(&format!("{}@{}", self.user, self.host), "ann@db1")
            .replace(&format!("on {}", self.host), "on db1");
        let mut lines: Vec<String> = shown
            .lines()
            // Whether the agent was at work at this moment is chance.
            .filter(|line| !line.starts_with("waiting for `"))
            .map(|line| line.trim_end().to_owned())
            .collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }

    /// Whether a page may show these lines for those of a run, which [`Names::shown`] gave. Ids
    /// that stand where an unknown one was said are learned.
    pub(crate) fn agree(&mut self, page: &[String], run: &[String]) -> bool {
        let Some((first, rest)) = page.split_first() else {
            return run.is_empty();
        };
        if first.trim() == ANY {
            return (0..=run.len()).any(|skipped| self.agree(rest, &run[skipped..]));
        }
        let Some((said, more)) = run.split_first() else {
            return false;
        };
        if plain(first) != plain(said) {
            return false;
        }
        let before = self.ids.clone();
        let agree = ids(first)
            .zip(ids(said))
            .all(|(page, run)| self.learn(page, run))
            && self.agree(rest, more);
        if !agree {
            self.ids = before;
        }
        agree
    }

    /// From here on `id` stands for the first id in what a command said, if there is one.
    pub(crate) fn stand(&mut self, id: &str, said: &str) -> bool {
        let first = said.lines().flat_map(ids).next();
        first.is_some_and(|run| {
            self.ids.insert(id.to_owned(), run.to_owned());
            true
        })
    }

    /// For an answer that is written anew: ids of the page go on to stand for what stands in their
    /// places now, so that later command lines still name it. Gives whether that is so.
    pub(crate) fn learn_all(&mut self, page: &[String], run: &[String]) -> bool {
        let all = |lines: &[String]| -> Vec<String> {
            let ids = lines.iter().flat_map(|line| ids(line));
            ids.map(str::to_owned).collect()
        };
        let (page, run) = (all(page), all(run));
        let before = self.ids.clone();
        let learned = page.len() == run.len()
            && page
                .iter()
                .zip(&run)
                .all(|(page, run)| self.learn(page, run));
        if !learned {
            self.ids = before;
        }
        learned
    }

    /// Whether an id of a page may stand for this one, which is that of the page already when it
    /// is known.
    fn learn(&mut self, page: &str, run: &str) -> bool {
        if page == run {
            return true;
        }
        let is_known = |id: &str| self.ids.contains_key(id);
        if is_known(page) || is_known(run) || self.ids.values().any(|other| other == run) {
            return false;
        }
        self.ids.insert(page.to_owned(), run.to_owned());
        true
    }
}

/// The first eight digits of every id in a line.
fn ids(line: &str) -> impl Iterator<Item = &str> {
    ID.captures_iter(line)
        .map(|found| found.get(1).expect("it is no option").as_str())
}

/// A line without what varies.
fn plain(line: &str) -> String {
    let mut line = ID.replace_all(line, "ID").into_owned();
    for (pattern, stands) in &*VARIES {
        line = pattern.replace_all(&line, *stands).into_owned();
    }
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut names = Names::new(|| 21_000);
        names.root = "/tmp/zt-x".into();
        names
    }

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn ids_sizes_and_times_vary_and_words_do_not() {
        let page = lines("snapshot 4f1c9a27  38.9 MB, 4.1 MB new (10.5 %), 0.3 s   main");
        let run = lines("snapshot 00c0ffee  39.8 MB, 1.1 MB new (2.8 %), 12.0 s    main");
        let other = lines("snapshot 00c0ffee  39.8 MB, 1.1 MB new (2.8 %), 12.0 s    other");
        assert!(names().agree(&page, &run));
        assert!(!names().agree(&page, &other));
        assert!(!names().agree(&page, &[]));
        assert!(!names().agree(&[], &run));
    }

    #[test]
    fn an_id_of_a_page_stands_for_one_of_the_run() {
        let mut names = names();
        assert!(names.agree(&lines("4f1c9a27 first"), &lines("00c0ffee first")));
        assert_eq!(
            names.typed("zenith tag x 4f1c9a27"),
            "zenith tag x 00c0ffee"
        );
        assert_eq!(names.shown("at 00c0ffee\n"), ["at 4f1c9a27"]);
        // Known by then, so it is shown under its name, and another is not.
        assert!(names.agree(&lines("4f1c9a27"), &lines("4f1c9a27")));
        assert!(!names.agree(&lines("4f1c9a27"), &lines("11111111")));
        assert!(!names.agree(&lines("aaaaaaaa"), &lines("4f1c9a27")));
        // What is written anew does not change what is known.
        assert!(!names.learn_all(&lines("22222222 4f1c9a27"), &lines("33333333 44444444")));
        assert_eq!(names.shown("00c0ffee 33333333"), ["4f1c9a27 33333333"]);
    }

    #[test]
    fn dots_stand_for_any_lines() {
        let run = lines("one\ntwo\nthree");
        for page in [
            "...",
            "one\n...",
            "...\nthree",
            "one\n...\nthree",
            "one\ntwo\n...\nthree",
        ] {
            assert!(names().agree(&lines(page), &run), "{page}");
        }
        assert!(!names().agree(&lines("one\n...\nfour"), &run));
    }

    #[test]
    fn paths_and_ports_are_those_of_the_run() {
        let names = names();
        assert_eq!(
            names.typed("zenith -D /srv/a init --storage-dest file:///srv/b"),
            "zenith -D /tmp/zt-x/srv/a init --port 21000 --storage-dest file:///tmp/zt-x/srv/b"
        );
        assert_eq!(names.typed("pg_ctl -o '-p 5433'"), "pg_ctl -o '-p 21000'");
        assert_eq!(names.shown("in /tmp/zt-x/srv/a\n\n"), ["in /srv/a"]);
    }
}
