//! The shapes of `--json` records, as the tables of docs/json.md have them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

/// Records that only a real server brings about, by the commands that answer with them. The tests
/// that have one run these, the others all the rest.
pub const WITH_SERVER: &[(&str, &[&str])] = &[
    ("init", &["init"]),
    ("start", &["start"]),
    ("stop", &["stop"]),
    ("snapshot create", &["snapshot_taken"]),
    ("import", &["snapshot_taken"]),
    ("checkout", &["checkout", "checkout_planned"]),
    ("export", &["export"]),
    ("clone", &["clone"]),
    (
        "diff",
        &[
            "diff",
            "diff_relation",
            "diff_file",
            "rows",
            "row_changed",
            "row_counts",
        ],
    ),
    ("sql", &["row", "done"]),
    // These write what programs of PostgreSQL write.
    ("psql", &[]),
    ("cp", &[]),
    ("key list", &["key_slot"]),
    ("key add", &["key"]),
    ("key change", &["key"]),
    ("key remove", &["key"]),
];

/// What a record may hold: path of a field → its JSON type and whether it may be null.
type Shape = BTreeMap<String, (String, bool)>;

/// Every record type of the page.
pub struct Shapes {
    records: BTreeMap<String, Shape>,
}

impl Shapes {
    /// Reads docs/json.md.
    pub fn documented() -> Shapes {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/json.md");
        Shapes::of(&std::fs::read_to_string(path).expect("docs/json.md is there"))
    }

    fn of(page: &str) -> Shapes {
        let mut records: BTreeMap<String, Shape> = BTreeMap::new();
        let mut current: Option<&mut Shape> = None;
        for line in page.lines() {
            if let Some(name) = line.strip_prefix("## ") {
                current = Some(records.entry(name.to_owned()).or_default());
            }
            let (Some(shape), Some(row)) = (&mut current, line.strip_prefix("| `")) else {
                continue;
            };
            let cells: Vec<&str> = row.split(" | ").collect();
            let field = cells[0].trim_end_matches('`').to_owned();
            let kind = cells[1].split(',').next().unwrap_or_default();
            let (kind, may_be_null) = match kind.strip_suffix('?') {
                Some(kind) => (kind, true),
                None => (kind, false),
            };
            assert!(
                shape
                    .insert(field, (json_type(kind), may_be_null))
                    .is_none(),
                "twice: {line}"
            );
        }
        Shapes { records }
    }

    /// The names of all types.
    pub fn names(&self) -> BTreeSet<String> {
        self.records.keys().cloned().collect()
    }

    /// Checks every line of what a command wrote, `what` saying which; the types there are.
    ///
    /// Panics: with the first record that is not as documented, or line that is no record.
    #[track_caller]
    pub fn check_lines(&self, what: &str, lines: &str) -> BTreeSet<String> {
        let checked = lines.lines().map(|line| {
            let record: Value =
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{what}: {e}: {line}"));
            if let Err(why) = self.check(&record) {
                panic!("{what}: {why}\n{line}");
            }
            record["type"].as_str().unwrap_or_default().to_owned()
        });
        checked.collect()
    }

    /// What is wrong with a record, if something is.
    pub fn check(&self, record: &Value) -> Result<(), String> {
        let name = record["type"].as_str().ok_or("it has no type")?;
        if record["v"] != 1 {
            return Err(format!("{name} has the version {}", record["v"]));
        }
        let shape = self
            .records
            .get(name)
            .ok_or_else(|| format!("docs/json.md has no section {name}"))?;
        let mut found = BTreeMap::new();
        flatten(record, "", &mut found);
        for (field, kind) in &found {
            if field == "type" || field == "v" {
                continue;
            }
            let is_value = field.match_indices('.').any(|(at, _)| {
                let above = shape.get(&field[..at]);
                above.is_some_and(|(kind, _)| kind == "values")
            });
            match shape.get(field) {
                None if kind == "object" || is_value => {}
                // An object that is not there.
                None if kind == "null" && shape.keys().any(|f| is_below(f, field)) => {}
                None => return Err(format!("{name}.{field} is not documented")),
                Some((wanted, may_be_null)) => {
                    let fits = kind == wanted
                        || (kind == "object" && wanted == "values")
                        || (kind == "null" && *may_be_null)
                        || (kind == "list" && wanted.starts_with("list of "));
                    if !fits {
                        return Err(format!("{name}.{field} is {kind}, documented as {wanted}"));
                    }
                }
            }
        }
        for field in shape.keys() {
            // Inside of a list that is empty, or of an object that is not there, is nothing to see.
            let above = field
                .rsplit_once('.')
                .and_then(|(above, _)| found.get(above));
            let is_there = found.contains_key(field)
                || above.is_some_and(|kind| kind == "null")
                || field.split_once("[].").is_some_and(|(list, _)| {
                    found
                        .get(list)
                        .is_some_and(|kind| kind == "list" || kind == "null")
                });
            if !is_there {
                return Err(format!("{name}.{field} is documented and missing"));
            }
        }
        Ok(())
    }
}

fn is_below(field: &str, above: &str) -> bool {
    let rest = field.strip_prefix(above);
    rest.is_some_and(|rest| rest.starts_with('.'))
}

fn json_type(documented: &str) -> String {
    match documented {
        "id" | "time" | "lsn" => "string",
        "string" | "integer" | "boolean" | "list of string" | "list of object" | "values" => {
            documented
        }
        other => panic!("docs/json.md has the unknown type {other}"),
    }
    .to_owned()
}

/// Path of every field → its type: `a.b` in an object, `a[].b` in a list of objects.
fn flatten(value: &Value, path: &str, found: &mut BTreeMap<String, String>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number with a fraction",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(items) if items.is_empty() => "list",
        Value::Array(items) if items.iter().all(Value::is_string) => "list of string",
        Value::Array(items) if items.iter().all(Value::is_object) => "list of object",
        Value::Array(_) => "list of several types",
        Value::Object(_) => "object",
    };
    if !path.is_empty() && !path.ends_with("[]") {
        found.insert(path.to_owned(), kind.to_owned());
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                flatten(value, &path, found);
            }
        }
        Value::Array(items) => {
            for item in items.iter().filter(|item| item.is_object()) {
                flatten(item, &format!("{path}[]"), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PAGE: &str = "\
## thing

| field | type | meaning |
|---|---|---|
| `id` | id | which |
| `size` | integer?, bytes | how large |
| `of.x` | boolean | inside |
| `parts` | list of object | parts |
| `parts[].name` | string | its name |
";

    #[test]
    fn what_is_missing_too_much_or_of_another_type_is_found() {
        let shapes = Shapes::of(PAGE);
        let good = json!({
            "type": "thing", "v": 1, "id": "x", "size": 1, "of": {"x": true},
            "parts": [{"name": "a"}],
        });
        assert_eq!(shapes.check(&good), Ok(()));
        let changed = |field: &str, value: Value| {
            let mut record = good.clone();
            record[field] = value;
            shapes.check(&record)
        };
        assert_eq!(changed("size", Value::Null), Ok(()));
        assert_eq!(changed("parts", json!([])), Ok(()));
        for (field, value) in [
            ("id", Value::Null),
            ("size", json!(1.5)),
            ("of", json!({})),
            ("of", json!({"x": true, "y": 1})),
            ("parts", json!(["a"])),
            ("parts", json!([{}])),
            ("more", json!(1)),
            ("v", json!(2)),
            ("type", json!("nothing")),
        ] {
            assert!(changed(field, value.clone()).is_err(), "{field} {value}");
        }
        let mut short = good.clone();
        short.as_object_mut().unwrap().remove("size");
        assert!(shapes.check(&short).is_err());
    }
}
