//! Hints where a repository, or the storage it lies in, is in the way.

use zenith::store::Error;
use zenith::store::objects::ObjectsError;

use super::system;

pub fn hints(error: &Error) -> Vec<String> {
    let hint: String = match error {
        Error::Objects(e) => return objects_hints(e),
        Error::NotARepository { .. } => {
            "`zenith init --storage-dest URL` makes one; check the URL for a typo.".into()
        }
        Error::RepositoryExists { .. } => "Name another place, or push to this one.".into(),
        Error::TooNew { .. } => {
            "Install a newer zenith; this one changes nothing there.".into()
        }
        Error::NoConditionalWrites { .. } => {
            "Use a directory, or a server with conditional writes (If-None-Match). Where this home \
             is the only one that will ever write there, say so: `zenith init --single-writer \
             --storage-dest URL`."
                .into()
        }
        Error::SingleWriter { .. } => {
            "Where that home is gone for good, `zenith init --single-writer --storage-dest URL` \
             makes this one the writer; `zenith import --snapshot-path URL --snapshot-format \
             zenith` only reads."
                .into()
        }
        Error::Damaged { .. }
        | Error::BlobDamaged { .. }
        | Error::BaseMissing { .. }
        | Error::Missing { .. } => {
            "Nothing was changed. `zenith verify --read-data` shows what is touched, `zenith \
             verify --repair` brings back what the managed cluster or a remote has; for a storage \
             add --remote."
                .into()
        }
        Error::RootLost { .. } => {
            "Nothing was changed. `zenith verify --repair` goes on from there with a new root and \
             brings back the snapshots that are whole in the packs; for a storage add --remote."
                .into()
        }
        Error::NoSnapshot { .. } => "`zenith snapshot list --all` lists what there is.".into(),
        Error::RefMoved {
            name,
            expected: None,
            ..
        } => format!(
            "There is a {kind} of this name already; `zenith {kind}` lists what there is.",
            kind = name.split('/').next().unwrap_or("branch")
        ),
        Error::InUse { .. } => {
            "Nothing was removed. Move the branch or delete the tag first; `zenith snapshot list \
             --all` shows which."
                .into()
        }
        Error::NotUndone { .. } => {
            "Nothing was changed. `zenith op log` lists the operations.".into()
        }
        Error::RefMoved { .. }
        | Error::Contended { .. }
        | Error::NamesUsedUp { .. } => {
            "Somebody else was faster: run the command again.".into()
        }
        Error::ParamsDiffer { .. } => {
            "Export to an empty place: `zenith export --snapshot-path URL --snapshot-format zenith`."
                .into()
        }
        Error::Index { path, .. } => {
            format!("The index only saves time: move {path} away and run the command again.")
        }
        Error::Sealed { .. } => {
            "A home that is made for it asks for its passphrase: `zenith -D NEW init --storage-dest \
             URL`; from there, `zenith export --snapshot-path DIR` takes a cluster elsewhere."
                .into()
        }
        Error::NotSealed { .. } => {
            "Name an empty place, which is encrypted like this home; clusters come and go between \
             the two with --snapshot-format pgdata or tar."
                .into()
        }
        Error::WrongKey { .. } => {
            "Name a place of this home's own. A home for that one is `zenith -D NEW init \
             --storage-dest URL`; clusters come and go between the two with --snapshot-format \
             pgdata or tar."
                .into()
        }
        Error::WrongPassphrase { .. } => {
            "Check for another keyboard layout, upper case and white space; the passphrase of any \
             key slot will do. ZENITH_PASSPHRASE and --passphrase-file win over config.toml."
                .into()
        }
        Error::NoSlots { .. } => {
            "A home that still has its key gives the repository a new one: `zenith key add`.".into()
        }
        Error::NoSlot { .. } => "`zenith key list` lists what there is.".into(),
        Error::LastSlot { .. } => {
            "Add another passphrase first, `zenith key add`, or replace this one: `zenith key \
             change`."
                .into()
        }
        Error::File { source, .. } => return system::hints(source),
        Error::RootTooLarge { .. } => {
            "Give fewer names and snapshots at a time: one root tells of all that a command did.".into()
        }
        Error::Invalid { .. } => {
            "Run the command again with -vv, which shows what was being done.".into()
        }
    };
    vec![hint]
}

fn objects_hints(error: &ObjectsError) -> Vec<String> {
    let hint: String = match error {
        ObjectsError::NotFound { .. } => {
            "An object is missing: check the URL, and that nothing else deletes there.".into()
        }
        ObjectsError::BucketMissing { bucket, .. } => {
            format!("Create the bucket `{bucket}` first, or correct the URL.")
        }
        ObjectsError::BadCredentials { .. } => {
            "Set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION (or the names of your \
             cloud); for --snapshot-path the same with SNAPSHOT_ in front."
                .into()
        }
        ObjectsError::PermissionDenied { .. } => {
            "Give the user or key the right to read, write and list there.".into()
        }
        ObjectsError::Unreachable { .. } => {
            "Check the network and AWS_ENDPOINT_URL, then run the command again; snapshots stay \
             in the home meanwhile."
                .into()
        }
        ObjectsError::NoSpace { .. } => {
            "No space is left there: make room and run the same command again.".into()
        }
        ObjectsError::ReadOnly { .. } => {
            "Name a place on a file system that can be written.".into()
        }
        ObjectsError::HttpNotAllowed { variable, .. } => {
            format!("Set {variable}=true to allow http, or use an https endpoint.")
        }
        ObjectsError::Unsupported { .. } => {
            "zenith needs conditional writes (If-None-Match: *); use a service that has them."
                .into()
        }
        ObjectsError::Io { source, .. } => return system::hints(source),
        _ => "Check URL and settings of the storage, then run the command again.".into(),
    };
    vec![hint]
}
