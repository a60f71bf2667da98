//! Hints where the home or its cluster is not as the command needs it.

use zenith::managed::Refusal;

pub fn hints(error: &Refusal) -> Vec<String> {
    let hint: String = match error {
        Refusal::NothingToStart { .. } => {
            "Change to the directory of your home or name it with -D DIR; a new one is made by \
             `zenith start --storage-dest URL` or `zenith init`."
                .into()
        }
        Refusal::NoCluster { .. } => {
            "`zenith init` makes a cluster; `zenith init --snapshot-path PATH` takes one over."
                .into()
        }
        Refusal::ClusterMissing { .. } => {
            "`zenith start` makes it anew from the last snapshot.".into()
        }
        Refusal::NoStorage { .. } => {
            "Add one: `zenith init --storage-dest URL`; nothing that is there changes.".into()
        }
        Refusal::BranchNotAtStorage { branches, .. } => match branches.first() {
            Some(first) => {
                format!("Name one of them, for instance --branch {first}, or another storage.")
            }
            None => "Name another storage.".into(),
        },
        Refusal::NothingToClone { location } => format!(
            "Push to it first with `zenith push`, or begin with a new cluster: `zenith init \
             --storage-dest {location}`."
        ),
        Refusal::BranchTaken { .. } => {
            "Attach to it with `zenith init` without --snapshot-path, or import into a branch of \
             its own with --branch NEW."
                .into()
        }
        Refusal::StorageGone { location } => format!(
            "Mount the disk, or correct the settings of the storage. If it is lost for good: \
             `zenith remote remove NAME`, `zenith remote add NAME {location}`, then `zenith push \
             NAME` makes a new one (NAME is origin for storage_dest)."
        ),
        Refusal::StorageReplaced { location } => format!(
            "Look at what lies there. If it is meant to be used from now on: `zenith remote remove \
             NAME`, then `zenith remote add NAME {location}` (NAME is origin for storage_dest)."
        ),
        Refusal::OtherStorage { dir, asked, .. } => format!(
            "To move on to another storage, run `zenith -D {0} remote set-url origin {asked}` and \
             `zenith -D {0} push`; another DIR makes another home.",
            dir.display()
        ),
        Refusal::OtherBranch { .. } => {
            "`zenith checkout -b NEW HEAD` begins a branch; -D DIR makes another home.".into()
        }
        Refusal::OtherCluster { .. } => {
            "Import it into a branch of its own with `zenith import --snapshot-path PATH --branch \
             NEW`, or make another home with -D DIR."
                .into()
        }
        Refusal::Unmounted { pgdata } => format!(
            "Mount the disk; if the cluster is lost for good, remove {} and run `zenith start`.",
            pgdata.display()
        ),
        Refusal::Incomplete { pgdata, .. } => format!(
            "Move {} away and run `zenith start`: it is rebuilt from the last snapshot.",
            pgdata.display()
        ),
        Refusal::AgentSilent { log, .. } => {
            format!(
                "`tail {}` shows why; `zenith start` tries again.",
                log.display()
            )
        }
        Refusal::AgentRunning { .. } => "`zenith stop` stops it, `zenith status` shows it.".into(),
        Refusal::ServerDied { .. } => {
            "Its messages above say why; `zenith start --foreground` starts it again.".into()
        }
        Refusal::SocketDirForeign { dir } => {
            format!("Look at {} and remove it if it is nobody's.", dir.display())
        }
        Refusal::Referenced { id, .. } => format!(
            "`zenith snapshot delete --force {id}` deletes it all the same: branches step back to \
             its parent, tags go."
        ),
        Refusal::NothingToUndo { .. } => "`zenith op log --all` lists every operation.".into(),
        Refusal::NameTaken { kind, .. } => {
            format!("Take another name; `zenith {kind}` lists those that are taken.")
        }
        Refusal::CheckedOut { .. } => {
            "Move to another one first: `zenith checkout OTHER`, or `zenith checkout -b NEW HEAD`."
                .into()
        }
        Refusal::NotKept {
            branch, at_storage, ..
        } => {
            let how = format!("`zenith branch -d --force {branch}");
            if *at_storage {
                format!("{how} --remote` deletes it all the same.")
            } else {
                format!(
                    "{how}` deletes it all the same; `zenith tag NAME {branch}` keeps a name for \
                     them."
                )
            }
        }
        Refusal::NotHeld { .. } => {
            "`zenith snapshot list --remote` shows what is there; `zenith checkout --force REV` \
             moves to one of these, without changes that no snapshot holds."
                .into()
        }
        Refusal::Held {
            home: Some(home), ..
        } => format!(
            "If that home is gone for good: `zenith home forget {home} --remote`, then delete \
             again."
        ),
        Refusal::Held { home: None, .. } => {
            "Run the command again when the other one is done.".into()
        }
        Refusal::Needed { .. } => {
            "Complete the checkout, or move the cluster to another snapshot: `zenith checkout REV`."
                .into()
        }
        Refusal::NoRemote { name, .. } => {
            format!("`zenith remote` lists them; `zenith remote add {name} URL` adds this one.")
        }
        Refusal::RemoteNameInvalid { .. } => {
            "Letters, digits, and - _ . between them are fine, for instance `offsite`.".into()
        }
        Refusal::RemoteExists { name, .. } => {
            format!("`zenith remote set-url {name} URL` changes where it is.")
        }
        Refusal::PullRunning { upstream, .. } => format!(
            "Run `zenith stop` first, then `zenith pull`. `zenith fetch` alone moves nothing: \
             `zenith checkout {upstream} DIR` is a copy beside it."
        ),
        Refusal::Guarded { .. } => "If this is the original now: `zenith start --primary`.".into(),
    };
    vec![hint]
}
