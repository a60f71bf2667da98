//! Values of the server as JSON. They stay the text they are where JSON could not hold them
//! whole: numbers keep every digit, json is embedded as it stands.

/// Types of pg_type that JSON has, too.
const BOOL: u32 = 16;
/// int8, int2, int4, oid, float4, float8, numeric.
const NUMBERS: [u32; 7] = [20, 21, 23, 26, 700, 701, 1700];
/// json, jsonb.
const JSON: [u32; 2] = [114, 3802];

/// A value in the server's text form, as JSON.
pub fn json(type_oid: u32, value: Option<&str>) -> String {
    // NaN and Infinity are none of JSON's numbers.
    let is_number = |text: &str| text.ends_with(|c: char| c.is_ascii_digit());
    match value {
        None => "null".to_owned(),
        Some("t") if type_oid == BOOL => "true".to_owned(),
        Some("f") if type_oid == BOOL => "false".to_owned(),
        Some(text) if NUMBERS.contains(&type_oid) && is_number(text) => text.to_owned(),
        // Line breaks stand between its tokens, never inside of one.
        Some(text) if JSON.contains(&type_oid) => text.replace(['\n', '\r'], " "),
        Some(text) => string(text),
    }
}

/// A JSON object of names and values that are JSON. A name that was there gets its number.
pub fn object<'a>(fields: impl Iterator<Item = (&'a str, String)>) -> String {
    let mut seen: Vec<String> = Vec::new();
    let mut out = "{".to_owned();
    for (name, value) in fields {
        let mut unique = name.to_owned();
        let mut n = 1;
        while seen.contains(&unique) {
            n += 1;
            unique = format!("{name}_{n}");
        }
        if !seen.is_empty() {
            out.push(',');
        }
        out += &string(&unique);
        out.push(':');
        out += &value;
        seen.push(unique);
    }
    out.push('}');
    out
}

/// A JSON string.
pub fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_has_is_no_string() {
        for (oid, value, expect) in [
            (16, Some("t"), "true"),
            (25, Some("t"), "\"t\""),
            (23, Some("-7"), "-7"),
            (
                1700,
                Some("123456789012345678901234567890.10"),
                "123456789012345678901234567890.10",
            ),
            (701, Some("1e+20"), "1e+20"),
            (701, Some("NaN"), "\"NaN\""),
            (1700, Some("-Infinity"), "\"-Infinity\""),
            (114, Some("{\"a\":\n1}"), "{\"a\": 1}"),
            (25, Some("a\"\n\\"), "\"a\\\"\\n\\\\\""),
            (23, None, "null"),
        ] {
            assert_eq!(json(oid, value), expect);
        }
    }

    #[test]
    fn every_name_is_there_once() {
        let fields = ["a", "b", "a", "a"].map(|name| (name, "1".to_owned()));
        assert_eq!(
            object(fields.into_iter()),
            r#"{"a":1,"b":1,"a_2":1,"a_3":1}"#
        );
    }
}
