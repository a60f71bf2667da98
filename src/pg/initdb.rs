//! Making a new cluster.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::binaries::Binaries;
use super::user::run_as_owner;
use super::{Error, Result};

/// Makes a cluster in `dir`, which is absent or empty: data checksums, UTF8, superuser
/// `postgres`, local connections trusted, TCP by password. `extra` goes to initdb last and
/// therefore wins. The locale is the environment's where it is a UTF-8 one, otherwise
/// C.UTF-8. As root it runs as the owner of `dir`, which must exist then.
///
/// Without `password_file` the superuser has no password, and TCP connections fail.
/// Errors: `Program` with what initdb wrote.
pub fn initdb(
    bin: &Binaries,
    dir: &Path,
    extra: &[String],
    password_file: Option<&Path>,
) -> Result<()> {
    let run = |locale: &Locale| -> Result<Output> {
        let program = bin.program("initdb");
        let mut command = Command::new(&program);
        command
            .arg("-D")
            .arg(dir)
            .args(["-U", "postgres", "-E", "UTF8", "--data-checksums"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"]);
        if *locale == Locale::Fallback {
            command.arg("--locale=C.UTF-8");
        }
        if let Some(file) = password_file {
            command.arg(joined("--pwfile=", file));
        }
        // Its current directory may be closed to the other user.
        command.args(extra).stdin(Stdio::null()).current_dir("/");
        run_as_owner(&mut command, dir)?;
        command.output().map_err(Error::io("running", &program))
    };
    let locale = environment_locale(|name| std::env::var_os(name));
    let mut out = run(&locale)?;
    let said = |out: &Output| String::from_utf8_lossy(&out.stderr).trim().to_owned();
    // A locale that came with the terminal need not be installed on this machine. initdb
    // finds that out before it writes anything.
    if locale == Locale::Environment
        && !out.status.success()
        && said(&out).contains("invalid locale")
    {
        out = run(&Locale::Fallback)?;
    }
    if out.status.success() {
        return Ok(());
    }
    Err(Error::Program {
        program: "initdb".into(),
        status: out.status.to_string(),
        stderr: said(&out),
    })
}

fn joined(option: &str, value: &Path) -> OsString {
    let mut arg = OsString::from(option);
    arg.push(value);
    arg
}

#[derive(Debug, PartialEq, Eq)]
enum Locale {
    Environment,
    Fallback,
}

/// A locale that is not UTF-8 (C, POSIX, none at all) does not go with the encoding.
fn environment_locale<S: AsRef<OsStr>>(var: impl Fn(&str) -> Option<S>) -> Locale {
    // The precedence of setlocale(3).
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| {
        var(name)
            .map(|v| v.as_ref().to_string_lossy().to_lowercase())
            .filter(|v| !v.is_empty())
    });
    match set {
        Some(name) if name.ends_with("utf-8") || name.ends_with("utf8") => Locale::Environment,
        _ => Locale::Fallback,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::testing::{Cluster, bin_dirs, give, tempdir};
    use crate::pg::{Control, binaries};
    use std::fs;
    use zenith_store::World;

    #[test]
    fn a_new_cluster_has_checksums_utf8_and_a_password() {
        for dir in bin_dirs() {
            let bin = binaries::find(Some(&dir), None, None).unwrap();
            let secret = tempdir();
            let file = secret.path().join("pw");
            fs::write(&file, "sesame\n").unwrap();
            give(&file);
            let cluster = Cluster::empty(&dir);
            fs::create_dir(cluster.pgdata()).unwrap();
            give(cluster.pgdata());
            let extra = ["-N".to_owned(), "--wal-segsize=2".to_owned()];
            initdb(&bin, cluster.pgdata(), &extra, Some(&file)).unwrap();
            let control = Control::read(cluster.pgdata(), &World::real()).unwrap();
            assert_eq!(
                (control.page_checksum_version, control.wal_segment_size),
                (1, 2 << 20)
            );
            let hba = fs::read_to_string(cluster.pgdata().join("pg_hba.conf")).unwrap();
            assert!(hba.contains("scram-sha-256") && hba.contains("trust"));
            cluster.start(&[]);
            assert_eq!(
                cluster.sql(
                    "select pg_encoding_to_char(encoding), rolpassword like 'SCRAM%', rolname \
                     from pg_database, pg_authid where datname = 'postgres' and rolcanlogin"
                ),
                "UTF8|t|postgres"
            );

            let again = initdb(&bin, cluster.pgdata(), &[], None)
                .unwrap_err()
                .to_string();
            assert!(again.contains("not empty"), "{again}");
        }
    }

    #[test]
    fn the_locale_is_utf8() {
        let of = |set: &[(&str, &'static str)]| {
            let set: Vec<_> = set.to_vec();
            environment_locale(move |name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| *v))
        };
        assert_eq!(of(&[]), Locale::Fallback);
        assert_eq!(of(&[("LANG", "de_DE.UTF-8")]), Locale::Environment);
        assert_eq!(
            of(&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]),
            Locale::Fallback
        );
        assert_eq!(
            of(&[("LC_ALL", ""), ("LANG", "en_US.utf8")]),
            Locale::Environment
        );
    }
}
