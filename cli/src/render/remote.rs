//! Remotes and their branches.

use serde_json::{Value, json};
use zenith::remote::{Remote, RemoteBranch};

use super::fetch::relation_word;
use super::table::{Align, Table};

pub fn lines(remotes: &[Remote]) -> Vec<String> {
    if remotes.is_empty() {
        return Vec::new();
    }
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("LOCATION", Align::Left),
        ("BRANCHES", Align::Left),
    ]);
    for remote in remotes {
        let names = remote.branches.iter().map(|(name, _)| name.as_str());
        table.row(vec![
            remote.name.clone(),
            remote.location.clone(),
            names.collect::<Vec<_>>().join(", "),
        ]);
    }
    table.lines()
}

pub fn record(remote: &Remote) -> Value {
    let branches = remote
        .branches
        .iter()
        .map(|(name, tip)| json!({ "branch": name, "tip": tip.to_string() }));
    json!({
        "type": "remote", "v": 1,
        "name": remote.name,
        "location": remote.location,
        "branches": branches.collect::<Vec<_>>(),
    })
}

pub fn branch_lines(branches: &[RemoteBranch]) -> Vec<String> {
    let mut table = Table::new(&[
        ("BRANCH", Align::Left),
        ("TIP", Align::Left),
        ("HERE", Align::Left),
        ("FETCHED", Align::Left),
    ]);
    for branch in branches {
        let here = match branch.local {
            Some((ours, relation)) => format!("{} {}", ours.short(), relation_word(relation)),
            None => "-".to_owned(),
        };
        let fetched = match branch.noted {
            Some(noted) if noted == branch.tip => "yes".to_owned(),
            Some(noted) => format!("at {}", noted.short()),
            None => "no".to_owned(),
        };
        table.row(vec![branch.name.clone(), branch.tip.short(), here, fetched]);
    }
    table.lines()
}

pub fn branch_record(branch: &RemoteBranch, remote: &str) -> Value {
    json!({
        "type": "remote_branch", "v": 1,
        "remote": remote,
        "branch": branch.name,
        "tip": branch.tip.to_string(),
        "noted": branch.noted.map(|id| id.to_string()),
        "local": branch.local.map(|(id, _)| id.to_string()),
        "relation": branch.local.map_or("new", |(_, relation)| relation_word(relation)),
    })
}
