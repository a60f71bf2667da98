//! Panics: bugs of ours, kept until they are told as every other error is.

use std::sync::{Arc, Mutex};

/// What panics say, kept instead of printed.
#[derive(Clone, Default)]
pub struct Panics(Arc<Mutex<Option<String>>>);

impl Panics {
    /// Takes the place of Rust's own message and backtrace.
    pub fn watch() -> Self {
        let panics = Self::default();
        let kept = panics.clone();
        std::panic::set_hook(Box::new(move |info| {
            let payload = info.payload();
            let what = payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "something that is no text".to_owned());
            let place = info
                .location()
                .map(|at| format!(" ({}:{})", at.file(), at.line()));
            let text = format!("{what}{}", place.unwrap_or_default());
            tracing::error!("internal error: {text}");
            if let Ok(mut kept) = kept.0.lock() {
                // The first one is the cause of those that follow.
                kept.get_or_insert(text);
            }
        }));
        panics
    }

    pub fn last(&self) -> String {
        let kept = self.0.lock().ok().and_then(|text| text.clone());
        kept.unwrap_or_else(|| "a panic without words".to_owned())
    }
}
