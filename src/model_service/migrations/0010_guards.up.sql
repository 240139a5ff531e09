-- A halt: nothing is opened until a person ends it; positions are still closed.
CREATE TABLE model_service.trading_halts (
    halt_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    strategy_id  text CHECK (length(strategy_id) BETWEEN 1 AND 100),
    kind         text NOT NULL CHECK (kind IN ('manual', 'loss_limit')),
    reason       text NOT NULL,
    actor        text NOT NULL,
    evidence     jsonb NOT NULL,
    started_at   timestamptz NOT NULL,
    ended_at     timestamptz,
    ended_by     text,
    ended_reason text,
    CHECK ((ended_at IS NULL) = (ended_by IS NULL) AND (ended_at IS NULL) = (ended_reason IS NULL))
);
COMMENT ON COLUMN model_service.trading_halts.strategy_id IS 'the only strategy that is halted; null: every strategy';
CREATE UNIQUE INDEX trading_halts_open ON model_service.trading_halts (coalesce(strategy_id, ''), kind)
    WHERE ended_at IS NULL;

-- From where the loss of a day is counted: the day's first look, or the first one after a person resumed.
CREATE TABLE model_service.result_levels (
    strategy_id text,
    day         date NOT NULL,
    closure_id  bigint NOT NULL,
    open_result numeric NOT NULL,
    taken_at    timestamptz NOT NULL
);
COMMENT ON COLUMN model_service.result_levels.strategy_id IS 'null: all strategies together';
COMMENT ON COLUMN model_service.result_levels.closure_id IS 'the newest closure by then; later ones are the result of the day';
COMMENT ON COLUMN model_service.result_levels.open_result IS 'what the open lots stood at by then, quote currency after entry fees';
CREATE UNIQUE INDEX result_levels_one ON model_service.result_levels (coalesce(strategy_id, ''), day);
CREATE INDEX lot_closures_results ON model_service.lot_closures (strategy_id, closure_id) INCLUDE (realized_pnl);

-- Rate limits that all processes on the database share.
CREATE TABLE model_service.signal_buckets (
    name        text PRIMARY KEY,
    tokens      double precision NOT NULL,
    refilled_at timestamptz NOT NULL
);

-- `stopped`: an opening that lay in the outbox when a halt began, and was not sent.
ALTER TABLE model_service.trading_signals DROP CONSTRAINT trading_signals_status_check;
ALTER TABLE model_service.trading_signals ADD CONSTRAINT trading_signals_status_check
    CHECK (status IN ('pending', 'sending', 'published', 'expired', 'unroutable', 'stopped'));
