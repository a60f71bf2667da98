//! Links between the pages.

use std::path::Path;

use crate::{all, page, read, top};

#[test]
fn every_link_leads_somewhere() {
    for path in all() {
        for (line, link) in page::links(&read(&path)) {
            let at = format!("{path}:{}: {link}", line + 1);
            if link.starts_with("https://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                _ => Path::new(&path)
                    .with_file_name(file)
                    .to_str()
                    .unwrap()
                    .to_owned(),
            };
            assert!(top().join(&target).exists(), "{at} leads nowhere");
            if !heading.is_empty() {
                let headings = read(&target);
                assert!(
                    headings.lines().any(|line| anchor(line) == heading),
                    "{at}: the page has no such heading"
                );
            }
        }
    }
}

#[test]
fn the_index_has_every_page() {
    let index = read("docs/README.md");
    let links: Vec<&str> = page::links(&index)
        .into_iter()
        .map(|(_, link)| link)
        .collect();
    for path in all() {
        if let Some(name) = path
            .strip_prefix("docs/")
            .filter(|name| *name != "README.md")
        {
            assert!(links.contains(&name), "docs/README.md does not link {name}");
        }
    }
}

/// What GitHub makes of a heading; nothing of other lines.
fn anchor(line: &str) -> String {
    let Some((_, title)) = line.split_once("# ").filter(|_| line.starts_with('#')) else {
        return String::new();
    };
    title
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            _ => (c.is_alphanumeric() || "-_".contains(c)).then_some(c),
        })
        .collect()
}
