-- Everything of the service in one schema. Times are timestamptz, money is numeric, features are float32 little-endian bytea.

-- The schema is there already: what writes down the migrations made it for its own table.

-- Signals: the outbox, and the frozen record of each decision to trade.
CREATE TABLE model_service.trading_signals (
    signal_id            uuid PRIMARY KEY,
    strategy_id          text NOT NULL CHECK (length(strategy_id) BETWEEN 1 AND 100),
    asset                text NOT NULL CHECK (length(asset) BETWEEN 4 AND 20),
    side                 text NOT NULL CHECK (side IN ('buy', 'sell')),
    intent               text NOT NULL CHECK (intent IN ('open', 'reduce', 'exit')),
    price                numeric NOT NULL CHECK (price > 0),
    amount               numeric NOT NULL CHECK (amount > 0),
    confidence           double precision NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    decided_at           timestamptz NOT NULL,
    expires_at           timestamptz NOT NULL,
    policy               text NOT NULL,
    model_version        text,
    is_warmup            boolean NOT NULL,
    seed                 text NOT NULL,
    feature_set          text NOT NULL,
    features             bytea NOT NULL,
    probability_buy      double precision NOT NULL,
    probability_sell     double precision NOT NULL,
    probability_none     double precision NOT NULL,
    horizon_seconds      integer NOT NULL CHECK (horizon_seconds > 0),
    take_profit_percent  double precision CHECK (take_profit_percent > 0),
    stop_loss_percent    double precision CHECK (stop_loss_percent > 0),
    fee_rate             double precision NOT NULL,
    minimum_net_return   double precision NOT NULL,
    market_data_snapshot jsonb NOT NULL,
    metadata             jsonb NOT NULL,
    trace_id             text NOT NULL,
    status               text NOT NULL DEFAULT 'pending'
                         CHECK (status IN ('pending', 'sending', 'published', 'expired', 'unroutable')),
    published_at         timestamptz,
    order_state          text CHECK (order_state IN
                         ('pending', 'partially_filled', 'filled', 'cancelled', 'rejected', 'dry_run', 'lost')),
    first_filled_at      timestamptz,
    labelled_at          timestamptz
);
CREATE INDEX trading_signals_outbox ON model_service.trading_signals (decided_at) WHERE status IN ('pending', 'sending');
CREATE INDEX trading_signals_unlabelled ON model_service.trading_signals (first_filled_at)
    WHERE labelled_at IS NULL AND first_filled_at IS NOT NULL AND intent <> 'exit';
CREATE INDEX trading_signals_open_orders ON model_service.trading_signals (decided_at)
    WHERE order_state IS NULL OR order_state IN ('pending', 'partially_filled');
CREATE INDEX trading_signals_ended ON model_service.trading_signals (decided_at DESC, signal_id)
    WHERE order_state IN ('filled', 'rejected', 'cancelled');
CREATE INDEX trading_signals_by_time ON model_service.trading_signals (decided_at DESC);
CREATE INDEX trading_signals_by_strategy ON model_service.trading_signals (strategy_id, decided_at DESC);

-- Draws of `none`, sampled at rate `sample_rate`.
CREATE TABLE model_service.decisions (
    decision_id      uuid PRIMARY KEY,
    strategy_id      text NOT NULL,
    asset            text NOT NULL,
    decided_at       timestamptz NOT NULL,
    policy           text NOT NULL,
    model_version    text,
    feature_set      text NOT NULL,
    features         bytea NOT NULL,
    probability_buy  double precision NOT NULL,
    probability_sell double precision NOT NULL,
    probability_none double precision NOT NULL,
    sample_rate      double precision NOT NULL CHECK (sample_rate > 0 AND sample_rate <= 1),
    seed             text NOT NULL
);
CREATE INDEX decisions_by_strategy ON model_service.decisions (strategy_id, decided_at);

-- Every tick that did not become a signal, by reason and minute.
CREATE TABLE model_service.decision_counts (
    strategy_id    text NOT NULL,
    asset          text NOT NULL,
    reason         text NOT NULL,
    minute         timestamptz NOT NULL,
    occurrences    bigint NOT NULL,
    last_value     double precision,
    last_threshold double precision,
    PRIMARY KEY (strategy_id, asset, reason, minute)
);

-- Raw observations of executions, exactly as received.
CREATE TABLE model_service.execution_events (
    event_id        text PRIMARY KEY,
    source          text NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('increment', 'checkpoint')),
    order_id        text NOT NULL,
    signal_id       text NOT NULL,
    asset           text NOT NULL,
    side            text NOT NULL CHECK (side IN ('buy', 'sell')),
    status          text NOT NULL,
    quantity        numeric NOT NULL CHECK (quantity >= 0),
    price           numeric CHECK (price > 0),
    fees            numeric NOT NULL,
    executed_at     timestamptz NOT NULL,
    reported_return numeric,
    is_dry_run      boolean NOT NULL,
    is_orphan       boolean NOT NULL,
    trace_id        text,
    body            bytea NOT NULL,
    received_at     timestamptz NOT NULL
);
CREATE INDEX execution_events_by_order ON model_service.execution_events (order_id);
CREATE INDEX execution_events_by_signal ON model_service.execution_events (signal_id);

-- What is known of each order: sums of increments, latest checkpoint, and how much of it has become fills.
CREATE TABLE model_service.order_progress (
    order_id             text PRIMARY KEY,
    signal_id            text NOT NULL,
    status               text NOT NULL,
    increment_quantity   numeric NOT NULL,
    increment_notional   numeric NOT NULL,
    increment_fees       numeric NOT NULL,
    checkpoint_quantity  numeric NOT NULL,
    checkpoint_notional  numeric NOT NULL,
    checkpoint_fees      numeric NOT NULL,
    filled_quantity      numeric NOT NULL,
    filled_notional      numeric NOT NULL,
    filled_fees          numeric NOT NULL,
    updated_at           timestamptz NOT NULL
);
CREATE INDEX order_progress_by_signal ON model_service.order_progress (signal_id);

CREATE TABLE model_service.fills (
    fill_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id     text NOT NULL REFERENCES model_service.execution_events (event_id),
    order_id     text NOT NULL,
    signal_id    uuid NOT NULL REFERENCES model_service.trading_signals (signal_id),
    strategy_id  text NOT NULL,
    asset        text NOT NULL,
    side         text NOT NULL CHECK (side IN ('buy', 'sell')),
    quantity     numeric NOT NULL CHECK (quantity > 0),
    price        numeric NOT NULL CHECK (price > 0),
    fees         numeric NOT NULL,
    executed_at  timestamptz NOT NULL
);
CREATE INDEX fills_by_signal ON model_service.fills (signal_id);
CREATE INDEX fills_by_strategy ON model_service.fills (strategy_id, executed_at DESC);

-- Position book: open FIFO lots per strategy and asset, and what closing them earned.
CREATE TABLE model_service.lots (
    lot_id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    strategy_id        text NOT NULL,
    asset              text NOT NULL,
    side               text NOT NULL CHECK (side IN ('buy', 'sell')),
    signal_id          uuid NOT NULL,
    opened_at          timestamptz NOT NULL,
    entry_price        numeric NOT NULL CHECK (entry_price > 0),
    quantity           numeric NOT NULL CHECK (quantity > 0),
    remaining_quantity numeric NOT NULL CHECK (remaining_quantity >= 0),
    entry_fees         numeric NOT NULL
);
CREATE INDEX lots_open ON model_service.lots (strategy_id, asset, lot_id) WHERE remaining_quantity > 0;

CREATE INDEX lots_by_signal ON model_service.lots (signal_id);

CREATE TABLE model_service.lot_closures (
    closure_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lot_id       bigint NOT NULL REFERENCES model_service.lots (lot_id),
    fill_id      bigint NOT NULL REFERENCES model_service.fills (fill_id),
    strategy_id  text NOT NULL,
    asset        text NOT NULL,
    quantity     numeric NOT NULL CHECK (quantity > 0),
    entry_price  numeric NOT NULL,
    exit_price   numeric NOT NULL,
    fees         numeric NOT NULL,
    realized_pnl numeric NOT NULL,
    closed_at    timestamptz NOT NULL
);
CREATE INDEX lot_closures_by_lot ON model_service.lot_closures (lot_id);
CREATE INDEX lot_closures_by_strategy ON model_service.lot_closures (strategy_id, closed_at);

-- Policy-free labels (METHOD 3). Revisions are kept.
CREATE TABLE model_service.outcomes (
    signal_id      uuid NOT NULL REFERENCES model_service.trading_signals (signal_id),
    revision       integer NOT NULL CHECK (revision >= 1),
    strategy_id    text NOT NULL,
    asset          text NOT NULL,
    side           text NOT NULL,
    model_version  text,
    entry_at       timestamptz NOT NULL,
    exit_at        timestamptz NOT NULL,
    entry_price    numeric NOT NULL,
    exit_price     numeric NOT NULL,
    exit_rule      text NOT NULL CHECK (exit_rule IN ('take_profit', 'stop_loss', 'horizon', 'reported')),
    fees           numeric NOT NULL,
    net_return     double precision NOT NULL,
    label          smallint NOT NULL CHECK (label IN (0, 1)),
    available_at   timestamptz NOT NULL,
    PRIMARY KEY (signal_id, revision)
);
CREATE INDEX outcomes_by_strategy ON model_service.outcomes (strategy_id, available_at);
CREATE INDEX outcomes_by_version ON model_service.outcomes (strategy_id, model_version, available_at) WHERE model_version IS NOT NULL;

-- What training reads: flat, fixed width, the signal's feature bytes beside the label. Times are microseconds since 1970 (UTC),
-- so that a binary COPY lands in numpy without a conversion.
CREATE TABLE model_service.samples (
    signal_id        uuid NOT NULL,
    revision         integer NOT NULL,
    strategy_id      text NOT NULL,
    asset_code       integer NOT NULL,
    feature_set      text NOT NULL,
    side             smallint NOT NULL CHECK (side IN (-1, 1)),
    intent           text NOT NULL,
    is_warmup        boolean NOT NULL,
    model_version    text,
    decided_us       bigint NOT NULL,
    exit_us          bigint NOT NULL,
    available_us     bigint NOT NULL,
    label            smallint NOT NULL CHECK (label IN (0, 1)),
    exit_rule        smallint NOT NULL,
    net_return       double precision NOT NULL,
    probability_buy  double precision NOT NULL,
    probability_sell double precision NOT NULL,
    probability_none double precision NOT NULL,
    features         bytea NOT NULL,
    PRIMARY KEY (signal_id, revision)
);
ALTER TABLE model_service.samples ALTER COLUMN features SET STORAGE PLAIN;
CREATE INDEX samples_by_strategy ON model_service.samples (strategy_id, decided_us, signal_id);
CREATE INDEX samples_available ON model_service.samples (strategy_id, available_us);

CREATE TABLE model_service.asset_codes (
    asset_code integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    asset      text NOT NULL UNIQUE
);

CREATE TABLE model_service.market_bars (
    asset            text NOT NULL,
    interval_seconds integer NOT NULL,
    start_at         timestamptz NOT NULL,
    open             double precision NOT NULL,
    high             double precision NOT NULL,
    low              double precision NOT NULL,
    close            double precision NOT NULL,
    volume           double precision NOT NULL,
    PRIMARY KEY (asset, interval_seconds, start_at)
);

CREATE TABLE model_service.model_versions (
    id                        uuid PRIMARY KEY,
    version                   text NOT NULL UNIQUE CHECK (version ~ '^v[0-9]+(\.[0-9]+)?$'),
    strategy_id               text,
    model_type                text NOT NULL CHECK (model_type IN ('xgboost', 'random_forest', 'logistic_regression', 'sgd_classifier')),
    parent_version            text,
    file_path                 text NOT NULL,
    files                     jsonb NOT NULL,
    feature_set               text NOT NULL,
    trained_at                timestamptz NOT NULL,
    training_duration_seconds integer NOT NULL,
    training_dataset_size     integer NOT NULL,
    training_config           jsonb NOT NULL,
    report                    jsonb NOT NULL,
    gate                      jsonb NOT NULL,
    gate_passed               boolean NOT NULL,
    is_active                 boolean NOT NULL DEFAULT false,
    is_warmup_mode            boolean NOT NULL DEFAULT false,
    created_at                timestamptz NOT NULL
);
-- Unlike a unique index on a nullable column, this also allows only one active general model.
CREATE UNIQUE INDEX model_versions_one_active ON model_service.model_versions (coalesce(strategy_id, '')) WHERE is_active;
CREATE INDEX model_versions_by_strategy ON model_service.model_versions (strategy_id, trained_at DESC);

CREATE SEQUENCE model_service.model_version_numbers;

CREATE TABLE model_service.model_quality_metrics (
    id                      uuid PRIMARY KEY,
    model_version_id        uuid NOT NULL REFERENCES model_service.model_versions (id) ON DELETE CASCADE,
    metric_name             text NOT NULL,
    metric_value            double precision NOT NULL CHECK (metric_value NOT IN ('NaN', 'Infinity', '-Infinity')),
    metric_type             text NOT NULL CHECK (metric_type IN ('classification', 'regression', 'trading_performance')),
    slice                   text NOT NULL CHECK (slice IN ('test', 'live')),
    evaluated_at            timestamptz NOT NULL,
    evaluation_dataset_size integer,
    metadata                jsonb
);
CREATE INDEX model_quality_metrics_by_version ON model_service.model_quality_metrics (model_version_id, slice, evaluated_at DESC);

CREATE TABLE model_service.training_runs (
    run_id         uuid PRIMARY KEY,
    strategy_id    text NOT NULL,
    training_type  text NOT NULL CHECK (training_type IN ('full', 'incremental')),
    trigger        text NOT NULL CHECK (trigger IN ('outcomes', 'schedule', 'quality', 'manual')),
    reason         text NOT NULL,
    state          text NOT NULL CHECK (state IN ('requested', 'preparing', 'fitting', 'evaluating', 'promoted', 'rejected',
                                                  'cancelled', 'superseded', 'skipped', 'refused', 'failed')),
    requested_at   timestamptz NOT NULL,
    started_at     timestamptz,
    finished_at    timestamptz,
    progress       double precision NOT NULL DEFAULT 0,
    progress_note  text,
    dataset_report jsonb,
    gate           jsonb,
    error_code     text,
    error_hint     text,
    version        text,
    superseded_by  uuid,
    outcomes_seen  bigint NOT NULL
);
CREATE INDEX training_runs_by_strategy ON model_service.training_runs (strategy_id, requested_at DESC);
CREATE UNIQUE INDEX training_runs_one_live ON model_service.training_runs (strategy_id)
    WHERE state IN ('requested', 'preparing', 'fitting', 'evaluating');

CREATE TABLE model_service.activations (
    activation_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    strategy_id      text,
    version          text,
    previous_version text,
    actor            text NOT NULL,
    reason           text NOT NULL,
    forced           boolean NOT NULL,
    activated_at     timestamptz NOT NULL
);

CREATE TABLE model_service.strategy_modes (
    strategy_id text PRIMARY KEY,
    mode        text NOT NULL CHECK (mode IN ('warmup', 'model', 'paused')),
    reason      text NOT NULL,
    since       timestamptz NOT NULL
);

CREATE TABLE model_service.mode_transitions (
    transition_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    strategy_id     text NOT NULL,
    from_mode       text,
    to_mode         text NOT NULL,
    reason          text NOT NULL,
    evidence        jsonb NOT NULL,
    transitioned_at timestamptz NOT NULL
);
CREATE INDEX mode_transitions_by_strategy ON model_service.mode_transitions (strategy_id, transitioned_at DESC);

CREATE TABLE model_service.schedule_slots (
    job      text NOT NULL,
    slot     timestamptz NOT NULL,
    fired_at timestamptz NOT NULL,
    PRIMARY KEY (job, slot)
);

CREATE TABLE model_service.dead_letters (
    dead_letter_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fingerprint    text NOT NULL UNIQUE,
    source         text NOT NULL,
    body           bytea NOT NULL,
    reason_code    text NOT NULL,
    reason         text NOT NULL,
    occurrences    bigint NOT NULL DEFAULT 1,
    first_seen_at  timestamptz NOT NULL,
    last_seen_at   timestamptz NOT NULL,
    requeued_at    timestamptz
);

CREATE TABLE model_service.audit_log (
    audit_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    actor      text NOT NULL,
    action     text NOT NULL,
    subject    text NOT NULL,
    details    jsonb NOT NULL,
    occurred_at timestamptz NOT NULL
);

-- The embedded message transport: a queue is a name, a message is a row, an unacknowledged one belongs to a consumer.
CREATE TABLE model_service.message_queues (
    queue       text PRIMARY KEY
);
CREATE TABLE model_service.message_bindings (
    exchange    text NOT NULL,
    routing_key text NOT NULL,
    queue       text NOT NULL REFERENCES model_service.message_queues (queue) ON DELETE CASCADE,
    PRIMARY KEY (exchange, routing_key, queue)
);
CREATE TABLE model_service.messages (
    message_seq  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue        text NOT NULL REFERENCES model_service.message_queues (queue) ON DELETE CASCADE,
    message_id   text NOT NULL,
    headers      jsonb NOT NULL,
    body         bytea NOT NULL,
    expires_at   timestamptz,
    consumer_id  bigint,
    deliveries   integer NOT NULL DEFAULT 0
);
ALTER TABLE model_service.messages SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX messages_ready ON model_service.messages (queue, message_seq) WHERE consumer_id IS NULL;
CREATE INDEX messages_taken ON model_service.messages (consumer_id) WHERE consumer_id IS NOT NULL;
