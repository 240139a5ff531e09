DROP TABLE model_service.due_ticks;
ALTER TABLE model_service.trading_signals DROP COLUMN at_tick;
ALTER TABLE model_service.trading_signals DROP COLUMN decision_sha256;
