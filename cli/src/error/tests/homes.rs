use insta::assert_snapshot;

use super::*;

pub(super) fn homes() -> Vec<Error> {
    let busy = |pid| Error::HomeBusy {
        dir: p("/h"),
        by: s("snapshot create"),
        pid,
        since: s("2026-11-22T10:00:00Z"),
    };
    vec![
        Error::NoHome { dir: p("/h") },
        Error::HomeExists { dir: p("/h") },
        Error::HomeForeign {
            dir: p("/h"),
            found: s("thesis.tex"),
        },
        busy(7),
        busy(0),
        Error::HomeInUse {
            dir: p("/h"),
            collecting: false,
        },
        Error::HomeInUse {
            dir: p("/h"),
            collecting: true,
        },
        Error::SettingsInvalid {
            path: p("/h/config.toml"),
            why: s("unknown field\n  prot"),
        },
        Error::HomeDamaged {
            path: p("/h/HEAD"),
            why: s("it is missing"),
        },
        Error::NameInvalid {
            name: s("a b"),
            why: "it contains white space",
        },
    ]
}

#[test]
fn homes_in_words() {
    assert_snapshot!(shown(homes()), @r#"
    [1] error: there is no zenith home at /h

    hint: `zenith init` makes one here; -D DIR or ZENITH_HOME names another place.

    [4] error: there is a zenith home at /h already

    hint: `zenith status` shows it; `zenith import --snapshot-path PATH --branch NEW` brings another cluster into it, -D DIR makes another home.

    [1] error: /h is not empty and not a zenith home: it holds `thesis.tex`

    hint: Name an empty or a new directory with -D DIR.

    [4] error: /h is busy: process 7 has been in `snapshot create` since 2026-11-22T10:00:00Z

    hint: Run the command again when it is done; `ps 7` shows the process.

    [4] error: /h is busy: process 0 has been in `snapshot create` since 2026-11-22T10:00:00Z

    hint: Run the command again; `zenith status` shows what the agent does.

    [4] error: /h is being read by another process

    hint: Run the command again when the other one is done.

    [4] error: /h is being collected by another process

    hint: Run the command again when the other one is done.

    [1] error: /h/config.toml: unknown field
        prot

    hint: Mend the file and run the command again.

    [7] error: /h/HEAD is damaged: it is missing

    hint: Move /h/HEAD away and run `zenith start`: what it said is found again or asked for.

    [1] error: `a b` cannot be the name of a branch or tag: it contains white space

    hint: Letters, digits, and - _ . / between them are fine, for instance `try-index`.
    "#);
}

pub(super) fn collection_and_undo() -> Vec<Error> {
    let packs = vec![PackName {
        session: [1; 16],
        number: 2,
    }];
    vec![
        Refusal::NothingToUndo { seq: None }.into(),
        Refusal::NothingToUndo { seq: Some(7) }.into(),
        StoreError::NotUndone {
            seq: 7,
            why: s("branch/main was moved since"),
        }
        .into(),
        StoreError::InUse {
            id: id(1),
            name: s("branch/main"),
        }
        .into(),
        StoreError::NamesUsedUp { packs, floor: 0 }.into(),
    ]
}

#[test]
fn collection_and_undo_in_words() {
    assert_snapshot!(shown(collection_and_undo()), @r"
    [1] error: there is no operation to undo

    hint: `zenith op log --all` lists every operation.

    [1] error: the operation log has no operation 7

    hint: `zenith op log --all` lists every operation.

    [4] error: operation 7 cannot be undone: branch/main was moved since

    hint: Nothing was changed. `zenith op log` lists the operations.

    [4] error: snapshot 01010101 is not removed: branch/main stands on it

    hint: Nothing was removed. Move the branch or delete the tag first; `zenith snapshot list --all` shows which.

    [4] error: packs that are needed were collected meanwhile, the first is 01010101010101010101010101010101-2

    hint: Somebody else was faster: run the command again.
    ");
    let damaged = Failure::Damaged {
        place: s("/h"),
        packs: 1,
        snapshots: 2,
        of: 3,
        repair: Some(s("zenith verify --repair")),
    };
    assert_eq!(damaged.code(), exit::DAMAGED);
    let message = damaged.report().message;
    assert_eq!(
        message,
        "1 pack missing or damaged at /h; 2 of 3 snapshots need what is lost"
    );
}

pub(super) fn encryption() -> Vec<Error> {
    let location = || s("/srv/store");
    vec![
        Error::NotSealed {
            location: location(),
        },
        Error::KeyForeign {
            dir: p("/h"),
            location: location(),
        },
        Error::KeyMissing { dir: p("/h") },
        Error::HomeDamaged {
            path: p("/h/key"),
            why: s("it holds no key"),
        },
        Error::PassphraseMissing {
            location: location(),
        },
        StoreError::Sealed {
            location: location(),
        }
        .into(),
        StoreError::NotSealed {
            location: location(),
        }
        .into(),
        StoreError::WrongKey {
            location: location(),
        }
        .into(),
        StoreError::WrongPassphrase {
            location: location(),
        }
        .into(),
        StoreError::NoSlots {
            location: location(),
        }
        .into(),
        StoreError::NoSlot {
            number: 7,
            location: location(),
        }
        .into(),
        StoreError::LastSlot {
            number: 0,
            location: location(),
        }
        .into(),
    ]
}

#[test]
fn encryption_in_words() {
    assert_snapshot!(shown(encryption()), @r"
    [1] error: /srv/store is not encrypted

    hint: Encryption is decided when a repository is made: `zenith -D NEW init --encrypt --storage-dest URL`; --snapshot-path brings a cluster into it.

    [1] error: the storage /srv/store is encrypted with another key than the home /h

    hint: Attach a new home to that storage: `zenith -D NEW init --storage-dest URL`, or name another storage.

    [1] error: the home /h is encrypted, and its key is gone

    hint: Run `zenith -D /h init` with ZENITH_PASSPHRASE set: the passphrase brings the key back.

    [7] error: /h/key is damaged: it holds no key

    hint: Move /h/key away and run `zenith init` with ZENITH_PASSPHRASE set: the passphrase brings the key back.

    [1] error: /srv/store is encrypted, and no passphrase is given

    hint: Set ZENITH_PASSPHRASE, or give --passphrase-file FILE or --passphrase-command CMD to `zenith init`.

    [1] error: the repository at /srv/store is encrypted, and there is no key for it here

    hint: A home that is made for it asks for its passphrase: `zenith -D NEW init --storage-dest URL`; from there, `zenith export --snapshot-path DIR` takes a cluster elsewhere.

    [1] error: the repository at /srv/store is not encrypted, unlike this home

    hint: Name an empty place, which is encrypted like this home; clusters come and go between the two with --snapshot-format pgdata or tar.

    [1] error: the repository at /srv/store is encrypted with another key than this home's

    hint: Name a place of this home's own. A home for that one is `zenith -D NEW init --storage-dest URL`; clusters come and go between the two with --snapshot-format pgdata or tar.

    [1] error: the passphrase opens no key slot of /srv/store

    hint: Check for another keyboard layout, upper case and white space; the passphrase of any key slot will do. ZENITH_PASSPHRASE and --passphrase-file win over config.toml.

    [1] error: there is no key slot at /srv/store

    hint: A home that still has its key gives the repository a new one: `zenith key add`.

    [1] error: there is no key slot 7 at /srv/store

    hint: `zenith key list` lists what there is.

    [1] error: key slot 0 at /srv/store is the last that opens the repository

    hint: Add another passphrase first, `zenith key add`, or replace this one: `zenith key change`.
    ");
}

pub(super) fn the_managed_cluster() -> Vec<Error> {
    let dir = || p("/h");
    let errors = vec![
        Refusal::NothingToStart { dir: dir() },
        Refusal::NoCluster { dir: dir() },
        Refusal::ClusterMissing { dir: dir() },
        Refusal::NoStorage { dir: dir() },
        Refusal::BranchNotAtStorage {
            branch: s("mian"),
            location: s("s3://b/p"),
            branches: vec![s("main"), s("dev")],
        },
        Refusal::BranchTaken {
            branch: s("main"),
            location: s("s3://b/p"),
            expected: 7,
            source_place: s("/x"),
        },
        Refusal::StorageGone {
            location: s("/mnt/store"),
        },
        Refusal::StorageReplaced {
            location: s("/mnt/store"),
        },
        Refusal::OtherStorage {
            dir: dir(),
            saved: s("/a"),
            asked: s("/b"),
        },
        Refusal::OtherBranch {
            dir: dir(),
            saved: s("main"),
            asked: s("dev"),
        },
        Refusal::OtherCluster {
            source_place: s("/x"),
            found: 1,
            place: s("/h"),
            expected: 2,
        },
        Refusal::Unmounted {
            pgdata: p("/h/pgdata"),
        },
        Refusal::Incomplete {
            pgdata: p("/h/pgdata"),
            missing: "PG_VERSION",
        },
        Refusal::AgentSilent {
            seconds: 20,
            log: p("/h/log/agent.log"),
        },
        Refusal::AgentRunning { dir: dir(), pid: 7 },
        Refusal::ServerDied {
            status: s("exit status: 1"),
        },
        Refusal::SocketDirForeign {
            dir: p("/tmp/zenith-0a"),
        },
        Refusal::Referenced {
            id: s("4f1c9a27"),
            refs: vec![s("branch `main`"), s("tag `v1`")],
        },
        Refusal::NameTaken {
            kind: "tag",
            name: s("v1"),
            id: s("4f1c9a27"),
        },
        Refusal::CheckedOut { branch: s("main") },
        Refusal::NotKept {
            branch: s("try"),
            number: 3,
            id: s("4f1c9a27"),
            at_storage: false,
        },
        Refusal::NotKept {
            branch: s("try"),
            number: 1,
            id: s("4f1c9a27"),
            at_storage: true,
        },
        Refusal::NotHeld {
            id: s("4f1c9a27"),
            location: s("s3://b/p"),
        },
        Refusal::Held {
            id: s("4f1c9a27"),
            by: vec![s("home 0a1b builds on"), s("home 2c3d builds on")],
            home: Some(s("0a1b")),
        },
        Refusal::Held {
            id: s("4f1c9a27"),
            by: vec![s("a reader (pins/x) is at")],
            home: None,
        },
        Refusal::Needed {
            id: s("4f1c9a27"),
            by: vec!["HEAD"],
        },
        Refusal::Guarded {
            pgdata: p("/h/pgdata"),
        },
    ];
    errors.into_iter().map(Error::from).collect()
}

#[test]
fn the_managed_cluster_in_words() {
    assert_snapshot!(shown(the_managed_cluster()), @r"
    [1] error: there is no zenith home at /h, and no storage_dest to make one from

    hint: Change to the directory of your home or name it with -D DIR; a new one is made by `zenith start --storage-dest URL` or `zenith init`.

    [1] error: the home /h has no cluster and no snapshot to make one from

    hint: `zenith init` makes a cluster; `zenith init --snapshot-path PATH` takes one over.

    [1] error: the home /h has snapshots, but no cluster now

    hint: `zenith start` makes it anew from the last snapshot.

    [1] error: the home /h has no storage_dest

    hint: Add one: `zenith init --storage-dest URL`; nothing that is there changes.

    [1] error: the repository at s3://b/p has no branch `mian`; it has main, dev

    hint: Name one of them, for instance --branch main, or another storage.

    [4] error: branch `main` at s3://b/p holds a cluster already (system identifier 7): /x is not imported over it

    hint: Attach to it with `zenith init` without --snapshot-path, or import into a branch of its own with --branch NEW.

    [8] error: the repository at /mnt/store is gone: this home was with it before

    hint: Mount the disk, or correct the settings of the storage. If it is lost for good: `zenith remote remove NAME`, `zenith remote add NAME /mnt/store`, then `zenith push NAME` makes a new one (NAME is origin for storage_dest).

    [4] error: the repository at /mnt/store is another than this home was with before

    hint: Look at what lies there. If it is meant to be used from now on: `zenith remote remove NAME`, then `zenith remote add NAME /mnt/store` (NAME is origin for storage_dest).

    [4] error: the home /h pushes to /a, not to /b

    hint: To move on to another storage, run `zenith -D /h remote set-url origin /b` and `zenith -D /h push`; another DIR makes another home.

    [4] error: the home /h was made for branch `main`, not `dev`

    hint: `zenith checkout -b NEW HEAD` begins a branch; -D DIR makes another home.

    [1] error: /x is cluster 1, but /h holds cluster 2 (system identifiers)

    hint: Import it into a branch of its own with `zenith import --snapshot-path PATH --branch NEW`, or make another home with -D DIR.

    [8] error: /h/pgdata is empty and on another device than the cluster was: a disk is not mounted

    hint: Mount the disk; if the cluster is lost for good, remove /h/pgdata and run `zenith start`.

    [8] error: /h/pgdata is not empty and not a whole cluster: PG_VERSION is missing

    hint: Move /h/pgdata away and run `zenith start`: it is rebuilt from the last snapshot.

    [5] error: the agent did not answer within 20 s; its log is /h/log/agent.log

    hint: `tail /h/log/agent.log` shows why; `zenith start` tries again.

    [4] error: an agent works in /h already (pid 7)

    hint: `zenith stop` stops it, `zenith status` shows it.

    [5] error: the server ended on its own: exit status: 1

    hint: Its messages above say why; `zenith start --foreground` starts it again.

    [8] error: /tmp/zenith-0a exists and is not a private directory of this user

    hint: Look at /tmp/zenith-0a and remove it if it is nobody's.

    [1] error: branch `main`, tag `v1` points at snapshot 4f1c9a27

    hint: `zenith snapshot delete --force 4f1c9a27` deletes it all the same: branches step back to its parent, tags go.

    [4] error: there is a tag `v1` already, at 4f1c9a27

    hint: Take another name; `zenith tag` lists those that are taken.

    [1] error: branch `main` is checked out

    hint: Move to another one first: `zenith checkout OTHER`, or `zenith checkout -b NEW HEAD`.

    [1] error: nothing but branch `try` leads to 3 of its snapshots, 4f1c9a27 the newest

    hint: `zenith branch -d --force try` deletes it all the same; `zenith tag NAME try` keeps a name for them.

    [1] error: nothing but branch `try` leads to 1 of its snapshots, 4f1c9a27 the newest

    hint: `zenith branch -d --force try --remote` deletes it all the same.

    [1] error: snapshot 4f1c9a27 is not at s3://b/p any more, and its packs are not here

    hint: `zenith snapshot list --remote` shows what is there; `zenith checkout --force REV` moves to one of these, without changes that no snapshot holds.

    [1] error: home 0a1b builds on and home 2c3d builds on snapshot 4f1c9a27

    hint: If that home is gone for good: `zenith home forget 0a1b --remote`, then delete again.

    [1] error: a reader (pins/x) is at snapshot 4f1c9a27

    hint: Run the command again when the other one is done.

    [1] error: HEAD needs snapshot 4f1c9a27

    hint: Complete the checkout, or move the cluster to another snapshot: `zenith checkout REV`.

    [1] error: the cluster in /h/pgdata is guarded as a copy and listens on localhost only

    hint: If this is the original now: `zenith start --primary`.
    ");
}

pub(super) fn remotes() -> Vec<Error> {
    let name = || s("offsite");
    let mut errors = vec![Error::PullDiverged {
        branch: s("main"),
        remote: s("origin"),
        ours: id(1),
        theirs: id(2),
    }];
    let refusals = [
        Refusal::PullRunning {
            pgdata: p("/h/pgdata"),
            pid: 7,
            id: s("02020202"),
            upstream: s("origin/main"),
        },
        Refusal::NoRemote {
            name: name(),
            known: vec![s("origin")],
        },
        Refusal::RemoteExists {
            name: name(),
            location: s("s3://b/p"),
        },
        Refusal::RemoteNameInvalid {
            name: s("a/b"),
            why: "it contains a slash",
        },
        Refusal::NothingToClone {
            location: s("s3://b/p"),
        },
    ];
    errors.extend(refusals.into_iter().map(Error::from));
    errors
}

#[test]
fn remotes_in_words() {
    assert_snapshot!(shown(remotes()), @r#"
    [4] error: branch `main` and origin/main have diverged: 01010101 here, 02020202 there

    hint: Keep both: `zenith checkout -b main-02020202 origin/main` goes on from theirs on a branch of its own, and main keeps 01010101.

    [4] error: the server runs on /h/pgdata (pid 7), which is to move to 02020202

    hint: Run `zenith stop` first, then `zenith pull`. `zenith fetch` alone moves nothing: `zenith checkout origin/main DIR` is a copy beside it.

    [1] error: no remote is called `offsite`

    hint: `zenith remote` lists them; `zenith remote add offsite URL` adds this one.

    [4] error: the remote `offsite` is s3://b/p already

    hint: `zenith remote set-url offsite URL` changes where it is.

    [1] error: `a/b` cannot be the name of a remote: it contains a slash

    hint: Letters, digits, and - _ . between them are fine, for instance `offsite`.

    [1] error: the repository at s3://b/p has no branch with a snapshot

    hint: Push to it first with `zenith push`, or begin with a new cluster: `zenith init --storage-dest s3://b/p`.
    "#);
}
