-- The first schema. Times are milliseconds since 1970-01-01 UTC, sizes are bytes.
-- Result files are the truth for results; this file is the truth for the queue.

CREATE TABLE sweep (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    question   TEXT NOT NULL,
    content    TEXT NOT NULL CHECK (json_valid(content)), -- the expanded sweep, report included
    registered INTEGER NOT NULL
) STRICT;

-- A node of the DAG; sweeps and trials share runs.
CREATE TABLE run (
    id                INTEGER PRIMARY KEY,
    run_id            TEXT NOT NULL UNIQUE, -- 64 hex digits
    kind              TEXT NOT NULL,        -- sft, ref-logps, dpo, eval
    identity          TEXT NOT NULL,        -- the exact bytes that were hashed
    state             TEXT NOT NULL CHECK (state IN
        ('blocked', 'ready', 'leased', 'succeeded', 'failed', 'skipped', 'cancelled')),
    attempts          INTEGER NOT NULL,     -- attempts begun
    crashes           INTEGER NOT NULL,     -- attempts that went silent since the last retry
    tokens            INTEGER NOT NULL,     -- estimates of the plan
    flops             REAL NOT NULL,
    peak_memory_bytes INTEGER NOT NULL,
    created           INTEGER NOT NULL,
    finished          INTEGER
) STRICT;

CREATE TABLE run_input (
    run    INTEGER NOT NULL REFERENCES run (id),
    parent INTEGER NOT NULL REFERENCES run (id),
    PRIMARY KEY (run, parent)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_input_parent ON run_input (parent);

CREATE TABLE trial (
    id          INTEGER PRIMARY KEY,
    sweep       INTEGER NOT NULL REFERENCES sweep (id) ON DELETE CASCADE,
    number      INTEGER NOT NULL, -- from 0, in the order of the sweep
    label       TEXT NOT NULL,
    seed        INTEGER NOT NULL,
    assignments TEXT NOT NULL CHECK (json_valid(assignments)), -- axis name to value
    eval_run    INTEGER NOT NULL REFERENCES run (id),
    UNIQUE (sweep, number)
) STRICT;

CREATE TABLE trial_run (
    trial    INTEGER NOT NULL REFERENCES trial (id) ON DELETE CASCADE,
    position INTEGER NOT NULL, -- from 0, in stage order
    run      INTEGER NOT NULL REFERENCES run (id),
    PRIMARY KEY (trial, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX trial_run_run ON trial_run (run);

-- One execution of a run.
CREATE TABLE attempt (
    run               INTEGER NOT NULL REFERENCES run (id),
    number            INTEGER NOT NULL, -- from 1; also the fence
    state             TEXT NOT NULL CHECK (state IN
        ('live', 'succeeded', 'failed', 'crashed', 'interrupted', 'lost', 'cancelled')),
    owner             TEXT NOT NULL,    -- the runner
    device            TEXT NOT NULL,
    handle            TEXT,             -- how the backend finds it again
    started           INTEGER NOT NULL,
    expires           INTEGER NOT NULL, -- end of the lease
    ended             INTEGER,
    class             TEXT,             -- of a failure that the attempt stated
    message           TEXT,
    wall_secs         REAL,
    cpu_secs          REAL,
    peak_memory_bytes INTEGER,
    tokens            INTEGER,
    positions         INTEGER,
    flops             REAL,
    PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_live_attempt ON attempt (run) WHERE state = 'live';

-- Final metrics; the value is NULL where it is not a finite number.
CREATE TABLE metric (
    run    INTEGER NOT NULL REFERENCES run (id),
    key    TEXT NOT NULL,
    value  REAL,
    stderr REAL,
    n      INTEGER NOT NULL,
    PRIMARY KEY (run, key)
) STRICT, WITHOUT ROWID;

-- Metrics along training; a resumed attempt repeats steps of the one before, the later counts.
CREATE TABLE step_metric (
    run     INTEGER NOT NULL REFERENCES run (id),
    attempt INTEGER NOT NULL,
    step    INTEGER NOT NULL,
    key     TEXT NOT NULL,
    value   REAL,
    PRIMARY KEY (run, attempt, step, key)
) STRICT, WITHOUT ROWID;

-- Documents, pairs and tokens kept, cut, dropped.
CREATE TABLE count (
    run   INTEGER NOT NULL REFERENCES run (id),
    name  TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE note (
    run      INTEGER NOT NULL REFERENCES run (id),
    position INTEGER NOT NULL,
    text     TEXT NOT NULL,
    PRIMARY KEY (run, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE artifact (
    run    INTEGER NOT NULL REFERENCES run (id),
    path   TEXT NOT NULL,
    bytes  INTEGER NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (run, path)
) STRICT, WITHOUT ROWID;

-- What another process asks of the runner that holds the lease.
CREATE TABLE request (
    run     INTEGER PRIMARY KEY REFERENCES run (id),
    kind    TEXT NOT NULL CHECK (kind IN ('cancel')),
    created INTEGER NOT NULL
) STRICT;

-- For people. Which beta won at each number of pairs, by the mean over seeds, in one query:
--
--   SELECT assignments ->> 'pairs' AS pairs, assignments ->> 'beta' AS beta,
--          max(mean) AS accuracy, seeds
--   FROM configuration_metric
--   WHERE sweep = 'quickstart' AND metric = 'polite/rewards/accuracies'
--   GROUP BY pairs ORDER BY pairs;
--
-- SQLite takes the other columns from the row with the maximum; use min() where less is better.

-- One row a trial, axis and value.
CREATE VIEW trial_axis AS
SELECT sweep.name AS sweep, trial.number AS trial, axis.key AS axis, axis.value AS value
FROM trial
JOIN sweep ON sweep.id = trial.sweep
JOIN json_each(trial.assignments) AS axis;

-- One row a trial and final metric. Scores of the trained model have stage 'eval'.
CREATE VIEW trial_metric AS
SELECT sweep.name AS sweep, trial.number AS trial, trial.label AS label,
    trial.assignments AS assignments, trial.seed AS seed, run.kind AS stage,
    substr(run.run_id, 1, 12) AS run, metric.key AS metric, metric.value AS value,
    metric.stderr AS stderr, metric.n AS n
FROM trial
JOIN sweep ON sweep.id = trial.sweep
JOIN trial_run ON trial_run.trial = trial.id
JOIN run ON run.id = trial_run.run AND run.state = 'succeeded'
JOIN metric ON metric.run = run.id;

-- One row a configuration and final metric: the mean over its seeds, with the lowest and highest.
CREATE VIEW configuration_metric AS
SELECT sweep, label, assignments, stage, metric, avg(value) AS mean, min(value) AS lowest,
    max(value) AS highest, count(DISTINCT seed) AS seeds
FROM trial_metric
GROUP BY sweep, assignments, stage, metric;

-- One row a run, step and key: the value of the last attempt that reached the step.
CREATE VIEW training AS
SELECT substr(run.run_id, 1, 12) AS run, run.kind AS stage, step_metric.step AS step,
    step_metric.key AS metric, step_metric.value AS value, max(step_metric.attempt) AS attempt
FROM step_metric
JOIN run ON run.id = step_metric.run
GROUP BY step_metric.run, step_metric.step, step_metric.key;

-- One row a run and sweep, with where it stands.
CREATE VIEW sweep_run AS
SELECT DISTINCT sweep.name AS sweep, substr(run.run_id, 1, 12) AS run, run.kind AS stage,
    run.state AS state, run.attempts AS attempts, run.crashes AS crashes
FROM sweep
JOIN trial ON trial.sweep = sweep.id
JOIN trial_run ON trial_run.trial = trial.id
JOIN run ON run.id = trial_run.run;
