//! What happens: one file per verb.

mod agent;
mod branch;
mod checkout;
mod clone;
mod completions;
mod config;
mod cp;
mod diff;
mod export;
mod fetch;
mod gc;
mod home;
mod import;
mod init;
mod key;
mod log;
mod man;
mod op;
mod prune;
mod psql;
mod pull;
mod push;
mod remote;
mod rows;
mod scratch;
mod snapshot;
mod sql;
mod start;
mod status;
mod stop;
mod tag;
mod verify;

pub use verify::parse_sample;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::Zoned;
use zenith::head::Head;
use zenith::managed::{self, Managed, Surroundings};
use zenith::publish;
use zenith::revision::{self, RevisionError};
use zenith::store::{Repository, SnapshotId, State, World};
use zenith::sync::ORIGIN;

use crate::args::{
    DamageArgs, HomeVerb, KeyVerb, OnDamage, OpVerb, ServerArgs, SnapshotVerb, Verb,
};
use crate::config::Environment;
use crate::error::Failure;
use crate::progress::Progress;
use crate::render::place;
use crate::render::size::size;
use crate::ui::Ui;

/// All that a command works with beside its own words.
pub struct Context {
    pub ui: Ui,
    pub env: Environment,
    /// Where the home is or would be.
    pub home: PathBuf,
}

impl Context {
    pub fn new(ui: Ui, env: Environment, home: Option<&Path>) -> Self {
        // Noted while this process is still who it was started as.
        place::typed_by_root();
        let home = env.find_home(home);
        Self { ui, env, home }
    }

    /// The same for a home that the command itself names.
    pub fn at(&self, home: &Path) -> Self {
        Self {
            ui: self.ui.clone(),
            env: self.env.clone(),
            home: self.env.absolute(home),
        }
    }

    /// `-D DIR ` where a command typed here would not find this home by itself.
    pub fn as_typed(&self, shown: &str) -> String {
        if self.env.find_home(None) == self.home {
            return String::new();
        }
        format!("-D {shown} ")
    }

    /// A program of PostgreSQL for a cluster, as it can be typed where this command was: with its
    /// directory where PATH has none of that name, as the cluster's owner where root typed.
    pub fn typed(&self, managed: &Managed, pgdata: &Path, program: &str) -> String {
        let pg_bin = managed.settings.server.pg_bin.as_deref();
        place::program(program, pgdata, self.env.path.as_deref(), pg_bin)
    }

    /// What the engine is given from outside.
    pub fn around(&self) -> Surroundings {
        Surroundings {
            path: self.env.path.clone(),
            storage: self.env.storage.clone(),
            program: self.env.program.clone(),
            world: World::real(),
        }
    }

    /// The home with its saved settings; as root this process becomes its owner first.
    pub fn open(&self) -> Result<Managed, Failure> {
        self.open_for(None)
    }

    /// The same; a home that belongs to root is given to the user `give_to` first.
    pub fn open_for(&self, give_to: Option<&str>) -> Result<Managed, Failure> {
        // A home that is not there is said before anything about users.
        zenith::home::Home::open(&self.home)?;
        managed::become_owner(&self.home, give_to)?;
        self.look()
    }

    /// The home with the settings that hold, by whoever this process is.
    pub fn look(&self) -> Result<Managed, Failure> {
        let mut managed = Managed::open(&self.home)?;
        let ui = self.ui.clone();
        managed.home = managed.home.telling(move |holder| {
            ui.talk(format_args!(
                "waiting for `{}` (pid {})",
                holder.purpose, holder.pid
            ));
        });
        self.env.apply(&mut managed.settings)?;
        managed.see_through(&self.around())?;
        Ok(managed)
    }

    /// The snapshot that a text names.
    pub fn resolve(
        &self,
        managed: &Managed,
        state: &State,
        revision: &str,
    ) -> Result<SnapshotId, Failure> {
        let head = managed.home.head()?;
        let found = revision::resolve(state, &head, revision, &Zoned::now());
        Ok(found.map_err(zenith::Error::from)?)
    }

    /// The same for what is about to be read: a snapshot that lies only at the storage is fetched.
    pub fn resolve_or_fetch(
        &self,
        managed: &Managed,
        state: &State,
        revision: &str,
    ) -> Result<SnapshotId, Failure> {
        let (head, now) = (managed.home.head()?, Zoned::now());
        let not_here = match revision::resolve(state, &head, revision, &now) {
            Ok(id) => return Ok(id),
            Err(e) => e,
        };
        let refused = |e: RevisionError| Failure::from(zenith::Error::from(e));
        let asked = revision::elsewhere(state, &head, revision, &not_here);
        let Some(asked) = asked.filter(|_| managed.settings.storage_dest.is_some()) else {
            return Err(refused(not_here));
        };
        let there = zenith::remote::open(managed, &self.around(), ORIGIN)
            .and_then(|storage| Ok((storage.state()?, storage)));
        let (there, storage) = match there {
            Ok(there) => there,
            Err(zenith::Error::Store(zenith::store::Error::NotARepository { .. })) => {
                return Err(refused(not_here));
            }
            // It may be there: nobody must take it for deleted.
            Err(e) => {
                self.ui
                    .warn(format_args!("{not_here}; the storage may have it"));
                return Err(e.into());
            }
        };
        let id = match revision::resolve(&there, &head, &asked, &now) {
            Ok(id) => id,
            Err(e @ RevisionError::Ambiguous { .. }) => return Err(refused(e)),
            Err(_) => return Err(refused(not_here)),
        };
        let progress = Progress::new(&self.ui);
        let on = |event| progress.on(event);
        let operation =
            zenith::who::operation(managed.home.world(), zenith::who::verb::FETCH, id.short());
        let bytes = zenith::sync::fetch(&managed.home, &storage, id, &operation, &on)?;
        drop(progress);
        // Its packs may be here for another snapshot.
        let came = match bytes {
            0 => String::new(),
            bytes => format!("  {}", size(bytes)),
        };
        self.ui.talk(format_args!(
            "fetched {} from {}{came}",
            id.short(),
            publish::location(managed)?
        ));
        Ok(id)
    }

    /// The repository of a remote, which must be there; `origin` is where this home pushes.
    pub fn storage(&self, managed: &Managed, name: &str) -> Result<Repository, Failure> {
        Ok(zenith::remote::open(managed, &self.around(), name)?)
    }

    /// The branch that HEAD is on; `what` goes on from "say which one …".
    pub fn branch(&self, managed: &Managed, what: &str) -> Result<String, Failure> {
        match managed.home.head()? {
            Head::Branch(branch) => Ok(branch),
            Head::Detached(id) => Err(Failure::usage(format!(
                "HEAD is at {} without a branch: {what}",
                &id[..8]
            ))),
        }
    }

    /// The state of the home's repository.
    pub fn state(&self, managed: &Managed) -> Result<Arc<State>, Failure> {
        Ok(publish::local_state(managed)?)
    }

    /// A place of this machine that is about to be filled, made ready for the home's owner when
    /// root asks: after this the process is that user and can write there and nowhere else.
    pub fn give_target(&self, dir: &Path) -> Result<(), Failure> {
        Ok(managed::give_target(&self.home, dir)?)
    }

    /// Set when SIGTERM or SIGINT comes.
    pub fn stop_on_signals(&self) -> Result<Arc<AtomicBool>, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&stop))
                .map_err(|e| Failure::Bug(format!("watching signal {signal}: {e}")))?;
        }
        Ok(stop)
    }
}

impl DamageArgs {
    /// In the engine's words, if something was asked for.
    pub fn asked(self) -> Option<zenith::settings::OnDamage> {
        self.on_damage.map(|what| match what {
            OnDamage::Fail => zenith::settings::OnDamage::Fail,
            OnDamage::Warn => zenith::settings::OnDamage::Warn,
        })
    }

    /// Puts the flag in the place of what is saved, for this run.
    pub fn apply(self, settings: &mut zenith::settings::Settings) {
        if let Some(what) = self.asked() {
            settings.snapshots.on_damage = what;
        }
    }
}

impl ServerArgs {
    /// Flags before the environment.
    pub fn or_environment(mut self, env: &Environment) -> Result<Self, Failure> {
        self.storage_dest = self
            .storage_dest
            .or_else(|| env.storage_dest.clone())
            .map(|location| env.absolute_location(&location));
        if let Some(location) = &self.storage_dest {
            env.refuse_memory(location)?;
        }
        let pg_bin = self.pg_bin.or_else(|| env.pg_bin.clone());
        self.pg_bin = pg_bin.map(|dir| env.absolute(&dir));
        self.port = self.port.or(env.port()?);
        self.snapshot_interval = self.snapshot_interval.or(env.snapshot_interval()?);
        Ok(self)
    }
}

/// Whether the answer of a command is a list that may be longer than a screen.
pub fn is_long(verb: &Verb) -> bool {
    match verb {
        Verb::Log(_)
        | Verb::Diff(_)
        | Verb::Snapshot(SnapshotVerb::List(_))
        | Verb::Op(OpVerb::Log(_)) => true,
        Verb::Branch(args) => args.name.is_none(),
        Verb::Tag(args) => args.name.is_none(),
        Verb::Prune(args) => args.dry_run,
        _ => false,
    }
}

pub fn run(verb: Verb, context: &Context) -> Result<(), Failure> {
    match verb {
        Verb::Init(args) => init::run(args, context),
        Verb::Start(args) => start::run(args, context),
        Verb::Stop(args) => stop::run(&args, context),
        Verb::Status(args) => status::run(&args, context),
        Verb::Snapshot(SnapshotVerb::Create(args)) => snapshot::create(args, context),
        Verb::Snapshot(SnapshotVerb::List(args)) => snapshot::list(&args, context),
        Verb::Snapshot(SnapshotVerb::Show(args)) => snapshot::show(&args, context),
        Verb::Snapshot(SnapshotVerb::Delete(args)) => snapshot::delete(&args, context),
        Verb::Log(args) => log::run(&args, context),
        Verb::Checkout(args) => checkout::run(args, context),
        Verb::Diff(args) => diff::run(&args, context),
        Verb::Sql(args) => sql::run(&args, context),
        Verb::Psql(args) => psql::run(&args, context),
        Verb::Cp(args) => cp::run(&args, context),
        Verb::Push(args) => push::run(&args, context),
        Verb::Fetch(args) => fetch::run(&args, context),
        Verb::Pull(args) => pull::run(&args, context),
        Verb::Clone(args) => clone::run(args, context),
        Verb::Remote(args) => remote::run(args.verb, context),
        Verb::Export(args) => export::run(args, context),
        Verb::Import(args) => import::run(args, context),
        Verb::Gc(args) => gc::run(&args, context),
        Verb::Verify(args) => verify::run(&args, context),
        Verb::Undo(args) => op::undo(&args, context),
        Verb::Op(OpVerb::Log(args)) => op::log(&args, context),
        Verb::Branch(args) => branch::run(&args, context),
        Verb::Tag(args) => tag::run(&args, context),
        Verb::Home(HomeVerb::List(args)) => home::list(&args, context),
        Verb::Home(HomeVerb::Forget(args)) => home::forget(&args, context),
        Verb::Prune(args) => prune::run(args, context),
        Verb::Key(KeyVerb::List) => key::list(context),
        Verb::Key(KeyVerb::Add(args)) => key::add(&args, context),
        Verb::Key(KeyVerb::Change(args)) => key::change(&args, context),
        Verb::Key(KeyVerb::Remove(args)) => key::remove(&args, context),
        Verb::Config(_) => config::run(context),
        Verb::Completions(args) => completions::run(&args, context),
        Verb::Man(args) => man::run(&args, context),
        Verb::Agent(args) => agent::run(args, context),
    }
}
