-- What a decision was when it was recorded; null for rows from before this was kept.
ALTER TABLE model_service.trading_signals ADD COLUMN decision_sha256 bytea CHECK (length(decision_sha256) = 32);
COMMENT ON COLUMN model_service.trading_signals.decision_sha256 IS
    'sha256 over the frozen columns; it finds an edit of them, and no edit of them and of this';

-- Whether it was decided at a tick, or at a look at exits between two; null for rows from before this was kept.
ALTER TABLE model_service.trading_signals ADD COLUMN at_tick boolean;

-- Which ticks were due, written apart from what came of them, so that the two can be held against each other.
CREATE TABLE model_service.due_ticks (
    strategy_id      text NOT NULL,
    asset            text NOT NULL,
    minute           timestamptz NOT NULL,
    interval_seconds double precision NOT NULL CHECK (interval_seconds > 0),
    first_due_at     timestamptz NOT NULL,
    last_due_at      timestamptz NOT NULL CHECK (last_due_at >= first_due_at),
    PRIMARY KEY (strategy_id, asset, minute, interval_seconds)
);
COMMENT ON TABLE model_service.due_ticks IS
    'ticks that fell due in a minute: (last - first) / interval + 1; to write one of them twice changes nothing';
