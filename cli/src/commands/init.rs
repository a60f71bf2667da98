//! `zenith init`: a home, a cluster in it, a first snapshot, and that pushed.

use zenith::bring::Source;
use zenith::home::Home;
use zenith::init::{self, InitOptions, Initialised, Origin};
use zenith::key::{self, Need};
use zenith::settings::{EncryptionSettings, Settings};
use zeroize::Zeroizing;

use super::Context;
use crate::args::InitArgs;
use crate::error::Failure;
use crate::passphrase::{self, Ask, Sources};
use crate::progress::Progress;
use crate::render::{place, push, size, snapshot};

pub fn run(args: InitArgs, context: &Context) -> Result<(), Failure> {
    let source = match &args.snapshot_path {
        Some(path) => Some(super::import::source(path, args.snapshot_format, context)?),
        None => None,
    };
    let server = args.server.or_environment(&context.env)?;
    let pg_user = server.pg_user.clone();
    let options = InitOptions {
        storage_dest: server.storage_dest,
        branch: args.branch,
        source,
        initdb_args: args.initdb_arg,
        pg_bin: server.pg_bin,
        port: server.port,
        listen: server.listen,
        interval_secs: server
            .snapshot_interval
            .map(|interval| interval.as_secs().max(1)),
        on_damage: args.damage.asked(),
        attach_only: false,
        lazy: false,
        single_writer: args.single_writer,
        encrypt: args.encrypt,
        passphrase: None,
        encryption: EncryptionSettings {
            passphrase_file: passphrase::file(
                &context.env,
                args.passphrase.passphrase_file.as_ref(),
            ),
            passphrase_command: args.passphrase.passphrase_command,
        },
    };
    let done = init(options, pg_user.as_deref(), context)?;
    if !done.was_home {
        let at = context.as_typed(&place::path(&context.home, &context.env.current_dir));
        context.ui.talk(format_args!("next: zenith {at}start"));
    }
    Ok(())
}

/// Makes what is not there and says what that was; `start` does this, too, where there is no home.
pub fn init(
    mut options: InitOptions,
    pg_user: Option<&str>,
    context: &Context,
) -> Result<Initialised, Failure> {
    let was_there = context.home.exists();
    let made = make(&mut options, pg_user, context);
    if made.is_err() && !was_there {
        say_unfinished(context);
    }
    let done = made?;
    if context.ui.is_json() {
        let record = serde_json::json!({
            "type": "init", "v": 1,
            "home": context.home,
            "branch": done.branch,
            "id": done.tip.to_string(),
            "was_home": done.was_home,
            "origin": origin_word(&done.origin),
            "storage_dest": done.push.as_ref().map(|(location, _)| location),
        });
        context.ui.record(&record)?;
        return Ok(done);
    }
    let shown = place::path(&context.home, &context.env.current_dir);
    let line = match (&done.origin, done.was_home) {
        (Origin::Made { version }, _) => {
            format!("initialised home {shown} with PostgreSQL {version} (initdb)")
        }
        (Origin::Imported { location }, _) => {
            format!("initialised home {shown} from {location}; it starts guarded as a copy")
        }
        (Origin::Attached { location, bytes }, _) => format!(
            "attached home {shown} to {location}: {} at {}{}",
            done.branch,
            done.tip.short(),
            match bytes {
                0 => String::new(),
                bytes => format!(", {} fetched", size::size(*bytes)),
            }
        ),
        (Origin::Kept, true) => {
            format!(
                "home {shown} is initialised already: {} at {}",
                done.branch,
                done.tip.short()
            )
        }
        (Origin::Kept, false) => {
            format!(
                "initialised home {shown} with what lay there: {}",
                done.tip.short()
            )
        }
    };
    context.ui.answer(line)?;
    if let Some(report) = &done.report {
        context
            .ui
            .answer(snapshot::taken(report, &done.branch, done.snapshot_took))?;
    }
    if let Some((location, report)) = &done.push {
        context
            .ui
            .answer(push::line(report, location, done.push_took))?;
    }
    Ok(done)
}

fn make(
    options: &mut InitOptions,
    pg_user: Option<&str>,
    context: &Context,
) -> Result<Initialised, Failure> {
    ready(options, pg_user, context)?;
    let progress = Progress::new(&context.ui);
    let on = |event| progress.on(event);
    Ok(init::init(&context.home, &context.around(), options, &on)?)
}

/// What a failed init leaves is no home yet; the next one goes on with it.
fn say_unfinished(context: &Context) {
    let home = &context.home;
    if !home.exists() || home.join("config.toml").exists() {
        return;
    }
    // Directories alone are nothing to go on with. What is not empty stays.
    let dirs = [home.join("run"), home.join("log"), home.clone()];
    let removed = dirs.map(|dir| std::fs::remove_dir(dir).is_ok());
    if !removed[2] {
        let shown = place::path(home, &context.env.current_dir);
        context.ui.talk(format_args!(
            "what was made stays in {shown}: the same command goes on with it"
        ));
    }
}

/// What comes before anything is made: the right user, and a passphrase where one is needed.
pub fn ready(
    options: &mut InitOptions,
    pg_user: Option<&str>,
    context: &Context,
) -> Result<(), Failure> {
    // Before anything is made for it.
    if let (Some(source), Err(_)) = (&options.source, Home::open(&context.home)) {
        source.look()?;
    }
    // A storage that is only read is nobody's to make.
    let storage_dest = options.storage_dest.as_deref();
    init::become_user(
        &context.home,
        options.source.as_ref().and_then(Source::local_dir),
        storage_dest.filter(|_| !options.attach_only),
        pg_user,
    )?;
    options.passphrase = passphrase(options, context)?;
    Ok(())
}

/// Asks for a passphrase before anything is made, when one will be needed.
fn passphrase(
    options: &InitOptions,
    context: &Context,
) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    let mut settings = match Home::open(&context.home) {
        Ok(home) => home.settings()?,
        Err(_) => Settings::new(),
    };
    if options.storage_dest.is_some() {
        settings.storage_dest.clone_from(&options.storage_dest);
    }
    let storage = key::storage(&context.home, &context.around(), &settings)?;
    let (prompt, ask) = match key::need(&context.home, storage.as_deref(), options.encrypt)? {
        Need::Nothing => {
            refuse_unneeded(options, &settings, context)?;
            return Ok(None);
        }
        Need::New => ("passphrase of the new repository".to_owned(), Ask::Twice),
        Need::Existing { location } => (format!("passphrase of {location}"), Ask::Once),
    };
    let sources = Sources {
        file: options.encryption.passphrase_file.as_deref(),
        command: options.encryption.passphrase_command.as_deref(),
        variable: context.env.passphrase.as_ref(),
        saved: Some(&settings.encryption),
        ways: passphrase::WAYS_INIT,
    };
    let passphrase = sources.read(&context.ui, &prompt, ask)?;
    Ok(Some(Zeroizing::new(passphrase.bytes().to_vec())))
}

/// Whoever gives a passphrase takes what is there to be encrypted. A forgotten --encrypt must not
/// end in a storage in the clear, nor one that put such a repository in the place of theirs.
fn refuse_unneeded(
    options: &InitOptions,
    settings: &Settings,
    context: &Context,
) -> Result<(), Failure> {
    let is_given = context.env.passphrase.is_some() || !options.encryption.is_empty();
    if !is_given {
        return Ok(());
    }
    if context.home.join("key").exists() {
        // The environment may be set for other homes.
        if options.encrypt || !options.encryption.is_empty() {
            context.ui.warn(format_args!(
                "the passphrase that was given is not used: {} has its key already; `zenith key \
                 add` and `zenith key change` are for passphrases",
                context.home.display()
            ));
        }
        return Ok(());
    }
    let place = match &settings.storage_dest {
        Some(location) => location.clone(),
        None => context.home.display().to_string(),
    };
    Err(Failure::Passphrase {
        what: format!("a passphrase is given, but nothing is encrypted at {place}"),
        hint: "`zenith init --encrypt` makes an encrypted repository; for one in the clear, give \
               no passphrase and unset ZENITH_PASSPHRASE."
            .to_owned(),
    })
}

fn origin_word(origin: &Origin) -> &'static str {
    match origin {
        Origin::Made { .. } => "initdb",
        Origin::Imported { .. } => "import",
        Origin::Attached { .. } => "storage",
        Origin::Kept => "kept",
    }
}
