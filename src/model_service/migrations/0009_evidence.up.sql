-- What an opening was decided by beside its features, so that the decision can be shown and made again.
ALTER TABLE model_service.trading_signals ADD COLUMN evidence jsonb;
COMMENT ON COLUMN model_service.trading_signals.evidence IS
    'settings, tick_seconds, market and guards of an opening; null for exits, and for what was decided before this was kept';
