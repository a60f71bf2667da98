//! The completion scripts, in the shells they are for: typed on a terminal, with the tab key.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::complete::shop;
use crate::made_up::MadeUp;

/// No shell takes longer to answer, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(60);

/// A shell on a terminal of its own, which `script` makes.
struct Typed {
    script: Child,
    output: Receiver<Vec<u8>>,
    seen: String,
}

impl Typed {
    fn new(m: &MadeUp, shell: &str) -> Typed {
        let program = Path::new(env!("CARGO_BIN_EXE_zenith"));
        let bin = program.parent().unwrap().display();
        let mut script = Command::new("script")
            .args(["-qec", shell, "/dev/null"])
            .env_clear()
            .env("PATH", format!("{bin}:/usr/bin:/bin"))
            .env("HOME", m.zenith.dir())
            .env("TERM", "dumb")
            .env("LANG", "C.UTF-8")
            .current_dir(m.zenith.dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("`script` is part of every Debian");
        let mut stdout = script.stdout.take().unwrap();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = stdout.read(&mut bytes) {
                if sender.send(bytes[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Typed {
            script,
            output,
            seen: String::new(),
        }
    }

    fn keys(&mut self, keys: &str) {
        let stdin = self.script.stdin.as_mut().unwrap();
        stdin.write_all(keys.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Waits until the shell wrote this; what it wrote since the last time.
    #[track_caller]
    fn until(&mut self, text: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            match self
                .output
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no {text:?} in {:?}", self.seen)
                }
            }
        }
    }
}

impl Drop for Typed {
    fn drop(&mut self) {
        // The shell ends with its terminal.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

/// What becomes of a line when tab is pressed at its end, as the words that the shell then runs.
fn check(shell: &str, ready: &str) {
    let Some((name, _)) = shell.split_once(' ') else {
        panic!("{shell} is started with its options");
    };
    let installed = Command::new(name)
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    assert!(
        installed.is_ok(),
        "{name} is not installed: run scripts/install-deps --tests"
    );
    let m = MadeUp::new();
    let one = m.snapshot("main", "one", 9);
    m.name("tag/v1.0", one);
    m.name("branch/feature/x", one);
    m.snapshot_of("main", vec![shop()]);
    let mut typed = Typed::new(&m, shell);
    typed.keys(ready);
    typed.until("setup\r\n");
    typed.until("ready");
    for (line, words) in [
        ("zenith log ma", "<zenith><log><main>"),
        ("zenith snapshot sh", "<zenith><snapshot><show>"),
        ("zenith tag -d v", "<zenith><tag><-d><v1.0>"),
        (
            "zenith push --branch=fea",
            "<zenith><push><--branch=feature/x>",
        ),
        ("zenith cp mai", "<zenith><cp><main:>"),
        (
            "zenith cp main:public.da",
            "<zenith><cp><main:public.daily>",
        ),
        ("zenith cp main:dai", "<zenith><cp><main:daily>"),
        (
            "zenith cp main:public.ord",
            "<zenith><cp><main:public.orders>",
        ),
        (
            "zenith cp 'main@{1 minute ago}:public.da",
            "<zenith><cp><main@{1 minute ago}:public.daily>",
        ),
        ("zenith log -- public.da", "<zenith><log><--><public.daily>"),
    ] {
        typed.keys(line);
        typed.keys("\t");
        // Home, and what shows the words; the end of what was typed may still be in a quote.
        typed.keys("\x01printf '<%s>' ");
        typed.keys("\n");
        let wrote = typed.until("<zenith>");
        let more = typed.until("ready");
        let found = format!("<zenith>{}", more.trim_end_matches("ready").trim());
        assert!(
            found.starts_with(words),
            "{line}: {found:?} after {wrote:?}"
        );
    }
}

#[test]
fn bash() {
    check(
        "bash --norc --noprofile -i",
        "PS1='ready '; bind 'set enable-bracketed-paste off'; bind 'set show-all-if-ambiguous off'; \
         source <(zenith completions bash); echo set''up\n",
    );
}

#[test]
fn zsh() {
    check(
        "zsh -f -i",
        "PS1='ready '; unset zle_bracketed_paste; autoload -Uz compinit; compinit -u -D; \
         source <(zenith completions zsh); echo set''up\n",
    );
}

#[test]
fn fish() {
    check(
        "fish --no-config -i",
        "function fish_prompt; echo 'ready '; end; function fish_right_prompt; end; \
         zenith completions fish | source; echo set''up\n",
    );
}
