//! Events → a bar on a terminal, or silence. Warnings are kept apart: they are always shown.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use zenith::event::Event;

use crate::render::glyphs::Glyphs;
use crate::render::size::{rate, size};
use crate::ui::Ui;

/// Work that ends sooner draws nothing.
const SHOW_AFTER: Duration = Duration::from_millis(250);
/// Time between two drawings.
const REDRAW_EVERY: Duration = Duration::from_millis(50);

/// Time between two drawings where nothing is heard of the work.
const REDRAW_IDLE: Duration = Duration::from_millis(250);

/// Watches one long operation. Events come from any thread.
pub struct Progress {
    shared: Arc<Shared>,
    /// Draws where no event does: a phase may be silent for long.
    idle: Option<JoinHandle<()>>,
}

struct Shared {
    ui: Ui,
    begun: Instant,
    total: AtomicU64,
    done: AtomicU64,
    new: AtomicU64,
    /// Milliseconds from `begun` to the next drawing.
    next_draw: AtomicU64,
    /// The phase and when it began, in milliseconds from `begun`.
    phase: Mutex<(&'static str, u64)>,
    bar: Mutex<Option<ProgressBar>>,
    /// Warnings.
    said: Mutex<HashSet<String>>,
    ended: AtomicBool,
}

impl Progress {
    pub fn new(ui: &Ui) -> Self {
        let shared = Arc::new(Shared {
            ui: ui.clone(),
            begun: Instant::now(),
            total: AtomicU64::new(0),
            done: AtomicU64::new(0),
            new: AtomicU64::new(0),
            next_draw: AtomicU64::new(SHOW_AFTER.as_millis() as u64),
            phase: Mutex::new(("", 0)),
            bar: Mutex::new(None),
            said: Mutex::new(HashSet::new()),
            ended: AtomicBool::new(false),
        });
        let idle = ui.draws().then(|| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                while !shared.ended.load(Ordering::Acquire) {
                    std::thread::park_timeout(REDRAW_IDLE);
                    shared.draw();
                }
            })
        });
        Self { shared, idle }
    }

    /// The same with a phase that no event will tell.
    pub fn of(ui: &Ui, phase: &'static str) -> Self {
        let progress = Self::new(ui);
        progress.on(Event::Phase(phase));
        progress
    }

    /// Since this operation began.
    pub fn elapsed(&self) -> Duration {
        self.shared.begun.elapsed()
    }

    pub fn on(&self, event: Event) {
        self.shared.on(event);
    }
}

impl Drop for Progress {
    /// The line goes away: the result is said in words.
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        if let Some(idle) = self.idle.take() {
            idle.thread().unpark();
            // It only draws; that it panicked was told by the hook.
            let _ = idle.join();
        }
        if let Ok(Some(bar)) = self.shared.bar.lock().map(|mut bar| bar.take()) {
            bar.finish_and_clear();
        }
    }
}

impl Shared {
    fn on(&self, event: Event) {
        match event {
            Event::Phase(phase) => self.begin(phase),
            Event::Total { bytes } => self.total.store(bytes, Ordering::Relaxed),
            Event::Read { bytes } | Event::Placed { bytes } | Event::Sent { bytes } => {
                self.done.fetch_add(bytes, Ordering::Relaxed);
            }
            Event::New { bytes } => {
                self.new.fetch_add(bytes, Ordering::Relaxed);
            }
            // Several steps may find the same; it is said once.
            Event::Warning(text) => {
                let is_new = self
                    .said
                    .lock()
                    .map_or(true, |mut said| said.insert(text.clone()));
                if is_new {
                    self.above_bar(|ui| ui.warn(text));
                }
            }
            Event::Note(text) => self.above_bar(|ui| ui.detail(text)),
        }
        if self.ui.draws() {
            self.draw();
        }
    }

    fn begin(&self, phase: &'static str) {
        if let Ok(mut current) = self.phase.lock() {
            *current = (phase, self.millis());
        }
        self.total.store(0, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        self.ui.detail(phase);
    }

    fn above_bar(&self, say: impl FnOnce(&Ui)) {
        match self.bar.lock().ok().and_then(|bar| bar.clone()) {
            Some(bar) => bar.suspend(|| say(&self.ui)),
            None => say(&self.ui),
        }
    }

    fn draw(&self) {
        let now = self.millis();
        let due = self.next_draw.load(Ordering::Relaxed);
        let next = now + REDRAW_EVERY.as_millis() as u64;
        // One of the threads draws, the others go on.
        if now < due
            || self.ended.load(Ordering::Acquire)
            || self
                .next_draw
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        let (Ok(mut bar), Ok(phase)) = (self.bar.lock(), self.phase.lock().map(|p| *p)) else {
            return;
        };
        let bar = bar.get_or_insert_with(|| {
            ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(20))
        });
        let total = self.total.load(Ordering::Relaxed);
        let done = self.done.load(Ordering::Relaxed);
        let room = self.ui.room_for_talk();
        bar.set_style(style(
            total > 0,
            self.ui.colors_talk(),
            room,
            self.ui.glyphs(),
        ));
        bar.set_length(total);
        bar.set_position(done.min(total));
        bar.set_message(line(
            phase.0,
            done,
            total,
            self.new.load(Ordering::Relaxed),
            now - phase.1,
        ));
        bar.tick();
    }

    fn millis(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }
}

/// As wide as the terminal and no wider, since a line that wraps cannot be drawn over. The bar has
/// what the words leave of it.
fn style(with_bar: bool, colored: bool, room: usize, glyphs: Glyphs) -> ProgressStyle {
    let width = bar_width(room);
    let template = match (with_bar, colored) {
        (true, true) => format!("{{bar:{width}.green}}  {{wide_msg}}"),
        (true, false) => format!("{{bar:{width}}}  {{wide_msg}}"),
        (false, true) => "{spinner:.green} {wide_msg}".to_owned(),
        (false, false) => "{spinner} {wide_msg}".to_owned(),
    };
    ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars(glyphs.progress())
        .tick_chars(glyphs.spinner())
}

/// Columns of the bar on a terminal with so many.
fn bar_width(room: usize) -> usize {
    /// What [`line`] may take, and the space before it.
    const WORDS: usize = 74;
    room.saturating_sub(WORDS).clamp(6, 28)
}

/// `collecting  12 s`, `reading files  1.20 GB of 2.37 GB  2.10 GB/s  new 3.9 MB  1 s left`
fn line(phase: &str, done: u64, total: u64, new: u64, millis: u64) -> String {
    let seconds = millis as f64 / 1000.0;
    let mut parts = vec![phase.to_owned()];
    if done == 0 && millis >= 1000 {
        parts.push(crate::render::time::took(Duration::from_secs(
            millis / 1000,
        )));
    }
    if total > 0 {
        parts.push(format!("{} of {}", size(done.min(total)), size(total)));
    } else if done > 0 {
        parts.push(size(done));
    }
    if done > 0 {
        parts.extend(rate(done, seconds));
    }
    if new > 0 {
        parts.push(format!("new {}", size(new)));
    }
    if done > 0 && total > done && seconds > 1.0 {
        let left = (total - done) as f64 / (done as f64 / seconds);
        parts.push(format!(
            "{} left",
            crate::render::time::took(Duration::from_secs_f64(left))
        ));
    }
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_known() {
        assert_eq!(line("reading files", 0, 0, 0, 10), "reading files");
        assert_eq!(line("collecting", 0, 0, 0, 12_700), "collecting  12 s");
        assert_eq!(
            line(
                "reading files",
                1_200_000_000,
                2_400_000_000,
                3_900_000,
                2_000
            ),
            "reading files  1.20 GB of 2.40 GB  600 MB/s  new 3.9 MB  2.0 s left"
        );
        assert_eq!(
            line("sending", 5_000_000, 0, 0, 1_000),
            "sending  5.0 MB  5.0 MB/s"
        );
        assert_eq!(line("sending", 6, 5, 0, 0), "sending  5 B of 5 B");
    }

    /// At 80 columns new bytes and the time that is left are on the screen, too.
    #[test]
    fn the_bar_leaves_room_for_the_words() {
        let longest = line(
            "reading files",
            219_000_000_000,
            999_000_000_000,
            999_900_000,
            900_000,
        );
        assert!(longest.ends_with("left"), "{longest}");
        for room in [80, 100, 200] {
            let width = bar_width(room) + 2 + longest.chars().count();
            assert!(width <= room, "{room}: {width} for {longest}");
        }
        assert_eq!((bar_width(20), bar_width(80), bar_width(200)), (6, 6, 28));
    }
}
