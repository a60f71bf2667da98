//! What `<home>/config.toml` holds: plain data, saved by init and by commands that say so.
//!
//! Flags go before the environment, the environment before this file; that order is the command
//! line's. Credentials never lie here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zenith_store::World;
use zenith_store::WriterOptions;

/// The whole file. A key that is not known is an error, since it is most likely misspelt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Random, 32 hexadecimal digits; names this home in a shared storage.
    pub home_id: String,
    /// The branch that init made.
    #[serde(default = "main_branch")]
    pub branch: String,
    /// An absolute URL or path, or nothing when snapshots stay on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_dest: Option<String>,
    /// Whether this home is declared to be the only one that writes to `storage_dest`, which
    /// cannot keep two writers apart.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub single_writer: bool,
    /// Whether packs stay at `storage_dest` until something is read of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lazy: bool,
    /// Whether the managed cluster may act as the original does: archive, replicate, listen to
    /// the network. A cluster that came from elsewhere starts without.
    #[serde(default)]
    pub primary: bool,
    /// How the server is run.
    #[serde(default)]
    pub server: ServerSettings,
    /// When snapshots are taken.
    #[serde(default)]
    pub snapshots: SnapshotSettings,
    /// Which automatic snapshots stay.
    #[serde(default)]
    pub keep: KeepSettings,
    /// How much space zenith may use.
    #[serde(default)]
    pub space: SpaceSettings,
    /// Where the passphrase of an encrypted repository comes from.
    #[serde(default, skip_serializing_if = "EncryptionSettings::is_empty")]
    pub encryption: EncryptionSettings,
    /// Further repositories to fetch from and push to, by name; `origin` is `storage_dest`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub remotes: BTreeMap<String, String>,
}

/// Where the passphrase of an encrypted repository comes from when nobody says; never the
/// passphrase itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncryptionSettings {
    /// A file that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passphrase_file: Option<PathBuf>,
    /// A command of the shell that prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passphrase_command: Option<String>,
}

impl EncryptionSettings {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == EncryptionSettings::default()
    }
}

/// How the server is run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// TCP port and name of the socket; nothing leaves it to the cluster's configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `listen_addresses`; nothing means localhost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Directory of the server programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pg_bin: Option<PathBuf>,
    /// The user that runs server programs when zenith is started by root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pg_user: Option<String>,
    /// Further server parameters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

/// When snapshots are taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotSettings {
    /// Seconds between two automatic snapshots, at least one.
    #[serde(deserialize_with = "interval")]
    pub interval_secs: u64,
    /// Whether they are pushed to the storage.
    pub push: bool,
    /// zstd level, 1 to 19.
    #[serde(deserialize_with = "compression_level")]
    pub compression_level: i32,
    /// Threads that read files; nothing means one per processor, at most four.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// What becomes of a snapshot of a cluster with damaged pages.
    pub on_damage: OnDamage,
}

/// What becomes of a snapshot when pages of the cluster are damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDamage {
    /// There is none.
    Fail,
    /// It says which pages are damaged.
    #[default]
    Warn,
}

impl OnDamage {
    /// As it is written in the file.
    pub fn word(self) -> &'static str {
        match self {
            OnDamage::Fail => "fail",
            OnDamage::Warn => "warn",
        }
    }
}

impl SnapshotSettings {
    /// How snapshots are written.
    pub fn writer(&self) -> WriterOptions {
        WriterOptions {
            level: self.compression_level,
            ..WriterOptions::default()
        }
    }
}

/// Without a pause the agent would do nothing but ask the server.
fn interval<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    match u64::deserialize(from)? {
        0 => Err(serde::de::Error::custom(
            "interval_secs is 0: at least 1 is possible",
        )),
        secs => Ok(secs),
    }
}

/// A level of zstd that is neither so fast that it grows nor so slow that nothing gets done.
fn compression_level<'de, D: serde::Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
    let level = i32::deserialize(from)?;
    if (1..=19).contains(&level) {
        return Ok(level);
    }
    let why = format!("compression_level is {level}: 1 to 19 is possible");
    Err(serde::de::Error::custom(why))
}

impl Default for SnapshotSettings {
    fn default() -> Self {
        SnapshotSettings {
            interval_secs: 300,
            push: true,
            compression_level: WriterOptions::default().level,
            threads: None,
            on_damage: OnDamage::default(),
        }
    }
}

/// Which automatic snapshots stay; manual and tagged ones always do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeepSettings {
    /// Every snapshot of so many hours.
    pub all_hours: u32,
    /// One an hour for so many days.
    pub hourly_days: u32,
    /// One a day for so many days.
    pub daily_days: u32,
    /// One a month for so many months.
    pub monthly_months: u32,
}

impl Default for KeepSettings {
    fn default() -> Self {
        KeepSettings {
            all_hours: 2,
            hourly_days: 2,
            daily_days: 30,
            monthly_months: 12,
        }
    }
}

/// How much space zenith may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpaceSettings {
    /// Bytes of packs that wait to be pushed before automatic snapshots pause.
    pub spool_max_bytes: u64,
    /// Percent of the file system that must stay free, or automatic snapshots pause.
    pub min_free_percent: u8,
    /// Bytes of packs that the agent reads at the storage each day, at most, to pack anew what is
    /// alive in mostly dead and in many small ones; 0 leaves that to `gc --remote`.
    pub repack_daily_bytes: u64,
}

impl Default for SpaceSettings {
    fn default() -> Self {
        SpaceSettings {
            spool_max_bytes: 64 << 30,
            min_free_percent: 10,
            repack_daily_bytes: 256 << 20,
        }
    }
}

fn main_branch() -> String {
    "main".to_owned()
}

impl Settings {
    /// The settings of a new home: a random id, the branch `main`, defaults for the rest.
    #[expect(clippy::disallowed_methods, reason = "for who has no other world")]
    pub fn new() -> Settings {
        Settings::new_in(&World::real())
    }

    /// As [`Settings::new`], with the chance of a world of the caller's.
    pub fn new_in(world: &World) -> Settings {
        Settings {
            home_id: format!("{:032x}", u128::from_be_bytes(world.bytes())),
            branch: main_branch(),
            storage_dest: None,
            single_writer: false,
            lazy: false,
            primary: false,
            server: ServerSettings::default(),
            snapshots: SnapshotSettings::default(),
            keep: KeepSettings::default(),
            space: SpaceSettings::default(),
            encryption: EncryptionSettings::default(),
            remotes: BTreeMap::new(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_their_file() {
        let mut settings = Settings::new();
        settings.storage_dest = Some("s3://bucket/prefix".into());
        settings.server.port = Some(5433);
        settings
            .server
            .parameters
            .insert("work_mem".into(), "64MB".into());
        assert!(!toml::to_string(&settings).unwrap().contains("encryption"));
        settings.encryption.passphrase_command = Some("pass show zenith".into());
        let text = toml::to_string(&settings).unwrap();
        assert_eq!(toml::from_str::<Settings>(&text).unwrap(), settings);
    }

    #[test]
    fn the_id_alone_is_a_whole_file() {
        let settings: Settings = toml::from_str("home_id = \"x\"").unwrap();
        assert_eq!(settings.snapshots.interval_secs, 300);
        assert_eq!(settings.branch, "main");
        assert_eq!(settings.snapshots.on_damage, OnDamage::Warn);
        let text = "home_id = \"x\"\n[snapshots]\non_damage = \"fail\"";
        let settings: Settings = toml::from_str(text).unwrap();
        assert_eq!(settings.snapshots.on_damage, OnDamage::Fail);
    }

    #[test]
    fn an_agent_never_goes_without_a_pause() {
        let text = |secs: u64| format!("home_id = \"x\"\n[snapshots]\ninterval_secs = {secs}");
        let error = toml::from_str::<Settings>(&text(0)).unwrap_err();
        assert!(error.to_string().contains("interval_secs"), "{error}");
        let settings: Settings = toml::from_str(&text(1)).unwrap();
        assert_eq!(settings.snapshots.interval_secs, 1);
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let wrong = "home_id = \"x\"\n[server]\nprot = 1";
        let error = toml::from_str::<Settings>(wrong).unwrap_err().to_string();
        assert!(error.contains("prot"), "{error}");
    }
}
