//! The settings of a home and where each comes from.

use serde::Serialize;
use zenith::settings::Settings;

use super::table::{Align, Table};
use super::time::interval;
use crate::config::Environment;

/// One setting as it holds now.
#[derive(Debug, Serialize)]
pub struct Setting {
    #[serde(rename = "type")]
    kind: &'static str,
    v: u32,
    name: &'static str,
    value: Option<String>,
    from: &'static str,
}

/// Every setting that can be given in several places, then the rest of the file.
pub fn settings(saved: &Settings, env: &Environment) -> Vec<Setting> {
    let file = |name, value: Option<String>| {
        let from = if value.is_some() {
            "config.toml"
        } else {
            "default"
        };
        Setting {
            kind: "setting",
            v: 1,
            name,
            value,
            from,
        }
    };
    let either = |name, env: Option<String>, saved: Option<String>| match env {
        Some(value) => Setting {
            kind: "setting",
            v: 1,
            name,
            value: Some(value),
            from: "environment",
        },
        None => file(name, saved),
    };
    let server = &saved.server;
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|p| p.display().to_string());
    vec![
        file("branch", Some(saved.branch.clone())),
        either(
            "storage_dest",
            env.storage_dest.clone(),
            saved.storage_dest.clone(),
        ),
        file("primary", Some(saved.primary.to_string())),
        file("lazy", Some(saved.lazy.to_string())),
        either("pg_bin", path(&env.pg_bin), path(&server.pg_bin)),
        file("pg_user", server.pg_user.clone()),
        either(
            "port",
            env.port.clone(),
            server.port.map(|port| port.to_string()),
        ),
        file("listen", server.listen.clone()),
        either(
            "snapshot_interval",
            env.snapshot_interval.clone(),
            Some(interval(saved.snapshots.interval_secs)),
        ),
        file(
            "on_damage",
            Some(saved.snapshots.on_damage.word().to_owned()),
        ),
        file(
            "compression_level",
            Some(saved.snapshots.compression_level.to_string()),
        ),
        file("push", Some(saved.snapshots.push.to_string())),
        file(
            "keep",
            Some(format!(
                "all for {} h, hourly for {} days, daily for {} days, monthly for {} months",
                saved.keep.all_hours,
                saved.keep.hourly_days,
                saved.keep.daily_days,
                saved.keep.monthly_months
            )),
        ),
        file(
            "spool_max",
            Some(super::size::size(saved.space.spool_max_bytes)),
        ),
        file(
            "min_free",
            Some(format!("{} %", saved.space.min_free_percent)),
        ),
        file(
            "repack_daily",
            Some(super::size::size(saved.space.repack_daily_bytes)),
        ),
        file("passphrase_file", path(&saved.encryption.passphrase_file)),
        file(
            "passphrase_command",
            saved.encryption.passphrase_command.clone(),
        ),
        file("home_id", Some(saved.home_id.clone())),
    ]
}

/// One line per setting.
pub fn lines(settings: &[Setting]) -> Vec<String> {
    let mut table = Table::new(&[
        ("SETTING", Align::Left),
        ("VALUE", Align::Left),
        ("FROM", Align::Left),
    ]);
    for setting in settings {
        let value = setting.value.clone().unwrap_or_else(|| "-".to_owned());
        table.row(vec![
            setting.name.to_owned(),
            value,
            setting.from.to_owned(),
        ]);
    }
    table.lines()
}
