//! Which pages of a cluster are not what PostgreSQL wrote.
//!
//! Where the cluster has data checksums every page of every fork is verified on its way in, as
//! PostgreSQL does it. A page that was torn while it was read is read again. What the WAL of the
//! snapshot restores is no damage; the rest is named, recorded, and up to [`OnDamage`].

use std::io;
use std::path::Path;
use std::time::Duration;

use zenith_store::World;

use super::OnDamage;
use crate::error::{Error, Result};
use crate::facts::{Damage, DamagedPage};
use crate::pg::page::{self, PageState};
use crate::pg::{Control, Lsn};

/// Damaged pages that are named to people; the rest is counted.
const NAMED_MAX: usize = 20;
/// Damaged pages that a snapshot records; the rest is counted.
const RECORDED_MAX: usize = 1000;
/// Findings that are kept until it is known what they mean; the rest is counted.
const KEPT_MAX: usize = 100_000;
/// A torn page of a running server is read again so often, and after such a pause each time. At
/// rest one more try is for what the disk gets wrong.
const TRIES_RUNNING: u32 = 5;
const TRIES_STILL: u32 = 1;
const PAUSE: Duration = Duration::from_millis(10);
/// After "3 more pages".
const DAMAGED: &str = "are damaged";
const ODD: &str = "have flag bits that PostgreSQL does not know";

/// How pages lie in the files of a cluster, and whether they have checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bytes of a page.
    pub(crate) block_size: u32,
    /// Pages of a segment file.
    pub(crate) segment_blocks: u32,
    pub(crate) checksums: bool,
}

impl Layout {
    /// As PostgreSQL is built everywhere; for streams, where pg_control comes last.
    pub(crate) const USUAL: Layout = Layout {
        block_size: 8192,
        segment_blocks: 131_072,
        checksums: true,
    };

    pub(crate) fn of(control: &Control) -> Layout {
        Layout {
            block_size: control.block_size,
            segment_blocks: control.segment_blocks,
            checksums: control.page_checksum_version != 0,
        }
    }

    /// The number in its fork of the page at `at` in a segment file.
    fn block(&self, segment: u32, at: u64) -> u64 {
        u64::from(segment) * u64::from(self.segment_blocks) + at / u64::from(self.block_size)
    }

    /// Looks at the pages in `bytes`, which begin at `at` of the file `path` with this segment
    /// number; `at` is on the page grid. Half a page at the end of a file is none.
    pub(crate) fn look(
        &self,
        path: &str,
        segment: u32,
        bytes: &[u8],
        at: u64,
        found: &mut Vec<Finding>,
    ) {
        let pages = bytes.chunks_exact(self.block_size as usize);
        for (block, page) in (self.block(segment, at)..).zip(pages) {
            found.extend(self.judge(path, block, page));
        }
    }

    /// The same for the file itself: what does not hold is read again with `again`, which fills
    /// a page from an offset as far as it can and says how far. `bytes` gets what was judged. Of a
    /// cluster whose server is `running`, in this world, pages may be torn for a moment.
    ///
    /// Errors: those of `again`.
    pub(super) fn verify(
        &self,
        path: &str,
        segment: u32,
        bytes: &mut [u8],
        at: u64,
        running: Option<&World>,
        mut again: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
    ) -> io::Result<Vec<Finding>> {
        let mut found = Vec::new();
        self.look(path, segment, bytes, at, &mut found);
        let tries = match running {
            _ if !self.checksums => 0,
            Some(_) => TRIES_RUNNING,
            None => TRIES_STILL,
        };
        let first = self.block(segment, at);
        let size = u64::from(self.block_size);
        for _ in 0..tries {
            if found.is_empty() {
                break;
            }
            if let Some(world) = running {
                world.sleep(PAUSE);
            }
            let mut left = Vec::new();
            for finding in found {
                let offset = (finding.block - first) * size;
                let page = &mut bytes[offset as usize..(offset + size) as usize];
                let got = again(page, at + offset)?;
                if got < page.len() {
                    page[got..].fill(0);
                    // Behind the end of the file by now: replay extends or cuts it.
                    if running.is_some() {
                        continue;
                    }
                }
                left.extend(self.judge(path, finding.block, page));
            }
            found = left;
        }
        Ok(found)
    }

    fn judge(&self, path: &str, block: u64, page: &[u8]) -> Option<Finding> {
        let odd = page::unknown_flags(page);
        let reason = if self.checksums {
            match page::state(page, block as u32, true) {
                PageState::New | PageState::Good => return None,
                PageState::BadChecksum { .. } => None,
                PageState::BadHeader { reason } => Some(reason),
            }
        } else {
            odd?;
            None
        };
        Some(Finding {
            path: path.to_owned(),
            block,
            stored: page::stored_checksum(page),
            computed: page::checksum(page, block as u32),
            lsn: page::lsn(page),
            odd,
            reason,
        })
    }
}

/// A page that does not hold, or would not if the cluster had checksums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    path: String,
    block: u64,
    stored: u16,
    computed: u16,
    lsn: Lsn,
    /// Flag bits that PostgreSQL does not know.
    odd: Option<u16>,
    /// What is wrong with the header, if that is what is wrong.
    reason: Option<&'static str>,
}

impl Finding {
    /// Where there are checksums.
    fn damage(&self) -> String {
        let Finding { path, block, .. } = self;
        match self.reason {
            Some(reason) => format!("page {block} of `{path}` is damaged: {reason}"),
            None => format!(
                "page {block} of `{path}` is damaged: its checksum is {:#06x}, its content has \
                 {:#06x}",
                self.stored, self.computed
            ),
        }
    }

    /// Where there are none.
    fn oddity(&self) -> String {
        let Finding { path, block, .. } = self;
        let flags = self.odd.unwrap_or_default();
        format!(
            "page {block} of `{path}` has the flag bits {flags:#06x}, which PostgreSQL does not \
             know"
        )
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    kept: Vec<Finding>,
    more: u64,
    /// Those with odd flags apart: in a stream every page may be a finding that means nothing.
    odd: Vec<Finding>,
    more_odd: u64,
}

/// The WAL that is replayed on what was read: what a page got in it, replay puts there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replay {
    pub(crate) start: Lsn,
    pub(crate) stop: Lsn,
}

/// What the findings mean.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    /// Where there is some.
    pub(crate) damage: Option<Damage>,
    /// For people.
    pub(crate) warnings: Vec<String>,
}

impl Findings {
    pub(crate) fn add(&mut self, found: Vec<Finding>) {
        for finding in found {
            let (kept, more) = match finding.odd {
                Some(_) => (&mut self.odd, &mut self.more_odd),
                None => (&mut self.kept, &mut self.more),
            };
            if kept.len() < KEPT_MAX {
                kept.push(finding);
            } else {
                *more += 1;
            }
        }
    }

    /// `layout` is the one that holds, `looked` the one that was looked with; `is_taken` says
    /// whether a file is part of the snapshot after all.
    pub(crate) fn judge(
        mut self,
        layout: Layout,
        looked: Layout,
        replay: Option<Replay>,
        is_taken: impl Fn(&str) -> bool,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        let (size, blocks) = (layout.block_size, layout.segment_blocks);
        if (size, blocks) != (looked.block_size, looked.segment_blocks) {
            if layout.checksums {
                verdict.warnings.push(format!(
                    "the pages were not verified: they have {size} bytes, {blocks} of them in a \
                     file"
                ));
            }
            return verdict;
        }
        if layout.checksums {
            self.kept.append(&mut self.odd);
            self.more += self.more_odd;
        } else {
            (self.kept, self.more) = (self.odd, self.more_odd);
        }
        self.kept.retain(|finding| is_taken(&finding.path));
        // Threads find in any order.
        self.kept
            .sort_by(|a, b| (&a.path, a.block).cmp(&(&b.path, b.block)));
        if !layout.checksums {
            verdict.warnings = describe(&self.kept, self.more, Finding::oddity, ODD);
            return verdict;
        }
        // What lies behind the end of WAL, no server wrote.
        let restored = |f: &Finding| replay.is_some_and(|r| r.start <= f.lsn && f.lsn <= r.stop);
        self.kept.retain(|finding| !restored(finding));
        let count = self.kept.len() as u64 + self.more;
        if count == 0 {
            return verdict;
        }
        verdict.warnings = describe(&self.kept, self.more, Finding::damage, DAMAGED);
        self.kept.truncate(RECORDED_MAX);
        verdict.damage = Some(Damage {
            more: count - self.kept.len() as u64,
            pages: self
                .kept
                .into_iter()
                .map(|f| DamagedPage {
                    path: f.path,
                    block: f.block,
                    stored: f.stored,
                    computed: f.computed,
                })
                .collect(),
        });
        verdict
    }
}

/// The first of them, and how many more there are.
fn describe(
    found: &[Finding],
    more: u64,
    words: impl Fn(&Finding) -> String,
    are: &str,
) -> Vec<String> {
    let mut named: Vec<String> = found.iter().take(NAMED_MAX).map(words).collect();
    match found.len() as u64 + more - named.len() as u64 {
        0 => {}
        more => named.push(format!("{more} more pages {are}")),
    }
    named
}

impl Verdict {
    /// Lets pass what was asked to pass; `place` is where the cluster lies.
    ///
    /// Errors: `PagesDamaged`.
    pub(crate) fn pass(&self, on_damage: OnDamage, place: &Path) -> Result<()> {
        match &self.damage {
            Some(damage) if on_damage == OnDamage::Fail => Err(Error::PagesDamaged {
                place: place.to_owned(),
                count: damage.count(),
                pages: self.warnings.clone(),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout::USUAL;

    /// A page as PostgreSQL would write it.
    fn page(block: u64, lsn: u64) -> Vec<u8> {
        let mut page = vec![0; 8192];
        page[..4].copy_from_slice(&((lsn >> 32) as u32).to_le_bytes());
        page[4..8].copy_from_slice(&(lsn as u32).to_le_bytes());
        for (at, value) in [(12, 24), (14, 8192), (16, 8192), (18, 8192 | 4)] {
            page[at..at + 2].copy_from_slice(&u16::to_le_bytes(value));
        }
        page[100] = 7;
        let sum = page::checksum(&page, block as u32);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        page
    }

    /// The same with a byte flipped.
    fn damaged(block: u64, lsn: u64) -> Vec<u8> {
        let mut page = page(block, lsn);
        page[50] ^= 1;
        page
    }

    fn look(segment: u32, bytes: &[u8], at: u64) -> Vec<Finding> {
        let mut found = Vec::new();
        LAYOUT.look("base/5/1", segment, bytes, at, &mut found);
        found
    }

    fn judged(found: Vec<Finding>, replay: Option<Replay>) -> Verdict {
        let mut findings = Findings::default();
        findings.add(found);
        findings.judge(LAYOUT, LAYOUT, replay, |_| true)
    }

    fn never(_: &mut [u8], _: u64) -> io::Result<usize> {
        panic!("nothing is to be read again")
    }

    #[test]
    fn what_postgresql_wrote_is_found_good() {
        let bytes = [page(0, 5), vec![0; 8192], page(2, 7), vec![9; 100]].concat();
        let mut read = bytes.clone();
        let found = LAYOUT.verify("x", 0, &mut read, 0, Some(&World::real()), never);
        assert_eq!(found.unwrap(), []);
        assert!(read == bytes);
    }

    #[test]
    fn blocks_count_through_all_segments() {
        let first = 2 * 131_072 + 128;
        let bytes = [page(first, 5), damaged(first + 1, 5)].concat();
        let found = look(2, &bytes, 1 << 20);
        let [finding] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(finding.block, 262_273);
        let verdict = judged(found, None);
        assert!(verdict.warnings[0].starts_with("page 262273 of `base/5/1` is damaged: its ch"));
        let recorded = &verdict.damage.unwrap().pages[0];
        assert_eq!(
            (recorded.path.as_str(), recorded.block),
            ("base/5/1", 262_273)
        );
        assert_ne!(recorded.stored, recorded.computed);
    }

    #[test]
    fn a_torn_page_that_heals_is_taken_as_it_healed() {
        let (torn, whole) = (damaged(3, 5), page(3, 6));
        let mut tries = 0;
        let mut bytes = [page(2, 5), torn.clone()].concat();
        let found = LAYOUT
            .verify(
                "x",
                0,
                &mut bytes,
                2 * 8192,
                Some(&World::real()),
                |page, at| {
                    assert_eq!(at, 3 * 8192);
                    tries += 1;
                    page.copy_from_slice(if tries < 3 { &torn } else { &whole });
                    Ok(page.len())
                },
            )
            .unwrap();
        assert_eq!((found, tries), (vec![], 3));
        assert!(
            bytes[8192..] == whole,
            "what is stored is what was verified"
        );
    }

    #[test]
    fn a_page_that_stays_torn_is_reported_once() {
        let world = World::real();
        for (running, expect) in [(Some(&world), TRIES_RUNNING), (None, 1)] {
            let mut tries = 0;
            let mut bytes = damaged(0, 5);
            let found = LAYOUT.verify("x", 0, &mut bytes, 0, running, |page, _| {
                tries += 1;
                Ok(page.len())
            });
            assert_eq!((found.unwrap().len(), tries), (1, expect));
        }
    }

    #[test]
    fn a_page_behind_the_end_of_the_file_is_replays() {
        for (running, expect) in [(Some(&World::real()), 0), (None, 1)] {
            let mut bytes = damaged(0, 5);
            let found = LAYOUT.verify("x", 0, &mut bytes, 0, running, |_, _| Ok(4096));
            assert_eq!(found.unwrap().len(), expect);
        }
    }

    #[test]
    fn what_replay_restores_is_no_damage() {
        let replay = Replay {
            start: Lsn(100),
            stop: Lsn(200),
        };
        for (lsn, is_damage) in [(99, true), (100, false), (200, false), (201, true)] {
            let found = look(0, &damaged(0, lsn), 0);
            assert!(judged(found.clone(), None).damage.is_some());
            let verdict = judged(found, Some(replay));
            assert_eq!(verdict.damage.is_some(), is_damage, "{lsn}");
            assert_eq!(!verdict.warnings.is_empty(), is_damage, "{lsn}");
        }
    }

    #[test]
    fn without_checksums_only_odd_flags_are_told() {
        let mut odd = damaged(1, 5);
        odd[11] = 0x80;
        let bytes = [damaged(0, 5), odd].concat();
        let without = Layout {
            checksums: false,
            ..LAYOUT
        };
        let expect = "page 1 of `x` has the flag bits 0x8000, which PostgreSQL does not know";
        // A directory is looked at knowing that, a stream is not.
        for looked in [without, LAYOUT] {
            let mut found = Vec::new();
            looked.look("x", 0, &bytes, 0, &mut found);
            let mut findings = Findings::default();
            findings.add(found);
            let verdict = findings.judge(without, looked, None, |_| true);
            assert_eq!(
                (verdict.damage, &verdict.warnings[..]),
                (None, &[expect.to_owned()][..])
            );
        }
        let with = judged(look(0, &bytes, 0), None);
        assert_eq!(with.damage.unwrap().pages.len(), 2);
    }

    #[test]
    fn bad_headers_are_damage() {
        let mut bytes = page(0, 5);
        bytes[14..16].fill(0);
        let verdict = judged(look(0, &bytes, 0), None);
        let expect = "page 0 of `base/5/1` is damaged: pd_upper is 0, the page is not";
        assert_eq!(verdict.warnings, [expect]);
    }

    #[test]
    fn what_is_not_in_the_snapshot_is_not_told_of() {
        let mut findings = Findings::default();
        findings.add(look(0, &damaged(0, 5), 0));
        let verdict = findings.judge(LAYOUT, LAYOUT, None, |path| path != "base/5/1");
        assert_eq!(verdict, Verdict::default());
    }

    #[test]
    fn other_layouts_are_not_judged() {
        let other = Layout {
            segment_blocks: 65_536,
            ..LAYOUT
        };
        let mut findings = Findings::default();
        findings.add(look(0, &damaged(0, 5), 0));
        let verdict = findings.judge(other, LAYOUT, None, |_| true);
        assert!(verdict.damage.is_none() && verdict.warnings[0].contains("not verified"));
    }

    #[test]
    fn many_are_counted() {
        let bytes: Vec<u8> = (0..1500).flat_map(|n| damaged(n, 5)).collect();
        let verdict = judged(look(0, &bytes, 0), None);
        assert_eq!(verdict.warnings.len(), NAMED_MAX + 1);
        assert_eq!(verdict.warnings[NAMED_MAX], "1480 more pages are damaged");
        let damage = verdict.damage.unwrap();
        assert_eq!(
            (damage.pages.len(), damage.more, damage.count()),
            (1000, 500, 1500)
        );
    }

    #[test]
    fn damage_passes_only_where_it_may() {
        let place = Path::new("/c");
        let good = judged(vec![], None);
        let bad = judged(look(0, &damaged(0, 5), 0), None);
        assert!(
            good.pass(OnDamage::Fail, place).is_ok() && bad.pass(OnDamage::Warn, place).is_ok()
        );
        let error = bad.pass(OnDamage::Fail, place).unwrap_err();
        let (head, page) = (
            "1 page of the cluster in /c is damaged",
            "\npage 0 of `base/5/1` is",
        );
        assert!(
            error.to_string().starts_with(&format!("{head}{page}")),
            "{error}"
        );
    }
}
