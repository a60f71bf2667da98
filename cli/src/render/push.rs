//! What a push did.

use std::time::Duration;

use serde::Serialize;
use zenith::sync::PushReport;

use super::size::{plural, size};
use super::time::took;

/// One line.
pub fn line(report: &PushReport, location: &str, duration: Duration) -> String {
    match report {
        PushReport::UpToDate { .. } => format!("{location} is up to date"),
        PushReport::Behind { theirs, .. } => {
            format!("{location} is ahead at {}: nothing to push", theirs.short())
        }
        PushReport::Pushed {
            snapshots,
            packs,
            bytes,
            ..
        } => format!(
            "pushed {} to {location}  {} in {}, {}",
            plural(*snapshots, "snapshot"),
            size(*bytes),
            plural(*packs, "pack"),
            took(duration)
        ),
        PushReport::Diverged { branch, bytes, .. } => {
            format!(
                "pushed to {branch} at {location}, since the branch diverged  {}",
                size(*bytes)
            )
        }
    }
}

#[derive(Debug, Serialize)]
pub struct PushRecord<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    v: u32,
    outcome: &'static str,
    branch: &'a str,
    location: &'a str,
    tip: String,
    snapshots: u64,
    packs: u64,
    bytes: u64,
    diverged_to: Option<&'a str>,
}

pub fn record<'a>(report: &'a PushReport, branch: &'a str, location: &'a str) -> PushRecord<'a> {
    let (outcome, tip, snapshots, packs, bytes, diverged_to) = match report {
        PushReport::UpToDate { tip } => ("up_to_date", tip, 0, 0, 0, None),
        PushReport::Behind { ours, .. } => ("behind", ours, 0, 0, 0, None),
        PushReport::Pushed {
            tip,
            snapshots,
            packs,
            bytes,
        } => ("pushed", tip, *snapshots, *packs, *bytes, None),
        PushReport::Diverged {
            ours,
            branch,
            bytes,
            ..
        } => ("diverged", ours, 0, 0, *bytes, Some(branch.as_str())),
    };
    PushRecord {
        kind: "push",
        v: 1,
        outcome,
        branch,
        location,
        tip: tip.to_string(),
        snapshots,
        packs,
        bytes,
        diverged_to,
    }
}
