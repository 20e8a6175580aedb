-- What people and runners say of the queue, beside the states of runs. New tables only: a file of before
-- is read as if it had them, empty, without being written to.

CREATE TABLE sweep_order (
    sweep    INTEGER PRIMARY KEY REFERENCES sweep (id) ON DELETE CASCADE,
    paused   INTEGER,                    -- since when; NULL: it is not
    priority INTEGER NOT NULL DEFAULT 0, -- the higher goes first
    runner   TEXT                        -- who began it last
) STRICT;

CREATE TABLE run_order (
    run     INTEGER PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
    paused  INTEGER,                     -- since when; NULL: it is not
    starved INTEGER NOT NULL DEFAULT 0   -- attempts that ran out of memory since the last retry
) STRICT;
