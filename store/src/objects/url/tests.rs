//! The grammar of places, and what opening one refuses.

use super::*;

fn parse(text: &str) -> Result<StorageUrl, UrlError> {
    StorageUrl::parse(text, Path::new("/home/ann"))
}

#[test]
fn every_shape_has_one_canonical_text() {
    let check = |text: &str, canonical: &str| {
        let url = parse(text).unwrap();
        assert_eq!(url.to_string(), canonical, "{text}");
        assert_eq!(parse(canonical).unwrap(), url, "{canonical}");
    };
    check("/backup", "/backup");
    check("/backup//x/./y/", "/backup/x/y");
    check("./backup", "/home/ann/backup");
    check("backup", "/home/ann/backup");
    check("../bob", "/home/bob");
    check("C:backup", "/home/ann/C:backup");
    check("a b#c%41", "/home/ann/a b#c%41");
    check("file:///backup/a%20b", "/backup/a b");
    check("file://localhost/backup", "/backup");
    check("FILE:///backup", "/backup");
    check("s3://acme-db", "s3://acme-db");
    check("s3://acme-db/", "s3://acme-db");
    check("S3://acme-db/orders/", "s3://acme-db/orders");
    check("gs://acme/a/b", "gs://acme/a/b");
    check("az://container/prefix", "az://container/prefix");
    check("memory://one", "memory://one");
    check("memory://one/two", "memory://one/two");
}

#[test]
fn what_names_no_place_is_refused_by_name() {
    let check = |text: &str, message: &str| {
        assert_eq!(parse(text).unwrap_err().to_string(), message, "{text}");
    };
    check("", "the storage location is empty");
    check(
        "ftp://host/path",
        "`ftp://host/path` has the unknown scheme `ftp`",
    );
    check(
        "https://ann:secret@host/path",
        "`https://host/path` holds credentials",
    );
    check(
        "s3://key:secret@bucket/x",
        "`s3://bucket/x` holds credentials",
    );
    check("s3://", "`s3://` names no bucket");
    check("s3:///orders", "`s3:///orders` names no bucket");
    check(
        "s3:bucket/x",
        "`s3:bucket/x` is not a storage location: two slashes must follow the scheme",
    );
    check(
        "s3://bucket/a//b",
        "`s3://bucket/a//b` is not a storage location: \
         the prefix has an empty name, `.` or `..`",
    );
    check(
        "s3://bucket:99/x",
        "`s3://bucket:99/x` is not a storage location: \
         the bucket has a character that no bucket can have",
    );
    check(
        "s3://bucket/x?versionId=1",
        "`s3://bucket/x?versionId=1` is not a storage location: it has a query or a fragment",
    );
    check(
        "file://server/share",
        "`file://server/share` names the host `server`, \
         but only files of this machine can be reached",
    );
    check(
        "file:///a#b",
        "`file:///a#b` is not a storage location: \
         it has a query or a fragment; write `%3F` for ? and `%23` for #",
    );
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn open_error(url: &str, variables: &[(&str, &str)]) -> ObjectsError {
    let url = parse(url).unwrap();
    url.open(&environment(variables), &OpenOptions::default())
        .map(drop)
        .unwrap_err()
}

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")];

#[test]
fn an_http_endpoint_must_be_allowed() {
    let endpoint = ("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
    let error = open_error("s3://bucket", &[KEYS[0], KEYS[1], endpoint]);
    assert!(
        matches!(error, ObjectsError::HttpNotAllowed { .. }),
        "{error}"
    );
    let refused = open_error(
        "s3://bucket",
        &[KEYS[0], KEYS[1], endpoint, ("AWS_ALLOW_HTTP", "false")],
    );
    assert!(
        matches!(refused, ObjectsError::HttpNotAllowed { .. }),
        "{refused}"
    );
    let url = parse("s3://bucket").unwrap();
    let allowed = environment(&[KEYS[0], KEYS[1], endpoint, ("AWS_ALLOW_HTTP", "true")]);
    assert!(url.open(&allowed, &OpenOptions::default()).is_ok());
}

/// What it answers would otherwise pass for an answer about credentials.
#[test]
fn requests_to_an_emulator_go_to_this_machine() {
    let emulator = ("AZURE_STORAGE_USE_EMULATOR", "true");
    let goes_to = |set: &[(&str, &str)]| {
        let endpoint = Service::Azure.endpoint("az://box", &environment(set));
        endpoint.unwrap()
    };
    assert_eq!(goes_to(&[emulator]), "http://127.0.0.1:10000");
    let elsewhere = ("AZURITE_BLOB_STORAGE_URL", "http://127.0.0.1:9");
    assert_eq!(goes_to(&[emulator, elsewhere]), elsewhere.1);
    let account = ("AZURE_STORAGE_ACCOUNT_NAME", "ann");
    assert_eq!(
        goes_to(&[account, ("AZURE_STORAGE_USE_EMULATOR", "false")]),
        "https://ann.blob.core.windows.net"
    );
}

#[test]
fn an_endpoint_without_scheme_is_named() {
    let error = open_error(
        "s3://bucket",
        &[KEYS[0], KEYS[1], ("AWS_ENDPOINT_URL", "localhost:9000")],
    );
    assert!(
        matches!(error, ObjectsError::Configuration { .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("AWS_ENDPOINT_URL is `localhost:9000`"),
        "{error}"
    );
}

#[test]
fn half_a_key_pair_is_named() {
    let error = open_error("s3://bucket", &[KEYS[0]]);
    assert!(
        error.to_string().to_lowercase().contains("secretaccesskey"),
        "{error}"
    );
}

#[test]
fn gcs_and_azure_open() {
    let azure = parse("az://container/prefix").unwrap();
    let account = [
        ("AZURE_STORAGE_ACCOUNT_NAME", "acme"),
        ("AZURE_STORAGE_ACCOUNT_KEY", "a2V5"),
    ];
    let opened = azure
        .open(&environment(&account), &OpenOptions::default())
        .unwrap();
    assert_eq!(opened.location(), "az://container/prefix");

    let gcs = parse("gs://bucket").unwrap();
    let token = [("GOOGLE_BEARER_TOKEN", "token")];
    let opened = gcs
        .open(&environment(&token), &OpenOptions::default())
        .unwrap();
    assert_eq!(opened.location(), "gs://bucket");
}

#[test]
fn a_profile_is_warned_about_for_s3_only() {
    let profile = environment(&[("AWS_PROFILE", "prod")]);
    let options = OpenOptions::default();
    let warnings = parse("s3://bucket").unwrap().warnings(&profile, &options);
    assert_eq!(
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["AWS_PROFILE is set but not read; \
             set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION"]
    );
    assert!(
        parse("/backup")
            .unwrap()
            .warnings(&profile, &options)
            .is_empty()
    );
}
