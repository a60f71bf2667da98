//! What can be typed to take clusters in and out as files: `import`, `export`.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};

use super::snapshot::DamageArgs;
use super::value::tablespace_mapping;

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Where from: a path or URL; - reads a tar from stdin
    #[arg(long, value_name = "PATH_OR_URL", value_parser = NonEmptyStringValueParser::new())]
    pub snapshot_path: String,
    /// What lies there
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = ImportFormat::Auto)]
    pub snapshot_format: ImportFormat,
    /// Branch that gets the snapshot; otherwise the one checked out
    #[arg(long, value_name = "NAME")]
    pub branch: Option<String>,
    /// What to remember about it
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    #[command(flatten)]
    pub damage: DamageArgs,
}

/// How an import finds what lies at `--snapshot-path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    /// Look and see
    Auto,
    /// A PostgreSQL data directory
    Pgdata,
    /// Base backup archives as pg_basebackup -F tar makes them
    Tar,
    /// Another zenith repository
    Zenith,
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The snapshot
    #[arg(value_name = "REV", default_value = "HEAD")]
    pub rev: String,
    /// Where to: a path or URL; FILE.tar is one tar file, - writes it to stdout
    #[arg(long, value_name = "PATH_OR_URL", value_parser = NonEmptyStringValueParser::new())]
    pub snapshot_path: String,
    /// In which format
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub snapshot_format: Option<ExportFormat>,
    /// Put a tablespace elsewhere; can be given several times
    #[arg(long, value_name = "OLD=NEW", value_parser = tablespace_mapping)]
    pub tablespace_mapping: Vec<(PathBuf, PathBuf)>,
    /// Do not wait for the disk; a power loss right after may damage the result
    #[arg(long)]
    pub no_sync: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// A PostgreSQL data directory with a backup_manifest
    Pgdata,
    /// Base backup archives as pg_basebackup -F tar makes them
    Tar,
    /// A zenith repository holding this snapshot
    Zenith,
}
