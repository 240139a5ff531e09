UPDATE model_service.trading_signals SET status = 'expired' WHERE status = 'stopped';
ALTER TABLE model_service.trading_signals DROP CONSTRAINT trading_signals_status_check;
ALTER TABLE model_service.trading_signals ADD CONSTRAINT trading_signals_status_check
    CHECK (status IN ('pending', 'sending', 'published', 'expired', 'unroutable'));
DROP TABLE model_service.signal_buckets;
DROP INDEX model_service.lot_closures_results;
DROP TABLE model_service.result_levels;
DROP TABLE model_service.trading_halts;
