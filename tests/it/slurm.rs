//! Sweeps on schedulers, from `lions run` to the table: a Slurm that these tests script (`tests/slurm/fake`), with the odd
//! answers that real ones give, and a scheduler of three commands. `tests/slurm.sh` does it with a real one.

use crate::driver::{Driver, attempts, database, signal, wait_until, write_sweep};
use crate::project::{Project, Said};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Long enough for a test to interfere, with a state saved after each step.
const STEPS: u32 = 60;
const SAVES: &str = "[base.sft.runtime]\ncheckpoint-every-steps = 1";

const PROJECT_FILE: &str = "[backend.slurm]\npoll-seconds = 1\njobs = 4\npartition = \"main\"\n[profile.long]\nbackend = \"slurm\"\ntime = \"1-0\"\n";

/// A project and a scripted Slurm.
struct Cluster {
    project: Project,
    slurm: tempfile::TempDir,
}

impl Drop for Cluster {
    /// Jobs outlive drivers, and must not outlive a test that fails.
    fn drop(&mut self) {
        let jobs = fs::read_dir(self.slurm.path().join("jobs"));
        for job in jobs.into_iter().flatten().flatten() {
            if let Ok(pid) = fs::read_to_string(job.path().join("pid")) {
                signal("KILL", &format!("-{}", pid.trim()));
            }
        }
    }
}

impl Cluster {
    /// With the sweep `sweeps/NAME.toml`.
    fn new(name: &str, steps: u32) -> Self {
        let project = crate::tiny::project();
        write_sweep(&project, name, steps, SAVES);
        project.write("lions.toml", PROJECT_FILE);
        let slurm = tempfile::tempdir().unwrap();
        Self { project, slurm }
    }

    fn command(&self, words: &[&str]) -> Command {
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm/fake");
        let usual = std::env::var_os("PATH").unwrap_or_default();
        let path = format!("{}:{}", fake.display(), usual.display());
        let mut command = self.project.command(words);
        command
            .env("PATH", path)
            .env("FAKE_SLURM", self.slurm.path());
        command
    }

    fn run_command(&self, name: &str) -> Command {
        let file = format!("sweeps/{name}.toml");
        self.command(&["run", &file, "--backend", "slurm", "--json"])
    }

    fn lions(&self, words: &[&str]) -> Said {
        Said::of(&self.command(words).output().unwrap())
    }

    /// Makes something odd.
    fn set(&self, what: &str, text: &str) {
        let path = self.slurm.path().join(what);
        #[expect(
            clippy::disallowed_methods,
            reason = "a test's own files need not be atomic"
        )]
        fs::write(path, text).unwrap();
    }

    /// Makes it usual again.
    fn unset(&self, what: &str) {
        fs::remove_file(self.slurm.path().join(what)).unwrap();
    }

    /// The commands that were given, by the name of the program.
    fn asked(&self, program: &str) -> Vec<String> {
        let text = fs::read_to_string(self.slurm.path().join("asked")).unwrap_or_default();
        let lines = text.lines().filter(|line| line.starts_with(program));
        lines.map(str::to_owned).collect()
    }

    /// Jobs that were submitted; a rehearsal is none.
    fn submitted(&self) -> usize {
        let asked = self.asked("sbatch");
        asked
            .iter()
            .filter(|line| !line.contains("--test-only"))
            .count()
    }

    fn job_folders(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.slurm.path().join("jobs")).unwrap();
        let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        folders
    }

    /// The process that Slurm started last.
    fn job_process(&self) -> String {
        let with_pid = |folder: &PathBuf| folder.join("pid").is_file();
        let newest = |folder: &PathBuf| {
            fs::metadata(folder.join("pid"))
                .unwrap()
                .modified()
                .unwrap()
        };
        let started = self
            .job_folders()
            .into_iter()
            .filter(with_pid)
            .max_by_key(newest);
        let text = fs::read_to_string(started.unwrap().join("pid")).unwrap();
        text.trim().to_owned()
    }

    fn has_its_table(&self, sweep: &str) {
        let table = &self.project.json(&["compare", sweep])[0];
        let value = &table["rows"][0]["results"][0]["estimate"]["value"];
        assert!(value.is_f64(), "{table}");
    }

    /// State of every attempt at the training.
    fn trainings(&self) -> Vec<String> {
        attempts(&self.project, "sft")
            .into_iter()
            .map(|(state, _)| state)
            .collect()
    }

    fn attempt_folder(&self, event: &Value) -> PathBuf {
        let run = &event["run"].as_str().unwrap()[..12];
        let number = event["attempt"].as_u64().unwrap();
        self.project
            .path(format!("results/runs/{run}/attempts/{number:03}"))
    }

    /// Waits until an attempt has saved a state.
    fn wait_for_state(&self, event: &Value) {
        let events = self.attempt_folder(event).join("events.jsonl");
        wait_until("a saved state", || {
            let told = fs::read_to_string(&events).unwrap_or_default();
            told.contains("\"checkpointed\"")
        });
    }
}

#[test]
fn a_sweep_waits_at_slurm_says_why_and_comes_to_its_table() {
    let cluster = Cluster::new("waits", 5);
    cluster.set("hold", "Priority");
    let mut driver = Driver::start(&mut cluster.run_command("waits"));
    let queued = loop {
        let queued = driver.wait("run-queued");
        if queued["reason"] == "Priority" {
            break queued;
        }
    };
    let why = cluster.lions(&["why", &queued["run"].as_str().unwrap()[..12]]);
    assert!(
        why.out.contains("has waited at the scheduler") && why.out.contains("Priority"),
        "{why:?}"
    );
    let status = cluster.lions(&["status", "waits"]);
    assert!(
        status.out.contains("waits at the scheduler: Priority"),
        "{status:?}"
    );
    cluster.unset("hold");
    driver.wait("run-started");
    let ended = driver.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(cluster.trainings(), ["succeeded"]);
    cluster.has_its_table("waits");
    let asked = cluster.asked("sbatch");
    let want = [
        "--array=0",
        "--no-requeue",
        "--signal=B:USR1@180",
        "--partition=main",
        "--job-name=lions-",
    ];
    assert!(want.iter().all(|word| asked[1].contains(word)), "{asked:?}");
}

// A controller that is down, a word that no version has, somebody else's job under the number of ours, no accounting.
#[test]
fn odd_answers_of_slurm_cost_no_attempt() {
    let cluster = Cluster::new("odd", STEPS);
    cluster.set("word", "INVENTED");
    cluster.set(
        "more",
        "slurm_load_jobs: noise\n1|0|theirs|FAILED|None\n1|N/A|theirs|TIMEOUT|None\n",
    );
    let mut driver = Driver::start(&mut cluster.run_command("odd"));
    let started = driver.wait("run-started");
    cluster.set("down", "");
    cluster.wait_for_state(&started);
    let looks = cluster.asked("squeue").len();
    wait_until("looks in vain", || {
        cluster.asked("squeue").len() > looks + 2
    });
    cluster.unset("down");
    cluster.set("forget", "");
    let ended = driver.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(cluster.trainings(), ["succeeded"]);
    assert_eq!(
        cluster.asked("sacct").len(),
        1,
        "accounting that is off is asked once"
    );
    cluster.has_its_table("odd");
}

// The socket times out after the controller has taken the job: it is found by its name.
#[test]
fn a_submission_that_seemed_to_fail_is_not_made_twice() {
    let cluster = Cluster::new("lost", 5);
    cluster.set("lost", "");
    let ended = Driver::start(&mut cluster.run_command("lost")).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(cluster.trainings(), ["succeeded"]);
    assert_eq!(cluster.submitted(), 2, "the training and its evaluation");
    cluster.has_its_table("lost");
}

#[test]
fn a_driver_that_is_killed_while_its_jobs_wait_or_run_is_followed_by_one_that_adopts_them() {
    let cluster = Cluster::new("adopted", STEPS);
    cluster.set("hold", "Resources");
    let mut driver = Driver::start(&mut cluster.run_command("adopted"));
    driver.wait("run-queued");
    drop(driver); // as `kill -9` does it
    let mut driver = Driver::start(&mut cluster.run_command("adopted"));
    assert_eq!(driver.wait("run-adopted")["attempt"], 1);
    // That it begins is told by who saw it wait; the evaluation's beginning is another.
    driver.wait("run-queued");
    cluster.unset("hold");
    cluster.wait_for_state(&driver.wait("run-started"));
    drop(driver);
    let mut driver = Driver::start(&mut cluster.run_command("adopted"));
    driver.wait("run-adopted");
    let ended = driver.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(cluster.trainings(), ["succeeded"]);
    assert_eq!(cluster.submitted(), 2, "the training and its evaluation");
    cluster.has_its_table("adopted");
}

// Its handle is stored and nothing submitted: the job is found nowhere, and the run has another attempt.
#[test]
fn a_driver_that_dies_between_record_and_submission_loses_no_run() {
    let cluster = Cluster::new("between", 5);
    cluster.set("refuse", "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)");
    let mut driver = Driver::start(&mut cluster.run_command("between"));
    let queued = driver.wait("run-queued");
    assert!(
        queued["reason"]
            .as_str()
            .unwrap()
            .contains("does not take it"),
        "{queued}"
    );
    drop(driver);
    cluster.unset("refuse");
    let mut driver = Driver::start(&mut cluster.run_command("between"));
    driver.wait("run-adopted");
    let ended = driver.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(cluster.trainings(), ["interrupted", "succeeded"]);
    cluster.has_its_table("between");
}

#[test]
fn a_driver_that_is_asked_to_stop_leaves_its_jobs_and_the_next_one_takes_them_over() {
    let cluster = Cluster::new("left", STEPS);
    let mut driver = Driver::start(&mut cluster.run_command("left"));
    let started = driver.wait("run-started");
    cluster.wait_for_state(&started);
    signal("TERM", &driver.pid());
    assert_eq!(driver.wait("leaving")["attempts"], 1);
    assert_eq!(driver.end().code, Some(130));
    assert!(cluster.asked("scancel").is_empty());
    let ended = Driver::start(&mut cluster.run_command("left")).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(cluster.trainings(), ["succeeded"]);
    cluster.has_its_table("left");
}

#[test]
fn an_attempt_whose_time_runs_out_saves_its_state_and_the_next_one_goes_on() {
    let cluster = Cluster::new("limit", STEPS);
    let mut driver = Driver::start(&mut cluster.run_command("limit"));
    let started = driver.wait("run-started");
    cluster.wait_for_state(&started);
    // What `--signal=B:USR1@…` sends goes to the process that the script has become.
    let job = cluster.job_process();
    let mut find = Command::new("sh");
    let watcher = find.args([
        "-c",
        "ps -o pid=,args= -g \"$0\" | grep ' job --manifest' | head -1",
        &job,
    ]);
    let line = String::from_utf8(watcher.output().unwrap().stdout).unwrap();
    signal("USR1", line.split_whitespace().next().unwrap());
    let interrupted = driver.wait("run-interrupted");
    assert_eq!(interrupted["run"], started["run"]);
    let ended = driver.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(cluster.trainings(), ["interrupted", "succeeded"]);
    let events = cluster
        .attempt_folder(&started)
        .with_file_name("002")
        .join("events.jsonl");
    assert!(fs::read_to_string(events).unwrap().contains("\"resumed\""));
    cluster.has_its_table("limit");
}

/// In place of the program: the first attempt of every run loses its card on `node7.example`.
const LOSES_CARDS: &str = r#"#!/bin/bash
manifest=$5 index=$7
read -r run attempt < <(sed -n "$((index + 1))p" "$manifest")
if [ "$attempt" = 1 ]; then
    dir=$2/results/runs/${run:0:12}/attempts/001
    echo node7.example > "$dir/begun"
    echo '{"format":1}' > "$dir/events.jsonl"
    echo '{"kind":"failed","class":"device-fault","message":"the card answers no more"}' >> "$dir/events.jsonl"
    echo '{"code":1,"signal":null}' > "$dir/ended.json"
    exit 1
fi
exec PROGRAM "$@"
"#;

#[test]
fn a_node_that_loses_cards_under_two_runs_is_left_out_of_later_jobs() {
    use std::os::unix::fs::PermissionsExt as _;
    let two = "[[axis]]\npath = \"sft.recipe.optimizer.learning-rate\"\nvalues = [1e-3, 1e-4]";
    let cluster = Cluster::new("faulty", 5);
    write_sweep(&cluster.project, "faulty", 5, two);
    let program = cluster.project.path("loses-cards");
    let text = LOSES_CARDS.replace("PROGRAM", env!("CARGO_BIN_EXE_lions"));
    cluster.project.write("loses-cards", text);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let spec = PROJECT_FILE.replace(
        "jobs = 4\npartition = \"main\"\n",
        &format!(
            "jobs = 1\npartition = \"main\"\nexclude = \"old1\"\nprogram = \"{}\"\n",
            program.display()
        ),
    );
    cluster.project.write("lions.toml", spec);
    let ended = Driver::start(&mut cluster.run_command("faulty")).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let warned = ended
        .events
        .iter()
        .filter(|event| event["kind"] == "warning");
    let told: Vec<String> = warned.map(|event| event["message"].to_string()).collect();
    let wanted = "cards of `node7.example` were lost under two runs, one after the other";
    assert!(told.iter().any(|told| told.contains(wanted)), "{told:?}");
    let asked = cluster.asked("sbatch");
    assert!(asked[0].contains("--exclude=old1 "), "{asked:?}");
    assert!(
        asked.last().unwrap().contains("--exclude=old1,node7 "),
        "{asked:?}"
    );
    cluster.has_its_table("faulty");
}

// A controller that comes back with an older state kills a job that it takes for pending, and starts it again.
#[test]
fn a_job_that_slurm_starts_twice_leaves_its_attempt_alone_and_the_next_one_goes_on() {
    let cluster = Cluster::new("twice", STEPS);
    let mut driver = Driver::start(&mut cluster.run_command("twice"));
    let started = driver.wait("run-started");
    cluster.wait_for_state(&started);
    let folder = cluster.job_folders().remove(0);
    signal("KILL", &format!("-{}", cluster.job_process()));
    fs::remove_file(folder.join("state")).unwrap(); // the next `squeue` starts it
    driver.wait("run-interrupted");
    let ended = driver.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(cluster.trainings(), ["interrupted", "succeeded"]);
    cluster.has_its_table("twice");
}

#[test]
fn a_run_that_is_cancelled_is_cancelled_at_slurm_by_its_name_and_number() {
    let cluster = Cluster::new("cancelled", STEPS);
    cluster.set("hold", "Priority");
    let mut driver = Driver::start(&mut cluster.run_command("cancelled"));
    driver.wait("run-queued");
    let said = cluster.lions(&["cancel", "cancelled"]);
    assert_eq!(said.code, 0, "{said:?}");
    driver.wait("run-cancelled");
    let ended = driver.end();
    assert_eq!(ended.code, Some(100), "{ended:?}");
    assert_eq!(cluster.trainings(), ["cancelled"]);
    let asked = cluster.asked("scancel");
    assert!(
        asked[0].contains("--name=lions-") && asked[0].ends_with(" 1_0"),
        "{asked:?}"
    );
}

// A controller that came back with an older state gives a number again that a node remembers as killed, or a prolog fails: the
// node's daemon cannot start the job, and cancels it. (Seen with 22.05.8.)
#[test]
fn a_job_that_its_node_could_not_start_is_submitted_again_and_costs_no_crash() {
    let cluster = Cluster::new("unstartable", 5);
    cluster.set("unstartable", "1");
    let mut driver = Driver::start(&mut cluster.run_command("unstartable"));
    let told = driver.wait("warning");
    assert_eq!(
        told["message"],
        "the scheduler could not start its job on the machine it was given"
    );
    let ended = driver.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(cluster.trainings(), ["interrupted", "succeeded"]);
    let sql = "SELECT sum(crashes) FROM run";
    let crashes: i64 = database(&cluster.project)
        .query_row(sql, [], |row| row.get(0))
        .unwrap();
    assert_eq!(crashes, 0);
    cluster.has_its_table("unstartable");
}

// The same of a job that was at work: it is killed and called cancelled, and nothing was asked of it.
#[test]
fn a_job_that_slurm_ends_unasked_is_not_taken_for_one_that_a_person_cancelled() {
    let cluster = Cluster::new("unasked", STEPS);
    let mut driver = Driver::start(&mut cluster.run_command("unasked"));
    let started = driver.wait("run-started");
    cluster.wait_for_state(&started);
    let folder = cluster.job_folders().remove(0);
    signal("KILL", &format!("-{}", cluster.job_process()));
    fs::create_dir(folder.join("cancelled")).unwrap();
    assert_eq!(driver.wait("run-interrupted")["run"], started["run"]);
    let ended = driver.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(cluster.trainings(), ["interrupted", "succeeded"]);
    cluster.has_its_table("unasked");
}

#[test]
fn what_a_person_cancels_at_slurm_is_cancelled_whether_it_waits_or_is_at_work() {
    for waits in [true, false] {
        let cluster = Cluster::new("scancel", STEPS);
        if waits {
            cluster.set("hold", "Priority");
        }
        let mut driver = Driver::start(&mut cluster.run_command("scancel"));
        if waits {
            driver.wait("run-queued");
            wait_until("a job", || cluster.submitted() == 1);
        } else {
            cluster.wait_for_state(&driver.wait("run-started"));
        }
        let folder = cluster.job_folders().remove(0);
        let name = folder.file_name().unwrap().to_string_lossy();
        let name = name.strip_suffix(".0").unwrap();
        let words = ["-c", "scancel --name=$0 1_0", name];
        let mut person = Command::new("sh");
        let scancel = cluster.command(&[]);
        let variables = scancel.get_envs().filter_map(|(k, v)| Some((k, v?)));
        assert!(
            person
                .args(words)
                .envs(variables)
                .status()
                .unwrap()
                .success()
        );
        driver.wait("run-cancelled");
        let ended = driver.end();
        assert_eq!(ended.code, Some(100), "{ended:?}");
        assert_eq!(cluster.trainings(), ["cancelled"], "waits: {waits}");
        assert_eq!(cluster.submitted(), 1);
    }
}

#[test]
fn what_slurm_would_never_start_ends_the_command_before_anything_is_queued() {
    let cluster = Cluster::new("refused", 5);
    cluster.set(
        "refuse",
        "allocation failure: Requested node configuration is not available",
    );
    let said = cluster.lions(&["run", "sweeps/refused.toml", "--profile", "long"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err
            .contains("slurm would not start such runs: allocation failure"),
        "{said:?}"
    );
    assert!(said.err.contains("[backend.slurm]"), "{said:?}");
    assert!(cluster.asked("sbatch")[0].contains("--time=1-0"));
    assert!(!cluster.project.path("results/lions.db").exists());
    let said = cluster.lions(&["run", "sweeps/refused.toml", "--backend", "slrum"]);
    assert!(said.err.contains("did you mean `slurm`?"), "{said:?}");
    cluster
        .project
        .write("lions.toml", "[backend.slurm]\npartitoin = \"main\"\n");
    let said = cluster.lions(&["run", "sweeps/refused.toml", "--backend", "slurm"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("lions.toml:2:1") && said.err.contains("`partition`"),
        "{said:?}"
    );
}

#[test]
fn a_job_whose_prologue_fails_says_so() {
    let cluster = Cluster::new("prologue", 5);
    let file = format!(
        "{PROJECT_FILE}[profile.broken]\nbackend = \"slurm\"\nprologue = [\"echo no such module >&2; exit 9\"]\n"
    );
    cluster.project.write("lions.toml", file);
    let words = [
        "run",
        "sweeps/prologue.toml",
        "--profile",
        "broken",
        "--json",
    ];
    let mut driver = Driver::start(&mut cluster.command(&words));
    let crashed = driver.wait("run-crashed");
    let message = crashed["message"].as_str().unwrap();
    assert!(
        message.contains("before the run began") && message.contains("no such module"),
        "{message}"
    );
    drop(driver);
    let ended = Driver::start(&mut cluster.run_command("prologue")).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(
        cluster.trainings().last().map(String::as_str),
        Some("succeeded")
    );
}

#[test]
fn a_job_that_has_no_attempt_says_so() {
    let project = Project::bare();
    project.write("manifest", format!("{} 1\n", "ab".repeat(32)));
    let said = project.lions(&["job", "--manifest", "manifest", "--index", "1"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("`manifest` has no attempt of number 1"),
        "{said:?}"
    );
}

/// A scheduler of a shell: `submit` starts a script in the background, `poll` looks whether it is there.
const SHELL: &str = r#"[backend.shell]
kind = "command"
submit = ["sh", "-c", "setsid {script} > {out} 2>&1 < /dev/null & echo job $!"]
poll = ["sh", "-c", "kill -0 {handle} 2> /dev/null && echo R || echo finished"]
cancel = ["sh", "-c", "kill -{signal} {handle}"]
poll-seconds = 1
prologue = ["export FROM_PROLOGUE=1"]
"#;

#[test]
fn a_scheduler_of_three_commands_carries_a_sweep_to_its_table() {
    let project = crate::tiny::project();
    write_sweep(&project, "commands", 5, "");
    project.write("lions.toml", SHELL);
    let words = [
        "run",
        "sweeps/commands.toml",
        "--backend",
        "shell",
        "--json",
    ];
    let ended = Driver::start(&mut project.command(&words)).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let states: Vec<String> = attempts(&project, "sft")
        .into_iter()
        .map(|(state, _)| state)
        .collect();
    assert_eq!(states, ["succeeded"]);
    let table = &project.json(&["compare", "commands"])[0];
    assert!(
        table["rows"][0]["results"][0]["estimate"]["value"].is_f64(),
        "{table}"
    );
    let sql = "SELECT count(*) FROM attempt WHERE handle LIKE 'shell:lions-%'";
    let handles: i64 = database(&project)
        .query_row(sql, [], |row| row.get(0))
        .unwrap();
    assert_eq!(handles, 2);
}

// A word that nobody knows means that the job lives: what has become of it stands in its folder.
#[test]
fn a_scheduler_that_answers_nonsense_or_fails_harms_no_run() {
    let usual = "kill -0 {handle} 2> /dev/null && echo R || echo finished";
    for odd in [
        "printf '\\\\033]0;title\\\\007%s' {handle}",
        "exit 3 # {handle}",
        "true # {handle}",
    ] {
        let project = crate::tiny::project();
        write_sweep(&project, "odd", 5, "");
        let file = SHELL.replace(usual, odd);
        assert_ne!(file, SHELL);
        project.write("lions.toml", file);
        let words = ["run", "sweeps/odd.toml", "--backend", "shell", "--json"];
        let ended = Driver::start(&mut project.command(&words)).end();
        assert_eq!(ended.code, Some(0), "{odd}: {ended:?}");
        let states = ["sft", "eval"].map(|stage| attempts(&project, stage));
        let last = |all: &[(String, Option<String>)]| all.last().map(|(state, _)| state.clone());
        let wanted = Some("succeeded".to_owned());
        assert!(
            states.iter().all(|all| last(all) == wanted),
            "{odd}: {states:?}"
        );
        // One that has not begun is lost if nobody knows of it for long, which is no crash.
        let mut ways = states.iter().flatten().map(|(state, _)| state.as_str());
        let allowed = ["interrupted", "succeeded"];
        assert!(ways.all(|way| allowed.contains(&way)), "{odd}: {states:?}");
        let table = &project.json(&["compare", "odd"])[0];
        let value = &table["rows"][0]["results"][0]["estimate"]["value"];
        assert!(value.is_f64(), "{odd}: {table}");
    }
}

#[test]
fn the_database_lies_where_the_project_says() {
    let project = crate::tiny::project();
    write_sweep(&project, "placed", 2, "");
    let local = tempfile::tempdir().unwrap();
    let place = local.path().join("deep/lions.db");
    project.write(
        "lions.toml",
        format!("database = {:?}\n", place.display().to_string()),
    );
    let said = project.lions(&["run", "sweeps/placed.toml", "--quiet"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(place.is_file() && !project.path("results/lions.db").exists());
    let table = &project.json(&["compare", "placed"])[0];
    assert!(
        table["rows"][0]["results"][0]["estimate"]["value"].is_f64(),
        "{table}"
    );
    fs::remove_file(&place).unwrap();
    assert_eq!(project.lions(&["store", "rebuild"]).code, 0);
    assert!(place.is_file());
}
