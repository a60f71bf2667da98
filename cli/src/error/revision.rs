//! Hints where a name leads to no snapshot.

use zenith::revision::RevisionError;

pub fn hints(error: &RevisionError) -> Vec<String> {
    let hint: String = match error {
        RevisionError::NotFound { similar, .. } => {
            let list = "`zenith branch` lists branches, `zenith snapshot list --all` every \
                        snapshot.";
            match similar.first() {
                Some(name) => format!("Did you mean `{name}`? {list}"),
                None => list.to_owned(),
            }
        }
        RevisionError::NoRef { what, similar, .. } => {
            let list = match *what {
                "home" => "`zenith home list --remote` lists what there is.".to_owned(),
                "branch" => "`zenith branch` lists those that are here, `zenith branch --remote` \
                             those of the storage."
                    .to_owned(),
                "table or index" => "A name is `orders`, `public.orders` or `app.public.orders`; \
                                     `*` stands for any text, and quotes are as in SQL."
                    .to_owned(),
                what => format!("`zenith {what}` lists what there is."),
            };
            match similar.first() {
                Some(name) => format!("Did you mean `{name}`? {list}"),
                None => list,
            }
        }
        RevisionError::Unborn { .. } => "`zenith snapshot create` takes the first one.".into(),
        RevisionError::Ambiguous { candidates, .. } => {
            match candidates.iter().find(|name| name.contains('/')) {
                Some(full) => format!("Write the full name of the one that is meant, as `{full}`."),
                None => "Write more digits.".into(),
            }
        }
        RevisionError::TooShort { .. } => "Write at least four digits.".into(),
        RevisionError::Step { .. } => {
            "Steps are ~N, ^, @{2 hours ago}, @{2026-11-22 10:00} and @{0/3000028}.".into()
        }
        RevisionError::OtherLineage { before, .. } => {
            format!("Ask below it: `{}@{{LSN}}`.", before.short())
        }
        _ => "`zenith snapshot list` shows the history of the branch.".into(),
    };
    vec![hint]
}
