//! `lions.toml` at the project's root: where the database lies, and the places where runs may execute.

use crate::config::backend_spec::{CommandSpec, LocalSpec, SlurmSpec};
use crate::config::diagnose::{ConfigError, Diagnostic, Problems, SourceFile, Sources, nearest};
use crate::config::text::read_text;
use crate::config::tree::{Kind, Node};
use crate::config::typed;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Its name below the project's root.
pub const PROJECT_FILE: &str = "lions.toml";

/// The kinds of backends; a backend whose name is one of them is of that kind unless it says another.
const KINDS: [&str; 3] = ["local", "slurm", "command"];
/// What may stand at the top of the file.
const KEYS: [&str; 3] = ["database", "backend", "profile"];
/// Options of `sbatch` by which lions gives jobs and finds them again, long and short, and what says the same; nothing: it is no choice.
const OWN_OPTIONS: [(&str, &str, &str); 11] = [
    ("--array", "-a", "throttle"),
    ("--job-name", "-J", ""),
    ("--output", "-o", ""),
    ("--open-mode", "", ""),
    ("--chdir", "-D", ""),
    ("--requeue", "", ""),
    ("--wrap", "", ""),
    ("--parsable", "", ""),
    ("--ntasks", "-n", ""),
    ("--signal", "", "signal-before"),
    ("--cpus-per-task", "-c", "cpus"),
];
/// The backend that needs no description.
pub const LOCAL: &str = "local";

/// A backend that can be chosen.
#[derive(Clone, Debug, PartialEq)]
pub enum BackendChoice {
    /// Processes on this machine.
    Local(LocalSpec),
    /// Jobs of Slurm.
    Slurm(Box<SlurmSpec>),
    /// Jobs of anything that has commands to submit, ask after and cancel them.
    Command(Box<CommandSpec>),
}

/// What `lions.toml` says; without the file, nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProjectFile {
    /// Where the database lies, relative to the project's root; absent: `results/lions.db`.
    pub database: Option<PathBuf>,
    /// Backends by name, the local one among them.
    pub backends: BTreeMap<String, BackendChoice>,
    /// Profiles by name: the name of a backend, and that backend with other options.
    pub profiles: BTreeMap<String, (String, BackendChoice)>,
}

impl ProjectFile {
    /// Reads the file of the project at `root`; one that is not there says nothing.
    ///
    /// # Errors
    /// It cannot be read, or everything that is wrong in it, each at its place.
    pub fn read(root: &Path) -> Result<Self, ConfigError> {
        let path = root.join(PROJECT_FILE);
        if !path.exists() {
            return Self::of_text("");
        }
        match read_text(&path) {
            Ok(Ok(text)) => Self::of_text(&text),
            Ok(Err((text, _))) => Err(refused(&text, Diagnostic::nowhere("it is not UTF-8"))),
            Err(why) => Err(refused(
                "",
                Diagnostic::nowhere(format!("cannot read it: {why}")),
            )),
        }
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// Everything that is wrong in it, each at its place.
    pub fn of_text(text: &str) -> Result<Self, ConfigError> {
        let tree = Node::parse(text, 0).map_err(|problem| refused(text, *problem))?;
        let mut problems = Problems::default();
        let file = read_tree(&tree, &mut problems);
        if problems.is_empty() {
            return Ok(file);
        }
        Err(ConfigError::new(
            sources(text),
            problems.into_iter().collect(),
        ))
    }

    /// The backend of a name, or of a profile.
    ///
    /// # Errors
    /// There is none: what was meant, or which there are.
    pub fn backend(&self, name: &str) -> Result<&BackendChoice, String> {
        self.backends.get(name).ok_or_else(|| {
            let known = self.backends.keys().map(String::as_str);
            unknown("backend", name, known)
        })
    }

    /// The backend's name and options of a profile.
    ///
    /// # Errors
    /// As [`ProjectFile::backend`].
    pub fn profile(&self, name: &str) -> Result<(&str, &BackendChoice), String> {
        let found = self.profiles.get(name);
        let found = found.map(|(backend, choice)| (backend.as_str(), choice));
        found.ok_or_else(|| unknown("profile", name, self.profiles.keys().map(String::as_str)))
    }
}

/// Says that `lions.toml` has no such thing, and what it has.
fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let near = nearest(name, known.clone());
    let help = if let Some(near) = near {
        format!("did you mean `{near}`?")
    } else {
        let known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
        if known.is_empty() {
            format!("`{PROJECT_FILE}` describes none")
        } else {
            format!("there is {}", known.join(", "))
        }
    };
    format!("there is no {what} `{name}`; {help}")
}

fn sources(text: &str) -> Sources {
    Sources(vec![SourceFile {
        name: PROJECT_FILE.to_owned(),
        text: Arc::from(text),
    }])
}

fn refused(text: &str, problem: Diagnostic) -> ConfigError {
    ConfigError::new(sources(text), vec![problem])
}

fn read_tree(tree: &Node, problems: &mut Problems) -> ProjectFile {
    let mut file = ProjectFile::default();
    let local = BackendChoice::Local(LocalSpec::default());
    file.backends.insert(LOCAL.to_owned(), local);
    // Slurm needs no option where the cluster has usual values of its own.
    let slurm = BackendChoice::Slurm(Box::default());
    file.backends.insert("slurm".to_owned(), slurm);
    for (key, _) in tree.table().unwrap_or_default() {
        if !KEYS.contains(&&*key.name) {
            let known = nearest(&key.name, KEYS).map_or_else(
                || "the file has `database`, `[backend.NAME]` and `[profile.NAME]`".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            let found = Diagnostic::new(key.place, format!("unknown key `{}`", key.name));
            problems.insert(found.help(known));
        }
    }
    if let Some(node) = tree.get("database") {
        if let Some(text) = node.text().filter(|text| !text.is_empty()) {
            file.database = Some(PathBuf::from(text));
        } else {
            let message = format!("`database` must be a string, not {}", node.kind_name());
            let found = Diagnostic::new(node.place, message);
            problems.insert(found.help("write the path of a file on a local disk"));
        }
    }
    for (name, node) in tables(tree, "backend", problems) {
        if let Some(choice) = read_backend(&name, node, &format!("backend.{name}"), problems) {
            file.backends.insert(name, choice);
        }
    }
    for (name, node) in tables(tree, "profile", problems) {
        if let Some(profile) = read_profile(&name, node, tree, &file, problems) {
            file.profiles.insert(name, profile);
        }
    }
    file
}

/// The tables below a key, by name.
fn tables<'n>(tree: &'n Node, key: &str, problems: &mut Problems) -> Vec<(String, &'n Node)> {
    let Some(node) = tree.get(key) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if let Some(entries) = node.table() {
        for (name, node) in entries {
            if node.table().is_some() {
                found.push((name.name.to_string(), node));
            } else {
                let message = format!("`{key}.{}` is no table", name.name);
                let help = format!("write `[{key}.NAME]` and the options below it");
                problems.insert(Diagnostic::new(node.place, message).help(help));
            }
        }
    } else {
        let help = format!("write `[{key}.NAME]`");
        let message = format!("`{key}` is no table");
        problems.insert(Diagnostic::new(node.place, message).help(help));
    }
    found
}

/// Types one backend's table by its kind.
fn read_backend(
    name: &str,
    node: &Node,
    path: &str,
    problems: &mut Problems,
) -> Option<BackendChoice> {
    let kind = node.get("kind");
    let word = kind.and_then(Node::text).unwrap_or(name);
    let mut options = node.clone();
    options.remove("kind");
    let read = match word {
        "local" => typed::read(&options, path, |_| None).map(BackendChoice::Local),
        "slurm" => {
            refuse_own_options(&options, problems);
            typed::read(&options, path, |_| None).map(|s| BackendChoice::Slurm(Box::new(s)))
        }
        "command" => {
            typed::read(&options, path, |_| None).map(|c| BackendChoice::Command(Box::new(c)))
        }
        other => {
            let place = kind.map_or(node.place, |kind| kind.place);
            let help = nearest(other, KINDS).map_or_else(
                || "write `kind = \"slurm\"` or `kind = \"command\"`".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            let message = match kind {
                Some(_) => format!("there is no kind `{other}` of backend"),
                None => format!("backend `{name}` does not say its `kind`"),
            };
            Err(Box::new(Diagnostic::new(place, message).help(help)))
        }
    };
    read.map_err(|problem| problems.insert(*problem)).ok()
}

/// An `extra` that gives jobs another name, or makes an array of them, would have lions look for jobs that are not there.
fn refuse_own_options(options: &Node, problems: &mut Problems) {
    let extra = options.get("extra").and_then(Node::list);
    for node in extra.unwrap_or_default() {
        let Some(word) = node.text() else {
            continue;
        };
        let means = |long: &str, short: &str| {
            let name = word.split('=').next().unwrap_or_default();
            name == long
                || (!short.is_empty() && !word.starts_with("--") && word.starts_with(short))
        };
        let own = OWN_OPTIONS
            .iter()
            .find(|(long, short, _)| means(long, short));
        if let Some((long, _, key)) = own {
            let message = format!("`{long}` of sbatch is lions' own, which finds its jobs by it");
            let help = match *key {
                "" => "leave it out".to_owned(),
                key => format!("write `{key}` instead"),
            };
            problems.insert(Diagnostic::new(node.place, message).help(help));
        }
    }
}

/// A profile is a backend's table with other values laid over it.
fn read_profile(
    name: &str,
    node: &Node,
    tree: &Node,
    file: &ProjectFile,
    problems: &mut Problems,
) -> Option<(String, BackendChoice)> {
    let Some(backend) = node.get("backend").and_then(Node::text) else {
        let message = format!("profile `{name}` does not name a backend");
        let found = Diagnostic::new(node.place, message);
        problems.insert(found.help("write `backend = \"slurm\"`, for example"));
        return None;
    };
    if let Err(why) = file.backend(backend) {
        let place = node.get("backend").map_or(node.place, |named| named.place);
        problems.insert(Diagnostic::new(place, why));
        return None;
    }
    let written = tree.get("backend").and_then(|all| all.get(backend));
    let mut merged = written.cloned().unwrap_or_else(|| Node::empty(node.place));
    let mut over = node.clone();
    over.remove("backend");
    if let Kind::Table(entries) = &over.kind {
        let kind = entries.iter().find(|(key, _)| &*key.name == "kind");
        if let Some((key, _)) = kind {
            let message = "the kind is that of the backend";
            problems.insert(Diagnostic::new(key.place, message).help("leave `kind` out"));
            return None;
        }
    }
    merged.merge(&over, None);
    merged.place = node.place;
    let choice = read_backend(backend, &merged, &format!("profile.{name}"), problems)?;
    Some((backend.to_owned(), choice))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> Vec<String> {
        let error = ProjectFile::of_text(text).unwrap_err();
        error.findings().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_profile_is_its_backend_with_other_options() {
        let text = "database = \"/local/lions.db\"\n[backend.slurm]\npartition = \"gpu\"\ngpus = \"1\"\n\
                    time = \"4:00:00\"\n[profile.long]\nbackend = \"slurm\"\ntime = \"2-00:00:00\"\n";
        let file = ProjectFile::of_text(text).unwrap();
        assert_eq!(file.database.as_deref(), Some(Path::new("/local/lions.db")));
        let (backend, BackendChoice::Slurm(spec)) = file.profile("long").unwrap() else {
            panic!("no Slurm");
        };
        assert_eq!(backend, "slurm");
        assert_eq!(spec.partition.as_deref(), Some("gpu"));
        assert_eq!(spec.time.as_deref(), Some("2-00:00:00"));
        let local = BackendChoice::Local(LocalSpec::default());
        assert_eq!(file.backend("local"), Ok(&local));
        let text = "[backend.local]\nruns-per-gpu = 2\n[profile.small]\nbackend = \"local\"\nruns-per-gpu = 8\n";
        let file = ProjectFile::of_text(text).unwrap();
        let runs = |choice: &BackendChoice| match choice {
            BackendChoice::Local(spec) => spec.runs_per_gpu.map(u32::from),
            _ => None,
        };
        assert_eq!(runs(file.backend("local").unwrap()), Some(2));
        assert_eq!(runs(file.profile("small").unwrap().1), Some(8));
    }

    #[test]
    fn options_by_which_jobs_are_given_and_found_are_not_the_users() {
        let told = wrong("[backend.slurm]\nextra = [\"--nice=9\", \"--array=1-3\", \"-J mine\"]\n");
        let own = |place: &str, option: &str, help: &str| {
            format!(
                "lions.toml:2:{place}: `{option}` of sbatch is lions' own, which finds its jobs by it ({help})"
            )
        };
        let want = [
            own("22", "--array", "write `throttle` instead"),
            own("37", "--job-name", "leave it out"),
        ];
        assert_eq!(told, want);
        let others = "[backend.slurm]\nextra = [\"--nice=100\", \"--oversubscribe\", \"--comment=--array\", \"-w n1\"]\n";
        assert!(ProjectFile::of_text(others).is_ok());
    }

    #[test]
    fn what_is_not_known_is_refused_at_its_place_with_the_nearest_name() {
        assert_eq!(
            wrong("[backend.slurm]\npartitoin = \"gpu\"\n"),
            [
                "lions.toml:2:1: unknown key `partitoin` in `backend.slurm` (did you mean `partition`?)"
            ]
        );
        assert_eq!(
            wrong("[backend.local]\njobs = 2\n"),
            ["lions.toml:2:1: unknown key `jobs` in `backend.local` (valid are `runs-per-gpu`)"]
        );
        assert_eq!(
            wrong("databse = \"x\"\n"),
            ["lions.toml:1:1: unknown key `databse` (did you mean `database`?)"]
        );
        assert_eq!(
            wrong("[backend.pbs]\nkind = \"comand\"\n"),
            ["lions.toml:2:8: there is no kind `comand` of backend (did you mean `command`?)"]
        );
        assert!(wrong("[profile.x]\nbackend = \"slrum\"\n")[0].contains("did you mean `slurm`?"));
        assert!(
            wrong("[backend.pbs]\nsubmit = [\"qsub\"]\n")[0].contains("does not say its `kind`")
        );
        let unknown = ProjectFile::of_text("")
            .unwrap()
            .backend("slrum")
            .unwrap_err();
        assert_eq!(
            unknown,
            "there is no backend `slrum`; did you mean `slurm`?"
        );
    }
}
