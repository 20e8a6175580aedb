//! Sessions with the commands that read results: `status`, `show`, `why`, `log`, `compare`,
//! `figures`, `report`.

use crate::project::Project;
use crate::session::{Study, session_in};
use insta::assert_snapshot;

#[test]
fn status_shows_sweeps_runs_and_trials() {
    assert_snapshot!(
        "status",
        Study::shared().session(&[
            "status",
            "status study",
            "status broken",
            "status broken --trials",
            "status --json",
            "status broken --json",
            "status broken --trials --json",
            "status nope",
            "status study broken",
            "status --root nope",
        ])
    );
}

#[test]
fn show_tells_everything_about_a_run() {
    assert_snapshot!(
        "show",
        Study::shared().session(&[
            "show <sft>",
            "show <failed>",
            "show <dpo> --json",
            "show",
            "show nope",
        ])
    );
}

#[test]
fn why_and_log_tell_what_became_of_a_run() {
    assert_snapshot!(
        "why",
        Study::shared().session(&[
            "why <dpo>",
            "why <failed>",
            "why <skipped>",
            "why <failed> --json",
            "why",
            "why nope",
        ])
    );
    assert_snapshot!(
        "log",
        Study::shared().session(&[
            "log <sft>",
            "log <failed> --lines 1",
            "log <broken-dpo> --attempt 1 --follow",
            "log <sft> --json",
            "log",
            "log nope",
            "log <skipped>",
            "log <sft> --attempt 7",
            "log <sft> --lines many",
        ])
    );
}

#[test]
fn compare_sets_configurations_side_by_side() {
    assert_snapshot!(
        "compare",
        Study::shared().session(&[
            "compare study",
            "compare sweeps/study.toml --format markdown",
            "compare study --format csv",
            "compare study --format latex",
            "compare study --metrics polite/rewards/margins,tales/perplexity",
            "compare broken",
            "compare study --json",
            "compare",
            "compare nope",
            "compare study --table rate",
            "compare study --base sweeps/base/gemma-2b.toml",
            "compare study --table nope",
            "compare study --metrics instruct/los",
            "compare study --metrics nope",
            "compare study --format html",
        ])
    );
}

#[test]
fn figures_and_reports_are_written_and_named() {
    let study = Study::copied();
    assert_snapshot!(
        "figures",
        study.session(&[
            "figures study",
            "figures study --out drawn --json",
            "figures --paper",
            "figures broken",
            "figures",
            "figures nope",
            "figures study --paper",
            "figures study --out sweeps/study.toml",
        ])
    );
    assert_snapshot!(
        "report",
        study.session(&[
            "report study",
            "report sweeps/broken.toml --out written",
            "report study --json",
            "report",
            "report nope",
            "report study --out sweeps/study.toml",
            "report --all --out every",
            "report study --all",
        ])
    );
    for path in [
        "drawn/rate.svg",
        "written/index.html",
        "every/index.html",
        "reports/paper/index.html",
    ] {
        assert!(study.project.path(path).is_file(), "{path}");
    }
}

#[test]
fn before_anything_has_run_every_command_says_how_to_begin() {
    assert_snapshot!(
        "nothing",
        session_in(
            &Project::new(),
            &[
                "status",
                "status --json",
                "status study",
                "show abc",
                "why abc",
                "log abc",
                "cancel study",
                "retry study",
                "compare study",
                "figures study",
                "figures --paper",
                "report study",
                "store rebuild",
            ]
        )
    );
}

#[test]
fn a_server_says_what_is_wrong_before_it_listens() {
    let session = Study::shared().session(&["serve --token short", "serve --port 99999"]);
    assert_snapshot!("serve", session);
}
