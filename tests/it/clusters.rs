//! What `docs/clusters.md` says beside Slurm: its examples of other schedulers, and where a database may lie.

use crate::driver::write_sweep;
use crate::project::Project;
use lions::config::{BackendChoice, ProjectFile};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The blocks of the document that are a whole `lions.toml`.
fn project_files() -> Vec<String> {
    let document = std::fs::read_to_string(root().join("docs/clusters.md")).unwrap();
    let blocks = document.split("```toml project\n").skip(1);
    let whole = |block: &str| block.split("```").next().unwrap().to_owned();
    blocks.map(whole).collect()
}

/// The backends of a `lions.toml` that are commands.
fn command_backends(text: &str) -> Vec<String> {
    let file = ProjectFile::of_text(text).unwrap();
    let names = text.lines().filter_map(|line| {
        let name = line.strip_prefix("[backend.")?.split(']').next()?;
        let choice = file.backend(name).unwrap();
        matches!(choice, BackendChoice::Command(_)).then(|| name.to_owned())
    });
    names.collect()
}

/// Commands of the schedulers that are named there, in a folder of their own.
fn commands() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["qsub", "qstat", "qdel", "hq", "jq", "kubectl"] {
        symlink(root().join("tests/slurm/any"), dir.path().join(name)).unwrap();
    }
    dir
}

#[test]
fn every_scheduler_of_the_examples_carries_a_sweep_to_its_table_in_its_own_words() {
    let commands = commands();
    let usual = std::env::var_os("PATH").unwrap_or_default();
    let path = format!("{}:{}", commands.path().display(), usual.display());
    let mut tried = Vec::new();
    for text in project_files() {
        for name in command_backends(&text) {
            let project = crate::tiny::project();
            write_sweep(&project, "carried", 2, "");
            // A look a second, and no card: there is none here.
            let quick = text
                .replace(
                    "kind = \"command\"\n",
                    "kind = \"command\"\npoll-seconds = 1\n",
                )
                .replace("gpu = true\n", "");
            project.write("lions.toml", quick);
            project.write("job.yaml", "name: NAME\ncommand: SCRIPT\n");
            let words = ["run", "sweeps/carried.toml", "--backend", &name, "--quiet"];
            let mut command = project.command(&words);
            let asked = project.path("asked");
            command.env("PATH", &path).env("ASKED", &asked);
            let output = command.output().unwrap();
            let said = crate::project::Said::of(&output);
            assert_eq!(said.code, 0, "{name}: {said:?}");
            let table = &project.json(&["compare", "carried"])[0];
            assert!(
                table["rows"][0]["results"][0]["estimate"]["value"].is_f64(),
                "{name}: {table}"
            );
            let asked = std::fs::read_to_string(asked).unwrap_or_default();
            for part in [
                "{script}", "{out}", "{name}", "{cpus}", "{handle}", "{signal}",
            ] {
                assert!(
                    !asked.contains(part),
                    "{name}: {part} stands as it is: {asked}"
                );
            }
            assert_eq!(asked.is_empty(), name == "shell", "{name}: {asked}");
            tried.push(name);
        }
    }
    let known = ["pbs", "grid-engine", "hyperqueue", "kubernetes", "shell"];
    assert_eq!(tried, known);
}

/// A library that has some folders lie on an NFS.
fn pretended_network() -> PathBuf {
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pretended-network.so");
    let own = made.with_extension(std::process::id().to_string());
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(compiler);
    command.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&own);
    command.arg(root().join("tests/disk/network.c")).arg("-ldl");
    let compiled = command.output().unwrap();
    assert!(compiled.status.success(), "{compiled:?}");
    std::fs::rename(own, &made).unwrap();
    made
}

#[test]
fn a_database_on_a_network_file_system_is_refused_and_another_place_is_taken() {
    let project = crate::tiny::project();
    write_sweep(&project, "far", 2, "");
    let library = pretended_network();
    let lions = |project: &Project, words: &[&str]| {
        let mut command = project.command(words);
        command.env("LD_PRELOAD", &library);
        // The name of the project's own folder, so that all of it is far away.
        let folder = project.path("");
        command.env("FAKE_NETWORK", folder.file_name().unwrap());
        crate::project::Said::of(&command.output().unwrap())
    };
    let run = ["run", "sweeps/far.toml", "--quiet"];
    let said = lions(&project, &run);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err
            .contains("would lie on a network file system (nfs, ")
            && said
                .err
                .contains("`database = \"/local/disk/lions.db\"` in `lions.toml`"),
        "{said:?}"
    );
    assert!(!project.path("results/lions.db").exists());
    let doctor = lions(&project, &["doctor"]);
    assert!(
        doctor.out.contains("nfs is a network file system"),
        "{doctor:?}"
    );
    let local = tempfile::tempdir().unwrap();
    let place = local.path().join("lions.db").display().to_string();
    project.write("lions.toml", format!("database = {place:?}\n"));
    let said = lions(&project, &run);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(Path::new(&place).is_file() && !project.path("results/lions.db").exists());
}
