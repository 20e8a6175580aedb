//! The states of a run and the one function that moves it between them.

use crate::base::Timestamp;
use crate::rundir::{FailureClass, SILENCE_MILLIS};
use serde::{Deserialize, Serialize};

/// How long a claim on a run lasts unless the attempt is seen to live, ms: as long as it may be
/// silent.
pub const LEASE_MILLIS: i64 = SILENCE_MILLIS;
/// So many crashes of one run, and it is not tried again by itself: a machine that is short of memory
/// for a while gets several chances, a run that always dies costs five beginnings.
pub const CRASH_LIMIT: u32 = 5;

/// So many attempts of one run that a scheduler loses in a row are no fault of the run; more count as crashes, since a run may
/// take its machine down.
pub const LOST_LIMIT: u32 = 3;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(tag = "state", rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum RunState {
    /// An input is not done.
    Blocked,
    /// May be claimed.
    Ready,
    /// An attempt has it.
    Leased {
        /// The attempt's number: the fence.
        attempt: u32,
        /// When the claim ends unless it is extended.
        expires: Timestamp,
    },
    /// Its outcome is there.
    Succeeded,
    /// It said why it cannot go on, or crashed too often.
    Failed,
    /// An input failed or was cancelled.
    Skipped,
    /// A person said so.
    Cancelled,
}

impl RunState {
    /// The word in tables and in the store.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether nothing more happens to it by itself.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Skipped | Self::Cancelled
        )
    }

    /// Whether runs that need it cannot start until a person acts.
    pub fn bars_children(self) -> bool {
        matches!(self, Self::Failed | Self::Skipped | Self::Cancelled)
    }
}

/// A run as the queue knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedRun {
    /// Where it stands.
    pub state: RunState,
    /// Attempts begun so far; the next one has the next number.
    pub attempts: u32,
    /// Attempts that went silent since the last retry by a person.
    pub crashes: u32,
    /// Attempts that ran out of memory since then: after the first the micro-batch is halved.
    pub starved: u32,
}

impl QueuedRun {
    /// A run that was never tried.
    pub fn new(inputs: Inputs) -> Self {
        Self {
            state: inputs.resting_state(),
            attempts: 0,
            crashes: 0,
            starved: 0,
        }
    }

    /// Whether the next attempt is given half the micro-batch: memory ran out before.
    pub fn is_halved(&self) -> bool {
        self.starved > 0
    }
}

/// How a run's inputs stand, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// All done (or there are none).
    Done,
    /// Some are still to come.
    Waiting,
    /// At least one failed, was cancelled or skipped.
    Barred,
}

impl Inputs {
    /// Of a run whose parents are in these states.
    pub fn of(parents: impl IntoIterator<Item = RunState>) -> Self {
        let mut inputs = Self::Done;
        for parent in parents {
            if parent.bars_children() {
                return Self::Barred;
            }
            if parent != RunState::Succeeded {
                inputs = Self::Waiting;
            }
        }
        inputs
    }

    fn resting_state(self) -> RunState {
        match self {
            Self::Done => RunState::Ready,
            Self::Waiting => RunState::Blocked,
            Self::Barred => RunState::Skipped,
        }
    }
}

/// How an attempt ended without an outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum AttemptEnd {
    /// It said why it cannot go on.
    Failed {
        /// Decides what a retry can help.
        class: FailureClass,
        /// Why, for a person.
        message: String,
    },
    /// It ended without a word, or with one of a damaged input that is made again.
    Crashed {
        /// Why, if the system tells: memory ran out.
        class: Option<FailureClass>,
        /// What is known: exit code, signal, last lines.
        message: String,
        /// Whether it had saved a later state than the one it began with.
        progressed: bool,
    },
    /// It stopped because it was asked to; its state is saved.
    Interrupted,
    /// Its runner died; the attempt itself is not to blame.
    Lost,
    /// A person cancelled the run.
    Cancelled,
}

impl AttemptEnd {
    /// Of a failure or crash, where it is known.
    pub fn class(&self) -> Option<FailureClass> {
        match self {
            Self::Failed { class, .. } => Some(*class),
            Self::Crashed { class, .. } => *class,
            Self::Interrupted | Self::Lost | Self::Cancelled => None,
        }
    }
}

/// Something that happened to a run.
#[derive(Clone, Debug, PartialEq)]
pub enum RunEvent {
    /// Its parents changed.
    InputsChanged(Inputs),
    /// A slot takes it until `expires`.
    Claimed {
        /// When the claim ends unless it is extended.
        expires: Timestamp,
    },
    /// `outcome.json` is there, by this attempt.
    Published {
        /// Who.
        attempt: u32,
    },
    /// The attempt ended without an outcome.
    Ended {
        /// Who.
        attempt: u32,
        /// How.
        end: AttemptEnd,
        /// The state of the run's inputs now.
        inputs: Inputs,
    },
    /// A person gives up on it. A leased run is first stopped and then ends as
    /// [`AttemptEnd::Cancelled`].
    Cancelled,
    /// A person wants it tried again, crashes forgotten.
    Retried(Inputs),
    /// The outcome that it had is gone or damaged.
    OutcomeLost(Inputs),
}

/// What the caller must do after it has committed the new state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell the runs that need this one.
    TellChildren,
    /// Record that this attempt lives.
    BeginAttempt(u32),
    /// Record that this attempt no longer lives.
    CloseAttempt(u32),
}

/// The event does not fit the state, for example a message from an attempt that lost its lease.
/// Nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the run is {} and the message is out of date", state.name())]
pub struct Stale {
    /// The state that stays.
    pub state: RunState,
}

/// The whole life of a run: state and event in, state and effects out.
///
/// `crash_limit` is normally [`CRASH_LIMIT`].
///
/// # Errors
/// [`Stale`] if the event does not fit; nothing is to be done then.
pub fn step(
    run: &QueuedRun,
    event: &RunEvent,
    crash_limit: u32,
) -> Result<(QueuedRun, Vec<Effect>), Stale> {
    use RunState::{Blocked, Cancelled, Leased, Ready, Skipped, Succeeded};
    let stale = Err(Stale { state: run.state });
    let to = |state| QueuedRun { state, ..*run };
    Ok(match (run.state, event) {
        (Blocked | Ready | Skipped, RunEvent::InputsChanged(inputs)) => {
            let state = inputs.resting_state();
            let tell = state.bars_children() != run.state.bars_children();
            (
                to(state),
                if tell {
                    vec![Effect::TellChildren]
                } else {
                    vec![]
                },
            )
        }
        (Ready, RunEvent::Claimed { expires }) => {
            let attempt = run.attempts + 1;
            let state = Leased {
                attempt,
                expires: *expires,
            };
            (
                QueuedRun {
                    state,
                    attempts: attempt,
                    ..*run
                },
                vec![Effect::BeginAttempt(attempt)],
            )
        }
        (Leased { attempt, .. }, RunEvent::Published { attempt: from }) if attempt == *from => (
            to(Succeeded),
            vec![Effect::CloseAttempt(attempt), Effect::TellChildren],
        ),
        // The folder has an outcome that the store did not know of.
        (Leased { attempt, .. }, RunEvent::Published { attempt: from }) if *from < attempt => (
            to(Succeeded),
            vec![Effect::CloseAttempt(attempt), Effect::TellChildren],
        ),
        (Leased { .. } | Succeeded, RunEvent::Published { .. }) => return stale,
        (_, RunEvent::Published { attempt }) => {
            let attempts = run.attempts.max(*attempt);
            (
                QueuedRun {
                    state: Succeeded,
                    attempts,
                    ..*run
                },
                vec![Effect::TellChildren],
            )
        }
        (
            Leased { attempt, .. },
            RunEvent::Ended {
                attempt: from,
                end,
                inputs,
            },
        ) if attempt == *from => {
            let next = after_end(run, end, *inputs, crash_limit);
            let mut effects = vec![Effect::CloseAttempt(attempt)];
            if next.state.bars_children() {
                effects.push(Effect::TellChildren);
            }
            (next, effects)
        }
        (Blocked | Ready, RunEvent::Cancelled) => (to(Cancelled), vec![Effect::TellChildren]),
        (RunState::Failed | Cancelled | Skipped, RunEvent::Retried(inputs)) => {
            let state = inputs.resting_state();
            let tell = state.bars_children() != run.state.bars_children();
            let effects = if tell {
                vec![Effect::TellChildren]
            } else {
                vec![]
            };
            (
                QueuedRun {
                    state,
                    crashes: 0,
                    starved: 0,
                    ..*run
                },
                effects,
            )
        }
        (Succeeded, RunEvent::OutcomeLost(inputs)) => {
            (to(inputs.resting_state()), vec![Effect::TellChildren])
        }
        _ => return stale,
    })
}

fn after_end(run: &QueuedRun, end: &AttemptEnd, inputs: Inputs, crash_limit: u32) -> QueuedRun {
    let starved = run.starved + u32::from(end.class() == Some(FailureClass::OutOfMemory));
    match end {
        // How a step is cut is not part of what is computed, so half of it is the same run.
        AttemptEnd::Failed { .. } if starved > run.starved && !run.is_halved() => QueuedRun {
            state: inputs.resting_state(),
            starved,
            ..*run
        },
        AttemptEnd::Failed { .. } => QueuedRun {
            state: RunState::Failed,
            starved,
            ..*run
        },
        AttemptEnd::Crashed { progressed, .. } => {
            // One that gets on each time comes to its end, however often it is killed.
            let before = if *progressed { 0 } else { run.crashes };
            let crashes = before + 1;
            let state = if crashes >= crash_limit {
                RunState::Failed
            } else {
                inputs.resting_state()
            };
            QueuedRun {
                state,
                crashes,
                starved,
                ..*run
            }
        }
        AttemptEnd::Interrupted | AttemptEnd::Lost => QueuedRun {
            state: inputs.resting_state(),
            ..*run
        },
        AttemptEnd::Cancelled => QueuedRun {
            state: RunState::Cancelled,
            ..*run
        },
    }
}

/// How long a run rests after a crash, ms: twice as long each time. Where memory ran out, others have
/// to end first, which takes longer than for a process to be gone.
pub fn rest_after_crash(crashes: u32, class: Option<FailureClass>) -> i64 {
    let first = match class {
        Some(FailureClass::OutOfMemory) => 5_000,
        _ => 500,
    };
    first << crashes.saturating_sub(1).min(8)
}

/// What a person can do about a failure of this class; nothing is retried by itself.
pub fn hint(class: FailureClass) -> &'static str {
    match class {
        FailureClass::User => "fix the recipe, the data or the model, then `lions retry`",
        FailureClass::NotFinite => "lower the learning rate or raise the precision",
        FailureClass::OutOfMemory => {
            "it was tried with half the micro-batch, too; set `runtime.recompute-layers = true`, lower `runtime.micro-batch-tokens` or `--jobs`, or shorten the sequences, then `lions retry`"
        }
        FailureClass::DiskFull => "free some space, then `lions retry`; the saved state is kept",
        FailureClass::Damaged => {
            "`lions store verify` lists all that is damaged; `lions run --retry` makes it again"
        }
        FailureClass::Permission => "give this user the right to it, then `lions retry`",
        FailureClass::Hung => {
            "`lions log` shows how far it came; `lions run --hang-after` gives it longer, `lions retry` goes on from its saved state"
        }
        FailureClass::DeviceFault => {
            "`nvidia-smi` and the log of the system's kernel say more; `--device` names other cards, `lions retry` tries again"
        }
        FailureClass::Internal => {
            "unless the disk failed, this is a bug in lions; `lions log` has the details"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leased(attempt: u32, crashes: u32) -> QueuedRun {
        QueuedRun {
            state: RunState::Leased {
                attempt,
                expires: Timestamp(100),
            },
            attempts: attempt,
            crashes,
            starved: 0,
        }
    }

    fn ended(attempt: u32, end: AttemptEnd) -> RunEvent {
        RunEvent::Ended {
            attempt,
            end,
            inputs: Inputs::Done,
        }
    }

    fn crashed(attempt: u32) -> RunEvent {
        ended(
            attempt,
            AttemptEnd::Crashed {
                class: None,
                message: "exit code 3".into(),
                progressed: false,
            },
        )
    }

    #[test]
    fn a_claim_takes_the_next_attempt_number() {
        let ready = QueuedRun {
            state: RunState::Ready,
            attempts: 2,
            crashes: 1,
            starved: 0,
        };
        let (next, effects) = step(
            &ready,
            &RunEvent::Claimed {
                expires: Timestamp(9),
            },
            5,
        )
        .unwrap();
        assert_eq!(
            next.state,
            RunState::Leased {
                attempt: 3,
                expires: Timestamp(9)
            }
        );
        assert_eq!((next.attempts, next.crashes), (3, 1));
        assert_eq!(effects, [Effect::BeginAttempt(3)]);
    }

    #[test]
    fn a_run_that_gets_on_between_its_crashes_is_not_given_up() {
        let end = |progressed| AttemptEnd::Crashed {
            class: None,
            message: String::new(),
            progressed,
        };
        let mut crashes = Vec::new();
        let mut before = 0;
        for progressed in [false, false, true, false, true, true] {
            let (next, _) = step(&leased(1, before), &ended(1, end(progressed)), 4).unwrap();
            assert_eq!(next.state, RunState::Ready);
            before = next.crashes;
            crashes.push(before);
        }
        assert_eq!(crashes, [1, 2, 1, 2, 1, 1]);
    }

    #[test]
    fn a_run_rests_longer_after_each_crash_and_longest_where_memory_ran_out() {
        let rests = |class| [1, 2, 4].map(|crashes| rest_after_crash(crashes, class));
        assert_eq!(rests(None), [500, 1000, 4000]);
        assert_eq!(
            rests(Some(FailureClass::OutOfMemory)),
            [5000, 10_000, 40_000]
        );
    }

    #[test]
    fn a_crash_is_tried_again_until_the_limit_and_then_is_a_failure() {
        let (next, _) = step(&leased(4, 3), &crashed(4), 5).unwrap();
        assert_eq!((next.state, next.crashes), (RunState::Ready, 4));
        let (next, effects) = step(&leased(5, 4), &crashed(5), 5).unwrap();
        assert_eq!((next.state, next.crashes), (RunState::Failed, 5));
        assert_eq!(effects, [Effect::CloseAttempt(5), Effect::TellChildren]);
    }

    #[test]
    fn a_stated_failure_is_not_tried_again_and_is_no_crash() {
        let end = AttemptEnd::Failed {
            class: FailureClass::User,
            message: "no data".into(),
        };
        let (next, _) = step(&leased(1, 0), &ended(1, end), 5).unwrap();
        assert_eq!((next.state, next.crashes), (RunState::Failed, 0));
    }

    #[test]
    fn memory_that_runs_out_is_tried_once_more_with_half_the_micro_batch() {
        let end = AttemptEnd::Failed {
            class: FailureClass::OutOfMemory,
            message: String::new(),
        };
        let (next, effects) = step(&leased(1, 3), &ended(1, end.clone()), 5).unwrap();
        assert_eq!((next.state, next.crashes), (RunState::Ready, 3));
        assert!(next.is_halved());
        assert_eq!(effects, [Effect::CloseAttempt(1)]);
        let state = leased(2, 3).state;
        let again = QueuedRun {
            state,
            attempts: 2,
            ..next
        };
        let (next, _) = step(&again, &ended(2, end), 5).unwrap();
        assert_eq!((next.state, next.starved), (RunState::Failed, 2));
    }

    #[test]
    fn a_run_that_the_system_ends_for_want_of_memory_has_its_budget_and_half_the_micro_batch() {
        let end = AttemptEnd::Crashed {
            class: Some(FailureClass::OutOfMemory),
            message: String::new(),
            progressed: false,
        };
        let (next, _) = step(&leased(1, 0), &ended(1, end.clone()), 5).unwrap();
        assert_eq!((next.state, next.crashes), (RunState::Ready, 1));
        assert!(next.is_halved());
        let (next, _) = step(&leased(5, 4), &ended(5, end), 5).unwrap();
        assert_eq!(next.state, RunState::Failed);
    }

    #[test]
    fn a_run_whose_runner_died_is_ready_again_without_a_crash() {
        let (next, _) = step(&leased(1, 2), &ended(1, AttemptEnd::Lost), 5).unwrap();
        assert_eq!((next.state, next.crashes), (RunState::Ready, 2));
    }

    #[test]
    fn a_retry_forgets_the_crashes() {
        let failed = QueuedRun {
            state: RunState::Failed,
            attempts: 5,
            crashes: 5,
            starved: 2,
        };
        let (next, _) = step(&failed, &RunEvent::Retried(Inputs::Done), 5).unwrap();
        assert_eq!(
            next,
            QueuedRun {
                state: RunState::Ready,
                attempts: 5,
                crashes: 0,
                starved: 0,
            }
        );
    }

    #[test]
    fn one_barred_input_skips_a_run_even_if_others_wait() {
        let inputs = Inputs::of([RunState::Ready, RunState::Failed, RunState::Succeeded]);
        assert_eq!(inputs, Inputs::Barred);
        assert_eq!(QueuedRun::new(inputs).state, RunState::Skipped);
    }

    fn any_inputs() -> impl Strategy<Value = Inputs> {
        prop_oneof![
            Just(Inputs::Done),
            Just(Inputs::Waiting),
            Just(Inputs::Barred)
        ]
    }

    fn any_end() -> impl Strategy<Value = AttemptEnd> {
        prop_oneof![
            Just(AttemptEnd::Failed {
                class: FailureClass::NotFinite,
                message: String::new()
            }),
            any::<bool>().prop_map(|progressed| AttemptEnd::Crashed {
                class: None,
                message: String::new(),
                progressed,
            }),
            Just(AttemptEnd::Interrupted),
            Just(AttemptEnd::Lost),
            Just(AttemptEnd::Cancelled),
        ]
    }

    fn any_event() -> impl Strategy<Value = RunEvent> {
        let attempt = 0u32..6;
        prop_oneof![
            any_inputs().prop_map(RunEvent::InputsChanged),
            (0i64..100).prop_map(|t| RunEvent::Claimed {
                expires: Timestamp(t)
            }),
            attempt
                .clone()
                .prop_map(|attempt| RunEvent::Published { attempt }),
            (attempt, any_end(), any_inputs()).prop_map(|(attempt, end, inputs)| RunEvent::Ended {
                attempt,
                end,
                inputs
            }),
            Just(RunEvent::Cancelled),
            any_inputs().prop_map(RunEvent::Retried),
            any_inputs().prop_map(RunEvent::OutcomeLost),
        ]
    }

    proptest! {
        #[test]
        fn no_event_sequence_yields_two_live_attempts(
            events in proptest::collection::vec(any_event(), 0..60)
        ) {
            let mut run = QueuedRun::new(Inputs::Done);
            let mut live: Vec<u32> = Vec::new();
            let mut last = 0;
            for event in events {
                let Ok((next, effects)) = step(&run, &event, CRASH_LIMIT) else { continue };
                for effect in effects {
                    match effect {
                        Effect::BeginAttempt(n) => {
                            prop_assert!(n > last, "attempt numbers never come back");
                            last = n;
                            live.push(n);
                        }
                        Effect::CloseAttempt(n) => live.retain(|m| *m != n),
                        Effect::TellChildren => {}
                    }
                }
                run = next;
                match run.state {
                    RunState::Leased { attempt, .. } => prop_assert_eq!(&live, &vec![attempt]),
                    _ => prop_assert!(live.is_empty(), "{:?} with live {:?}", run.state, live),
                }
            }
        }

        #[test]
        fn messages_from_an_attempt_that_lost_its_lease_change_nothing(
            now in 2u32..6, from in 0u32..6, end in any_end(), crashes in 0u32..5
        ) {
            prop_assume!(from != now);
            let run = leased(now, crashes);
            let event = ended(from, end);
            prop_assert_eq!(step(&run, &event, 5), Err(Stale { state: run.state }));
            let done = QueuedRun { state: RunState::Succeeded, ..run };
            prop_assert_eq!(step(&done, &event, 5), Err(Stale { state: done.state }));
        }
    }
}
