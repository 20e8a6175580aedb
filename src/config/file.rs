//! The shape of a sweep file around the trial's configuration: header, axes, exclusions, extra
//! trials, report.

use crate::base::{counted, steers};
use crate::config::diagnose::{Diagnostic, Place, Problems, Sources, nearest, suggest};
use crate::config::expected::{ExpectedInputs, ModelSizes};
use crate::config::figure_file::read_figure;
use crate::config::halving::HalvingSpec;
use crate::config::keep::KeepPolicy;
use crate::config::peers::{fits, peer_key};
use crate::config::presets::PRESETS;
use crate::config::schema::{known_prefix, names_below, path_alike, path_of_key};
use crate::config::search::{MOST_DRAWS, RandomSearch, Search, ValueRange};
use crate::config::shape::{AxisShape, ExtraShape, FileShape, HeaderShape, PointShape};
use crate::config::struct_keys::keys_of;
use crate::config::sweep::{AxisValue, ReportSpec};
use crate::config::tree::{Key, Kind, Node};
use crate::config::typed;
use crate::config::usual::usual;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A sweep file after `extends`, before expansion.
#[derive(Debug)]
pub(crate) struct SweepFile {
    pub(crate) name: String,
    pub(crate) question: String,
    pub(crate) tags: Vec<String>,
    pub(crate) seeds: Vec<u64>,
    pub(crate) keep: KeepPolicy,
    pub(crate) keep_place: Place,
    pub(crate) base: Node,
    pub(crate) search: Option<RandomSearch>,
    pub(crate) halving: Option<HalvingFile>,
    pub(crate) axes: Vec<Axis>,
    pub(crate) excludes: Vec<Exclude>,
    pub(crate) extras: Vec<Extra>,
    pub(crate) report: ReportSpec,
    /// The tree of `[report]`, for places.
    pub(crate) report_node: Node,
    pub(crate) inputs: ExpectedInputs,
}

/// `[search.halving]` as it is written.
#[derive(Debug)]
pub(crate) struct HalvingFile {
    pub(crate) spec: HalvingSpec,
    /// Its tree, with that of `eval`.
    pub(crate) node: Node,
}

/// What `[search]` says of drawing.
#[derive(Clone, Copy, Debug)]
enum Draws {
    /// Nothing: the grid.
    None,
    /// Something wrong, which is told there.
    Wrong,
    /// So much is drawn.
    Random(RandomSearch),
}

impl Draws {
    fn random(self) -> Option<RandomSearch> {
        match self {
            Self::Random(random) => Some(random),
            Self::None | Self::Wrong => None,
        }
    }
}

/// A varied path, several varied together, or named bundles.
#[derive(Debug)]
pub(crate) struct Axis {
    pub(crate) name: String,
    pub(crate) name_place: Place,
    pub(crate) points: Vec<Point>,
    /// In a random search: the place of each draw's point.
    pub(crate) drawn: Vec<usize>,
    pub(crate) when: Vec<Condition>,
}

/// One value of an axis and what it sets.
#[derive(Debug)]
pub(crate) struct Point {
    pub(crate) value: AxisValue,
    pub(crate) place: Place,
    pub(crate) sets: Vec<Assignment>,
}

/// A path and the value laid there.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub(crate) path: Vec<Key>,
    pub(crate) value: Node,
}

/// An axis has one of these values.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) axis: String,
    pub(crate) axis_place: Place,
    pub(crate) values: Vec<(AxisValue, Place)>,
}

/// Grid points with all of these are left out.
#[derive(Debug)]
pub(crate) struct Exclude {
    pub(crate) place: Place,
    pub(crate) conditions: Vec<Condition>,
}

/// A trial outside the grid.
#[derive(Debug)]
pub(crate) struct Extra {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) sets: Vec<Assignment>,
    /// Instead of the sweep's seeds.
    pub(crate) seeds: Option<Vec<u64>>,
}

/// Whether a name is made of letters and digits of ASCII and of these `marks`, and of one at least.
pub(crate) fn is_plain(name: &str, marks: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || marks.contains(c);
    !name.is_empty() && name.chars().all(plain)
}

/// Longest name in characters: with the endings of a report's files it stays below the 255 bytes that file
/// systems take.
const LONGEST_NAME: usize = 100;

/// Why a name of fitting characters cannot name files or be typed as a word of a command, and what to
/// write.
pub(crate) fn no_file_name(what: &str, text: &str) -> Option<(String, String)> {
    let long = text.chars().count();
    if long > LONGEST_NAME {
        let message = format!(
            "{what} is {long} characters long, and file names are made of it: at most {LONGEST_NAME}"
        );
        return Some((message, "shorten it".to_owned()));
    }
    text.starts_with('-').then(|| {
        let message =
            format!("{what} `{text}` begins with `-`, which commands would read as an option");
        (message, format!("for example `{}`", made_plain(text)))
    })
}

/// What is wrong with a text that figures and pages show, if it cannot be shown: what steers a terminal or the
/// direction of text, and the two characters that XML has not.
pub(crate) fn unshowable(what: &str, text: &str) -> Option<(String, &'static str)> {
    let hidden = |c: &char| steers(*c) || matches!(c, '\u{fffe}' | '\u{ffff}');
    let wrong = text.chars().find(hidden)?;
    let number = u32::from(wrong);
    let message = format!("{what} holds the character U+{number:04X}, which cannot be shown");
    Some((message, "leave it out"))
}

/// Characters of no width that no script needs: labels that differ in them look alike.
const UNSEEN: [char; 4] = ['\u{ad}', '\u{200b}', '\u{2060}', '\u{feff}'];

/// The name that `text` was probably meant to be, of characters that every name may have.
pub(crate) fn made_plain(text: &str) -> String {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let name: String = words.join("-").chars().take(LONGEST_NAME).collect();
    if name.is_empty() {
        "study".to_owned()
    } else {
        name
    }
}

/// Whether two axis values are the same; `1` and `1.0` are.
pub(crate) fn same_value(a: &AxisValue, b: &AxisValue) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.to_bits() == b.to_bits() || (a == 0.0 && b == 0.0),
        _ => a == b,
    }
}

/// Longer lists of seeds or values are no person's, and each of them is compared with every other.
const MOST_VALUES: usize = 10_000;

/// What to write for a key that is missing.
const EXAMPLES: &[(&str, &str)] = &[
    ("sweep", "add `[sweep]` with `name`, `question` and `seeds`"),
    (
        "base",
        "add `extends = [\"base/mini.toml\"]`, whose `[base]` is complete, or `[base]` itself",
    ),
    ("name", "for example `name = \"my-study\"`"),
    ("question", "for example `question = \"What does β do?\"`"),
    ("seeds", "for example `seeds = [1, 2, 3]`"),
    ("values", "for example `values = [0.01, 0.1]`"),
    ("label", "for example `label = \"dpo\"`"),
];

/// Reads one table after another and collects what is wrong.
pub(crate) struct Reader<'a> {
    pub(crate) sources: &'a Sources,
    pub(crate) problems: &'a mut Problems,
}

impl Reader<'_> {
    fn fail(&mut self, place: Place, message: impl Into<String>, help: impl Into<String>) {
        self.problem(Diagnostic::new(place, message).help(help));
    }

    fn problem(&mut self, diagnostic: Diagnostic) {
        self.problems.insert(diagnostic);
    }

    /// Refuses keys that are not `allowed`; `what` names the table.
    fn only_keys(&mut self, node: &Node, what: &str, allowed: &[&str]) -> bool {
        let Some(entries) = node.table() else {
            let message = format!("expected a table for {what}, found {}", node.kind_name());
            let help = suggest("", allowed.iter().copied()).unwrap_or_default();
            self.fail(node.place, message, help);
            return false;
        };
        for (key, _) in entries {
            if !allowed.contains(&&*key.name) {
                let mut found =
                    Diagnostic::new(key.place, format!("unknown key `{}` in {what}", key.name));
                // The recipes that other programs' words belong to are below the root.
                let peer = peer_key(&key.name).filter(|_| allowed.contains(&"base"));
                let ours = peer.filter(|ours| fits(ours, allowed));
                found.help = ours
                    .map(|ours| format!("here it is {ours}"))
                    .or_else(|| suggest(&key.name, allowed.iter().copied()));
                self.problem(found);
            }
        }
        true
    }

    fn string(&mut self, node: &Node, what: &str) -> Option<String> {
        match node.text() {
            Some("") => self.fail(node.place, format!("{what} is empty"), "write a text"),
            Some(text) => return Some(text.to_owned()),
            None => {
                let message = format!("expected a string for {what}, found {}", node.kind_name());
                self.fail(node.place, message, "write it in quotes");
            }
        }
        None
    }

    fn list<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match node.list() {
            Some([]) => self.fail(node.place, format!("{what} is empty"), "name one at least"),
            Some(items) if items.len() > MOST_VALUES => {
                let count = items.len();
                let message =
                    format!("{what} has {count} elements, and {MOST_VALUES} are the most");
                self.fail(node.place, message, "leave some of them out");
            }
            Some(items) => return items,
            None => {
                let message = format!("expected a list for {what}, found {}", node.kind_name());
                self.fail(node.place, message, "put brackets around it: `[…]`");
            }
        }
        &[]
    }

    /// A word that may stand in file names and table headings.
    fn word(&mut self, node: &Node, what: &str) -> Option<String> {
        let text = self.string(node, what)?;
        if let Some((message, help)) = no_file_name(what, &text) {
            self.fail(node.place, message, help);
        } else if !is_plain(&text, "-_.") || text.starts_with('.') {
            let message = format!(
                "{what} `{text}` has other characters than letters, digits, `-`, `_` and `.`"
            );
            let help = format!("for example `{}`", made_plain(&text));
            self.fail(node.place, message, help);
        } else {
            return Some(text);
        }
        None
    }

    /// A text that is shown.
    fn prose(&mut self, node: &Node, what: &str) -> Option<String> {
        let text = self.string(node, what)?;
        if let Some((message, help)) = unshowable(what, &text) {
            self.fail(node.place, message, help);
            return None;
        }
        Some(text)
    }

    /// A text of one line that tables show.
    fn label(&mut self, node: &Node, what: &str) -> Option<String> {
        let text = self.string(node, what)?;
        if text.chars().any(char::is_control) || unshowable(what, &text).is_some() {
            let message = format!("{what} holds a line break or another control character");
            self.fail(
                node.place,
                message,
                "tables show it on one line; leave it out",
            );
            return None;
        }
        if text.trim() != text || text.contains(UNSEEN) {
            let message =
                format!("{what} holds a character that is not seen, or a blank at an end");
            self.fail(
                node.place,
                message,
                "another label could look like it; leave it out",
            );
            return None;
        }
        Some(text)
    }

    /// The value of `name`; a key that is probably `name` misspelt is reported as unknown already.
    fn required<'n>(&mut self, node: &'n Node, name: &str, what: &str) -> Option<&'n Node> {
        let found = node.get(name);
        let misspelt = |entries: &[(Key, Node)]| {
            let mut near = entries.iter().map(|(key, _)| nearest(&key.name, [name]));
            near.any(|near| near.is_some())
        };
        if found.is_none() && !node.table().is_some_and(misspelt) {
            let message = format!("key `{name}` is missing in {what}");
            let example = EXAMPLES.iter().find(|(key, _)| *key == name);
            let help = example.map_or("add it", |entry| entry.1);
            self.problem(Diagnostic::absent(node.place, message).help(help));
        }
        found
    }

    /// The whole file; what cannot be read is reported and left out.
    pub(crate) fn sweep_file(&mut self, root: &Node) -> Option<SweepFile> {
        self.only_keys(root, "a sweep file", keys_of::<FileShape>());
        let header = self.required(root, "sweep", "the sweep file");
        let base = self.required(root, "base", "the sweep file");
        let (header, base) = (header?, base?.clone());
        self.only_keys(header, "`sweep`", keys_of::<HeaderShape>());
        let name = self.required(header, "name", "`sweep`");
        let name = name.and_then(|node| self.word(node, "the name"));
        let question = self.required(header, "question", "`sweep`");
        let question = question.and_then(|node| self.prose(node, "the question"));
        let tags = header.get("tags").map(|node| self.list(node, "`tags`"));
        let tags = tags.unwrap_or_default().iter();
        let tags: Vec<String> = tags.filter_map(|tag| self.word(tag, "a tag")).collect();
        let seeds = self.required(header, "seeds", "`sweep`");
        let seeds = seeds.map(|node| self.seeds(node)).unwrap_or_default();
        let keep = header.get("keep").map(|node| self.keep(node));

        let (draws, halving) = match root.get("search") {
            Some(node) => self.search(node),
            None => (Draws::None, None),
        };
        let axes: Vec<Axis> = self
            .tables(root, "axis")
            .into_iter()
            .filter_map(|node| self.axis(node, draws))
            .collect();
        self.distinct_axes(&axes);
        let excludes = self
            .tables(root, "exclude")
            .into_iter()
            .map(|node| self.exclude(node))
            .collect();
        let extras: Vec<Extra> = self
            .tables(root, "trial")
            .into_iter()
            .filter_map(|node| self.extra(node))
            .collect();
        let mut names = BTreeSet::new();
        for extra in &extras {
            if !names.insert(&extra.name) {
                let message = format!("two trials are called `{}`", extra.name);
                self.fail(extra.place, message, "rename one of them");
            }
        }
        let report_node = root
            .get("report")
            .cloned()
            .unwrap_or_else(|| Node::empty(root.place));
        let report = self.report(&report_node);
        if let Some(presets) = root.get(PRESETS).filter(|node| node.table().is_none()) {
            let message = format!("expected `[presets]`, found {}", presets.kind_name());
            self.fail(presets.place, message, "write `[presets]` with one bracket");
        }
        let inputs = self.inputs(root);
        Some(SweepFile {
            name: name?,
            question: question?,
            tags,
            seeds,
            keep_place: header.nearest_place("keep"),
            keep: keep.unwrap_or_default(),
            base,
            search: draws.random(),
            halving,
            axes,
            excludes,
            extras,
            report,
            report_node,
            inputs,
        })
    }

    fn keep(&mut self, node: &Node) -> KeepPolicy {
        typed::read_all(node, "sweep.keep", |_| None).unwrap_or_else(|problems| {
            self.problems.extend(problems);
            KeepPolicy::default()
        })
    }

    /// Tables and figures; each figure is read on its own, because its keys depend on its kind.
    fn report(&mut self, node: &Node) -> ReportSpec {
        let mut rest = node.clone();
        if let Kind::Table(entries) = &mut rest.kind {
            entries.retain(|(key, _)| &*key.name != "figure");
        }
        let mut report = typed::read_all(&rest, "report", |_| None).unwrap_or_else(|problems| {
            self.problems.extend(problems);
            ReportSpec::default()
        });
        let Some(figures) = node.get("figure") else {
            return report;
        };
        let Some(items) = figures.list() else {
            let found = figures.kind_name();
            let message = format!("expected `[[report.figure]]`, found {found}");
            let help = "write `[[report.figure]]` with two brackets";
            self.fail(figures.place, message, help);
            return report;
        };
        for (index, item) in items.iter().enumerate() {
            match read_figure(item, &format!("report.figure.{index}")) {
                Ok(figure) => report.figures.push(figure),
                Err(problems) => self.problems.extend(problems),
            }
        }
        report
    }

    /// What the files say of inputs that may not be there.
    fn inputs(&mut self, root: &Node) -> ExpectedInputs {
        let Some(node) = root.get("inputs") else {
            return ExpectedInputs::new();
        };
        let inputs: ExpectedInputs =
            typed::read_all(node, "inputs", |_| None).unwrap_or_else(|problems| {
                self.problems.extend(problems);
                ExpectedInputs::new()
            });
        for (path, input) in &inputs {
            for (key, value, most) in input.shape.iter().flat_map(ModelSizes::too_large) {
                let written = node.get(path).unwrap_or(node);
                let place = written.nearest_place(&format!("shape.{key}"));
                let message = format!("`{key}` must be at most {most}, not {value}");
                self.fail(place, message, usual(key).unwrap_or_default());
            }
        }
        inputs
    }

    /// The elements of an array of tables.
    fn tables<'n>(&mut self, root: &'n Node, name: &str) -> Vec<&'n Node> {
        let Some(node) = root.get(name) else {
            return Vec::new();
        };
        let Some(items) = node.list() else {
            let message = format!("expected `[[{name}]]`, found {}", node.kind_name());
            let help = format!("write `[[{name}]]` with two brackets");
            self.fail(node.place, message, help);
            return Vec::new();
        };
        items.iter().collect()
    }

    fn seeds(&mut self, node: &Node) -> Vec<u64> {
        let mut seeds = Vec::new();
        for item in self.list(node, "`seeds`") {
            let seed = match item.kind {
                Kind::Int(value) => u64::try_from(value).ok(),
                _ => None,
            };
            match seed {
                Some(seed) if seeds.contains(&seed) => {
                    let message = format!("seed {seed} is listed twice");
                    self.fail(item.place, message, "remove one of the two");
                }
                Some(seed) => seeds.push(seed),
                None => {
                    let message = "a seed is a whole number, 0 or more";
                    self.fail(item.place, message, usual("seeds").unwrap_or_default());
                }
            }
        }
        seeds
    }

    /// Splits a dotted path; each part gets its own place where the text is written plainly.
    pub(crate) fn path(&mut self, text: &str, place: Place, layer: u32) -> Option<Vec<Key>> {
        let written = self.sources.text_at(place);
        let start = written.find(text).map(|skip| place.start + skip);
        self.path_parts(text, place, layer, start)
    }

    fn path_parts(
        &mut self,
        text: &str,
        place: Place,
        layer: u32,
        start: Option<usize>,
    ) -> Option<Vec<Key>> {
        let mut keys = Vec::new();
        let mut offset = 0;
        for part in text.split('.') {
            if part.is_empty() {
                let message = format!("the path `{text}` has an empty part");
                self.fail(place, message, "write one point between two names");
                return None;
            }
            let place = start.map_or(place, |start| Place {
                file: place.file,
                start: start + offset,
                end: start + offset + part.len(),
            });
            keys.push(Key {
                name: Arc::from(part),
                place,
                layer,
            });
            offset += part.len() + 1;
        }
        let known = known_prefix(text);
        if let Some(wrong) = keys.get(known) {
            let parts: Vec<&str> = text.split('.').take(known).collect();
            let message = match parts.as_slice() {
                [] => format!("unknown key `{}`", wrong.name),
                parts => format!("unknown key `{}` in `{}`", wrong.name, parts.join(".")),
            };
            let peer = || {
                let ours = peer_key(&wrong.name).filter(|ours| fits(ours, &names_below(&parts)));
                ours.map(|ours| format!("here it is {ours}"))
            };
            let meant = |path: &str| format!("did you mean `{path}`?");
            let help = path_of_key(text)
                .map(meant)
                .or_else(peer)
                .or_else(|| path_alike(text).map(meant))
                .unwrap_or_else(|| {
                    "`docs/reference.md` lists the paths, as does `lions schema`".to_owned()
                });
            self.fail(wrong.place, message, help);
            return None;
        }
        Some(keys)
    }

    /// A `set` table: keys are paths, quoted or not.
    fn set(&mut self, node: &Node, what: &str) -> Vec<Assignment> {
        let Some(entries) = node.table() else {
            let message = format!("expected a table for {what}, found {}", node.kind_name());
            let help = "for example `set = { \"dpo.recipe.beta\" = 0.1 }`";
            self.fail(node.place, message, help);
            return Vec::new();
        };
        let mut sets = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            if let Some(path) = self.path(&key.name, key.place, key.layer) {
                sets.push(Assignment {
                    path,
                    value: value.clone(),
                });
            }
        }
        sets
    }

    fn axis(&mut self, node: &Node, draws: Draws) -> Option<Axis> {
        if !self.only_keys(node, "an axis", keys_of::<AxisShape>()) {
            return None;
        }
        let forms = ["path", "paths", "points"];
        let given: Vec<&str> = forms
            .into_iter()
            .filter(|form| node.get(form).is_some())
            .collect();
        let [form] = given.as_slice() else {
            let (message, help) = match given.as_slice() {
                [first, second, ..] => (
                    format!("`{first}` and `{second}` cannot stand together in an axis"),
                    "keep one of them",
                ),
                _ => (
                    "an axis needs `path` and `values`, `paths` and `values`, or `points`"
                        .to_owned(),
                    "for example `path = \"dpo.recipe.beta\"` and `values = [0.01, 0.1]`",
                ),
            };
            self.fail(node.place, message, help);
            return None;
        };
        let (points, default_name) = match *form {
            "points" => {
                for other in ["values", "labels", "range"] {
                    if let Some(extra) = node.get(other) {
                        let message = format!("`{other}` does not go with `points`");
                        self.fail(
                            extra.place,
                            message,
                            "each point has its own `label` and `set`",
                        );
                    }
                }
                (self.bundles(node.get("points")?), None)
            }
            _ if node.get("range").is_some() => self.ranged(node, form)?,
            _ => self.columns(node, form)?,
        };
        let (name, name_place) = match (node.get("name"), default_name) {
            (Some(name), _) => (self.word(name, "the axis name")?, name.place),
            (None, Some((name, place))) => (name, place),
            (None, None) => {
                self.required(node, "name", "an axis with `points`");
                return None;
            }
        };
        if ["seed", "trial"].contains(&name.as_str()) {
            let message = format!("an axis cannot be called `{name}`: the word is taken");
            self.fail(name_place, message, "give it another `name`");
        }
        let (points, drawn) = match (node.get("range"), draws) {
            // What is wrong with `[search]` is told there.
            (Some(_), Draws::Wrong) => return None,
            (Some(range), _) => self.draws(range, &points, (&name, draws.random()))?,
            (None, Draws::Random(search)) => {
                let drawn = search.choices(&name, points.len());
                (points, drawn)
            }
            (None, _) => (points, Vec::new()),
        };
        self.distinct_points(&name, &points);
        let when = node
            .get("when")
            .map(|when| self.conditions(when, "`when`"))
            .unwrap_or_default();
        Some(Axis {
            name,
            name_place,
            points,
            drawn,
            when,
        })
    }

    /// `[search]`.
    fn search(&mut self, node: &Node) -> (Draws, Option<HalvingFile>) {
        let known = self.only_keys(node, "`search`", keys_of::<Search>());
        let random = node.get("random").map(|node| self.random(node));
        let halving = node.get("halving").and_then(|node| self.halving(node));
        if node.table().is_some_and(<[_]>::is_empty) {
            let help = "write `random = { draws = 20, seed = 1 }`, or remove it";
            self.fail(node.place, "`[search]` says nothing", help);
        }
        let draws = match random {
            Some(Some(random)) => Draws::Random(random),
            None if known && halving.is_some() => Draws::None,
            None | Some(None) => Draws::Wrong,
        };
        (draws, halving)
    }

    fn random(&mut self, node: &Node) -> Option<RandomSearch> {
        let read: Result<RandomSearch, _> = typed::read_all(node, "search.random", |_| None);
        match read {
            Ok(random) if (1..=MOST_DRAWS).contains(&random.draws) => Some(random),
            Ok(_) => {
                let place = node.nearest_place("draws");
                let message = format!("`draws` must be 1 to {MOST_DRAWS}");
                self.fail(place, message, "for example 20");
                None
            }
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }

    /// What is evaluated is read with the trials, since its tasks may stand in files.
    fn halving(&mut self, node: &Node) -> Option<HalvingFile> {
        self.required(node, "eval", "`search.halving`");
        let mut rest = node.clone();
        rest.remove("eval");
        match typed::read_all(&rest, "search.halving", |_| None) {
            Ok(spec) => Some(HalvingFile {
                spec,
                node: node.clone(),
            }),
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }

    /// `path` with `range`: a point that stands for those that are drawn.
    #[expect(clippy::type_complexity, reason = "as of `columns`")]
    fn ranged(&mut self, node: &Node, form: &str) -> Option<(Vec<Point>, Option<(String, Place)>)> {
        let (range, written) = (node.get("range")?, node.get(form)?);
        for other in ["values", "labels"] {
            if let Some(extra) = node.get(other) {
                let message = format!("`{other}` does not go with `range`");
                self.fail(extra.place, message, "keep one of them");
                return None;
            }
        }
        if form != "path" {
            let message = "`range` does not go with `paths`";
            self.fail(
                range.place,
                message,
                "each path is drawn by an axis of its own",
            );
            return None;
        }
        let text = self.string(written, "the path")?;
        let path = self.path(&text, written.place, 0)?;
        let name = path.last().map(|key| (key.name.to_string(), key.place));
        let sets = vec![Assignment {
            path,
            value: range.clone(),
        }];
        let point = Point {
            value: AxisValue::Null,
            place: range.place,
            sets,
        };
        Some((vec![point], name))
    }

    /// The points that are drawn of a range, and the place of each draw's.
    fn draws(
        &mut self,
        node: &Node,
        points: &[Point],
        (name, search): (&str, Option<RandomSearch>),
    ) -> Option<(Vec<Point>, Vec<usize>)> {
        let Some(search) = search else {
            let message = "a `range` is drawn from, and this sweep is a grid";
            let help = "write `[search]` with `random = { draws = 20, seed = 1 }`, or `values`";
            self.fail(node.place, message, help);
            return None;
        };
        let range: ValueRange = match typed::read_all(node, "axis.range", |_| None) {
            Ok(range) => range,
            Err(problems) => {
                self.problems.extend(problems);
                return None;
            }
        };
        if let Some((message, help)) = range.fault() {
            self.fail(node.place, message, help);
            return None;
        }
        let (values, drawn) = search.values(name, &range);
        let path = &points.first()?.sets.first()?.path;
        let point = |value: f64| {
            let kind = if range.whole {
                Kind::Int(value as i64)
            } else {
                Kind::Float(value)
            };
            let place = node.place;
            let value = Node { place, kind };
            Point {
                value: value.to_json(),
                place,
                sets: vec![Assignment {
                    path: path.clone(),
                    value,
                }],
            }
        };
        Some((values.into_iter().map(point).collect(), drawn))
    }

    /// `path` or `paths` with `values`, and perhaps `labels`; the default name is the last part of
    /// the only path.
    #[expect(clippy::type_complexity, reason = "a name with its place, once")]
    fn columns(
        &mut self,
        node: &Node,
        form: &str,
    ) -> Option<(Vec<Point>, Option<(String, Place)>)> {
        let written = node.get(form)?;
        let columns = if form == "path" {
            std::slice::from_ref(written)
        } else {
            self.list(written, "`paths`")
        };
        let mut paths = Vec::new();
        for column in columns {
            let text = self.string(column, "the path")?;
            paths.push(self.path(&text, column.place, 0)?);
        }
        let values = self.required(node, "values", "an axis with a path")?;
        let values = self.list(values, "`values`");
        let labels = match node.get("labels") {
            Some(labels) => Some(self.labels(labels, values.len())?),
            None => None,
        };
        let mut points = Vec::new();
        for (index, row) in values.iter().enumerate() {
            let cells = if form == "path" {
                std::slice::from_ref(row)
            } else {
                self.list(row, "a row of `values`")
            };
            if cells.len() != paths.len() {
                if !cells.is_empty() {
                    let (cells, paths) = (cells.len(), paths.len());
                    let (values, paths) = (counted(cells, "value"), counted(paths, "path"));
                    let message = format!("this row has {values} for {paths}");
                    self.fail(row.place, message, "write one value for each path");
                }
                continue;
            }
            let value = labels
                .as_ref()
                .map(|labels| labels[index].clone())
                .or_else(|| {
                    let shown = cells.first()?;
                    let plain = !matches!(shown.kind, Kind::List(_) | Kind::Table(_));
                    plain.then(|| shown.to_json())
                });
            let Some(value) = value else {
                let message = "a value that is a list or a table needs a label to be shown by";
                self.fail(row.place, message, "add `labels = [\"…\", …]`, one a value");
                continue;
            };
            if let Some((message, _)) = value.as_str().and_then(|text| unshowable("a value", text))
            {
                self.fail(row.place, message, "add `labels = [\"…\", …]`, one a value");
                continue;
            }
            let pairs = paths.iter().zip(cells);
            let sets = pairs.map(|(path, cell)| Assignment {
                path: path.clone(),
                value: cell.clone(),
            });
            points.push(Point {
                value,
                place: row.place,
                sets: sets.collect(),
            });
        }
        let last = paths.first().and_then(|path| path.last());
        let name = last.map(|key| (key.name.to_string(), key.place));
        Some((points, name.filter(|_| form == "path")))
    }

    fn labels(&mut self, node: &Node, count: usize) -> Option<Vec<AxisValue>> {
        let items = self.list(node, "`labels`");
        if items.len() != count {
            let (labels, values) = (counted(items.len(), "label"), counted(count, "value"));
            let message = format!("{labels} for {values}");
            self.fail(node.place, message, "write one label for each value");
            return None;
        }
        items
            .iter()
            .map(|item| self.label(item, "a label").map(AxisValue::from))
            .collect()
    }

    fn bundles(&mut self, node: &Node) -> Vec<Point> {
        let mut points = Vec::new();
        for item in self.list(node, "`points`") {
            if !self.only_keys(item, "a point of an axis", keys_of::<PointShape>()) {
                continue;
            }
            let label = self.required(item, "label", "a point of an axis");
            let label = label.and_then(|label| {
                self.label(label, "the label")
                    .map(|text| (text, label.place))
            });
            let sets = item
                .get("set")
                .map(|set| self.set(set, "`set`"))
                .unwrap_or_default();
            if let Some((label, place)) = label {
                points.push(Point {
                    value: label.into(),
                    place,
                    sets,
                });
            }
        }
        points
    }

    fn distinct_points(&mut self, name: &str, points: &[Point]) {
        for (index, point) in points.iter().enumerate() {
            if let Some(first) = points[..index]
                .iter()
                .find(|p| same_value(&p.value, &point.value))
            {
                let shown = crate::config::sweep::show_value(&point.value);
                let message = format!("axis `{name}` has the value `{shown}` twice");
                let found = Diagnostic::new(point.place, message).also(first.place, "first here");
                // Rows of `paths` are told apart by their first value.
                let several = point.sets.len() > 1;
                self.problem(found.help(if several {
                    "add `labels = [\"…\", …]`, one a row, to tell them apart"
                } else {
                    "remove one of the two"
                }));
            }
        }
    }

    fn distinct_axes(&mut self, axes: &[Axis]) {
        for (index, axis) in axes.iter().enumerate() {
            if let Some(first) = axes[..index].iter().find(|other| other.name == axis.name) {
                let message = format!("two axes are called `{}`", axis.name);
                let found = Diagnostic::new(axis.name_place, message)
                    .also(first.name_place, "the other one");
                self.problem(found.help("give one of them a `name`"));
            }
        }
    }

    /// `{ axis = value, other = [value, value] }`.
    fn conditions(&mut self, node: &Node, what: &str) -> Vec<Condition> {
        let Some(entries) = node.table() else {
            let message = format!("expected a table for {what}, found {}", node.kind_name());
            self.fail(node.place, message, "for example `{ stage = \"dpo\" }`");
            return Vec::new();
        };
        let read = |(key, value): &(Key, Node)| {
            let values = match &value.kind {
                Kind::List(items) => items
                    .iter()
                    .map(|item| (item.to_json(), item.place))
                    .collect(),
                _ => vec![(value.to_json(), value.place)],
            };
            Condition {
                axis: key.name.to_string(),
                axis_place: key.place,
                values,
            }
        };
        entries.iter().map(read).collect()
    }

    fn exclude(&mut self, node: &Node) -> Exclude {
        let conditions = self.conditions(node, "`[[exclude]]`");
        if conditions.is_empty() {
            let message = "this exclusion names no axis";
            self.fail(
                node.place,
                message,
                "write an axis and its value, or remove it",
            );
        }
        Exclude {
            place: node.place,
            conditions,
        }
    }

    fn extra(&mut self, node: &Node) -> Option<Extra> {
        self.only_keys(node, "a trial", keys_of::<ExtraShape>());
        let name = self.required(node, "name", "a trial")?;
        let place = name.place;
        let name = self.word(name, "the trial's name")?;
        let sets = node
            .get("set")
            .map(|set| self.set(set, "`set`"))
            .unwrap_or_default();
        let seeds = node.get("seeds").map(|seeds| self.seeds(seeds));
        Some(Extra {
            name,
            place,
            sets,
            seeds,
        })
    }
}
