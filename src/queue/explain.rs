//! Why a run is not running, or not done.

use crate::base::{Device, Timestamp};
use crate::plan::{RunId, StageKind};
use crate::queue::state::{RunState, hint};
use crate::rundir::FailureClass;
use serde::Serialize;
use std::fmt;

/// One reason why a run is not done yet.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "blocker", rename_all = "kebab-case")]
pub enum Blocker {
    /// It needs a run that is not done.
    Input {
        /// The run that it needs.
        run: RunId,
        /// Its stage.
        kind: StageKind,
        /// Where that one stands.
        state: RunState,
    },
    /// An attempt is running.
    Running {
        /// Its number.
        attempt: u32,
        /// Where it computes, if that is known.
        device: Option<Device>,
        /// Seconds since it began.
        secs: f64,
    },
    /// An attempt waits at a scheduler.
    Queued {
        /// Its number.
        attempt: u32,
        /// Why, in the scheduler's words.
        reason: String,
        /// Seconds since it says so.
        secs: f64,
    },
    /// An attempt was running, but its claim has run out.
    LeaseExpired {
        /// Its number.
        attempt: u32,
        /// Seconds since the claim ran out.
        secs: f64,
    },
    /// A process that no runner waits for still works at it.
    Held {
        /// The number of its attempt.
        attempt: u32,
    },
    /// Nothing but a free slot of a `lions run`.
    NoSlot,
    /// The `lions run` that is running starts nothing for now.
    Paused {
        /// Why, in its words.
        reason: String,
        /// Seconds since it paused.
        secs: f64,
    },
    /// A person paused it, or its sweep.
    PausedByPerson {
        /// The sweep; absent: the run by itself.
        sweep: Option<String>,
        /// Seconds since then.
        secs: f64,
    },
    /// It crashed before and will be tried again.
    Crashed {
        /// How often.
        crashes: u32,
        /// After so many it is given up.
        limit: u32,
        /// How, the last time.
        message: String,
    },
    /// It failed or was given up.
    Failed {
        /// Absent: it crashed too often.
        class: Option<FailureClass>,
        /// Why.
        message: String,
    },
    /// A person cancelled it.
    Cancelled,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input { run, kind, state } => {
                write!(f, "needs {kind} run {run}, which is {}", state.name())
            }
            Self::Running {
                attempt,
                device,
                secs,
            } => {
                let device = device.map_or_else(|| "?".to_owned(), |device| device.to_string());
                write!(
                    f,
                    "attempt {attempt} has been running on {device} for {secs:.0} s"
                )
            }
            Self::Queued {
                attempt,
                reason,
                secs,
            } => write!(
                f,
                "attempt {attempt} has waited at the scheduler for {secs:.0} s: {reason}"
            ),
            Self::LeaseExpired { attempt, secs } => write!(
                f,
                "attempt {attempt} was last seen more than {secs:.0} s ago; the next `lions run` takes it back"
            ),
            Self::Held { attempt } => write!(
                f,
                "its attempt {attempt} is still running; `lions run` starts nothing beside it"
            ),
            Self::NoSlot => f.write_str("waits for a free slot of a `lions run`"),
            Self::Paused { reason, secs } => {
                write!(f, "`lions run` has paused for {secs:.0} s: {reason}")
            }
            Self::PausedByPerson { sweep, secs } => {
                let sweep = sweep.as_ref();
                let what =
                    sweep.map_or_else(|| "it".to_owned(), |sweep| format!("its sweep `{sweep}`"));
                write!(
                    f,
                    "{what} was paused {secs:.0} s ago; `lions resume` lets it go on"
                )
            }
            Self::Crashed {
                crashes,
                limit,
                message,
            } => {
                write!(f, "crashed {crashes} of {limit} times, last: {message}")
            }
            Self::Failed {
                class: Some(class),
                message,
            } => {
                write!(f, "failed: {message}; {}", hint(*class))
            }
            Self::Failed {
                class: None,
                message,
            } => write!(
                f,
                "given up after too many crashes: {message}; `lions log` has the details, `lions retry` tries again"
            ),
            Self::Cancelled => f.write_str("was cancelled; `lions retry` puts it back"),
        }
    }
}

/// What is known of a run, as plain data.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Where it stands.
    pub state: RunState,
    /// Crashes since the last retry.
    pub crashes: u32,
    /// After so many it is given up.
    pub crash_limit: u32,
    /// How the last attempt failed, if it said so.
    pub class: Option<FailureClass>,
    /// Why the last attempt ended badly; empty if it did not.
    pub message: String,
    /// The runs that it needs.
    pub inputs: Vec<(RunId, StageKind, RunState)>,
    /// Device and start of the live attempt.
    pub live: Option<(Device, Timestamp)>,
    /// Why the live attempt waits at a scheduler, and since when.
    pub waits: Option<(String, Timestamp)>,
    /// The attempt whose folder a process holds.
    pub held: Option<u32>,
    /// Why the runner that is alive starts nothing, and since when.
    pub paused: Option<(String, Timestamp)>,
    /// Since when a person has it paused, with the sweep if it is all of that.
    pub paused_by_person: Option<(Timestamp, Option<String>)>,
}

/// Every reason why a run is not done, most telling first; empty if it is done.
pub fn explain(facts: &Facts, now: Timestamp) -> Vec<Blocker> {
    let mut blockers = Vec::new();
    if let Some((since, sweep)) = &facts.paused_by_person
        && !facts.state.is_final()
    {
        blockers.push(Blocker::PausedByPerson {
            sweep: sweep.clone(),
            secs: now.secs_since(*since),
        });
    }
    match facts.state {
        RunState::Succeeded => {}
        RunState::Leased { attempt, expires } if now > expires => {
            blockers.push(Blocker::LeaseExpired {
                attempt,
                secs: now.secs_since(expires),
            });
        }
        RunState::Leased { attempt, .. } if facts.waits.is_some() => {
            let waits = facts.waits.iter();
            blockers.extend(waits.map(|(reason, since)| Blocker::Queued {
                attempt,
                reason: reason.clone(),
                secs: now.secs_since(*since),
            }));
        }
        RunState::Leased { attempt, .. } => {
            let started = facts.live.map_or(now, |(_, started)| started);
            blockers.push(Blocker::Running {
                attempt,
                device: facts.live.map(|(device, _)| device),
                secs: now.secs_since(started),
            });
        }
        RunState::Failed => blockers.push(Blocker::Failed {
            class: facts.class,
            message: facts.message.clone(),
        }),
        RunState::Cancelled => blockers.push(Blocker::Cancelled),
        RunState::Ready if facts.paused_by_person.is_some() && facts.held.is_none() => {}
        RunState::Ready => blockers.push(match (facts.held, &facts.paused) {
            (Some(attempt), _) => Blocker::Held { attempt },
            (None, Some((reason, since))) => Blocker::Paused {
                reason: reason.clone(),
                secs: now.secs_since(*since),
            },
            (None, None) => Blocker::NoSlot,
        }),
        RunState::Blocked | RunState::Skipped => blockers.extend(
            facts
                .inputs
                .iter()
                .filter(|(_, _, state)| *state != RunState::Succeeded)
                .map(|(run, kind, state)| Blocker::Input {
                    run: run.clone(),
                    kind: *kind,
                    state: *state,
                }),
        ),
    }
    if facts.crashes > 0 && !facts.state.is_final() {
        blockers.push(Blocker::Crashed {
            crashes: facts.crashes,
            limit: facts.crash_limit,
            message: facts.message.clone(),
        });
    }
    blockers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(state: RunState) -> Facts {
        Facts {
            state,
            crashes: 0,
            crash_limit: 5,
            class: None,
            message: String::new(),
            inputs: vec![],
            live: None,
            waits: None,
            held: None,
            paused: None,
            paused_by_person: None,
        }
    }

    fn lines(facts: &Facts) -> Vec<String> {
        explain(facts, Timestamp(10_000))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_blocked_run_names_the_inputs_that_are_not_done() {
        let mut facts = facts(RunState::Blocked);
        let id = |digit: &str| RunId(digit.repeat(64));
        facts.inputs = vec![
            (id("a"), StageKind::Sft, RunState::Succeeded),
            (id("b"), StageKind::RefLogps, RunState::Ready),
        ];
        assert_eq!(
            lines(&facts),
            ["needs ref-logps run bbbbbbbbbbbb, which is ready"]
        );
    }

    #[test]
    fn a_run_that_crashed_and_waits_says_both() {
        let mut facts = facts(RunState::Ready);
        (facts.crashes, facts.message) = (2, "signal 9".into());
        let want = [
            "waits for a free slot of a `lions run`",
            "crashed 2 of 5 times, last: signal 9",
        ];
        assert_eq!(lines(&facts), want);
    }

    #[test]
    fn a_run_that_waits_for_room_says_so() {
        let mut facts = facts(RunState::Ready);
        facts.paused = Some(("the disk is full".into(), Timestamp(7_000)));
        let want = ["`lions run` has paused for 3 s: the disk is full"];
        assert_eq!(lines(&facts), want);
    }

    #[test]
    fn a_run_that_a_person_paused_says_that_before_what_else_it_waits_for() {
        let mut paused = facts(RunState::Ready);
        paused.paused_by_person = Some((Timestamp(4_000), None));
        let own = "it was paused 6 s ago; `lions resume` lets it go on";
        assert_eq!(lines(&paused), [own]);
        paused.state = RunState::Blocked;
        paused.inputs = vec![(RunId("a".repeat(64)), StageKind::Sft, RunState::Ready)];
        paused.paused_by_person = Some((Timestamp(4_000), Some("beta".to_owned())));
        let sweep = "its sweep `beta` was paused 6 s ago; `lions resume` lets it go on";
        assert_eq!(
            lines(&paused),
            [sweep, "needs sft run aaaaaaaaaaaa, which is ready"]
        );
        paused.state = RunState::Succeeded;
        assert_eq!(lines(&paused), Vec::<String>::new());
    }

    #[test]
    fn a_ready_run_whose_folder_is_held_waits_for_that_attempt() {
        let mut facts = facts(RunState::Ready);
        (facts.held, facts.paused) = (Some(1), Some(("the disk is full".into(), Timestamp(7_000))));
        let want = ["its attempt 1 is still running; `lions run` starts nothing beside it"];
        assert_eq!(lines(&facts), want);
    }

    #[test]
    fn a_done_run_has_no_blocker() {
        let mut done = facts(RunState::Succeeded);
        done.held = Some(1);
        assert_eq!(lines(&done), Vec::<String>::new());
    }

    #[test]
    fn an_attempt_that_waits_at_a_scheduler_says_why() {
        let mut facts = facts(RunState::Leased {
            attempt: 2,
            expires: Timestamp(20_000),
        });
        facts.waits = Some(("Priority".into(), Timestamp(4_000)));
        let want = ["attempt 2 has waited at the scheduler for 6 s: Priority"];
        assert_eq!(lines(&facts), want);
    }

    #[test]
    fn a_lease_that_ran_out_is_told_from_a_live_one() {
        let leased = |expires| RunState::Leased {
            attempt: 2,
            expires: Timestamp(expires),
        };
        let mut live = facts(leased(20_000));
        live.live = Some((Device::Cuda(0), Timestamp(4_000)));
        assert_eq!(
            lines(&live),
            ["attempt 2 has been running on cuda:0 for 6 s"]
        );
        assert!(lines(&facts(leased(5_000)))[0].contains("last seen more than 5 s ago"));
    }
}
