//! Reporters that write lines: for people in pipes and for programs.

use crate::base::{counted, measured, printable, printable_json};
use crate::plan::RunId;
use crate::runner::events::{OutcomeSource, Reporter, RunnerEvent, SweepEnd, SweepSummary};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// One JSON object a line: [`RunnerEvent`] as it is.
#[derive(Debug)]
pub struct JsonReporter<W>(pub W);

impl<W: Write> Reporter for JsonReporter<W> {
    fn report(&mut self, event: &RunnerEvent) -> io::Result<()> {
        let line = serde_json::to_string(event).map_err(io::Error::other)?;
        writeln!(self.0, "{}", printable_json(&line))?;
        self.0.flush()
    }
}

/// Plain lines: one for each start, quarter of the way and end.
#[derive(Debug)]
pub struct LinesReporter<W> {
    out: W,
    total: usize,
    done: usize,
    /// Quarters told, by run.
    quarters: BTreeMap<RunId, u64>,
}

impl<W: Write> LinesReporter<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out,
            total: 0,
            done: 0,
            quarters: BTreeMap::new(),
        }
    }

    /// The lines of an event, usually one; empty where there is nothing new to tell.
    fn lines(&mut self, event: &RunnerEvent) -> String {
        match event {
            RunnerEvent::SweepStarted {
                sweep,
                trials,
                runs,
                done,
                barred,
                slots,
                ..
            } => {
                (self.total, self.done) = (*runs, *done);
                let to_do = runs.saturating_sub(done + barred);
                let barred = match barred {
                    0 => String::new(),
                    n => {
                        format!(", {n} failed or cancelled earlier (`lions retry` puts them back)")
                    }
                };
                format!(
                    "{sweep}: {}, {}, {done} done, {to_do} to do, {slots} at a time{barred}\n",
                    counted(*trials, "trial"),
                    counted(*runs, "run")
                )
            }
            RunnerEvent::RunStarted {
                run,
                stage,
                label,
                attempt,
                device,
            } => {
                self.quarters.remove(run);
                let again = if *attempt > 1 {
                    format!(" (attempt {attempt})")
                } else {
                    String::new()
                };
                format!("start  {stage} {run}  {label}  on {device}{again}\n")
            }
            RunnerEvent::RunQueued {
                run,
                stage,
                label,
                reason,
                ..
            } => format!("queue  {stage} {run}  {label}  {reason}\n"),
            RunnerEvent::RunAdopted {
                run,
                stage,
                label,
                attempt,
            } => {
                format!("adopt  {stage} {run}  {label}  attempt {attempt}, of an earlier runner\n")
            }
            RunnerEvent::RunProgress {
                run,
                unit,
                done,
                total,
                loss,
            } => self.progress(run, unit, *done, *total, *loss),
            RunnerEvent::Warning {
                run: Some(run),
                message,
            } => {
                format!("warn   {run}  {message}\n")
            }
            RunnerEvent::Warning { run: None, message } => format!("warn   {message}\n"),
            RunnerEvent::RunFinished {
                run,
                stage,
                label,
                origin,
                secs,
                ..
            } => {
                self.done += 1;
                let how = match origin {
                    OutcomeSource::Executed => format!("in {secs:.1} s"),
                    OutcomeSource::Adopted => "taken over from an earlier attempt".to_owned(),
                    OutcomeSource::Elsewhere => "by another runner".to_owned(),
                };
                format!(
                    "done   {stage} {run}  {label}  {how}  [{}/{}]\n",
                    self.done, self.total
                )
            }
            RunnerEvent::RunCrashed {
                run,
                crashes,
                limit,
                message,
                ..
            } => {
                format!("crash  {run}  {message}; {crashes} of {limit}, trying again\n")
            }
            RunnerEvent::RunFailed {
                run,
                stage,
                label,
                message,
                hint,
                ..
            } => {
                format!("failed {stage} {run}  {label}: {message}\n       {hint}\n")
            }
            RunnerEvent::RunSkipped { run, stage } => {
                format!("skip   {stage} {run}  needs a run that did not succeed\n")
            }
            RunnerEvent::RunCancelled { run, stage } => format!("cancel {stage} {run}\n"),
            RunnerEvent::RunInterrupted { run, stage } => {
                format!("stop   {stage} {run}  state saved\n")
            }
            RunnerEvent::Stopping { attempts } => {
                format!(
                    "stopping: the state of {} is saved\n",
                    counted(*attempts, "run")
                )
            }
            RunnerEvent::Leaving { attempts } => format!(
                "leaving: {} wait or work at the scheduler and go on\n",
                counted(*attempts, "run")
            ),
            RunnerEvent::Paused { reason } => format!("paused: {reason}\n"),
            RunnerEvent::Resumed => "going on\n".to_owned(),
            RunnerEvent::SweepFinished { summary } => summary_line(summary),
        }
    }

    fn progress(
        &mut self,
        run: &RunId,
        unit: &str,
        done: u64,
        total: u64,
        loss: Option<f64>,
    ) -> String {
        let quarter = (done * 4).checked_div(total).unwrap_or(0);
        let told = self.quarters.entry(run.clone()).or_default();
        if quarter <= *told || quarter >= 4 {
            return String::new();
        }
        *told = quarter;
        let loss = loss.map_or_else(String::new, |loss| format!(", loss {}", measured(loss)));
        format!("       {run}  {done}/{total} {unit}{loss}\n")
    }
}

impl<W: Write> Reporter for LinesReporter<W> {
    fn report(&mut self, event: &RunnerEvent) -> io::Result<()> {
        let lines = self.lines(event);
        self.show(&lines)
    }

    fn show(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(printable(text).as_bytes())?;
        self.out.flush()
    }
}

fn summary_line(summary: &SweepSummary) -> String {
    let SweepSummary {
        sweep,
        runs,
        succeeded,
        reused,
        secs,
        ..
    } = summary;
    let runs = counted(*runs, "run");
    let done = format!("{sweep}: {succeeded} of {runs} done, {reused} of them before");
    let mut parts = vec![done];
    for (count, word) in [
        (summary.failed, "failed"),
        (summary.skipped, "skipped"),
        (summary.cancelled, "cancelled"),
        (summary.waiting, "waiting"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    parts.push(format!("{secs:.1} s"));
    let mut line = parts.join(", ");
    if summary.end == SweepEnd::Interrupted {
        line += "; interrupted";
    }
    if summary.end == SweepEnd::TimeUp {
        line += "; the time is up";
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::StageKind;

    fn run() -> RunId {
        RunId("ab".repeat(32))
    }

    fn progress(done: u64) -> RunnerEvent {
        let (unit, loss) = ("steps".to_owned(), Some(0.5));
        RunnerEvent::RunProgress {
            run: run(),
            unit,
            done,
            total: 8,
            loss,
        }
    }

    #[test]
    fn lines_tell_each_start_quarter_and_end_once() {
        let mut reporter = LinesReporter::new(Vec::new());
        let (stage, label) = (StageKind::Sft, "seed=1".to_owned());
        let started = RunnerEvent::RunStarted {
            run: run(),
            stage,
            label: label.clone(),
            attempt: 1,
            device: crate::base::Device::Cpu,
        };
        let finished = RunnerEvent::RunFinished {
            run: run(),
            stage,
            label,
            origin: OutcomeSource::Executed,
            secs: 2.04,
            metrics: BTreeMap::new(),
        };
        let mut events = vec![started];
        events.extend((0..=8).map(progress));
        events.push(finished);
        for event in &events {
            reporter.report(event).unwrap();
        }
        let text = String::from_utf8(reporter.out).unwrap();
        insta::assert_snapshot!(text, @r"
        start  sft abababababab  seed=1  on cpu
               abababababab  2/8 steps, loss 0.5000
               abababababab  4/8 steps, loss 0.5000
               abababababab  6/8 steps, loss 0.5000
        done   sft abababababab  seed=1  in 2.0 s  [1/0]
        ");
    }

    #[test]
    fn a_json_line_reads_back_as_the_event() {
        let mut reporter = JsonReporter(Vec::new());
        reporter.report(&progress(3)).unwrap();
        let line = String::from_utf8(reporter.0).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(
            serde_json::from_str::<RunnerEvent>(&line).unwrap(),
            progress(3)
        );
    }
}
