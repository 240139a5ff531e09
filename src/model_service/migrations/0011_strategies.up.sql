-- What each strategy was last asked to be, so that its positions are closed by that after it has been taken away.
CREATE TABLE model_service.strategy_definitions (
    strategy_id text PRIMARY KEY,
    definition  jsonb NOT NULL,
    state       text NOT NULL CHECK (state IN ('enabled', 'disabled', 'removed')),
    changed_at  timestamptz NOT NULL
);
COMMENT ON TABLE model_service.strategy_definitions IS
    'the last definition of every strategy that there ever was; what it changed from and to stands in audit_log';
