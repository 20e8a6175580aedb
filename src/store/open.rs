//! Opening the file, its settings and its migrations.

use crate::base::PathError;
use crate::config::ProjectFile;
use crate::rundir::network_file_system;
use crate::store::error::StoreError;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the store lies below the project root, unless `lions.toml` says otherwise.
pub const STORE_PATH: &str = "results/lions.db";

/// Where the store of the project at `root` lies: where `lions.toml` says, or at the usual place.
///
/// # Errors
/// [`StoreError::Project`] if that file is wrong.
pub fn store_path(root: &Path) -> Result<PathBuf, StoreError> {
    let file = ProjectFile::read(root).map_err(|error| StoreError::Project(error.to_string()))?;
    Ok(root.join(file.database.unwrap_or_else(|| PathBuf::from(STORE_PATH))))
}

/// Appended to, never edited: `user_version` counts how many of them a file has.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_first.sql"),
    include_str!("migrations/0002_orders.sql"),
];

/// A writer waits so long for another one. Transactions take milliseconds; a minute is for a disk that
/// stalls, and more would hide a process that hangs with the lock.
const BUSY: Duration = Duration::from_mins(1);

/// The store, open for reading only. Nothing that is asked of it changes a state.
#[derive(Debug)]
pub struct ReadStore {
    pub(crate) conn: Connection,
}

/// The store, open for reading and writing; several may be open at once.
#[derive(Debug)]
pub struct Store {
    pub(crate) inner: ReadStore,
    /// Last seen `data_version`, which moves when another connection commits.
    pub(crate) seen: i64,
}

impl ReadStore {
    /// Opens the file at `path`, which must be there and up to date. Where nothing can be written, as in an
    /// archive, the file or a copy of it is read.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is none; another if it cannot be read or another version wrote it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let is_there = path.try_exists();
        if !is_there.map_err(|e| PathError::new("open", path, e))? {
            return Err(StoreError::Missing {
                path: path.to_owned(),
            });
        }
        let opened = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let opened = opened.and_then(|conn| Ok((user_version(&conn)?, conn)));
        let (found, conn) = match opened {
            // A log cannot be kept beside a file that cannot be written to, even for reading.
            Err(error) if is_refused(&error) => {
                let conn = open_archived(path)?;
                (user_version(&conn)?, conn)
            }
            opened => opened?,
        };
        let known = known_version();
        match found.cmp(&known) {
            std::cmp::Ordering::Less if found == 0 => Err(StoreError::TooOld { found, known }),
            std::cmp::Ordering::Less => {
                add_missing_tables(&conn, found)?;
                Ok(Self { conn })
            }
            std::cmp::Ordering::Greater => Err(StoreError::TooNew { found, known }),
            std::cmp::Ordering::Equal => Ok(Self { conn }),
        }
    }

    /// Opens the store of the project at `root`.
    ///
    /// # Errors
    /// As [`ReadStore::open`].
    pub fn of_project(root: &Path) -> Result<Self, StoreError> {
        Self::open(&store_path(root)?)
    }

    /// A number that moves when another connection commits.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn version(&self) -> Result<i64, StoreError> {
        Ok(self
            .conn
            .pragma_query_value(None, "data_version", |row| row.get(0))?)
    }
}

impl Store {
    /// Opens the file at `path`, made and brought up to date if need be.
    ///
    /// # Errors
    /// The folder cannot be made or lies on a network file system, a later version wrote the file, it is
    /// damaged, or SQLite cannot write it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let folder = path.parent().map_or_else(PathBuf::new, Path::to_owned);
        std::fs::create_dir_all(&folder).map_err(|e| PathError::new("create", &folder, e))?;
        if let Some(kind) = network_file_system(&folder)? {
            return Err(StoreError::Network { path: folder, kind });
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let mut conn = connect(path, flags)?;
        prepare(&mut conn).map_err(|error| match error {
            StoreError::Sql(why) => StoreError::Open {
                path: path.to_owned(),
                why,
            },
            other => other,
        })?;
        Ok(Self {
            inner: ReadStore { conn },
            seen: -1,
        })
    }

    /// Opens the store of the project at `root`.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn of_project(root: &Path) -> Result<Self, StoreError> {
        Self::open(&store_path(root)?)
    }

    /// The reading side.
    pub fn read(&self) -> &ReadStore {
        &self.inner
    }

    /// Writes nothing of note, to see whether the file can be written to.
    ///
    /// # Errors
    /// It cannot; whether that may pass says [`StoreError::may_pass`].
    pub fn try_write(&mut self) -> Result<(), StoreError> {
        let tx = self.writer()?;
        // What is there: a later version may have brought the file up to its own.
        let version = user_version(&tx)?;
        tx.pragma_update(None, "user_version", version)?;
        Ok(tx.commit()?)
    }

    /// Makes [`Store::changed_elsewhere`] true once more, where its answer could not be followed.
    pub fn look_again(&mut self) {
        self.seen = -1;
    }

    /// Whether another connection has committed since the last call; true the first time.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn changed_elsewhere(&mut self) -> Result<bool, StoreError> {
        let now = self.inner.version()?;
        let changed = now != self.seen;
        self.seen = now;
        Ok(changed)
    }
}

/// Gives an older file, for this reader alone, the tables that it lacks; they are empty.
fn add_missing_tables(conn: &Connection, found: u32) -> Result<(), StoreError> {
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    for sql in MIGRATIONS.iter().skip(found as usize) {
        conn.execute_batch(&sql.replace("CREATE TABLE", "CREATE TEMP TABLE"))?;
    }
    Ok(())
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).map_err(|why| StoreError::Open {
        path: path.to_owned(),
        why,
    })?;
    opened.busy_timeout(BUSY)?;
    opened.set_prepared_statement_cache_capacity(64);
    Ok(opened)
}

/// Whether the place refuses what SQLite needs, as opposed to another process that writes.
fn is_refused(error: &StoreError) -> bool {
    use rusqlite::ErrorCode::{CannotOpen, ReadOnly, SystemIoFailure};
    let (StoreError::Open { why, .. } | StoreError::Sql(why)) = error else {
        return false;
    };
    matches!(
        why.sqlite_error_code(),
        Some(CannotOpen | ReadOnly | SystemIoFailure)
    )
}

/// Opens a file where nothing can be written: on a medium for reading only, or of another user. Nobody
/// else writes it then either, so that it may be read without locks; but if it has a log with the last
/// commits, both are read from a copy.
fn open_archived(path: &Path) -> Result<Connection, StoreError> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let log = beside("-wal");
    if std::fs::metadata(&log).is_ok_and(|meta| meta.len() > 0) {
        let folder = private_folder()?;
        let opened = open_copy(path, &log, &folder);
        // What is open needs no name any more, and what could not be opened is of no use.
        drop(std::fs::remove_dir_all(&folder));
        return opened;
    }
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte));
            }
            other => uri.push_str(&format!("%{other:02x}")),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    connect(Path::new(&uri), flags)
}

/// Opens a copy in `folder` of a file and its log.
fn open_copy(path: &Path, log: &Path, folder: &Path) -> Result<Connection, StoreError> {
    let copy = folder.join("lions.db");
    crate::base::fs::copy(path, &copy)?;
    crate::base::fs::copy(log, &folder.join("lions.db-wal"))?;
    for file in [&copy, &folder.join("lions.db-wal")] {
        // The copy of a file that may only be read may only be read.
        let meta = std::fs::metadata(file).map_err(|e| PathError::new("read", file, e))?;
        let mut permissions = meta.permissions();
        #[expect(
            clippy::permissions_set_readonly_false,
            reason = "in a folder of our own"
        )]
        permissions.set_readonly(false);
        std::fs::set_permissions(file, permissions)
            .map_err(|e| PathError::new("write", file, e))?;
    }
    let conn = connect(&copy, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // The log goes into the copy.
    conn.pragma_update_and_check(None, "journal_mode", "MEMORY", |_| Ok(()))?;
    user_version(&conn)?;
    Ok(conn)
}

/// A new folder that only this user may enter.
fn private_folder() -> Result<PathBuf, StoreError> {
    let mut number = 0u32;
    loop {
        let name = format!("lions-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(&folder) {
            Ok(()) => return Ok(folder),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
            Err(e) => return Err(PathError::new("create", folder, e).into()),
        }
    }
}

/// Settings of a connection that writes, and the schema of this version.
fn prepare(conn: &mut Connection) -> Result<(), StoreError> {
    use_wal(conn)?;
    conn.pragma_update(None, "synchronous", "NORMAL")?; // run folders are synced themselves
    conn.pragma_update(None, "foreign_keys", true)?;
    migrate(conn)
}

/// Switches to write-ahead logging; the switch itself does not wait for others, so it is repeated.
fn use_wal(conn: &Connection) -> Result<(), StoreError> {
    const TRIES: u32 = 200;
    for left in (0..TRIES).rev() {
        let switched = conn
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match switched {
            Ok(_) => return Ok(()),
            Err(e) if left > 0 && is_busy(&e) => {
                tracing::debug!(left, "the store is busy, asking again");
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(
        error.sqlite_error_code(),
        Some(DatabaseBusy | DatabaseLocked)
    )
}

fn known_version() -> u32 {
    u32::try_from(MIGRATIONS.len()).expect("a short list")
}

fn user_version(conn: &Connection) -> Result<u32, StoreError> {
    Ok(conn.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

fn migrate(conn: &mut Connection) -> Result<(), StoreError> {
    let known = known_version();
    if user_version(conn)? == known {
        return Ok(());
    }
    // With the write lock from the beginning, so that of many openers one migrates and the others wait.
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = user_version(&tx)?; // another process may have been faster
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for (version, sql) in (1u32..).zip(MIGRATIONS).skip(found as usize) {
        tx.execute_batch(sql)?;
        tx.pragma_update(None, "user_version", version)?;
    }
    Ok(tx.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{digest_bytes, write_atomic};

    // A migration that was released is history. If this fails, append a new one instead.
    #[test]
    fn migrations_are_only_appended() {
        let digests: Vec<String> = MIGRATIONS
            .iter()
            .map(|sql| digest_bytes(sql.as_bytes()).short().to_owned())
            .collect();
        assert_eq!(digests, [FIRST, ORDERS]);
    }
    const FIRST: &str = "56bc7349fe99";
    const ORDERS: &str = "f2844a7b2e94";

    // What reads an older file cannot change its tables.
    #[test]
    fn migrations_after_the_first_only_make_tables() {
        for sql in &MIGRATIONS[1..] {
            let lines = sql
                .lines()
                .map(|line| line.split("--").next().unwrap_or_default());
            let text = lines.collect::<Vec<_>>().join("\n");
            for statement in text.split(';').filter(|text| !text.trim().is_empty()) {
                assert!(statement.trim().starts_with("CREATE TABLE "), "{statement}");
            }
        }
    }

    #[test]
    fn a_store_of_a_later_version_is_refused_for_reading_and_writing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lions.db");
        let store = Store::open(&path).unwrap();
        store
            .inner
            .conn
            .pragma_update(None, "user_version", 99)
            .unwrap();
        drop(store);
        let want = "the store has schema 99, this build knows up to 2; use a newer lions";
        assert_eq!(Store::open(&path).unwrap_err().to_string(), want);
        assert_eq!(ReadStore::open(&path).unwrap_err().to_string(), want);
    }

    #[test]
    fn a_file_that_is_no_database_is_called_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lions.db");
        write_atomic(&path, &[7u8; 4096]).unwrap();
        for error in [
            Store::open(&path).unwrap_err(),
            ReadStore::open(&path).unwrap_err(),
        ] {
            assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
        }
    }

    #[test]
    fn reading_a_store_that_is_not_there_says_how_to_make_one_and_makes_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lions.db");
        assert!(matches!(
            ReadStore::open(&path),
            Err(StoreError::Missing { .. })
        ));
        assert!(!path.exists());
    }

    #[test]
    fn many_processes_may_open_a_new_store_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lions.db");
        std::thread::scope(|scope| {
            let opened: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| Store::open(&path).map(drop)))
                .collect();
            for thread in opened {
                thread.join().unwrap().unwrap();
            }
        });
    }

    #[test]
    fn an_archived_store_is_read_with_the_last_commits_of_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b?/lions.db");
        let store = Store::open(&path).unwrap();
        let insert =
            "INSERT INTO sweep (name, question, content, registered) VALUES ('a','b','1',0)";
        store.inner.conn.execute_batch(insert).unwrap();
        let archive = dir.path().join("archive");
        std::fs::create_dir(&archive).unwrap();
        let copy = archive.join("lions.db");
        for suffix in ["", "-wal"] {
            let with = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
            std::fs::copy(with(&path), with(&copy)).unwrap();
        }
        let names = |conn: &Connection| -> String {
            conn.query_row("SELECT name FROM sweep", [], |row| row.get(0))
                .unwrap()
        };
        assert_eq!(names(&open_archived(&copy).unwrap()), "a");
        drop(store); // the log goes into the file
        assert_eq!(names(&open_archived(&path).unwrap()), "a");
    }

    #[test]
    fn only_a_place_that_refuses_is_read_as_an_archive() {
        use rusqlite::ffi;
        let refused = |code| {
            let source = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            is_refused(&StoreError::from(source))
        };
        for code in [
            ffi::SQLITE_CANTOPEN,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_IOERR,
        ] {
            assert!(refused(code), "{code}");
        }
        for code in [
            ffi::SQLITE_BUSY,
            ffi::SQLITE_LOCKED,
            ffi::SQLITE_FULL,
            ffi::SQLITE_NOTADB,
        ] {
            assert!(!refused(code), "{code}");
        }
    }

    #[test]
    fn a_copy_that_cannot_be_opened_leaves_no_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lions.db");
        write_atomic(&path, &[7u8; 4096]).unwrap();
        write_atomic(&dir.path().join("lions.db-wal"), b"log").unwrap();
        assert!(open_archived(&path).is_err());
        let ours = format!("lions-{}-", std::process::id());
        let of_this_test = |folder: &std::fs::DirEntry| {
            let copy = std::fs::read(folder.path().join("lions.db"));
            folder.file_name().to_string_lossy().starts_with(&ours)
                && copy.is_ok_and(|bytes| bytes == [7u8; 4096])
        };
        let mut left = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
        assert!(!left.any(|folder| of_this_test(&folder)));
    }

    #[test]
    fn a_try_at_writing_leaves_the_version_that_it_finds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lions.db");
        let (mut one, two) = (Store::open(&path).unwrap(), Store::open(&path).unwrap());
        let conn = &two.inner.conn;
        conn.pragma_update(None, "user_version", 99).unwrap();
        one.try_write().unwrap();
        assert_eq!(user_version(conn).unwrap(), 99);
    }

    #[test]
    fn a_commit_by_another_connection_is_noticed_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lions.db");
        let (mut one, two) = (Store::open(&path).unwrap(), Store::open(&path).unwrap());
        assert!(one.changed_elsewhere().unwrap());
        assert!(!one.changed_elsewhere().unwrap());
        let insert =
            "INSERT INTO sweep (name, question, content, registered) VALUES ('a','b','1',0)";
        two.inner.conn.execute_batch(insert).unwrap();
        assert!(one.changed_elsewhere().unwrap());
        assert!(!one.changed_elsewhere().unwrap());
    }
}
